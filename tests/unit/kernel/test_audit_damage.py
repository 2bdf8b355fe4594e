"""What cannot be read is an entry once, and what the platform refuses itself, too."""

import asyncio
import json
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from forecourt.audit.damage import DamageReport
from forecourt.audit.entries import provenance_of_system
from forecourt.audit.parts import PartsOfCall
from forecourt.audit.system import SystemCommands
from forecourt.audit.trail import AuditTrail, AuditUnavailable
from forecourt.clock import ManualClock
from forecourt.codec import Codec, Damage
from forecourt.deciders import Command, Context, Decider
from forecourt.errors import AlreadyExists, InvalidInput, NotFound, Refused
from forecourt.events import Event, Personal
from forecourt.eventstore.memory import MemoryEventStore, MemoryLog
from forecourt.eventstore.port import AppendResult, StoredEvent, StoreUnavailable, WrongExpectedVersion
from forecourt.privacy.keys import MemoryKeys
from forecourt.registry import UndecodableEvent, build_registry
from forecourt.testing.given import NOW, an_id


class Joined(Event, name="Joined", version=1):
    name: Personal[str]


class Join(Command, creates="if_missing"):
    member_id: UUID
    name: str


class ClubIsFull(Refused):
    """Nobody else comes in."""


member: Decider[str] = Decider(service="club", category="member", initial="", key="member_id")


@member.decides
def _join(state: str, c: Join, _ctx: Context) -> list[Event]:
    if state:
        raise ClubIsFull
    return [Joined(name=c.name)]


@member.evolves
def _joined(_state: str, e: Joined) -> str:
    return e.name


REGISTRY = build_registry("club", [("member", [Joined])])
WANG = an_id("wang")


class Store(MemoryEventStore):
    """Takes entries, where it is not told to fail."""

    fails = False

    async def append_many(self, appends: Any) -> list[AppendResult | WrongExpectedVersion]:
        if self.fails:
            raise StoreUnavailable("gone")
        return await super().append_many(appends)


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def store(log: MemoryLog) -> Store:
    return Store(log)


@pytest.fixture
def trail(store: Store) -> AuditTrail:
    return AuditTrail(store, ManualClock())


def entries(log: MemoryLog) -> list[tuple[str, dict[str, Any], StoredEvent]]:
    """The entries: kind, what they say, and the whole of them."""
    return [
        (event.type, msgspec.json.decode(event.data), event)
        for event in log.events
        if event.category == "audit"
    ]


def context(**given: Any) -> Context:
    made = Context(NOW, uuid4(), uuid4(), actor_id="system:club.react", dealer_id="D001", brand="hongtong")
    return replace(made, metadata=provenance_of_system("club.react"), **given)


async def joined(log: MemoryLog, keys: MemoryKeys, member_id: UUID = WANG) -> StoredEvent:
    """Somebody who is in the log."""
    commands = SystemCommands(
        MemoryEventStore(log), Codec(REGISTRY, keys), AuditTrail(MemoryEventStore(log), ManualClock())
    )
    await commands.execute(member, Join(member_id=member_id, name="王伟"), context())
    return log.streams[f"member-{member_id}"][0]


# --- damage


async def test_a_tampered_event_is_one_entry_however_often_it_is_read(
    log: MemoryLog, trail: AuditTrail
) -> None:
    keys = MemoryKeys()
    event = await joined(log, keys)
    data = json.loads(event.data)
    data["_personal"] = data["_personal"][:-6] + "AAAAA="
    tampered = msgspec.structs.replace(event, data=json.dumps(data))
    codec = Codec(REGISTRY, keys, on_damage=DamageReport(trail).note)
    for _ in range(20):
        with pytest.raises(UndecodableEvent):
            await codec.decode([tampered])
    await trail.close()
    ((kind, said, entry),) = entries(log)
    assert (kind, said["slug"], said["event_type"]) == (
        "audit.DataUnreadable",
        "ciphertext-tampered",
        "club.Joined",
    )
    assert (said["service"], said["subjects"], said["subject_count"]) == ("club", [str(WANG)], 1)
    assert (entry.causation_id, entry.correlation_id) == (event.id, event.correlation_id)
    assert (entry.dealer_id, entry.brand) == ("D001", "hongtong")


async def test_lost_keys_of_a_batch_are_one_entry_and_destroyed_ones_are_none(
    log: MemoryLog, trail: AuditTrail
) -> None:
    keys = MemoryKeys()
    persons = [an_id(f"member {number}") for number in range(250)]
    events = [await joined(log, keys, person) for person in persons]
    await keys.destroy(str(persons[0]), NOW)
    for person in persons[1:]:
        del keys.entries[str(person)]
    codec = Codec(REGISTRY, keys, on_damage=DamageReport(trail).note)
    for _ in range(3):
        assert len(await codec.decode(events)) == len(events)
    await trail.close()
    ((_, said, entry),) = entries(log)
    assert (said["slug"], said["subject_count"], len(said["subjects"])) == ("person-key-lost", 249, 100)
    assert str(persons[0]) not in said["subjects"]
    assert entry.dealer_id == ""


