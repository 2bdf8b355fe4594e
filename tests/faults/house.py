"""The platform under test: every role a process of its own, on durable servers of its own, with a tap on the broker.

The tap is a durable queue bound to every event. It is there before the first event, so what it holds is what any
subscriber would have got.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from forecourt.embedded import EmbeddedPostgres, EmbeddedRabbitMQ
from forecourt.embedded.process import free_port
from forecourt.messaging.cloudevents import EXCHANGE
from forecourt.messaging.forwarder import connect
from forecourt.messaging.parked import list_parked
from forecourt.supervisor import Child
from forecourt.testing.probes import poll_async
from tests.e2e.house import SECONDS, SERVICES, House, running

TAP = "test.tap"
POISON = "poison"
"""The id of a message that is no event."""


@dataclass
class Fortress(House):
    """A platform whose processes and servers can be killed, and whose events are tapped."""

    postgres: EmbeddedPostgres
    rabbitmq: EmbeddedRabbitMQ
    handlers: dict[str, frozenset[str]]
    """The events that each handler's queue is bound to."""
    tapped: list[tuple[UUID, str, int]]
    """What the tap gave, in its order: event id, stream and sequence."""

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
        await self.connected()

    async def connected(self) -> None:
        """Wait until the channel has found the server again: after a refusal it pauses before it tries."""
        await asyncio.wait_for(self.channel.channel_ready(), SECONDS)

    async def replicate(self, name: str, number: int = 2) -> str:
        """Start another process of a role, and wait until it is ready; its name."""
        spec, twin = self.child(name).spec, f"{name}-{number}"
        address = f"127.0.0.1:{free_port()}"
        env = {**spec.env, "HTTP_LISTEN": address}
        if "GRPC_LISTEN" in env:
            env["GRPC_LISTEN"] = f"127.0.0.1:{free_port()}"
        self.platform.addresses[twin] = address
        second = replace(spec, name=twin, env=env, health=f"http://{address}/readyz")
        await self.platform.supervisor.start_all([second], seconds=SECONDS)
        return twin

    async def all_ready(self) -> None:
        """Wait until every process says that it is ready."""
        supervisor = self.platform.supervisor
        await asyncio.gather(*(supervisor.wait_ready(name, seconds=SECONDS) for name in supervisor.children))
        await self.connected()

    async def bind(self) -> None:
        """Note which handlers there are, from the broker's own list of bindings."""
        vhost = urlsplit(self.amqp_uri).path.removeprefix("/")
        url = f"{self.rabbitmq.management_url}/api/exchanges/{vhost}/{EXCHANGE}/bindings/source"
        async with self.http.get(url) as response:
            rows = await response.json()
        found: dict[str, set[str]] = {}
        for row in rows:
            if row["destination"] != TAP:
                found.setdefault(row["destination"], set()).add(row["routing_key"].removesuffix(".#"))
        self.handlers = {queue: frozenset(types) for queue, types in found.items()}
        assert {handler.partition(".")[0] for handler in self.handlers} == set(SERVICES)

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
async def open_fortress(folder: Path) -> AsyncIterator[Fortress]:
    """Servers first, with the tap; then the platform, until every handler has its queue."""
    async with AsyncExitStack() as stack:
        postgres = EmbeddedPostgres(folder / "postgres", durable=True)
        rabbitmq = EmbeddedRabbitMQ(folder / "rabbitmq")
        # Nobody needs their data any more, and stopping in order takes seconds.
        stack.push_async_callback(asyncio.to_thread, postgres.kill)
        stack.push_async_callback(asyncio.to_thread, rabbitmq.kill)
        url, uri = await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(rabbitmq.start))
        await asyncio.to_thread(_tap, uri)
        house = await stack.enter_async_context(running(folder / "platform", url, uri, together=False))
        fortress = Fortress(house.platform, house.http, house.channel, postgres, rabbitmq, {}, [])
        await fortress.bind()
        yield fortress


def _tap(amqp_uri: str) -> None:
    with connect(amqp_uri) as connection:
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        channel.queue_declare(TAP, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(TAP, EXCHANGE, "#")
