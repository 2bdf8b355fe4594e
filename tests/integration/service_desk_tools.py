"""What the service desk's integration tests share: its processes, a client, the clock, and events from sales."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import grpc
import msgspec
from amqp.exceptions import NotFound
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from forecourt.clock_store import ClockStore
from forecourt.eventstore.port import NewEvent
from forecourt.eventstore.postgres import PostgresEventStore
from forecourt.messaging.cloudevents import CONTENT_TYPE, EXCHANGE, routing_key, to_cloudevent
from forecourt.messaging.forwarder import Forwarder
from forecourt.messaging.topology import handler_queue
from forecourt.platform import Platform
from forecourt.testing.given import an_id
from service_desk.api import api
from service_desk.workshop_day import CapacityReserved, workshop_day_id
from tests.integration.messaging_tools import depth, eventually
from tests.staff import Hats

START = datetime(2026, 1, 5, 1, 0, tzinfo=UTC)
"""Monday, nine in the morning in Shanghai: when the virtual clock of these tests begins."""

VINS = ("LVSHCAMEX1F123456", "LSVAA4181E2184841")
HANDLERS = (
    "care_after_delivery",
    "care_after_repair",
    "care_after_complaint",
    "note_odometer",
    "recover",
    "forget_returned_vehicle",
    "forget_sold_vehicle",
    "free_capacity",
)
SECONDS = 60.0
"""How long a busy machine may need for what takes a moment."""


def cny(amount: str) -> dict[str, str]:
    """Yuan, as the contract spells them."""
    return {"amount": amount, "currency": "CNY"}


class Refusal(Exception):
    """A call was refused: its code, its slug, and the fields that it names."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        super().__init__(f"{error.code().name}: {error.details()}")
        self.code = error.code()
        self.slug, self.fields = "", set[str]()
        trailing = dict(error.trailing_metadata() or ())
        status = status_pb2.Status.FromString(trailing.get("grpc-status-details-bin", b""))
        for packed in status.details:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if packed.Unpack(info):
                self.slug = info.reason
            elif packed.Unpack(bad):
                self.fields = {violation.field for violation in bad.field_violations}