async def test_a_tampered_snapshot_is_an_entry(log: MemoryLog, trail: AuditTrail) -> None:
    keys = MemoryKeys()
    codec = Codec(REGISTRY, keys, on_damage=DamageReport(trail).note)
    sealed = await codec.seal_state(f"member-{WANG}", "{}")
    assert sealed is not None
    assert await codec.unseal_state(f"member-{WANG}", sealed[:-7] + 'AAAA="') is None
    await trail.close()
    assert [said["slug"] for _, said, _ in entries(log)] == ["snapshot-tampered"]


async def test_damage_that_could_not_be_noted_down_is_when_it_is_met_again(
    log: MemoryLog, store: Store, trail: AuditTrail
) -> None:
    report = DamageReport(trail)
    lost = Damage("person-key-lost", (str(WANG),))
    store.fails = True
    report.note("club", lost)
    await trail.close()
    await asyncio.sleep(0)
    store.fails = False
    for _ in range(2):
        report.note("club", lost)
        await trail.close()
    assert len(entries(log)) == 1


async def test_where_everything_is_damaged_the_entries_end(log: MemoryLog, trail: AuditTrail) -> None:
    report = DamageReport(trail, most=10)
    for _ in range(1_000):
        report.note("club", Damage("person-key-lost", (str(uuid4()),)))
    await trail.close()
    assert len(entries(log)) == 10


async def test_what_waits_already_is_not_made_worse(store: Store, log: MemoryLog) -> None:
    trail = AuditTrail(store, ManualClock(), queue=1)
    report = DamageReport(trail)
    for number in range(3):
        report.note("club", Damage("person-key-lost", (str(an_id(f"person {number}")),)))
    await trail.close()
    assert len(entries(log)) == 1


# --- commands of the platform


async def test_a_refused_command_of_a_handler_is_one_entry_however_often_it_is_tried(
    log: MemoryLog, store: Store, trail: AuditTrail
) -> None:
    await joined(log, MemoryKeys())
    commands = SystemCommands(store, Codec(REGISTRY, MemoryKeys()), trail)
    cause = uuid4()
    asked = context(causation_id=cause)
    for _ in range(5):
        with pytest.raises(ClubIsFull):
            await commands.execute(member, Join(member_id=WANG, name="李娜"), asked)
    ((kind, said, entry),) = entries(log)
    assert (kind, said["rpc"], said["roles"]) == ("audit.CommandRefused", "club.react", ["system"])
    assert (said["code"], said["slug"], said["subjects"]) == (
        "FAILED_PRECONDITION",
        "club-is-full",
        [str(WANG)],
    )
    assert (entry.actor_id, entry.dealer_id, entry.causation_id) == ("system:club.react", "D001", cause)
    assert "李娜" not in entry.data
    with pytest.raises(ClubIsFull):
        await commands.execute(member, Join(member_id=WANG, name="李娜"), context())
    assert len(entries(log)) == 2


async def test_a_refusal_that_cannot_be_noted_down_is_tried_again_later(
    log: MemoryLog, store: Store, trail: AuditTrail
) -> None:
    await joined(log, MemoryKeys())
    commands = SystemCommands(store, Codec(REGISTRY, MemoryKeys()), trail)
    asked = context()
    store.fails = True
    with pytest.raises(AuditUnavailable):
        await commands.execute(member, Join(member_id=WANG, name="李娜"), asked)
    store.fails = False
    with pytest.raises(ClubIsFull):
        await commands.execute(member, Join(member_id=WANG, name="李娜"), asked)
    assert len(entries(log)) == 1


async def test_what_was_not_decided_is_no_refusal(trail: AuditTrail, log: MemoryLog) -> None:
    class Away(MemoryEventStore):
        async def append(self, *_: Any, **__: Any) -> AppendResult:
            raise StoreUnavailable("gone")

    commands = SystemCommands(Away(log), Codec(REGISTRY, MemoryKeys()), trail)
    with pytest.raises(StoreUnavailable):
        await commands.execute(member, Join(member_id=WANG, name="李娜"), context())
    assert entries(log) == []


# --- parts of a call


def test_parts_are_counted_by_reason_field_and_whom_they_belong_to() -> None:
    parts = PartsOfCall()
    mobile = InvalidInput("mobile: too short", fields={"mobile": "too short"})
    for number in range(300):
        parts.refused(mobile, context(), an_id(f"row {number}"))
    parts.refused(AlreadyExists("there"), context(dealer_id="D002"))
    found = {
        (why.slug, why.field, why.dealer_id): (count, len(ids)) for why, count, ids in parts.entries(None)
    }
    assert found == {
        ("invalid-input", "mobile", "D001"): (300, 100),
        ("already-exists", "", "D002"): (1, 0),
    }
    assert parts.entries(None) == []


def test_what_the_call_ends_with_is_no_part() -> None:
    parts, failure = PartsOfCall(), NotFound("nobody")
    parts.refused(AlreadyExists("there"), context())
    parts.refused(failure, context())
    assert [why.slug for why, _, _ in parts.entries(failure)] == ["already-exists"]


def test_what_was_not_decided_is_no_part() -> None:
    parts = PartsOfCall()
    parts.refused(StoreUnavailable("gone"), context())
    assert parts.entries(None) == []


def test_a_key_that_the_caller_chose_is_not_named() -> None:
    parts = PartsOfCall()
    parts.refused(InvalidInput("x", fields={"labels.王伟": "is wrong"}), context())
    ((why, _, _),) = parts.entries(None)
    assert why.field == "labels"
