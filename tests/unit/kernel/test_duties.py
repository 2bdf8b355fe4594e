"""Separation of duties: who submitted does not approve, whatever the process remembers of it."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given as everything
from hypothesis import strategies as st

from forecourt.access.duties import SelfApproval
from forecourt.codec import Codec
from forecourt.command_handler import SNAPSHOT_EVERY, CommandHandler
from forecourt.deciders import Command, Context, Decider
from forecourt.discovery import find_services
from forecourt.errors import Forbidden, ForecourtError, Refused
from forecourt.events import Event
from forecourt.eventstore.memory import MemoryEventStore
from forecourt.registry import RegistryError, build_registry
from forecourt.snapshots import Snapshot
from forecourt.testing.given import CONTEXT, an_id, given

ID = an_id("plan")


class Submitted(Event, name="Submitted", version=1):
    """Somebody asks for it."""


class Approved(Event, name="Approved", version=1):
    """It may be done."""


class Checked(Event, name="Checked", version=1):
    """The books were looked at."""


class Submit(Command, creates="if_missing"):
    plan_id: UUID


class Approve(Command):
    plan_id: UUID


class Check(Command):
    plan_id: UUID


class NotSubmitted(Refused):
    """Nobody has asked for it since the last approval."""


@dataclass(frozen=True)
class Plan:
    submitted: bool = False


plan = Decider(service="office", category="plan", initial=Plan(), key="plan_id")


@plan.decides
def _submit(state: Plan, c: Submit, ctx: Context) -> list[Event]:
    return [Submitted()]


@plan.decides
def _approve(state: Plan, c: Approve, ctx: Context) -> list[Event]:
    if not state.submitted:
        raise NotSubmitted()
    return [Approved()]


@plan.decides
def _check(state: Plan, c: Check, ctx: Context) -> list[Event]:
    return [Checked()]


@plan.evolves
def _submitted(state: Plan, e: Submitted) -> Plan:
    return Plan(submitted=True)


@plan.evolves
def _approved(state: Plan, e: Approved) -> Plan:
    return Plan()


plan.ignores(Checked)
plan.duties.four_eyes(Approve, Submitted)
plan.duties.four_eyes(Check, Submitted, Approved, ever=True)

CODEC = Codec(build_registry("office", [(plan.category, plan.events)], [], []))


def by(actor_id: str) -> Context:
    return replace(CONTEXT, actor_id=actor_id, command_id=uuid4())


class Office:
    """The aggregate on a store, through a handler that remembers or not."""

    def __init__(self, **options: Any) -> None:
        self.store = MemoryEventStore()
        self.handler = self.another(**options)

    def another(self, **options: Any) -> CommandHandler:
        """A further process."""
        return CommandHandler(self.store, CODEC, **options)

    async def do(self, command: type[Submit | Approve | Check], actor_id: str) -> None:
        await self.handler.execute(plan, command(plan_id=ID), by(actor_id))


@pytest.mark.parametrize("cache_size", [0, 100])
async def test_who_submitted_does_not_approve(cache_size: int) -> None:
    office = Office(cache_size=cache_size)
    await office.do(Submit, "amy")
    with pytest.raises(SelfApproval) as refused:
        await office.do(Approve, "amy")
    assert isinstance(refused.value, Forbidden)
    assert refused.value.slug == "self-approval"
    with pytest.raises(SelfApproval):
        await office.do(Approve, "")
    await office.do(Approve, "bob")


async def test_only_the_latest_submission_counts_unless_all_do() -> None:
    office = Office()
    for submitter, approver in (("amy", "bob"), ("bob", "amy")):
        await office.do(Submit, submitter)
        await office.do(Approve, approver)
    for actor in ("amy", "bob"):
        with pytest.raises(SelfApproval):
            await office.do(Check, actor)
    await office.do(Check, "eve")


async def test_what_another_process_wrote_counts() -> None:
    office = Office()
    await office.do(Submit, "amy")
    await office.another().execute(plan, Submit(plan_id=ID), by("bob"))
    with pytest.raises(SelfApproval):
        await office.do(Approve, "bob")
    await office.do(Approve, "amy")


async def test_a_repeated_approval_gets_its_first_answer() -> None:
    office = Office()
    await office.do(Submit, "amy")
    context = by("bob")
    first = await office.handler.execute(plan, Approve(plan_id=ID), context)
    await office.do(Submit, "bob")
    assert await office.handler.execute(plan, Approve(plan_id=ID), context) == first


class Kept:
    """Snapshots in memory."""

    def __init__(self) -> None:
        self.snapshots: dict[str, Snapshot] = {}

    async def load(self, stream: str, state_type: type[Any]) -> Snapshot | None:
        return self.snapshots.get(stream)

    async def save(self, stream: str, snapshot: Snapshot, state_type: type[Any]) -> None:
        self.snapshots[stream] = snapshot


async def test_a_snapshot_knows_who_submitted() -> None:
    kept = Kept()
    office = Office(snapshots=kept)
    await office.do(Submit, "amy")
    for _ in range(SNAPSHOT_EVERY):
        await office.do(Check, "eve")
    (snapshot,) = kept.snapshots.values()
    assert snapshot.actors == {"Submitted": ("amy",)}
    office.handler = office.another(snapshots=kept)
    with pytest.raises(SelfApproval):
        await office.do(Approve, "amy")
    await office.do(Approve, "bob")


def test_a_refusal_of_the_domain_comes_first() -> None:
    given(plan, Submitted(), Approved()).done_by("amy").by("amy").when(Approve(plan_id=ID)).then_raises(
        NotSubmitted
    )


@everything(
    st.lists(st.tuples(st.sampled_from([Submit, Approve]), st.sampled_from(["amy", "bob", ""])), max_size=30),
    st.sampled_from([0, 100]),
)
def test_no_approval_is_by_who_submitted(steps: list[tuple[Any, str]], cache_size: int) -> None:
    async def play() -> list[Any]:
        office = Office(cache_size=cache_size)
        for command, actor_id in steps:
            try:
                await office.do(command, actor_id)
            except ForecourtError:
                continue
        return [event async for page in office.store.read_stream(f"plan-{ID}") for event in page]

    submitter = None
    for event in asyncio.run(play()):
        if event.type == "office.Submitted":
            submitter = event.actor_id
        else:
            assert event.actor_id not in ("", submitter)


@pytest.mark.parametrize(
    ("command", "events", "words"),
    [
        (Submit, (), "names no event"),
        (Command, (Submitted,), "is not decided here"),
        (Submit, (Event,), "Event is no event"),
        (Approve, (Submitted,), "two four-eyes rules"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(command: Any, events: Any, words: str) -> None:
    with pytest.raises(RegistryError, match=words):
        plan.duties.four_eyes(command, *events)


def test_every_approval_in_the_platform_needs_another_person() -> None:
    """What is called an approval has a rule, unless it is the customer who approves."""
    commands = {
        command: decider
        for service in find_services()
        for decider in service.deciders
        for command in decider.commands
    }
    approvals = {command for command in commands if command.__name__.startswith("Approve")}
    by_customers = {command for command in approvals if command.__name__ == "ApproveQuote"}
    assert {command for command in approvals if command not in commands[command].duties.rules} == by_customers
