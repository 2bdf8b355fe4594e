"""The Python library ``eventsourcing`` doing the same: ``python -m bench.peer append|project N``.

Prints events per second. Its PostgreSQL module is used with its database functions on.
"""

import os
import sys
import threading
import time
from functools import singledispatchmethod
from typing import Any
from urllib.parse import urlsplit

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL

THREADS = 16


class Customer(Aggregate):
    """A customer that is only registered."""

    @event("Registered")
    def __init__(self, name: str, kind: str, mobile: str, source: str) -> None:
        self.name = name
        self.kind = kind
        self.mobile = mobile
        self.source = source


class CustomersView(PostgresTrackingRecorder):
    """The read model: a row a customer, written in the transaction that moves the tracking row."""

    def __init__(self, datastore: Any, **options: Any) -> None:
        super().__init__(datastore, **options)
        columns = "(id uuid PRIMARY KEY, name text, kind text, mobile text)"
        self.sql_create_statements.append(SQL("CREATE TABLE IF NOT EXISTS customers {}").format(SQL(columns)))

    def register(self, customer: Any, tracking: Tracking) -> None:
        """Write a row."""
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(
                "INSERT INTO customers VALUES (%s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name",
                (customer.originator_id, customer.name, customer.kind, customer.mobile),
                prepare=True,
            )
            self._insert_tracking(cursor, tracking)


class Customers(Projection[CustomersView]):
    """Events to rows."""

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Nothing else is known."""
        self.view.insert_tracking(tracking)

    @process_event.register
    def _(self, domain_event: Customer.Registered, tracking: Tracking) -> None:  # type: ignore[name-defined]
        self.view.register(domain_event, tracking)


def environment() -> dict[str, str]:
    """The library's settings for the database of ``BENCH_URL``."""
    url = urlsplit(os.environ["BENCH_URL"])
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": url.path.lstrip("/"),
        "POSTGRES_HOST": url.hostname or "",
        "POSTGRES_PORT": str(url.port),
        "POSTGRES_USER": url.username or "",
        "POSTGRES_PASSWORD": url.password or "",
        "POSTGRES_POOL_SIZE": str(THREADS),
        "POSTGRES_MAX_OVERFLOW": "10",
        "POSTGRES_ENABLE_DB_FUNCTIONS": "y",
    }


def append(total: int) -> float:
    """Aggregates of one event saved by `THREADS` threads, per second."""
    application: Application[Any] = Application(env=environment())

    def save(count: int) -> None:
        for number in range(count):
            application.save(Customer(f"Wang {number}", "prospect", f"+86138{number:08}", "bench"))

    threads = [threading.Thread(target=save, args=(total // THREADS,)) for _ in range(THREADS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = total // THREADS * THREADS / (time.perf_counter() - start)
    application.close()
    return rate


def project(total: int) -> float:
    """Events per second of the projection runner, from an empty read model to the last event."""
    append(total)
    start = time.perf_counter()
    with ProjectionRunner(
        application_class=Application, projection_class=Customers, view_class=CustomersView, env=environment()
    ) as runner:
        runner.wait(total // THREADS * THREADS, timeout=300)
        return total // THREADS * THREADS / (time.perf_counter() - start)


if __name__ == "__main__":
    print({"append": append, "project": project}[sys.argv[1]](int(sys.argv[2])))
