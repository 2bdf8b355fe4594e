"""The trail of entries, the table that is made of them, and whose data an answer holds."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from forecourt.audit.entries import (
    MAX_LISTED,
    CallsRejected,
    CommandRefused,
    CommandUnchanged,
    DataUnreadable,
    PartsRefused,
    PersonalDataRead,
    ReadRefused,
    decode_provenance,
    naming,
    provenance,
    provenance_of_system,
)
from forecourt.audit.read_model import EntryRow, entries
from forecourt.audit.trail import STREAM_LENGTH, TOGETHER, AuditTrail, AuditUnavailable, Origin
from forecourt.clock import ManualClock
from forecourt.events import Envelope, Recorded
from forecourt.eventstore.memory import MemoryEventStore, MemoryLog
from forecourt.eventstore.port import (
    Append,
    AppendResult,
    StoredEvent,
    StoreUnavailable,
    WrongExpectedVersion,
)
from forecourt.testing.given import NOW, an_id

SCOPE: dict[str, tuple[str, ...]] = {"roles": ("salesperson",), "dealers": ("D001",), "brands": ("*",)}
REFUSED = CommandRefused(
    rpc="sales.PlaceOrder", subjects=(an_id("order"),), code="NOT_FOUND", slug="not-found", **SCOPE
)
AMY = Origin(an_id("call"), "amy", "D001", "hongtong")


class Store(MemoryEventStore):
    """Counts appends, waits where told to, and fails where told to."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.groups: list[int] = []
        self.fails = False
        self.free = asyncio.Event()
        self.free.set()

    async def append_many(self, appends: Any) -> list[AppendResult | WrongExpectedVersion]:
        await self.free.wait()
        if self.fails:
            raise StoreUnavailable("gone")
        self.groups.append(sum(len(append.events) for append in appends))
        assert all(isinstance(append, Append) for append in appends)
        return await super().append_many(appends)


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def store(log: MemoryLog) -> Store:
    return Store(log)


# --- the trail


async def test_entries_of_concurrent_calls_are_stored_together(store: Store, log: MemoryLog) -> None:
    trail = AuditTrail(store, ManualClock(), writer=an_id("writer"))
    await asyncio.gather(*(trail.record(REFUSED, AMY) for _ in range(1_000)))
    assert store.groups == [TOGETHER, TOGETHER, 200]
    assert len(log.events) == 1_000
    assert len({event.id for event in log.events}) == 1_000


async def test_an_entry_is_stored_when_the_caller_goes_on(store: Store, log: MemoryLog) -> None:
    store.free.clear()
    trail = AuditTrail(store, ManualClock())
    recording = asyncio.ensure_future(trail.record(REFUSED, AMY))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not recording.done()
    store.free.set()
    await recording
    (event,) = log.events
    assert (event.type, event.actor_id, event.dealer_id) == ("audit.CommandRefused", "amy", "D001")


async def test_a_stream_belongs_to_one_dealer_and_day_and_ends(store: Store, log: MemoryLog) -> None:
    clock = ManualClock()
    trail = AuditTrail(store, clock)
    many = 2 * STREAM_LENGTH + 10
    for start in range(0, many, 4_000):
        await asyncio.gather(*(trail.record(REFUSED, AMY) for _ in range(start, min(start + 4_000, many))))
    await trail.record(REFUSED, Origin(an_id("call"), "bob", "D002"))
    clock.advance(timedelta(days=1))
    await trail.record(REFUSED, AMY)
    sizes = [len(events) for events in log.streams.values()]
    assert sum(sizes) == many + 2
    assert max(sizes) <= STREAM_LENGTH
    assert sizes[-2:] == [1, 1]
    for events in log.streams.values():
        assert len({(event.dealer_id, event.time.date()) for event in events}) == 1


async def test_two_processes_never_meet_in_a_stream(log: MemoryLog) -> None:
    trails = [AuditTrail(MemoryEventStore(log), ManualClock()) for _ in range(2)]
    await asyncio.gather(*(trail.record(REFUSED, AMY) for trail in trails for _ in range(10)))
    assert sorted(map(len, log.streams.values())) == [10, 10]


