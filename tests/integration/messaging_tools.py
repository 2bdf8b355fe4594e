"""What the messaging tests share: publishing, worker processes, and probes that poll."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4, uuid5

import asyncpg

from forecourt import migrations
from forecourt.eventstore.port import NewEvent, StoredEvent
from forecourt.messaging.cloudevents import CONTENT_TYPE, EXCHANGE, routing_key, to_cloudevent
from forecourt.messaging.forwarder import Forwarder, connect
from forecourt.messaging.retries import OURS
from forecourt.testing.probes import poll_async

T = TypeVar("T")
HERE = Path(__file__).parent
SPACE = UUID("6f0d8f43-65b7-4e5e-9e5b-0d6a3f1c2b4a")
DELAYS = "0.2,0.4"


async def eventually(probe: Callable[[], Awaitable[T]], *, seconds: float = 30.0) -> T:
    """The first true answer of ``probe``, within a time that a busy machine needs."""
    return await poll_async(probe, seconds)


def asked(number: int, mode: str = "ok", *, stream: UUID | None = None, sequence: int = 1) -> StoredEvent:
    """An event of the shop, always the same for the same number."""
    return StoredEvent(
        position=number + 1,
        stream=f"request-{stream or uuid5(SPACE, f'stream {number}')}",
        sequence=sequence,
        id=uuid5(SPACE, str(number)),
        type="shop.Asked",
        version=1,
        time=datetime(2026, 1, 5, 9, 0, tzinfo=UTC),
        data=f'{{"number":{number},"mode":"{mode}"}}',
        correlation_id=uuid5(SPACE, "correlation"),
        causation_id=None,
        dealer_id="D1",
        brand="B1",
        actor_id="tester",
        metadata="{}",
    )


def new_event(number: int, size: int = 200) -> NewEvent:
    """An event to append."""
    return NewEvent(
        id=uuid4(),
        type="shop.Asked",
        version=1,
        time=datetime.now(UTC),
        data=f'{{"number":{number},"mode":"ok","filler":"{"x" * size}"}}',
        correlation_id=uuid4(),
        dealer_id="D1",
        brand="B1",
    )


def publish(amqp_uri: str, *events: StoredEvent | bytes) -> None:
    """Publish events, or raw bodies, as the relay does."""
    with Forwarder(amqp_uri) as forwarder:
        for event in events:
            body = event if isinstance(event, bytes) else to_cloudevent(event)
            key = "shop.Asked.B1.D1" if isinstance(event, bytes) else routing_key(event.type, "B1", "D1")
            properties = {"content_type": CONTENT_TYPE, "message_id": str(uuid5(SPACE, repr(body)))}
            if isinstance(event, StoredEvent):
                properties["message_id"] = str(event.id)
            forwarder.send(EXCHANGE, key, body, properties=properties, headers={})


@contextmanager
def channel(amqp_uri: str) -> Iterator[Any]:
    """A channel of a connection of its own."""
    connection = connect(amqp_uri)
    try:
        yield connection.channel()
    finally:
        connection.release()


def depth(amqp_uri: str, queue: str) -> int:
    """Messages ready in a queue."""
    with channel(amqp_uri) as opened:
        return int(opened.queue_declare(queue, passive=True).message_count)


def take_all(amqp_uri: str, queue: str) -> list[Any]:
    """Take the messages that are ready out of a queue."""
    taken: list[Any] = []
    with channel(amqp_uri) as opened:
        due = opened.queue_declare(queue, passive=True).message_count
        opened.basic_qos(0, 1000, False)
        tag = opened.basic_consume(queue, callback=taken.append) if due else ""
        while len(taken) < due:
            before = len(taken)
            opened.connection.drain_events(timeout=10)
            if len(taken) // 500 > before // 500:
                opened.basic_ack(taken[-1].delivery_tag, multiple=True)
        if due:
            opened.basic_cancel(tag)
            opened.basic_ack(0, multiple=True)
    return taken


def our_headers(message: Any) -> dict[str, Any]:
    """The headers that retries and parking write."""
    return {name: value for name, value in message.headers.items() if name in OURS}


class Probe:
    """A worker's service under test: its processes, tables and queues."""

    def __init__(self, amqp_uri: str, database_url: str, pool: Any) -> None:
        self.name = f"probe_{uuid4().hex[:10]}"
        self.queue = f"{self.name}.react"
        self.parked = f"{self.queue}.parked"
        self.amqp_uri = amqp_uri
        self.pool = pool
        self._environment = {
            **os.environ,
            "PROBE_SERVICE": self.name,
            "AMQP_URI": amqp_uri,
            "DATABASE_URL": database_url,
            "HTTP_LISTEN": "127.0.0.1:0",
            "FORECOURT_RETRY_DELAYS": DELAYS,
            "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    async def prepare(self) -> None:
        """Create the tables that the handlers write."""
        await self.pool.execute(
            f'CREATE SCHEMA "{self.name}";'
            f'CREATE TABLE "{self.name}".effect (number int, stream text, sequence int, n serial);'
            f'CREATE TABLE "{self.name}".attempt (number int);'
            f'CREATE TABLE "{self.name}".tick (pid int)'
        )
        await migrations.apply(self.pool, migrations.components_of([self.name]))

    async def start(self, **variables: str) -> subprocess.Popen[bytes]:
        """Start a worker process, with these settings too, and wait until it consumes."""
        process = self._spawn(variables)
        self.processes.append(process)
        running = len([started for started in self.processes if started.poll() is None])
        await eventually(lambda: self.consumers(running))
        return process

    async def consumers(self, at_least: int) -> bool:
        """Whether that many workers consume."""
        from amqp.exceptions import NotFound

        try:
            with channel(self.amqp_uri) as opened:
                return bool(opened.queue_declare(self.queue, passive=True).consumer_count >= at_least)
        except (NotFound, OSError):
            return False

    def _spawn(self, variables: dict[str, str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(HERE / "messaging_worker.py")]
        return subprocess.Popen(command, env={**self._environment, **variables})

    async def kill(self, process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; the exit status."""
        process.send_signal(number)
        return await asyncio.to_thread(process.wait, 30)

    async def effects(self) -> list[int]:
        """Numbers of the events that had an effect, one entry for each time."""
        rows = await self.pool.fetch(f'SELECT number FROM "{self.name}".effect ORDER BY number, n')
        return [row["number"] for row in rows]

    async def attempts(self, number: int) -> int:
        """How often the handler was called for an event."""
        return int(
            await self.pool.fetchval(f'SELECT count(*) FROM "{self.name}".attempt WHERE number = $1', number)
        )

    async def drained(self) -> None:
        """Have the workers do all there is to do, and stop them in order."""

        async def nothing_ready() -> bool:
            return depth(self.amqp_uri, self.queue) == 0

        while True:
            await eventually(nothing_ready)
            for process in self.processes:
                if process.poll() is None:
                    assert await self.kill(process, signal.SIGTERM) == 0
            if await nothing_ready():
                return
            await self.start()  # what was handed out but not begun has been given back

    async def has_effects(self, numbers: list[int]) -> bool:
        """Whether at least these events had their effect."""
        return set(await self.effects()) >= set(numbers)

    async def close(self) -> None:
        """Stop what runs, and drop tables and queues."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                await asyncio.to_thread(process.wait)
        await self.pool.execute(f'DROP SCHEMA IF EXISTS "{self.name}" CASCADE')
        with channel(self.amqp_uri) as opened:
            delays = [f"{self.name}.retry.{float(delay):g}s" for delay in DELAYS.split(",")]
            for queue in (self.queue, self.parked, *delays):
                opened.queue_delete(queue)
            for exchange in delays:
                opened.exchange_delete(exchange)


@asynccontextmanager
async def probe_service(amqp_uri: str, database_url: str) -> AsyncIterator[Probe]:
    """A service under test, without processes yet."""
    async with asyncpg.create_pool(database_url, min_size=1, max_size=4) as pool:
        probe = Probe(amqp_uri, database_url, pool)
        await probe.prepare()
        try:
            yield probe
        finally:
            await probe.close()
