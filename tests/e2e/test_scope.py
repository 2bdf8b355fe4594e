"""No RPC of any service tells a caller anything of what lies outside the caller's scope.

Every RPC is walked, for a store and for a manufacturer, with the ids and values of strangers: nothing is readable, an
id of somebody else is answered like one of nobody, and lists and counts are the same with and without the strangers.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forecourt.access.ownership import OwnershipRules
from forecourt.discovery import find_services
from forecourt.projections.projection import Projection, Unowned
from forecourt.rpc.binding import Kind
from tests.e2e.client import METHODS
from tests.e2e.group import HEAD, MAKER, NEIGHBOUR, OTHER_BRAND, STORE, Answer, Caller, Group, Known
from tests.e2e.stories import VINS
from tests.e2e.walk import TEXT, leaves, plausible, put
from tests.staff import granted

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

RPCS = {
    f"{service.name}.{rpc.name}": rpc
    for service in find_services()
    for api in service.apis
    for rpc in api.rpcs.values()
}
QUERIES = sorted(name for name, rpc in RPCS.items() if rpc.kind in (Kind.QUERY, Kind.SERVER_STREAM))
COMMANDS = sorted(set(RPCS) - set(QUERIES))

BEHIND = {"entry", "ownership", "identity_document", "import_problem", "history", "notification_history"}
"""Read models whose conditions the walk does not need: what leads to their rows is looked for first, and the entries of
others' calls are not looked for."""

PROJECTIONS = [
    projection
    for service in find_services()
    for projection in service.projections
    if projection.name not in BEHIND and any(projection in rpc.reads for rpc in RPCS.values())
]

ROLES = ("", *(role for role in sorted(granted()) if role != "system"))
"""Every role of the trade by itself, and first somebody who has in each call the one that it needs."""

CALLERS = [replace(caller, role=role) for caller in (STORE, MAKER) for role in ROLES]
ABLE = [caller for caller in CALLERS if not caller.role]

CREATING = {
    "customer.ImportCustomers.import_id",
    "customer.RegisterCustomer.customer_id",
    "sales.CaptureLead.lead_id",
    "sales.OpenOpportunity.opportunity_id",
    "sales.PlaceOrder.order_id",
    "sales.RegisterVehicle.vin",
    "service_desk.BookAppointment.appointment_id",
    "service_desk.OpenRepairOrder.repair_order_id",
    "service_desk.ReceiveComplaint.complaint_id",
    "service_desk.RequestAppointment.appointment_id",
}
"""Fields with the id of what is created: that it is taken shows, and nothing else."""

OF_NOTHING = {"sales.CaptureAdfLead", "service_desk.SetWorkshopCapacity", "service_desk.BookAppointment"}
"""Commands that name nothing that exists; the last one may find every bay taken before it comes to that."""

OF_ONESELF = {"audit.ListEntries"}
"""Answers with what the caller did, such as asking this: no two answers are the same."""