async def test_a_queue_that_is_full_refuses(store: Store) -> None:
    store.free.clear()
    trail = AuditTrail(store, ManualClock(), queue=10)
    waiting = [asyncio.ensure_future(trail.record(REFUSED, AMY)) for _ in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(AuditUnavailable):
        await trail.record(REFUSED, AMY)
    store.free.set()
    await asyncio.gather(*waiting)
    await trail.record(REFUSED, AMY)


async def test_a_store_that_is_away_refuses_and_the_next_entry_begins_anew(
    store: Store, log: MemoryLog
) -> None:
    trail = AuditTrail(store, ManualClock())
    await trail.record(REFUSED, AMY)
    store.fails = True
    with pytest.raises(AuditUnavailable):
        await trail.record(REFUSED, AMY)
    store.fails = False
    await trail.record(REFUSED, AMY)
    assert [len(events) for events in log.streams.values()] == [1, 1]


async def test_who_goes_away_while_it_waits_leaves_the_entry_there(store: Store, log: MemoryLog) -> None:
    store.free.clear()
    trail = AuditTrail(store, ManualClock())
    gone = asyncio.ensure_future(trail.record(REFUSED, AMY))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    store.free.set()
    await trail.close()
    assert len(log.events) == 1


# --- provenance


def test_a_token_for_a_hundred_dealers_does_not_fill_the_log() -> None:
    found = decode_provenance(
        provenance("x.Y", frozenset({"a"}), tuple(f"D{n:03}" for n in range(100)), ("*",))
    )
    assert len(found.dealers) == MAX_LISTED + 1
    assert found.dealers[-1] == "+80"


def test_what_nobody_called_has_the_role_system() -> None:
    assert decode_provenance(provenance_of_system("sales.plan")).roles == ("system",)


# --- the table


def stored(
    type_: str, metadata: str = "{}", *, position: int = 1, stream: str | None = None, data: str = "{}"
) -> StoredEvent:
    return StoredEvent(
        position=position,
        stream=stream or f"order-{an_id('order')}",
        sequence=position,
        id=an_id(f"event {position}"),
        type=type_,
        version=1,
        time=NOW,
        data=data,
        correlation_id=an_id("call"),
        causation_id=None,
        dealer_id="D001",
        brand="hongtong",
        actor_id="amy",
        metadata=metadata,
    )


def fold(*recorded: Recorded[Any]) -> list[EntryRow]:
    rows: dict[tuple[Any, ...], EntryRow | None] = {}
    entries.fold(rows, recorded)
    return [row for row in rows.values() if row is not None]


def test_a_command_is_one_row_whatever_it_wrote() -> None:
    first = stored(
        "sales.OrderPlaced", provenance("sales.PlaceOrder", frozenset({"salesperson"}), ("D001",), ("*",))
    )
    trace = msgspec.json.encode({"traceparent": "00-1"}).decode()
    rest = [stored("sales.X", position=2), stored("sales.Y", trace, position=3)]
    (row,) = fold(*(Recorded(Envelope(), event) for event in (first, *rest)))
    assert (row.outcome, row.rpc, row.actor_id) == ("accepted", "sales.PlaceOrder", "amy")
    assert (row.subjects, row.event_type) == ((str(an_id("order")),), "sales.OrderPlaced")
    assert (row.roles, row.dealers, row.brands) == (("salesperson",), ("D001",), ("*",))


def test_a_command_is_found_under_the_persons_that_its_request_named() -> None:
    by = provenance("sales.PlaceOrder", frozenset(), ("D001",), ("*",))
    metadata = naming(by, [an_id("wang"), an_id("order"), an_id("li")])
    assert metadata.startswith(by[:-1])
    (row,) = fold(Recorded(Envelope(), stored("sales.OrderPlaced", metadata)))
    assert row.subjects == tuple(map(str, (an_id("order"), an_id("wang"), an_id("li"))))
    assert (row.subject_count, row.rpc, row.dealers) == (3, "sales.PlaceOrder", ("D001",))


@pytest.mark.parametrize(
    ("event", "outcome", "count"),
    [
        (REFUSED, "refused", 1),
        (
            ReadRefused(rpc="c.Get", subjects=(), code="NOT_FOUND", slug="not-found", **SCOPE),
            "refused",
            1,
        ),
        (CommandUnchanged(rpc="c.Change", subjects=(an_id("wang"),), **SCOPE), "unchanged", 1),
        (
            PersonalDataRead(
                rpc="c.Get", subjects=(an_id("wang"),), subject_count=7, purpose="invoice", **SCOPE
            ),
            "read",
            1,
        ),
        (
            CallsRejected(rpc="c.Get", code="UNAUTHENTICATED", slug="x", count=9, since=NOW, until=NOW),
            "rejected",
            9,
        ),
        (
            PartsRefused(
                rpc="c.Import", subjects=(an_id("file"),), count=17, code="X", slug="x", field="", **SCOPE
            ),
            "refused",
            17,
        ),
    ],
)
def test_an_entry_is_one_row(event: Any, outcome: str, count: int) -> None:
    (row,) = fold(Recorded(event, stored(f"audit.{event.event_name}")))
    assert (row.outcome, row.count, row.rpc) == (outcome, count, event.rpc)
    subjects = getattr(event, "subjects", ())
    assert row.subjects == tuple(map(str, subjects))
    assert row.subject_count == getattr(event, "subject_count", len(subjects))
    assert row.purpose == getattr(event, "purpose", "")


def test_a_part_of_a_call_says_why_and_in_which_field() -> None:
    refused = PartsRefused(
        rpc="c.Import", subjects=(), count=2, code="X", slug="invalid-input", field="mobile", **SCOPE
    )
    (row,) = fold(Recorded(refused, stored("audit.PartsRefused")))
    assert row.slug == "invalid-input:mobile"


def test_what_cannot_be_read_is_one_row() -> None:
    unreadable = DataUnreadable(
        service="sales",
        subjects=(an_id("order"),),
        subject_count=1,
        slug="event-undecodable",
        event_type="sales.OrderPlaced",
    )
    (row,) = fold(Recorded(unreadable, stored("audit.DataUnreadable")))
    assert (row.outcome, row.rpc, row.slug) == ("unreadable", "sales", "event-undecodable")
    assert (row.subjects, row.event_type) == ((str(an_id("order")),), "sales.OrderPlaced")
