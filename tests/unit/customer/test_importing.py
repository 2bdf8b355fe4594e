"""The streamed import: chunks written at the same time, duplicates, memory, rows sent again, and what is refused."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from copy import copy
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Self, cast
from uuid import UUID

import pytest

from customer import importing
from customer.customer import CustomerRegistered, customer
from customer.importing import ImportChunk, Importer, ImportRow
from customer.service import service
from demo.client import read_rows
from forecourt.access.scope import UNRESTRICTED, Scope
from forecourt.audit.parts import PartsOfCall
from forecourt.codec import Codec
from forecourt.command_handler import CommandHandler
from forecourt.errors import InvalidInput
from forecourt.events import Meta
from forecourt.eventstore.memory import MemoryEventStore
from forecourt.eventstore.port import Append
from forecourt.privacy.keys import MemoryKeys
from forecourt.rpc.calls import CallCommands
from forecourt.testing.given import CONTEXT, an_id

POSITIONS = (12, 40, 25, 31)


class LaterFirst:
    """Writes the first chunk last."""

    def __init__(self, _call: object) -> None:
        self._written = asyncio.Event()

    async def take(self, chunk: int) -> Awaitable[dict[str, Any]]:
        """A chunk is its number."""
        return self._write(chunk)

    async def _write(self, chunk: int) -> dict[str, Any]:
        if chunk == len(POSITIONS) - 1:
            self._written.set()
        await self._written.wait()
        return {"chunk": chunk, "position": POSITIONS[chunk]}


async def _chunks() -> AsyncIterator[Any]:
    for chunk in range(len(POSITIONS)):
        yield chunk


async def test_who_waits_for_the_last_position_sees_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "Importer", LaterFirst)
    call: Any = None
    answers = [answer async for answer in importing.import_customers(_chunks(), call)]
    assert [answer["chunk"] for answer in answers] == [0, 1, 2, 3]
    assert [answer["position"] for answer in answers] == [12, 40, 40, 40]


class Store(MemoryEventStore):
    """Notes the sizes of the appends that customers are made with, and of those of one stream."""

    def __init__(self) -> None:
        super().__init__()
        self.created: list[int] = []
        self.alone = 0

    async def append_many(self, appends: Sequence[Append]) -> Any:
        self.created += [len(one.events) for one in appends]
        alone = self.alone
        results = await super().append_many(appends)
        self.alone = alone
        return results

    async def append(self, stream: str, events: Any, *, expected: int) -> Any:
        self.alone += stream.startswith("customer-")
        return await super().append(stream, events, expected=expected)


class Shown:
    """A read model of customers that shows only what was waited for; ``asked`` are the scopes of the queries."""

    def __init__(self, store: MemoryEventStore, codec: Codec) -> None:
        self._store, self._codec = store, codec
        self._scope = UNRESTRICTED
        self.position = 0
        self.asked: list[Scope] = []

    def within(self, scope: Scope) -> Self:
        """The same, seen within another scope."""
        other = copy(self)
        other._scope = scope
        return other

    async def wait_for(self, _projection: object, position: int, _timeout: float) -> None:
        self.position = max(self.position, position)

    async def all(self, _projection: object, **_: object) -> list[Any]:
        self.asked.append(self._scope)
        found = []
        async for batch in self._store.read_all(categories=["customer"]):
            for event in await self._codec.decode([e for e in batch.events if e.position <= self.position]):
                if isinstance(event.event, CustomerRegistered) and self._shows(event.meta):
                    mobile = event.event.contact_points[0].value
                    found.append(
                        SimpleNamespace(mobile=mobile, name=event.event.name, customer_id=event.stream_id)
                    )
        return found

    def _shows(self, meta: Meta) -> bool:
        return self._scope.covers_dealer(meta.dealer_id) and self._scope.covers_brand(meta.brand)


class Desk:
    """What imports run on, and the calls that bring them."""

    def __init__(self) -> None:
        self.store = Store()
        codec = Codec(service.registry, MemoryKeys())
        self.handler = CommandHandler(self.store, codec)
        self.shown = Shown(self.store, codec)

    def importer(self, days: int = 0, store: str = "D001") -> Importer:
        """The importer of a new call of somebody who acts for every store, some days later."""
        context = replace(CONTEXT, now=CONTEXT.now + timedelta(days=days), dealer_id=store)
        call = SimpleNamespace(
            context=context,
            commands=CallCommands(self.handler, context, PartsOfCall()),
            read_models=self.shown,
            identity=SimpleNamespace(acts_for=lambda dealer: True),
            refuse=lambda error, subject=None: None,
        )
        return Importer(cast(Any, call))

    async def events(self, customer_id: UUID) -> list[str]:
        """The names of a customer's events."""
        pages = self.store.read_stream(customer.stream(customer_id))
        return [event.type.partition(".")[2] async for page in pages for event in page]


