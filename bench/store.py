"""The event store: grouped appends against single ones and a peer, reading against a raw scan."""

import asyncio
import os
import time
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import uvloop

from bench.harness import Bench, output_of
from customer.customer import Consent, ContactPoint, CustomerRegistered
from customer.service import service
from forecourt.codec import Codec
from forecourt.eventstore.port import NewEvent
from forecourt.eventstore.postgres import PostgresEventStore

CALLERS = 256
CONNECTIONS = 32
PAGE = 5_000

SINGLE = """
WITH last AS (SELECT coalesce(max(sequence), 0) AS sequence FROM single WHERE stream = $1)
INSERT INTO single (stream, sequence, id, type, version, time, correlation_id, causation_id, dealer_id, brand,
                    actor_id, metadata, data)
SELECT $1, 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 FROM last WHERE last.sequence = 0
"""

SINGLE_TABLE = """
CREATE TABLE single (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, stream text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL, id uuid NOT NULL, type text NOT NULL, version smallint NOT NULL,
    time timestamptz NOT NULL, correlation_id uuid NOT NULL, causation_id uuid, dealer_id text NOT NULL,
    brand text NOT NULL, actor_id text NOT NULL, metadata json NOT NULL, data json NOT NULL,
    UNIQUE (stream, sequence))
"""


def event(number: int) -> NewEvent:
    """A registration with a phone number, as the customer service writes it."""
    phone = f"+86138{number % 100_000_000:08}"
    registered = CustomerRegistered(
        kind="prospect",
        name=f"王 {number}",
        language="zh",
        time_zone="Asia/Shanghai",
        source="bench",
        contact_points=(ContactPoint(kind="mobile", value=phone, typed=phone),),
        consents=(Consent(purpose="service", channel="sms"),),
    )
    return NewEvent(
        id=uuid4(),
        type="customer.CustomerRegistered",
        version=1,
        time=datetime.now(UTC),
        data=registered.model_dump_json(),
        correlation_id=uuid4(),
        causation_id=uuid4(),
        dealer_id="D001",
        brand="hongtong",
        actor_id="bench",
    )


async def fill(store: PostgresEventStore, total: int, *, callers: int = CALLERS) -> float:
    """Append ``total`` registrations to streams of their own; appends per second."""
    events = [event(number) for number in range(total)]
    work = iter(events)

    async def caller() -> None:
        for one in work:
            await store.append(f"customer-{uuid4()}", [one], expected=0)

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return total / (time.perf_counter() - start)


async def single(url: str, total: int) -> float:
    """The same events in one transaction each, over `CONNECTIONS` connections; appends per second."""
    async with asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        await pool.execute("DROP TABLE IF EXISTS single")
        await pool.execute(SINGLE_TABLE)
        work = iter([event(number) for number in range(total)])

        async def caller() -> None:
            async with pool.acquire() as connection:
                statement = await connection.prepare(SINGLE)
                for e in work:
                    await statement.fetch(
                        f"customer-{uuid4()}",
                        e.id,
                        e.type,
                        e.version,
                        e.time,
                        e.correlation_id,
                        e.causation_id,
                        e.dealer_id,
                        e.brand,
                        e.actor_id,
                        e.metadata,
                        e.data,
                    )

        start = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CONNECTIONS)))
        return total / (time.perf_counter() - start)


async def read_typed(store: PostgresEventStore) -> float:
    """Decoded, typed events per second of reading everything."""
    codec, count = Codec(service.registry), 0
    start = time.perf_counter()
    async for batch in store.read_all(page=PAGE):
        count += len(await codec.decode(batch.events))
    return count / (time.perf_counter() - start)


async def read_raw(url: str) -> float:
    """Rows per second of a bare keyset scan of the same table."""
    connection = await asyncpg.connect(url)
    try:
        statement = await connection.prepare(
            "SELECT * FROM events.event WHERE position > $1 ORDER BY position LIMIT $2"
        )
        after = count = 0
        start = time.perf_counter()
        while rows := await statement.fetch(after, PAGE):
            after, count = rows[-1]["position"], count + len(rows)
        return count / (time.perf_counter() - start)
    finally:
        await connection.close()


async def ours(url: str, total: int) -> float:
    """Grouped appends per second, on a store of its own."""
    store = await PostgresEventStore.open(url)
    try:
        await store.migrate()
        return await fill(store, total)
    finally:
        await store.close()


async def run(bench: Bench) -> None:
    """``append_vs_single``, ``append_vs_eventsourcing`` and ``read_vs_raw``."""
    url = await bench.fresh_database()
    total, peer_total = bench.count(30_000), bench.count(4_000)
    env = {"BENCH_URL": url, "BENCH_TOTAL": str(total)}

    async def grouped() -> float:
        return float(await output_of("bench.store", env=env))

    await bench.ratio("append_vs_single", grouped, lambda: single(url, bench.count(15_000)))
    await bench.ratio(
        "append_vs_eventsourcing",
        grouped,
        lambda: _peer(bench, "append", peer_total),
    )
    store = await PostgresEventStore.open(url)
    try:
        await bench.ratio("read_vs_raw", lambda: read_typed(store), lambda: read_raw(url))
    finally:
        await store.close()


async def _peer(bench: Bench, what: str, total: int) -> float:
    url = await bench.fresh_database()
    return float(await output_of("bench.peer", what, str(total), env={"BENCH_URL": url}))


if __name__ == "__main__":
    print(uvloop.run(ours(os.environ["BENCH_URL"], int(os.environ["BENCH_TOTAL"]))))
