"""The relay between a real event store and a real broker, with what goes wrong between them."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from prometheus_client import REGISTRY

from forecourt import migrations
from forecourt.embedded.rabbitmq import EmbeddedRabbitMQ
from forecourt.eventstore.port import Batch, StoredEvent
from forecourt.eventstore.postgres import PostgresEventStore
from forecourt.lease import lease
from forecourt.messaging.cloudevents import EXCHANGE, from_cloudevent
from forecourt.messaging.publisher import ConfirmedPublisher
from forecourt.messaging.relay import Relay
from forecourt.testing.probes import poll_async
from tests.integration.messaging_tools import HERE, channel, eventually, new_event, take_all

pytestmark = pytest.mark.integration


class Shop:
    """An event store of its own, a queue bound to all that it says, and relays between them."""

    def __init__(self, amqp_uri: str, database_url: str, pool: Any) -> None:
        self.id = uuid4().hex[:10]
        self.name = f"probe_{self.id}"
        self.queue = f"probe.{self.id}"
        self.amqp_uri = amqp_uri
        self.database_url = database_url
        self.pool = pool
        self.store = PostgresEventStore(pool, schema=self.name)
        self.streams = [f"request-{uuid4()}" for _ in range(10)]
        self._next = dict.fromkeys(self.streams, 0)

    def bind(self, key: str = "shop.#") -> None:
        """Bind the queue."""
        with channel(self.amqp_uri) as opened:
            opened.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
            opened.queue_declare(
                self.queue, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"}
            )
            opened.queue_bind(self.queue, EXCHANGE, key)

    async def append(self, count: int, *, category: str = "request") -> None:
        """Append ``count`` events, some at a time, to the streams in turn."""
        size = max(count // 100, 10)
        for number in range(0, count, size):
            stream = self.streams[(number // size) % len(self.streams)]
            if category != "request":
                stream = f"{category}-{uuid4()}"
            events = [new_event(number + offset) for offset in range(size)]
            result = await self.store.append(stream, events, expected=self._next.get(stream, 0))
            self._next[stream] = result.sequence

    async def stored(self) -> list[UUID]:
        """Ids of all events, in order."""
        return [event.id async for batch in self.store.read_all() for event in batch.events]

    def received(self) -> list[StoredEvent]:
        """What has arrived, as it arrived."""
        return [
            from_cloudevent(m.body if isinstance(m.body, bytes) else m.body.encode())
            for m in take_all(self.amqp_uri, self.queue)
        ]

    def relay(self, **options: Any) -> Relay:
        """A relay in this process."""
        return Relay(name=self.name, store=self.store, pool=self.pool, amqp_uri=self.amqp_uri, **options)

    async def checkpoint(self) -> int:
        """The saved position."""
        position = await self.pool.fetchval(
            "SELECT position FROM messaging.relay_checkpoint WHERE name = $1", self.name
        )
        return int(position or 0)

    async def at_head(self) -> bool:
        """Whether the checkpoint has reached the end of the store."""
        return await self.checkpoint() == await self.store.head()

    def process(self) -> subprocess.Popen[bytes]:
        """A relay in a process of its own."""
        environment = {
            **os.environ,
            "AMQP_URI": self.amqp_uri,
            "DATABASE_URL": self.database_url,
            "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
        }
        return subprocess.Popen(
            [sys.executable, str(HERE / "messaging_relay.py"), self.name, self.name], env=environment
        )

    async def close(self) -> None:
        """Drop schema, checkpoint and queue."""
        await self.store.close()
        await self.pool.execute(f'DROP SCHEMA "{self.name}" CASCADE')
        await self.pool.execute("DELETE FROM messaging.relay_checkpoint WHERE name = $1", self.name)
        with channel(self.amqp_uri) as opened:
            opened.queue_delete(self.queue)


@asynccontextmanager
async def open_shop(amqp_uri: str, database_url: str) -> AsyncIterator[Shop]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as pool:
        shop = Shop(amqp_uri, database_url, pool)
        await shop.store.migrate()
        await migrations.apply(pool, [migrations.MESSAGING])
        yield shop
        await shop.close()


@pytest.fixture
async def shop(amqp_uri: str, database_url: str) -> AsyncIterator[Shop]:
    async with open_shop(amqp_uri, database_url) as opened:
        opened.bind()
        yield opened


@asynccontextmanager
async def running(*relays: Relay) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    tasks = [asyncio.create_task(relay.run(stop)) for relay in relays]
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 30)


def assert_in_order(received: list[StoredEvent]) -> None:
    """Each stream's events came in order, not counting what came again."""
    last: dict[str, int] = {}
    for event in received:
        seen = last.get(event.stream, 0)
        assert event.sequence <= seen + 1, "an event came before its predecessor"
        last[event.stream] = max(seen, event.sequence)