def chunk(import_id: UUID, numbers: Sequence[int], first: int = 1, **columns: str) -> ImportChunk:
    """Rows about the persons of these numbers."""
    rows = [
        ImportRow(row=row, name=f"P{n}", mobile=f"+86138{n:08}", **columns)
        for row, n in enumerate(numbers, start=first)
    ]
    return ImportChunk(import_id=import_id, rows=tuple(rows))


async def imported(importer: Importer, rows: ImportChunk) -> list[Any]:
    """The reports on the rows of a chunk."""
    return list((await (await importer.take(rows)))["rows"])


async def test_an_import_right_after_another_one_sees_its_customers() -> None:
    desk = Desk()
    first = await imported(desk.importer(), chunk(an_id("one"), range(3)))
    again = await imported(desk.importer(), chunk(an_id("another"), range(3)))
    assert [report.outcome for report in again] == ["duplicate"] * 3
    assert [report.customer_id for report in again] == [report.customer_id for report in first]


async def test_duplicates_are_found_in_a_file_that_is_larger_than_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importing, "REMEMBERED_ROWS", 6)
    desk = Desk()
    importer = desk.importer()
    for start in range(0, 40, 2):
        reports = await imported(importer, chunk(an_id("file"), [start, start + 1], first=start + 1))
        assert [report.outcome for report in reports] == ["created"] * 2
    assert len(importer._recent.customers) + len(importer._earlier.customers) <= 12
    reports = await imported(importer, chunk(an_id("file"), range(40), first=41))
    assert [report.outcome for report in reports] == ["duplicate"] * 40


VIN = "LSVAA4181E2184841"


async def test_a_row_with_a_car_is_one_append_and_nothing_new_when_it_is_sent_again() -> None:
    desk = Desk()
    rows = chunk(an_id("cars"), range(3), vin=VIN)
    first = await imported(desk.importer(), rows)
    assert (desk.store.created, desk.store.alone) == ([2, 2, 2], 0)
    head = await desk.store.head()
    assert await imported(desk.importer(days=1), rows) == first
    customers = [
        event
        async for batch in desk.store.read_all(after=head, categories=["customer"])
        for event in batch.events
    ]
    assert customers == []
    for report in first:
        assert await desk.events(report.customer_id) == ["CustomerRegistered", "VehicleOwnershipRecorded"]


@pytest.mark.parametrize("done", [1, 2], ids=["registered only", "registered and owner"])
async def test_an_import_that_wrote_a_row_in_two_appends_is_resumed(done: int) -> None:
    desk = Desk()
    rows = chunk(an_id("cars"), range(1), vin=VIN)
    await desk.importer()._catch_up(rows.import_id)
    good = importing.read_row(rows.rows[0])
    context = desk.importer()._context(rows.import_id, "row:1", "")
    row = importing.NewCustomer(1, context.new_id("customer"), good, context)
    steps = [(importing._registration(row), context), importing._ownership(row)]
    for command, of in steps[:done]:
        await desk.handler.execute(customer, command, of)
    (report,) = await imported(desk.importer(days=1), rows)
    assert (report.outcome, report.customer_id) == ("created", row.customer_id)
    assert await desk.events(row.customer_id) == ["CustomerRegistered", "VehicleOwnershipRecorded"]