AGE = ("asOf", "ageMs")
"""Fields of answers that depend on when they are given."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(group: Group) -> Group:
    """The group when only the first store has done anything yet."""
    await group.populate(STORE)
    return group


Lists = dict[tuple[Caller, str], Answer]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stages(alone: Group) -> list[Lists]:
    """What every list and count answered alone, with another brand at the store, and with another store too."""
    found = [await lists(alone)]
    for others in (OTHER_BRAND, NEIGHBOUR):
        await alone.populate(others)
        found.append(await lists(alone))
    return found


class Crowd:
    """The group with all of them, and what each caller knows of itself and of those that are strange to it.

    ``hidden`` are the RPCs that have answered something of others as not there, ``given`` the values of others that a
    command of the callers themselves had in it: they come back with what it made. ``asked`` are those that any call
    had in it: the audit shows callers their own.
    """

    def __init__(self, group: Group, strangers: dict[tuple[str, ...], tuple[Known, Known]]) -> None:
        self.group = group
        self.strangers = strangers
        self.hidden: set[str] = set()
        self.given: set[str] = set()
        self.asked: set[str] = set()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowd(group: Group, stages: list[Lists]) -> Crowd:
    """The group with all of them, before anybody has tried anything."""
    assert stages
    found = {}
    for caller in (STORE, MAKER):
        mine = await group.known(caller)
        theirs = await group.known(of_others(caller))
        theirs.texts -= mine.texts
        assert len(theirs.texts) > 60
        found[caller.dealers] = mine, theirs
    return Crowd(group, found)


async def lists(group: Group) -> Lists:
    """The answers to every query that may ask for everything."""
    head = await group.head()
    found = {}
    for caller in CALLERS:
        for rpc in sorted(set(QUERIES) - OF_ONESELF):
            for dealer in ("", "D001", "D002"):
                message = empty(rpc, dealer)
                answer = await group.ask(rpc, message, caller, {"after-position": head})
                found[caller, f"{rpc} {dealer}"] = ageless(answer)
    return found


def empty(rpc: str, dealer: str = "") -> Message:
    """A query without conditions, but for the store."""
    message: Any = plausible(METHODS[rpc].input_type)
    message.Clear()
    for path, leaf in leaves(METHODS[rpc].input_type):
        if leaf.name in ("dealer_id", "store"):
            put(message, path, dealer)
    return message


def ageless(answer: Answer) -> Answer:
    """The answer without what depends on the moment."""
    lines = (line for line in answer.text.splitlines() if not any(f'"{name}"' in line for name in AGE))
    return Answer(answer.refusal, "\n".join(lines))


def of_others(caller: Caller) -> Caller:
    """Whose things are strange to a caller."""
    return OTHER_BRAND if caller.dealers == ("*",) else NEIGHBOUR


def is_strange(field: FieldDescriptor) -> bool:
    """Whether a field may hold something of somebody else."""
    return field.type == TEXT and (
        field.name.endswith("_id") or field.name in ("vin", "phone", "reason_stream")
    )


def unknown(name: str, value: str) -> str:
    """A value of the same kind that nobody has."""
    if name == "vin":
        return next(VINS)
    if name == "phone":
        return "13500000000"
    if name == "reason_stream":
        return f"{value.partition('-')[0]}-{uuid4()}"
    return str(uuid4())


def own_message(rpc: str, mine: Known) -> Message:
    """A message that the caller could mean, about the caller's own things."""
    method = METHODS[rpc]
    message = plausible(method.input_type)
    for path, leaf in leaves(method.input_type):
        if is_strange(leaf) and (value := mine.value(leaf.name)):
            creates = f"{rpc}.{leaf.name}" in CREATING
            put(message, path, unknown(leaf.name, value) if creates else value)
    return message


def targets(rpc: str, theirs: Known) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """The fields of a message that could name something of others: path, name, and the first and last such value."""
    for path, leaf in leaves(METHODS[rpc].input_type):
        values = theirs.by_name.get(leaf.name, [])
        if is_strange(leaf) and leaf.name != "dealer_id":
            for value in dict.fromkeys([*values[:1], *values[-1:]]):
                yield path, leaf.name, value


async def compare(
    crowd: Crowd,
    rpc: str,
    message: Message,
    target: tuple[tuple[str, ...], str, str],
    caller: Caller,
    theirs: Known,
    metadata: dict[str, str],
) -> bool:
    """Ask with an id of nobody and with one of somebody else: both must be answered alike.

    Answers whether the caller's role may not call at all.
    """
    path, name, value = target
    answers = []
    for sent in (unknown(name, value), unknown(name, value), value):
        put(message, path, sent)
        answer = await crowd.group.ask(rpc, message, caller, {"command-id": str(uuid4()), **metadata})
        answers.append(ageless(answer).without([sent]))
        if sent == value:
            assert_tells_nothing(crowd, rpc, answer, message, theirs)
    _, nobodys, theirs_ = answers
    if theirs_.refusal is not None and theirs_.refusal.code is grpc.StatusCode.NOT_FOUND:
        crowd.hidden.add(rpc)
    if f"{rpc}.{name}" in CREATING and not is_denied(nobodys):
        assert theirs_.refusal is not None, f"{rpc} with {name} of others: {theirs_}"
        assert theirs_.refusal.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)
        return False
    if RPCS[rpc].kind is Kind.QUERY or nobodys.refusal or theirs_.refusal:
        assert theirs_ == nobodys, f"{rpc} with {name} of others"
    return is_denied(nobodys)


def is_denied(answer: Answer) -> bool:
    """Whether the caller's role may not call at all."""
    return answer.refusal is not None and answer.refusal.code is grpc.StatusCode.PERMISSION_DENIED


def assert_tells_nothing(
    crowd: Crowd, rpc: str, answer: Answer, message: Message, theirs: Known, *metadata: str
) -> None:
    """No value of others is in the answer that was not in the question, or given by the caller before."""
    sent = " ".join([str(message), *metadata])
    named = {text for text in theirs.texts if text in sent}
    crowd.asked |= named
    if rpc in COMMANDS:
        crowd.given |= named
    hidden = theirs.texts - (crowd.asked | crowd.group.asked if rpc in OF_ONESELF else crowd.given)
    told = [text for text in hidden if text in answer.said and text not in sent]
    assert not told, f"{rpc}: tells {told} of others: {answer.text}"


