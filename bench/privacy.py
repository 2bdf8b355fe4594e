"""Reading typed events whose personal fields are encrypted, against the same events plain.

``read_secure_vs_plain`` reads what a business has after half a year: each customer came five times, and left ten
events each time, two of them personal and at first three. (In a simulated month a dealer group writes 9.5 events a
customer, 22 of 100 personal.) ``read_all_secure_vs_plain`` is the worst there is, and the events of ``read_vs_raw``:
registrations only, each of another person. The keys are not in the cache when a run begins. The collector looks rarely,
as it does for projections.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

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

VISITS, PER_VISIT = 5, 10
"""How often a customer comes, and the events of each time."""

RUNS = 7

AT_ONCE = 500
"""Customers whose events are written together."""

MASTER = new_key()

Life = list[list[Event]]
"""A customer's events, by what is written together."""


def registration(number: int) -> Life:
    """A customer who is only registered."""
    return [[CustomerRegistered.model_validate_json(event(number).data)]]


def half_a_year(number: int) -> Life:
    """A customer who comes again and again."""
    [[registered]] = registration(number)
    assert isinstance(registered, CustomerRegistered)
    added = ContactPointAdded(**registered.contact_points[0].model_dump())
    changed = CategoryChanged(previous="prospect", category="buyer")
    visit = [added, added, *[changed] * (PER_VISIT - 2)]
    return [[registered, *visit[:-1]], *[visit] * (VISITS - 1)]


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


async def fill(bench: Bench, customers: int, life: Callable[[int], Life], *, secure: bool) -> str:
    """A database with events, encrypted or plain; its URL."""
    url = await bench.fresh_database()
    store = await PostgresEventStore.open(url)
    await store.migrate()
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool:
        await migrations.apply(pool, [migrations.KEYS])
        keys = await PostgresKeys.open(pool, LocalMaster([MASTER]))
        codec = Codec(service.registry, keys if secure else None)
        lives = [(f"customer-{uuid4()}", life(number)) for number in range(customers)]
        for visit in range(len(lives[0][1])):
            for first in range(0, customers, AT_ONCE):
                after = sum(map(len, lives[0][1][:visit]))
                streams = [
                    (stream, events[visit], after) for stream, events in lives[first : first + AT_ONCE]
                ]
                data = await codec.encode_many(streams)
                await store.append_many(
                    [
                        Append(
                            stream,
                            [record(fact, text) for fact, text in zip(facts, texts, strict=True)],
                            after,
                        )
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
    for name, life, customers in (
        ("read_secure_vs_plain", half_a_year, bench.count(4_000)),
        ("read_all_secure_vs_plain", registration, bench.count(20_000)),
    ):
        secure = await fill(bench, customers, life, secure=True)
        plain = await fill(bench, customers, life, secure=False)
        await bench.ratio(name, partial(read, secure), partial(read, plain), runs=RUNS)
