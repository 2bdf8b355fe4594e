"""Notify as it runs: its processes, the sandbox's, a broker and a database, and a clock that stands still."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import aiohttp
import asyncpg
import grpc
import msgspec
from amqp.exceptions import NotFound
from google.protobuf.message_factory import GetMessageClass

from forecourt.clock_store import ClockStore
from forecourt.eventstore.port import NewEvent, StoredEvent
from forecourt.eventstore.postgres import PostgresEventStore
from forecourt.messaging.cloudevents import CONTENT_TYPE, EXCHANGE, routing_key, to_cloudevent
from forecourt.messaging.forwarder import Forwarder, connect
from forecourt.messaging.topology import handler_queue
from forecourt.platform import Platform
from forecourt.testing.given import an_id
from forecourt.testing.probes import poll_async
from notify.api import api
from notify.notification import key_of
from tests.staff import Hats

NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
SECONDS = 60.0
VIN = "LSVAA4181E2184841"


class House:
    """A running notify service with the outer world around it."""

    def __init__(
        self,
        platform: Platform,
        pool: "asyncpg.Pool[Any]",
        channel: grpc.aio.Channel,
        http: aiohttp.ClientSession,
    ) -> None:
        self.platform = platform
        self.pool = pool
        self.clock = ClockStore(pool)
        self.http = http
        self.sandbox = f"http://{platform.addresses['http']}"
        self.serve = f"http://{platform.addresses['serve+project+relay']}"
        self._store = PostgresEventStore(pool)
        self._channel = channel
        self._methods = api.descriptor().methods_by_name
        self._hats = Hats(
            lambda role: platform.token("tester", dealers=["D001"], brands=["hongtong"], roles=[role])
        )

    async def call(self, rpc: str, **fields: Any) -> Any:
        """The answer of an RPC. Raises `grpc.aio.AioRpcError`."""
        method = self._methods[rpc]
        invoke: Any = self._channel.unary_unary(
            f"/{api.full_name}/{rpc}",
            GetMessageClass(method.input_type).SerializeToString,
            GetMessageClass(method.output_type).FromString,
        )
        message = GetMessageClass(method.input_type)(**fields)
        metadata = [("authorization", self._hats.authorization(method))]
        return await invoke(message, timeout=30, metadata=metadata)

    async def status(self, rpc: str, **fields: Any) -> tuple[str, str]:
        """How a call that must be refused was refused: status and words."""
        try:
            await self.call(rpc, **fields)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or ""
        raise AssertionError(f"{rpc} was not refused")

    async def register(self, label: str, **changes: Any) -> UUID:
        """A customer; its id. ``changes`` are fields of the event."""
        customer_id = an_id(f"customer {label}")
        number = int(label[1:] or 0) if label[1:].isdigit() else 0
        data = {
            "name": f"王{label}",
            "language": "zh",
            "time_zone": "Asia/Shanghai",
            "contact_points": [
                {"kind": "mobile", "value": f"+86138{number:08}"},
                {"kind": "email", "value": f"{label}@example.com"},
            ],
            "consents": [],
        }
        await self.append("customer.CustomerRegistered", f"customer-{customer_id}", {**data, **changes})
        return customer_id

    async def append(self, type_: str, stream: str, data: dict[str, Any]) -> StoredEvent:
        """Have another service's event in the store."""
        stream_id = UUID(stream.partition("-")[2])
        text = msgspec.json.encode(data).decode()
        event = NewEvent(
            id=uuid5(stream_id, type_ + text),
            type=type_,
            version=1,
            time=NOON,
            data=text,
            correlation_id=uuid5(stream_id, "correlation"),
            dealer_id="D001",
            brand="hongtong",
            actor_id="tester",
        )
        expected = await self.pool.fetchval("SELECT count(*) FROM events.event WHERE stream = $1", stream)
        await self._store.append(stream, [event], expected=expected)
        [stored] = [e async for page in self._store.read_stream(stream, after=expected) for e in page]
        return stored

    async def arrive(self, label: str, times: int = 1) -> UUID:
        """Have sales tell that the car of a customer arrived; the id of the message that follows."""
        stored = await self.append(
            "sales.VehicleArrived",
            f"order-{an_id(f'order {label}')}",
            {"customer_id": str(an_id(f"customer {label}")), "vin": VIN},
        )
        await asyncio.to_thread(self.publish, *[stored] * times)
        return key_of(stored.id, "vehicle_arrived")

    def publish(self, *events: StoredEvent) -> None:
        """Publish events, as the relay of their service would."""
        with Forwarder(self.platform.environment["AMQP_URI"]) as forwarder:
            for stored in events:
                forwarder.send(
                    EXCHANGE,
                    routing_key(stored.type, stored.brand, stored.dealer_id),
                    to_cloudevent(stored),
                    properties={"content_type": CONTENT_TYPE, "message_id": str(stored.id)},
                    headers={},
                )

    async def arrived(self, **filters: str) -> list[dict[str, Any]]:
        """What arrived in the sandbox."""
        async with self.http.get(f"{self.sandbox}/messages", params=filters) as response:
            found: list[dict[str, Any]] = (await response.json())["messages"]
            return found

    async def fault(self, **fault: Any) -> None:
        """Have the sandbox misbehave."""
        async with self.http.post(f"{self.sandbox}/faults", json=fault) as response:
            response.raise_for_status()

    async def until(self, notification_id: UUID, *states: str) -> Any:
        """Wait until a message is in one of these states; the message."""
        from google.protobuf.json_format import MessageToDict

        async def there() -> Any:
            try:
                found = await self.call("GetNotification", notification_id=str(notification_id))
            except grpc.aio.AioRpcError as error:
                if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE):
                    return None
                raise
            state = MessageToDict(found.notification)["state"].removeprefix("STATE_").lower()
            return found if state in states else None

        return await poll_async(there, SECONDS, what=f"a message to be {' or '.join(states)}")

    async def states(self) -> dict[str, int]:
        """Messages by state."""
        rows = (await self.call("CountNotifications")).counts
        names = api.descriptor().file.enum_types_by_name["State"].values_by_number
        totals: dict[str, int] = {}
        for row in rows:
            name = names[row.state].name.removeprefix("STATE_").lower()
            totals[name] = totals.get(name, 0) + row.count
        return totals

    async def kill(self, name: str) -> None:
        """Kill a process without a chance to say goodbye."""
        child = self.platform.supervisor.children[name]
        child.wanted = False
        child.send(signal.SIGKILL)
        assert child.process is not None
        await child.process.wait()

    async def start(self, name: str) -> None:
        """Start a process that was killed."""
        child = self.platform.supervisor.children.pop(name)
        await self.platform.supervisor.start_all([child.spec], seconds=SECONDS)