async def test_lists_and_counts_are_the_same_with_and_without_strangers(stages: list[Lists]) -> None:
    alone, other_brand, other_store = stages
    for asked, answer in alone.items():
        assert other_brand[asked] == answer, asked
        if asked[0].dealers == STORE.dealers:
            assert other_store[asked] == answer, asked
    assert sum(len(answer.text) > 20 for answer in alone.values()) > 40


def name_of(caller: Caller) -> str:
    """For the name of a test."""
    return f"{caller.role or 'anybody'}-{'-'.join(caller.dealers)}"


@pytest.mark.parametrize("caller", CALLERS, ids=name_of)
async def test_queries_answer_ids_of_others_like_ids_of_nobody(crowd: Crowd, caller: Caller) -> None:
    await walk(crowd, QUERIES, caller, {"after-position": await crowd.group.head()})


@pytest.mark.parametrize("caller", CALLERS, ids=name_of)
async def test_commands_answer_ids_of_others_like_ids_of_nobody(crowd: Crowd, caller: Caller) -> None:
    await walk(crowd, COMMANDS, caller, {})


@pytest.mark.parametrize("caller", ABLE, ids=name_of)
async def test_a_version_that_is_expected_changes_nothing(crowd: Crowd, caller: Caller) -> None:
    await walk(crowd, COMMANDS, caller, {"expected-version": "1"})


async def walk(crowd: Crowd, rpcs: list[str], caller: Caller, metadata: dict[str, str]) -> None:
    """Every RPC with every field that could name something of others."""
    mine, theirs = crowd.strangers[caller.dealers]
    for rpc in rpcs:
        of_all = [empty(rpc), empty(rpc, of_others(caller).dealer)] if rpc in QUERIES else []
        for message in of_all:
            answer = await crowd.group.ask(rpc, message, caller, metadata)
            assert_tells_nothing(crowd, rpc, answer, message, theirs)
        if rpc in OF_ONESELF:
            continue
        for target in targets(rpc, theirs):
            for message in (own_message(rpc, mine), *(() if caller.role else of_all)):
                denied = await compare(crowd, rpc, message, target, caller, theirs, metadata)
            if denied:
                # Whoever may not call at all is told so before the message is read: one value says it for all.
                break


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    caller=st.sampled_from(CALLERS),
    rpc=st.sampled_from(sorted(RPCS)),
    chosen=st.lists(st.integers(0, 1_000), min_size=20, max_size=20),
    command=st.none() | st.integers(0, 1_000),
    expected=st.none() | st.integers(0, 5),
)
async def test_whatever_is_asked_tells_nothing(
    crowd: Crowd, caller: Caller, rpc: str, chosen: list[int], command: int | None, expected: int | None
) -> None:
    """Any RPC, with any of its fields from others, under any of their command ids and any version."""
    mine, theirs = crowd.strangers[caller.dealers]
    message = own_message(rpc, mine)
    for number, (path, name, _) in zip(chosen, targets(rpc, theirs), strict=False):
        if number % 3:
            put(message, path, theirs.by_name[name][number % len(theirs.by_name[name])])
    metadata = {} if expected is None else {"expected-version": str(expected)}
    if command is not None:
        metadata["command-id"] = theirs.command_ids[command % len(theirs.command_ids)]
    answer = await crowd.group.ask(rpc, message, caller, metadata)
    assert_tells_nothing(crowd, rpc, answer, message, theirs, *metadata.values())


async def test_every_command_that_names_something_was_walked(crowd: Crowd) -> None:
    """With what lies outside the scope, as far as the command that comes to it."""
    assert set(COMMANDS) - crowd.hidden <= OF_NOTHING


async def test_their_owners_and_head_office_see_them(crowd: Crowd) -> None:
    """The walk finds what it looks for where it may be found."""
    for caller in (NEIGHBOUR, HEAD):
        mine = await crowd.group.known(NEIGHBOUR)
        found = ""
        for rpc in QUERIES:
            asked = own_message(rpc, mine)
            for message in (asked, empty(rpc, "D002")):
                answer = await crowd.group.ask(
                    rpc, message, caller, {"after-position": await crowd.group.head()}
                )
                found += answer.text
        seen = sum(text in found for text in mine.texts)
        assert seen > 40, caller


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda one: one.name)
async def test_the_walk_finds_a_projection_that_is_everybodys(
    crowd: Crowd, projection: Projection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each condition is needed: without it the walk fails."""
    monkeypatch.setattr(projection, "owner", Unowned("switched off by this test"))
    reading = [rpc for rpc in QUERIES if projection in RPCS[rpc].reads]
    with pytest.raises(AssertionError, match="of others"):
        await walk(crowd, reading, STORE, {})


async def test_the_walk_finds_a_command_without_scope(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnershipRules, "reaches", lambda *_: True)
    with pytest.raises(AssertionError, match="of others"):
        await walk(crowd, ["customer.ChangeCategory"], STORE, {})
