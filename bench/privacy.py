"""Reading typed events whose personal fields are encrypted, against the same events plain.

``read_secure_vs_plain`` reads the lives of customers: ten events each, three of them personal. In a simulated half
month of a dealer group 34 of 100 events are personal with the customers that it began with, and 22 without; a person
has more events there. ``read_all_secure_vs_plain`` is the worst there is: registrations only, each of another person.
The keys are not in the cache when a run begins. The collector looks rarely, as it does for projections.
"""

import time
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

import asyncpg

from bench.harness import Bench
from bench.store import PAGE, event
from customer.customer import CategoryChanged, ContactPointAdded, CustomerRegistered
from customer.service import service
from forecourt import migrations
from forecourt.codec import Codec
from forecourt.events import Event
from forecourt.eventstore.port import Append, NewEvent
from forecourt.eventstore.postgres import PostgresEventStore
from forecourt.privacy.cipher import new_key
from forecourt.privacy.keys_postgres import PostgresKeys
from forecourt.privacy.master import LocalMaster
from forecourt.projections.collecting import collecting_rarely

LIFE = 10
"""Events of one customer in the mixed case."""

AT_ONCE = 500
"""Customers whose events are written together."""

MASTER = new_key()


def life(number: int, length: int) -> list[Event]:
    """A customer's events."""
    registered = CustomerRegistered.model_validate_json(event(number).data)
    added = ContactPointAdded(**registered.contact_points[0].model_dump())
    changed = CategoryChanged(previous="prospect", category="buyer")
    return [registered, added, added, *[changed] * (LIFE - 3)][:length]


def record(fact: Event, data: str) -> NewEvent:
    """An event as it is appended."""
    return NewEvent(
        id=uuid4(),
        type=f"customer.{fact.event_name}",
        version=1,
        time=datetime.now(UTC),
        data=data,
        correlation_id=uuid4(),
        dealer_id="D001",
        brand="hongtong",
        actor_id="bench",
    )


async def fill(bench: Bench, total: int, length: int, *, secure: bool) -> str:
    """A database with events, encrypted or plain; its URL."""
    url = await bench.fresh_database()
    store = await PostgresEventStore.open(url)
    await store.migrate()
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        await migrations.apply(pool, [migrations.KEYS])
        keys = await PostgresKeys.open(pool, LocalMaster([MASTER]))
        codec = Codec(service.registry, keys if secure else None)
        persons: list[UUID] = [uuid4() for _ in range(total // length)]
        for first in range(0, len(persons), AT_ONCE):
            streams = [
                (f"customer-{person}", life(number, length), 0)
                for number, person in enumerate(persons[first : first + AT_ONCE], first)
            ]
            data = await codec.encode_many(streams)
            await store.append_many(
                [
                    Append(stream, [record(fact, text) for fact, text in zip(facts, texts, strict=True)], 0)
                    for (stream, facts, _), texts in zip(streams, data, strict=True)
                ]
            )
        await keys.close()
    await store.close()
    return url


async def read(url: str) -> float:
    """Typed events per second of reading everything, with no key cached."""
    store = await PostgresEventStore.open(url)
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        keys = await PostgresKeys.open(pool, LocalMaster([MASTER]))
        rate = await _read(store, Codec(service.registry, keys))
        await keys.close()
    await store.close()
    return rate


async def _read(store: PostgresEventStore, codec: Codec) -> float:
    start, count = time.perf_counter(), 0
    with collecting_rarely():
        async for batch in store.read_all(page=PAGE):
            count += len(await codec.decode(batch.events))
    return count / (time.perf_counter() - start)


async def run(bench: Bench) -> None:
    """``read_secure_vs_plain`` and ``read_all_secure_vs_plain``."""
    for name, length in (("read_secure_vs_plain", LIFE), ("read_all_secure_vs_plain", 1)):
        total = bench.count(20_000 * length)
        secure = await fill(bench, total, length, secure=True)
        plain = await fill(bench, total, length, secure=False)
        await bench.ratio(name, partial(read, secure), partial(read, plain))