@pytest.mark.parametrize(
    ("store", "dealer_id"), [("D002", ""), ("D001", "D002")], ids=["of the call", "of the row"]
)
async def test_a_store_gets_a_customer_whom_another_one_has(store: str, dealer_id: str) -> None:
    desk = Desk()
    first = await imported(desk.importer(store="D001"), chunk(an_id("one"), range(3)))
    rows = chunk(an_id("another"), range(3), dealer_id=dealer_id)
    second = await imported(desk.importer(store=store), rows)
    assert [report.outcome for report in second] == ["created"] * 3
    assert {report.customer_id for report in first}.isdisjoint(report.customer_id for report in second)
    rows = chunk(an_id("a third"), range(3), dealer_id=dealer_id)
    again = await imported(desk.importer(store=store), rows)
    assert [report.customer_id for report in again] == [report.customer_id for report in second]


@pytest.mark.parametrize("remembered", [importing.REMEMBERED_ROWS, 1], ids=["recent", "earlier"])
async def test_what_a_call_remembers_is_of_one_store(
    remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "REMEMBERED_ROWS", remembered)
    importer = Desk().importer()
    outcomes = []
    for number, store in enumerate(["D001", "D002", "D002", "D001"], start=1):
        (report,) = await imported(importer, chunk(an_id("file"), [7], first=number, dealer_id=store))
        outcomes.append(report.outcome)
    assert outcomes == ["created", "created", "duplicate", "duplicate"]


async def test_a_chunk_is_looked_for_once_in_each_store() -> None:
    desk = Desk()
    rows = [
        ImportRow(row=row, name="P", mobile=f"+86138{row:08}", dealer_id=f"D00{row % 3}")
        for row in range(1, 101)
    ]
    await imported(desk.importer(), ImportChunk(import_id=an_id("file"), rows=tuple(rows)))
    stores = [frozenset({store}) for store in ("D001", "D002", "D000")]
    assert desk.shown.asked == [Scope(store, frozenset({"hongtong"})) for store in stores]


@pytest.mark.parametrize(
    "dealer_id", ["*", "D" * 101, "D\0", "D\n1", "店"], ids=["all", "long", "NUL", "lines", "not ASCII"]
)
async def test_a_row_names_one_store_as_a_call_does(dealer_id: str) -> None:
    desk = Desk()
    (report,) = await imported(desk.importer(), chunk(an_id("file"), [1], dealer_id=dealer_id))
    assert (report.outcome, report.field) == ("refused", "dealer_id")
    assert dealer_id not in report.reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("broken encoding", "broken encoding"),
        ("Wrong number of columns", "wrong number of columns"),
        ("expected 8 fields in line 7, saw 9: 王伟,13800138000", "cannot be read"),
        ("broken encoding: 王伟", "cannot be read"),
    ],
)
async def test_a_row_that_cannot_be_read_is_refused_in_words_of_our_own(said: str, reason: str) -> None:
    desk = Desk()
    (report,) = await imported(desk.importer(), chunk(an_id("file"), [1], unreadable=said))
    assert (report.outcome, report.field, report.reason) == ("refused", "row", reason)
    with pytest.raises(InvalidInput) as refused:
        importing.read_row(ImportRow(row=1, unreadable=said))
    assert "王" not in str(refused.value)


def test_the_reasons_of_the_demos_client_are_known() -> None:
    rows = read_rows([b"name,mobile,dealer", "王伟,,D001".encode("gbk"), b"P,1,D001,more"])
    assert {row.unreadable for row in rows} == importing.UNREADABLE


async def test_a_chunk_of_another_import_is_refused_before_it_is_written() -> None:
    desk = Desk()
    importer = desk.importer()
    await imported(importer, chunk(an_id("one"), range(3)))
    head = await desk.store.head()
    with pytest.raises(InvalidInput) as refused:
        await imported(importer, chunk(an_id("another"), range(3, 6), first=4))
    assert set(refused.value.fields) == {"import_id"}
    assert await desk.store.head() == head
    assert len(importer._recent.customers) == 3