def _serialize(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


class Desk:
    """A running service desk."""

    def __init__(self, platform: Platform, pool: "asyncpg.Pool[Any]", channel: grpc.aio.Channel) -> None:
        self.platform = platform
        self.pool = pool
        self.clock = ClockStore(pool)
        self._store = PostgresEventStore(pool)
        self._channel = channel
        self._methods = api.descriptor().methods_by_name
        self._hats = {actor: self._hats_of(actor) for actor in ("tester", "inspector")}

    def _hats_of(self, actor: str) -> Hats:
        return Hats(
            lambda role: self.platform.token(
                actor, dealers=["D001", "D002"], brands=["hongtong"], roles=[role]
            )
        )

    async def call(
        self, rpc: str, *, actor: Any = "tester", metadata: Any = None, message: Any = None, **fields: Any
    ) -> Any:
        """The answer of an RPC for store D001, to fields or to a ``message`` (or raw bytes). Raises `Refusal`."""
        method = self._methods[rpc]
        given = {
            "authorization": self._hats[actor].authorization(method),
            "dealer-id": "D001",
            **{key.replace("_", "-"): str(value) for key, value in (metadata or {}).items()},
        }
        invoke: Any = self._channel.unary_unary(
            f"/{api.full_name}/{rpc}",
            _serialize,
            GetMessageClass(method.output_type).FromString,
        )
        request = GetMessageClass(method.input_type)(**fields) if message is None else message
        try:
            return await invoke(request, timeout=30, metadata=list(given.items()))
        except grpc.aio.AioRpcError as error:
            raise Refusal(error) from error

    async def refusal(self, rpc: str, **fields: Any) -> Refusal:
        """How a call that must be refused was refused."""
        try:
            await self.call(rpc, **fields)
        except Refusal as refusal:
            return refusal
        raise AssertionError(f"{rpc} was not refused")

    async def count(self) -> Counter[str]:
        """Events in the store by name, without the audit's entries about what was refused or read."""
        rows = await self.pool.fetch(
            "SELECT type, count(*) AS n FROM events.event WHERE category <> 'audit' GROUP BY type"
        )
        return Counter({row["type"].partition(".")[2]: row["n"] for row in rows})

    async def until(self, event: str, at_least: int) -> None:
        """Wait until there are so many events of a name."""

        async def enough() -> bool:
            return (await self.count())[event] >= at_least

        await eventually(enough, seconds=SECONDS)

    async def twice(self, event: str) -> list[UUID]:
        """Aggregates in which an event of this name stands more than once."""
        rows = await self.pool.fetch(
            "SELECT stream FROM events.event WHERE type = $1 GROUP BY stream HAVING count(*) > 1",
            f"service_desk.{event}",
        )
        return [row["stream"] for row in rows]

    async def tell(self, type_: str, stream: str, data: dict[str, Any], dealer_id: str = "D001") -> None:
        """Have another service's event in the store and on the exchange, there twice: delivery is at least once."""
        await self.publish(await self.append(type_, stream, msgspec.json.encode(data).decode(), dealer_id))

    async def publish(self, stored: Any) -> None:
        """Have a stored event on the exchange, twice."""
        await asyncio.to_thread(self._publish_twice, stored)

    def _publish_twice(self, stored: Any) -> None:
        with Forwarder(self.platform.environment["AMQP_URI"]) as forwarder:
            for _ in range(2):
                forwarder.send(
                    EXCHANGE,
                    routing_key(stored.type, stored.brand, stored.dealer_id),
                    to_cloudevent(stored),
                    properties={"content_type": CONTENT_TYPE, "message_id": str(stored.id)},
                    headers={},
                )

    async def deliver(self, label: str, vin: str, *, insurance_until: date | None = None) -> UUID:
        """Have sales deliver a car; the order's id."""
        stored = await self.record_delivery(label, vin, insurance_until=insurance_until)
        await self.publish(stored)
        return an_id(f"order {label}")

    async def record_delivery(self, label: str, vin: str, *, insurance_until: date | None = None) -> Any:
        """Have a car's delivery in the store only: its reactions are late until it is published."""
        data = {
            "customer_id": an_id(f"customer {label}"),
            "vin": vin,
            "model": "Arrizo 8",
            "delivered_at": await self.now(),
            "odometer_km": 15,
            "insurance_until": insurance_until,
        }
        order = f"order-{an_id(f'order {label}')}"
        return await self.append("sales.VehicleDelivered", order, msgspec.json.encode(data).decode())

    async def hold_without_appointment(self, day: date) -> None:
        """Leave a hold behind that no appointment will ever stand on."""
        stream_id = workshop_day_id("D001", day)
        hold = CapacityReserved(
            hold_id=an_id("lost hold"),
            appointment_id=an_id("lost appointment"),
            first_slot=20,
            slots=2,
            technicians=1,
        )
        await self.append(
            "service_desk.CapacityReserved", f"workshop_day-{stream_id}", hold.model_dump_json()
        )

    async def append(self, type_: str, stream: str, data: str, dealer_id: str = "D001") -> Any:
        """Append an event as some service does; the stored record."""
        stream_id = UUID(stream.partition("-")[2])
        event = NewEvent(
            id=uuid5(stream_id, type_ + data),
            type=type_,
            version=1,
            time=await self.now(),
            data=data,
            correlation_id=uuid5(stream_id, "correlation"),
            dealer_id=dealer_id,
            brand="hongtong",
            actor_id="tester",
        )
        expected = await self.pool.fetchval("SELECT count(*) FROM events.event WHERE stream = $1", stream)
        await self._store.append(stream, [event], expected=expected)
        [stored] = [e async for page in self._store.read_stream(stream, after=expected) for e in page]
        return stored

    async def now(self) -> datetime:
        """The virtual time."""
        return (await self.clock.read()).at(datetime.now(UTC))

    async def advance(self, **delta: float) -> None:
        """Move the clock, which stands still otherwise."""
        await self.clock.advance(timedelta(**delta))

    async def restart_worker(self) -> None:
        """Kill the worker and start another one."""
        child = self.platform.supervisor.children.pop("work-service_desk")
        child.wanted = False
        child.send(signal.SIGKILL)
        assert child.process is not None
        await child.process.wait()
        await self.platform.supervisor.start_all([child.spec], seconds=SECONDS)


@asynccontextmanager
async def running_desk(folder: Path, database_url: str, amqp_uri: str) -> AsyncIterator[Desk]:
    """The service desk's processes on their own database and virtual host, with a clock that stands still."""
    environment = {"DATABASE_URL": database_url, "AMQP_URI": amqp_uri, "FORECOURT_RETRY_DELAYS": "0.2,0.5,1"}
    async with (
        asyncpg.create_pool(database_url, min_size=1, max_size=4) as pool,
        _stopped_clock(pool),
        Platform(
            folder,
            together=True,
            clock="virtual",
            restart=False,
            sandboxes=False,
            services=["service_desk"],
            environment=environment,
        ) as platform,
        grpc.aio.insecure_channel(platform.addresses["grpc"]) as channel,
    ):
        await eventually(lambda: _listening(amqp_uri), seconds=SECONDS)
        yield Desk(platform, pool, channel)


async def _listening(amqp_uri: str) -> bool:
    """Whether every handler of the worker has its queue."""
    try:
        for handler in HANDLERS:
            await asyncio.to_thread(depth, amqp_uri, handler_queue("service_desk", handler))
    except NotFound:
        return False
    return True


@asynccontextmanager
async def _stopped_clock(pool: "asyncpg.Pool[Any]") -> AsyncIterator[None]:
    """Before any process looks at it, the clock may also be set back."""
    await ClockStore(pool).migrate()
    await pool.execute("UPDATE events.clock_setting SET virtual = $1, rate = 0", START)
    yield