def metric(name: str, shop: Shop) -> float:
    return REGISTRY.get_sample_value(name, {"service": shop.name}) or 0.0


async def test_every_event_arrives_whole_in_order_and_once(shop: Shop) -> None:
    await shop.append(500)
    async with running(shop.relay()):
        await shop.append(500)
        await eventually(shop.at_head)
        await poll_async(lambda: metric("forecourt_relay_lag_events", shop) == 0, what="no lag")
    received = shop.received()
    assert [event.id for event in received] == await shop.stored()
    originals = [event async for batch in shop.store.read_all() for event in batch.events]
    assert received == originals
    assert metric("forecourt_relay_confirmed_events_total", shop) == 1000


async def test_only_the_named_categories_are_published(shop: Shop) -> None:
    await shop.append(30)
    await shop.append(30, category="secret")
    async with running(shop.relay(categories=["request"])):
        await eventually(shop.at_head)
    assert {event.category for event in shop.received()} == {"request"}


async def test_events_that_nobody_wants_are_counted_and_passed_over(amqp_uri: str, database_url: str) -> None:
    async with open_shop(amqp_uri, database_url) as shop:
        shop.bind("another.#")
        await shop.append(50)
        async with running(shop.relay()):
            await eventually(shop.at_head)
        assert metric("forecourt_relay_returned_events_total", shop) == 50


async def test_a_stopped_relay_goes_on_where_it_was(shop: Shop) -> None:
    await shop.append(100)
    async with running(shop.relay()):
        await eventually(shop.at_head)
    await shop.append(100)
    async with running(shop.relay()):
        await eventually(shop.at_head)
    assert [event.id for event in shop.received()] == await shop.stored()


async def test_two_relays_of_one_name_publish_nothing_twice_and_the_second_takes_over(shop: Shop) -> None:
    first, second = shop.relay(), shop.relay()
    stop_first, stop_second = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(first.run(stop_first))
    await shop.append(10)
    await eventually(shop.at_head)
    standby = asyncio.create_task(second.run(stop_second))
    await shop.append(1000)
    await eventually(shop.at_head)
    assert second.confirmed == 0
    stop_first.set()
    await task
    await shop.append(500)
    await eventually(shop.at_head)
    stop_second.set()
    await standby
    assert second.confirmed == await shop.store.head()
    assert [event.id for event in shop.received()] == await shop.stored()


async def test_a_relay_that_never_led_says_so(shop: Shop) -> None:
    """Else nothing would be known where none of them leads."""

    def leading() -> float | None:
        return REGISTRY.get_sample_value("forecourt_relay_leading", {"service": shop.name})

    async with lease(shop.pool, f"relay:{shop.name}", asyncio.Event()), running(shop.relay()):
        assert leading() == 0


class Stalled:
    """A store whose subscription gives nothing."""

    def __init__(self, store: PostgresEventStore) -> None:
        self.head, self.read_all = store.head, store.read_all

    async def subscribe(self, **_: Any) -> AsyncIterator[Batch]:
        await asyncio.Event().wait()
        yield Batch([], 0, True)


async def test_the_lag_is_measured_although_nothing_is_read(shop: Shop) -> None:
    await shop.append(10)
    stalled: Any = Stalled(shop.store)
    relay = Relay(name=shop.name, store=stalled, pool=shop.pool, amqp_uri=shop.amqp_uri)
    async with running(relay):
        await poll_async(lambda: metric("forecourt_relay_lag_seconds", shop) > 0, 30, what="lag")
        assert metric("forecourt_relay_lag_events", shop) == 10


