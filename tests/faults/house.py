"""The platform under test: every role a process of its own, on durable servers of its own, with a tap on the broker.

The tap is a durable queue bound to every event. It is there before the first event, so what it holds is what any
subscriber would have got.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import asyncpg
import grpc
import msgspec

from forecourt.clock_store import ClockStore
from forecourt.embedded import EmbeddedPostgres, EmbeddedRabbitMQ
from forecourt.messaging.cloudevents import EXCHANGE
from forecourt.messaging.forwarder import connect
from forecourt.messaging.parked import list_parked
from forecourt.platform import Platform
from forecourt.supervisor import Child
from forecourt.testing.probes import poll_async
from tests.e2e.client import Client

NOON = datetime(2027, 3, 1, 4, 0, tzinfo=UTC)
"""A Monday in Shanghai, far from quiet hours."""

SECONDS = 60.0
SERVICES = ("customer", "sales", "service_desk", "notify")
TAP = "test.tap"
POISON = "poison"
"""The id of a message that is no event."""

RETRY_DELAYS = "0.2,0.5,1,2"

ENVIRONMENT = {
    "FORECOURT_RETRY_DELAYS": RETRY_DELAYS,
    "NOTIFY_RETRY_DELAYS": "0.2,0.5,1,1,2,2",
    "NOTIFY_TIMEOUT_SECONDS": "1",
    "NOTIFY_STORES": "D001=鸿通浦东店",
}


@dataclass
class House:
    """A running platform with the outer world around it."""

    platform: Platform
    postgres: EmbeddedPostgres
    rabbitmq: EmbeddedRabbitMQ
    http: aiohttp.ClientSession
    channel: grpc.aio.Channel
    handlers: dict[str, frozenset[str]] = field(default_factory=dict)
    """The events that each handler's queue is bound to."""
    tapped: list[tuple[UUID, str, int]] = field(default_factory=list)
    """What the tap gave, in its order: event id, stream and sequence."""

    @property
    def database_url(self) -> str:
        """Where everything is stored."""
        return self.platform.environment["DATABASE_URL"]

    @property
    def amqp_uri(self) -> str:
        """The broker."""
        return self.platform.environment["AMQP_URI"]

    def client(self, actor: str, role: str = "store_manager") -> Client:
        """Somebody at the first store."""
        token = self.platform.token(actor, roles=[role], dealers=["D001"], brands=["hongtong"])
        return Client(self.channel, [("authorization", f"Bearer {token}")])

    def child(self, name: str) -> Child:
        """A process, by the name of its role."""
        return self.platform.supervisor.children[name]

    async def kill(self, name: str) -> None:
        """Kill a process without a chance to say goodbye, and wait until its successor is ready."""
        child = self.child(name)
        pid, restarts = child.pid, child.restarts
        assert pid is not None, f"{name} does not run"
        child.send(signal.SIGKILL)
        await poll_async(
            lambda: child.restarts > restarts and child.pid, SECONDS, what=f"{name} to start again"
        )
        assert child.pid != pid
        await self.platform.supervisor.wait_ready(name, seconds=SECONDS)

    async def all_ready(self) -> None:
        """Wait until every process says that it is ready."""
        supervisor = self.platform.supervisor
        await asyncio.gather(*(supervisor.wait_ready(name, seconds=SECONDS) for name in supervisor.children))

    async def fault(self, **fault: Any) -> None:
        """Have a provider in the sandbox misbehave."""
        url = f"http://{self.platform.addresses['http']}/faults"
        async with self.http.post(url, json=fault) as response:
            assert response.status == 200, await response.text()

    async def mend(self) -> None:
        """Have the providers behave again."""
        async with self.http.delete(f"http://{self.platform.addresses['http']}/faults") as response:
            assert response.status == 200

    async def arrived(self) -> list[dict[str, Any]]:
        """The messages that customers got."""
        async with self.http.get(f"http://{self.platform.addresses['http']}/messages") as response:
            messages: list[dict[str, Any]] = (await response.json())["messages"]
            return messages

    async def metric(self, process: str, name: str) -> float:
        """The sum of the samples of a metric on a process's page."""
        async with self.http.get(f"http://{self.platform.addresses[process]}/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0] == name)

    async def sql(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of a statement, on a connection of its own: servers restart here."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def bindings(self) -> dict[str, frozenset[str]]:
        """The event types that each queue of the broker is bound to, without the tap."""
        vhost = urlsplit(self.amqp_uri).path.removeprefix("/")
        url = f"{self.rabbitmq.management_url}/api/exchanges/{vhost}/{EXCHANGE}/bindings/source"
        async with self.http.get(url) as response:
            rows = await response.json()
        found: dict[str, set[str]] = {}
        for row in rows:
            if not row["destination"].startswith("test."):
                found.setdefault(row["destination"], set()).add(row["routing_key"].removesuffix(".#"))
        return {queue: frozenset(types) for queue, types in found.items()}

    def drain_tap(self) -> None:
        """Take everything out of the tap."""
        with connect(self.amqp_uri) as connection:
            channel = connection.channel()
            while (message := channel.basic_get(TAP)) is not None:
                if message.properties["message_id"] != POISON:
                    self.tapped.append(tapped(message))
                channel.basic_ack(message.delivery_tag)

    def parked(self) -> dict[str, dict[str, str]]:
        """The ids of parked messages with their reasons, by handler."""
        found: dict[str, dict[str, str]] = {}
        for handler in self.handlers:
            messages = list_parked(self.amqp_uri, f"{handler}.parked", limit=1_000)
            found[handler] = {message.id: message.reason for message in messages}
        return found


def tapped(message: Any) -> tuple[UUID, str, int]:
    """Event id, stream and sequence of a message."""
    body = msgspec.json.decode(message.body)
    return UUID(body["id"]), body["subject"], int(body["sequence"])


@asynccontextmanager
async def open_house(folder: Path) -> AsyncIterator[House]:
    """Servers first, with the clock and the tap; then the platform, until every handler has its queue."""
    async with AsyncExitStack() as stack:
        postgres = EmbeddedPostgres(folder / "postgres", durable=True)
        rabbitmq = EmbeddedRabbitMQ(folder / "rabbitmq")
        stack.push_async_callback(asyncio.to_thread, postgres.kill)
        stack.push_async_callback(asyncio.to_thread, rabbitmq.kill)
        url, uri = await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(rabbitmq.start))
        await _set_clock(url)
        await asyncio.to_thread(_tap, uri)
        environment = {**ENVIRONMENT, "DATABASE_URL": url, "AMQP_URI": uri}
        platform = Platform(folder / "platform", clock="virtual", environment=environment)
        await stack.enter_async_context(platform)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1_000)]
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(platform.addresses["grpc"], options=options)
        )
        house = House(platform, postgres, rabbitmq, http, channel)
        house.handlers = await house.bindings()
        assert {handler.partition(".")[0] for handler in house.handlers} == set(SERVICES)
        yield house


async def _set_clock(database_url: str) -> None:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool:
        await ClockStore(pool).migrate()
        await pool.execute("UPDATE events.clock_setting SET virtual = $1, rate = 1", NOON)


def _tap(amqp_uri: str) -> None:
    with connect(amqp_uri) as connection:
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        channel.queue_declare(TAP, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(TAP, EXCHANGE, "#")