@asynccontextmanager
async def open_house(
    folder: Path, database_url: str, amqp_uri: str, **environment: str
) -> AsyncIterator[House]:
    """Notify's processes on their own database and virtual host."""
    settings = {
        "DATABASE_URL": database_url,
        "AMQP_URI": amqp_uri,
        "FORECOURT_RETRY_DELAYS": "0.2,0.5,1",
        "NOTIFY_RETRY_DELAYS": "0.2,0.5,1,1,1",
        "NOTIFY_TIMEOUT_SECONDS": "2",
        "NOTIFY_STORES": "D001=鸿通浦东店",
    }
    async with (
        asyncpg.create_pool(database_url, min_size=1, max_size=4) as pool,
        _clock_at_noon(pool),
        Platform(
            folder,
            together=True,
            clock="virtual",
            restart=False,
            services=["notify"],
            environment={**settings, **environment},
        ) as platform,
        grpc.aio.insecure_channel(platform.addresses["grpc"]) as channel,
        aiohttp.ClientSession() as http,
    ):
        await poll_async(lambda: _listens(amqp_uri), SECONDS, what="the worker's queue")
        yield House(platform, pool, channel, http)


async def _listens(amqp_uri: str) -> bool:
    """Whether the worker has bound its queue: an event that comes earlier reaches nobody."""

    def ask() -> bool:
        with connect(amqp_uri) as connection:
            try:
                found = connection.channel().queue_declare(handler_queue("notify", "notify"), passive=True)
            except NotFound:
                return False
            return bool(found.consumer_count)

    return await asyncio.to_thread(ask)


@asynccontextmanager
async def _clock_at_noon(pool: "asyncpg.Pool[Any]") -> AsyncIterator[None]:
    await ClockStore(pool).migrate()
    await pool.execute("UPDATE events.clock_setting SET virtual = $1, rate = 1", NOON)
    yield