async def test_a_relay_that_loses_its_lease_begins_again(shop: Shop) -> None:
    async with running(shop.relay()):
        await shop.append(200)
        await eventually(shop.at_head)
        killed = await shop.pool.fetchval(
            "SELECT count(pg_terminate_backend(l.pid)) FROM pg_locks l WHERE l.locktype = 'advisory'"
            " AND l.granted AND l.pid <> pg_backend_pid()"
        )
        assert killed >= 1
        await shop.append(200)
        await eventually(shop.at_head)
    received = shop.received()
    assert_in_order(received)
    assert {event.id for event in received} == set(await shop.stored())


async def test_a_relay_publishes_in_a_process_with_a_thousand_connections(shop: Shop) -> None:
    await shop.append(100)
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < 2_000:
        pytest.skip(f"this machine allows {most} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit, 2_000), most))
    taken = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while taken[-1] < 1_024:
            taken.append(os.dup(taken[0]))
        async with running(shop.relay()):
            await eventually(shop.at_head)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    assert [event.id for event in shop.received()] == await shop.stored()
    assert metric("forecourt_relay_errors_total", shop) == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_relay_whose_publishing_thread_dies_begins_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would lead for ever, keep every other relay out, and publish nothing."""
    follow = ConfirmedPublisher._follow
    deaths = iter([RuntimeError("nobody foresaw this")])

    def die_once(publisher: ConfirmedPublisher, connection: Any, opened: Any) -> None:
        if error := next(deaths, None):
            raise error
        follow(publisher, connection, opened)

    monkeypatch.setattr(ConfirmedPublisher, "_follow", die_once)
    await shop.append(100)
    async with running(shop.relay()):
        await eventually(shop.at_head)
    assert [event.id for event in shop.received()] == await shop.stored()
    assert metric("forecourt_relay_errors_total", shop) == 1


async def test_a_relay_stops_although_there_is_no_broker(amqp_uri: str, database_url: str) -> None:
    async with open_shop(amqp_uri, database_url) as shop:
        await shop.append(10)
        relay = Relay(
            name=shop.name, store=shop.store, pool=shop.pool, amqp_uri="amqp://guest:guest@127.0.0.1:1//"
        )
        async with running(relay):

            async def failing() -> bool:
                return metric("forecourt_relay_errors_total", shop) >= 2

            await eventually(failing)
        assert await shop.checkpoint() == 0


@pytest.mark.faults
async def test_sigkill_in_the_middle_of_a_load_loses_nothing_and_keeps_the_order(shop: Shop) -> None:
    await shop.append(20_000)
    process = shop.process()
    try:
        for _ in range(3):
            before = await shop.checkpoint()

            async def moved(before: int = before) -> bool:
                return await shop.checkpoint() > before

            await eventually(moved)
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait)
            process = shop.process()
        # The last of them has to do something itself: a process that only begins ends by the signal, not in order.
        await eventually(shop.at_head)
        await shop.append(100)
        await eventually(shop.at_head)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
        process.wait()
    received = shop.received()
    assert_in_order(received)
    assert {event.id for event in received} == set(await shop.stored())


@pytest.mark.faults
async def test_a_broker_that_restarts_gets_every_event(tmp_path: Path, database_url: str) -> None:
    broker = EmbeddedRabbitMQ(tmp_path / "broker")
    uri = await asyncio.to_thread(broker.start)
    try:
        async with open_shop(uri, database_url) as shop:
            shop.bind()
            # RabbitMQ 3.10 forgets a quorum queue that is killed within seconds of its declaration.
            await asyncio.to_thread(broker.restart)
            await shop.append(20_000)
            async with running(shop.relay()):

                async def begun() -> bool:
                    return await shop.checkpoint() > 0

                await eventually(begun)
                await asyncio.to_thread(broker.kill)
                await shop.append(100)
                await asyncio.to_thread(broker.start)
                await eventually(shop.at_head, seconds=60)
            received = shop.received()
            assert_in_order(received)
            assert {event.id for event in received} == set(await shop.stored())
    finally:
        await asyncio.to_thread(broker.stop)
