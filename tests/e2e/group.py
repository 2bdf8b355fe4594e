"""A dealer group in one process: all services' APIs and read models on a real PostgreSQL, without a broker.

What reactions would make is made by commands of the platform itself (`Group.populate`), so that every kind of object is
there.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from forecourt.config import Settings, load_from
from forecourt.deciders import Context
from forecourt.discovery import find_services
from forecourt.eventstore.port import StoredEvent
from forecourt.roles import grpc_server, projector
from forecourt.rpc.wiring import token_issuer
from forecourt.runtime import Runtime, migrate
from notify.notification import notification
from notify.notification.commands import RecordFailure, RequestNotification, StartAttempt
from service_desk.reminder import ScheduleReminder, reminder, reminder_id
from service_desk.return_visit import ScheduleReturnVisit, return_visit
from tests.e2e.client import METHODS, Client, Refusal, refusal
from tests.e2e.stories import (
    MODEL,
    SALE_LINES,
    VINS,
    complain,
    court,
    identify,
    receive_car,
    register,
    repair,
    sell,
)
from tests.staff import Hats

TEXTS = count(1)
STREAM_TRIES = 20
LEAST = 6
"""Characters of a value that is looked for in answers: shorter ones are anywhere."""


@dataclass(frozen=True)
class Caller:
    """Somebody with a token: what it reaches, and for whom they act.

    ``role`` is theirs in every call; without one, the role that the call is the job of.
    """

    dealers: tuple[str, ...]
    brands: tuple[str, ...]
    dealer: str
    brand: str
    role: str = ""

    def owns(self, event: StoredEvent) -> bool:
        """Whether what happened there is theirs, as far as nothing was shared."""
        return not (
            {"*", event.dealer_id}.isdisjoint(self.dealers) or {"*", event.brand}.isdisjoint(self.brands)
        )


STORE = Caller(("D001",), ("hongtong",), "D001", "hongtong")
NEIGHBOUR = Caller(("D002",), ("hongtong",), "D002", "hongtong")
OTHER_BRAND = Caller(("D001",), ("chery",), "D001", "chery")
MAKER = Caller(("*",), ("hongtong",), "D001", "hongtong")
HEAD = Caller(("*",), ("*",), "D001", "hongtong")


@dataclass(frozen=True)
class Answer:
    """All that a caller is told: a refusal, or messages as text."""

    refusal: Refusal | None
    text: str = ""

    @property
    def said(self) -> str:
        """Everything in it."""
        return f"{self.refusal}{self.text}"

    def without(self, values: Iterable[str]) -> "Answer":
        """The same, with each of the values left out: what was sent may come back."""
        known = [value for value in values if value]
        told = self.refusal
        if told is not None:
            fields = {_blank(key, known): _blank(value, known) for key, value in told.fields.items()}
            told = replace(told, message=_blank(told.message, known), fields=fields)
        return Answer(told, _blank(self.text, known))


def _blank(text: str, values: Iterable[str]) -> str:
    for value in values:
        text = text.replace(value, "#")
    return text


@dataclass
class Known:
    """What is in some events: values by the name of their field, the latest last, and all texts."""

    by_name: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    texts: set[str] = field(default_factory=set)
    command_ids: list[str] = field(default_factory=list)

    def value(self, name: str) -> str | None:
        """A value for a field of that name."""
        found = self.by_name.get(name)
        return found[-1] if found else None


@dataclass
class Group:
    """The running group."""

    runtime: Runtime
    channel: grpc.aio.Channel
    asked: set[str] = field(default_factory=set)
    """Every text that any message had in it."""

    def client(self, caller: Caller, actor: str = "amy") -> Client:
        """Somebody of the caller's kind, in each call with the role that the call is the job of."""
        return Client(self.channel, self._hats(caller, actor))

    def _hats(self, caller: Caller, actor: str) -> Hats:
        return Hats(lambda role: self._token(caller, actor, role))

    def _token(self, caller: Caller, actor: str, role: str) -> str:
        tokens = token_issuer(self.runtime.settings)
        return tokens.issue(
            f"{actor}-{caller.dealer}", roles=[role], dealers=caller.dealers, brands=caller.brands
        )

    def metadata(self, rpc: str, caller: Caller) -> list[tuple[str, str]]:
        """What each call of a caller carries."""
        if caller.role:
            authorization = f"Bearer {self._token(caller, 'amy', caller.role)}"
        else:
            authorization = self._hats(caller, "amy").authorization(METHODS[rpc])
        return [("authorization", authorization), ("dealer-id", caller.dealer), ("brand", caller.brand)]

    async def ask(
        self, rpc: str, message: Message | None, caller: Caller, metadata: Mapping[str, str] | None = None
    ) -> Answer:
        """The answer to one message, whatever shape the call has."""
        method = METHODS[rpc]
        path = f"/{method.containing_service.full_name}/{method.name}"
        shape = (
            "stream" if method.client_streaming else "unary",
            "stream" if method.server_streaming else "unary",
        )
        call: Any = getattr(self.channel, "_".join(shape))(
            path,
            GetMessageClass(method.input_type).SerializeToString,
            GetMessageClass(method.output_type).FromString,
        )
        self.asked.update(re.findall(r'"([^"]+)"', str(message)))
        sent = [*self.metadata(rpc, caller), *(metadata or {}).items()]
        for _ in range(STREAM_TRIES):
            request: Any = iter([message]) if method.client_streaming else message
            try:
                if method.server_streaming:
                    answers = [one async for one in call(request, timeout=30, metadata=sent)]
                else:
                    answers = [await call(request, timeout=30, metadata=sent)]
            except grpc.aio.AioRpcError as error:
                # grpc's client says so where a stream is refused while it is still sending.
                if method.client_streaming and error.code() is grpc.StatusCode.INTERNAL:
                    continue
                return Answer(refusal(error))
            return Answer(None, "\n".join(MessageToJson(one, ensure_ascii=False) for one in answers))
        raise AssertionError(f"{rpc}: broke off {STREAM_TRIES} times")

    async def events(self) -> list[tuple[StoredEvent, dict[str, Any]]]:
        """Everything that happened, in plain text; not who asked for what, which the audit has."""
        found = []
        for part in self.runtime.services:
            if part.service.name == "audit":
                continue
            async for batch in self.runtime.store.read_all(categories=part.service.categories):
                decoded = await part.codec.decode(batch.events)
                found += [(one.meta, one.event.model_dump(mode="json")) for one in decoded]
        return found

    async def known(self, caller: Caller) -> Known:
        """What is in the events of a caller's scope."""
        known = Known()
        for meta, data in await self.events():
            if not caller.owns(meta):
                continue
            category = {"customer_import": "import"}.get(meta.category, meta.category)
            leaves = [
                (f"{category}_id", str(meta.stream_id)),
                ("reason_stream", meta.stream),
                *_leaves("", data),
            ]
            for name, value in leaves:
                known.by_name[name].append(value)
                if len(value) >= LEAST:
                    known.texts.add(value)
            known.by_name["phone"] = known.by_name["mobile"] = known.by_name.get("typed", [])
            known.by_name["dealer_id"].append(meta.dealer_id)
            known.by_name["store"] = known.by_name["to_store"] = known.by_name["dealer_id"]
            known.by_name["reason_event_id"].append(str(meta.id))
            known.command_ids.append(str(meta.correlation_id))
        return known

    async def populate(self, caller: Caller) -> None:
        """One of everything for a store, the last ones of each kind still open."""
        do, approve = self.client(caller), self.client(caller, "bob")
        customer_id, vin, other_vin = await register(do), next(VINS), next(VINS)
        start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=1)
        await identify(do, customer_id)
        await do("customer.AssignCustomer", customer_id=customer_id, salesperson_id="S-01")
        await do("customer.RecordVehicleOwnership", customer_id=customer_id, vin=vin, since="2026-01-01")
        await do(
            "customer.LogInteraction",
            customer_id=customer_id,
            channel="INTERACTION_CHANNEL_CALL",
            direction="DIRECTION_INBOUND",
            subject=f"a call about {next(TEXTS):06}",
            note=f"a note about {next(TEXTS):06}",
        )
        for car in (vin, other_vin):
            await receive_car(do, car, caller.dealer)
        await court(do, customer_id, vin, start)
        await sell(do, approve, customer_id, vin)
        await do("sales.ReserveVehicle", vin=other_vin, customer_id=customer_id)
        await do("sales.PlaceOrder", customer_id=customer_id, model=MODEL, lines=SALE_LINES)
        await do("sales.OpenOpportunity", customer_id=customer_id, model=MODEL)
        await do(
            "sales.CaptureLead",
            source="LEAD_SOURCE_WALK_IN",
            model=MODEL,
            name=f"lead {next(TEXTS):06}",
            phone=f"135{next(TEXTS):08}",
        )
        await do("sales.CaptureAdfLead", xml=f"<adf>{next(TEXTS):06}".encode())
        await repair(do, approve, customer_id, vin)
        await do(
            "service_desk.OpenRepairOrder",
            customer_id=customer_id,
            vin=vin,
            odometer_km=20_000,
            kind="WORK_KIND_REPAIR",
            symptoms=[f"noise {next(TEXTS):06}"],
            adviser_id="A-01",
        )
        await do(
            "service_desk.BookAppointment",
            customer_id=customer_id,
            vin=vin,
            kind="WORK_KIND_REPAIR",
            starts_at=start.replace(hour=3),
            remarks=f"remarks {next(TEXTS):06}",
        )
        await complain(do, customer_id, vin)
        await do(
            "service_desk.ReceiveComplaint",
            customer_id=customer_id,
            channel="COMPLAINT_CHANNEL_PHONE",
            severity="SEVERITY_NORMAL",
            subject=f"subject {next(TEXTS):06}",
            description=f"description {next(TEXTS):06}",
        )
        await self._import(caller)
        await self._reactions(caller, UUID(customer_id), vin)

    async def _import(self, caller: Caller) -> None:
        message: Any = GetMessageClass(METHODS["customer.ImportCustomers"].input_type)()
        message.import_id, message.file_name = str(uuid4()), f"file-{next(TEXTS):06}.csv"
        message.rows.add(
            row=1, name=f"imported {next(TEXTS):06}", mobile=f"137{next(TEXTS):08}", kind="prospect"
        )
        message.rows.add(row=2, name=f"imported {next(TEXTS):06}")
        answer = await self.ask("customer.ImportCustomers", message, caller)
        assert answer.refusal is None, answer

    async def _reactions(self, caller: Caller, customer_id: UUID, vin: str) -> None:
        """What workers do: a reminder, a return visit, and a message that failed for good."""
        now = datetime.now(UTC)
        due = (now + timedelta(days=30)).date()
        planned = ScheduleReminder(
            reminder_id=reminder_id(vin, "annual_inspection", "1"),
            customer_id=customer_id,
            vin=vin,
            kind="annual_inspection",
            cycle="1",
            due_on=due,
            read_on=now.date(),
            rule_version=1,
        )
        visit = ScheduleReturnVisit(
            return_visit_id=uuid4(),
            customer_id=customer_id,
            vin=vin,
            trigger="repair",
            trigger_id=uuid4(),
            due_at=now + timedelta(days=3),
        )
        message = RequestNotification(
            notification_id=uuid4(),
            customer_id=customer_id,
            category="service",
            channel="sms",
            rule="return_visit",
            reason_event_id=uuid4(),
            reason_event_type="service_desk.VehicleHandedBack",
            reason_stream=f"repair_order-{uuid4()}",
            consent=None,
            template="return_visit_due",
            template_version=1,
            language="zh",
            time_zone="Asia/Shanghai",
            address=f"+86136{next(TEXTS):08}",
            subject="",
            text=f"a message about {next(TEXTS):06}",
            html="",
            lifetime_hours=24,
            expires_at=now + timedelta(hours=24),
        )
        await self.execute("service_desk", reminder, planned, caller)
        await self.execute("service_desk", return_visit, visit, caller)
        tried = {"notification_id": message.notification_id, "provider": "gateway"}
        failed = RecordFailure(**tried, attempt=1, code="refused", outcome="refused", dead_letter="refused")
        await self.execute("notify", notification, message, caller)
        await self.execute("notify", notification, StartAttempt(**tried, address=message.address), caller)
        await self.execute("notify", notification, failed, caller)

    async def execute(self, service: str, decider: Any, command: Any, caller: Caller) -> None:
        """Run a command of the platform itself, for a store."""
        (part,) = (part for part in self.runtime.services if part.service.name == service)
        context = Context(
            now=self.runtime.clock.now(),
            command_id=uuid4(),
            correlation_id=uuid4(),
            actor_id="system:test",
            dealer_id=caller.dealer,
            brand=caller.brand,
        )
        await part.commands.execute(decider, command, context)

    async def head(self) -> str:
        """The position of the last event, for ``after-position``."""
        return str(await self.runtime.store.head())


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(key, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(name, inner)
    elif isinstance(value, str) and value:
        yield name, value


@asynccontextmanager
async def running(database_url: str, folder: Path) -> AsyncIterator[Group]:
    """All services in this process, on a database of their own."""
    settings = load_from(
        Settings, {"DATABASE_URL": database_url, "FORECOURT_DATA": str(folder), "FORECOURT_POOL_SIZE": "4"}
    )
    services = find_services()
    await migrate(services, settings)
    async with AsyncExitStack() as stack:
        runtime = await Runtime.open(services, settings, followers=len(services))
        stack.push_async_callback(runtime.close)
        stop = asyncio.Event()
        projecting = [asyncio.create_task(projector(runtime, part).run(stop)) for part in runtime.services]
        stack.push_async_callback(asyncio.wait, projecting)
        stack.callback(stop.set)
        server = grpc_server(runtime)
        port = await server.start("127.0.0.1", 0)
        stack.push_async_callback(server.drain)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        yield Group(runtime, channel)
