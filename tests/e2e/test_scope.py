"""No RPC of any service tells a caller anything of what lies outside the caller's scope.

Every RPC is walked, for a store and for a manufacturer, with the ids and values of strangers: nothing is readable, an
id of somebody else is answered like one of nobody, and lists and counts are the same with and without the strangers.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from customer.read_models import customers
from forecourt.access.ownership import OwnershipRules
from forecourt.discovery import find_services
from forecourt.projections.projection import Unowned
from forecourt.rpc.binding import Kind
from forecourt.testing.servers import PostgresServer
from tests.e2e.client import METHODS, Client
from tests.e2e.group import Answer, Caller, Group, Known, running
from tests.e2e.stories import VINS, receive_car, register
from tests.e2e.walk import TEXT, leaves, plausible, put

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

RPCS = {
    f"{service.name}.{rpc.name}": rpc
    for service in find_services()
    for api in service.apis
    for rpc in api.rpcs.values()
}
QUERIES = sorted(name for name, rpc in RPCS.items() if rpc.kind in (Kind.QUERY, Kind.SERVER_STREAM))
COMMANDS = sorted(set(RPCS) - set(QUERIES))

ROLES = ("store_manager", "head_office")

STORE = Caller("store_manager", ("D001",), ("hongtong",), "D001", "hongtong")
MAKER = Caller("store_manager", ("*",), ("hongtong",), "D001", "hongtong")
HEAD = Caller("store_manager", ("*",), ("*",), "D001", "hongtong")
NEIGHBOUR = Caller("store_manager", ("D002",), ("hongtong",), "D002", "hongtong")
OTHER_BRAND = Caller("store_manager", ("D001",), ("chery",), "D001", "chery")
CALLERS = [replace(caller, role=role) for caller in (STORE, MAKER) for role in ROLES]

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

AGE = ("asOf", "ageMs")
"""Fields of answers that depend on when they are given."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def group(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> AsyncIterator[Group]:
    """A running group of which only the first store has done anything yet."""
    database_url = postgres_server.create_database()
    try:
        async with running(database_url, tmp_path_factory.mktemp("group")) as opened:
            await opened.populate(STORE)
            yield opened
    finally:
        postgres_server.drop_database(database_url)


Lists = dict[tuple[Caller, str], Answer]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stages(group: Group) -> list[Lists]:
    """What every list and count answered alone, with another brand at the store, and with another store too."""
    found = [await lists(group)]
    for others in (OTHER_BRAND, NEIGHBOUR):
        await group.populate(others)
        found.append(await lists(group))
    return found


@dataclass(repr=False)
class Crowd:
    """The group with all of them, and what each caller knows of itself and of those that are strange to it.

    ``hidden`` are the RPCs that have answered something of others as not there.
    """

    group: Group
    strangers: dict[tuple[str, ...], tuple[Known, Known]]
    hidden: set[str] = field(default_factory=set)


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
        for rpc in QUERIES:
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
    """The fields of a message that could name something of others: path, name, and such a value."""
    for path, leaf in leaves(METHODS[rpc].input_type):
        value = theirs.value(leaf.name)
        if is_strange(leaf) and leaf.name != "dealer_id" and value is not None:
            yield path, leaf.name, value


async def compare(
    crowd: Crowd,
    rpc: str,
    message: Message,
    target: tuple[tuple[str, ...], str, str],
    caller: Caller,
    theirs: Known,
    metadata: dict[str, str],
) -> None:
    """Ask with an id of nobody and with one of somebody else: both must be answered alike."""
    path, name, value = target
    answers = []
    for sent in (unknown(name, value), unknown(name, value), value):
        put(message, path, sent)
        answer = await crowd.group.ask(rpc, message, caller, {"command-id": str(uuid4()), **metadata})
        answers.append(ageless(answer).without([sent]))
        if sent == value:
            assert_tells_nothing(rpc, answer, message, theirs)
    _, nobodys, theirs_ = answers
    if theirs_.refusal is not None and theirs_.refusal.code is grpc.StatusCode.NOT_FOUND:
        crowd.hidden.add(rpc)
    if f"{rpc}.{name}" in CREATING:
        assert theirs_.refusal is not None, f"{rpc} with {name} of others: {theirs_}"
        assert theirs_.refusal.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)
        return
    if RPCS[rpc].kind is Kind.QUERY or nobodys.refusal or theirs_.refusal:
        assert theirs_ == nobodys, f"{rpc} with {name} of others"


def assert_tells_nothing(rpc: str, answer: Answer, message: Message, theirs: Known, *metadata: str) -> None:
    """No value of others is in the answer that was not in the question."""
    sent = " ".join([str(message), *metadata])
    told = [text for text in theirs.texts if text in answer.said and text not in sent]
    assert not told, f"{rpc}: tells {told} of others"


async def test_lists_and_counts_are_the_same_with_and_without_strangers(stages: list[Lists]) -> None:
    alone, other_brand, other_store = stages
    for asked, answer in alone.items():
        assert other_brand[asked] == answer, asked
        if asked[0].dealers == STORE.dealers:
            assert other_store[asked] == answer, asked
    assert sum(len(answer.text) > 20 for answer in alone.values()) > 40


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: f"{caller.role}-{'-'.join(caller.dealers)}")
async def test_queries_answer_ids_of_others_like_ids_of_nobody(crowd: Crowd, caller: Caller) -> None:
    await walk(crowd, QUERIES, caller, {"after-position": await crowd.group.head()})


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: f"{caller.role}-{'-'.join(caller.dealers)}")
@pytest.mark.parametrize("expected", ["", "1"])
async def test_commands_answer_ids_of_others_like_ids_of_nobody(
    crowd: Crowd, caller: Caller, expected: str
) -> None:
    await walk(crowd, COMMANDS, caller, {"expected-version": expected} if expected else {})


async def walk(crowd: Crowd, rpcs: list[str], caller: Caller, metadata: dict[str, str]) -> None:
    """Every RPC with every field that could name something of others."""
    mine, theirs = crowd.strangers[caller.dealers]
    walked = 0
    for rpc in rpcs:
        for target in targets(rpc, theirs):
            await compare(crowd, rpc, own_message(rpc, mine), target, caller, theirs, metadata)
            walked += 1
    assert walked > len(rpcs) / 2


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    assert_tells_nothing(rpc, answer, message, theirs, *metadata.values())


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


async def test_the_walk_finds_a_projection_that_is_everybodys(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(customers, "owner", Unowned("switched off by this test"))
    with pytest.raises(AssertionError, match="of others"):
        await walk(crowd, QUERIES, STORE, {})


async def test_the_walk_finds_a_command_without_scope(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OwnershipRules, "reaches", lambda *_: True)
    with pytest.raises(AssertionError, match="of others"):
        await walk(crowd, ["customer.ChangeCategory"], STORE, {})


# What is shared or handed on


async def customer_of(group: Group, caller: Caller) -> str:
    """A new customer of a store, with something in the history."""
    do = Client(group.channel, group.metadata(caller))
    customer_id = await register(do)
    note = {"channel": "INTERACTION_CHANNEL_CALL", "direction": "DIRECTION_INBOUND", "subject": "price"}
    await do("customer.LogInteraction", customer_id=customer_id, **note)
    return customer_id


async def command(group: Group, rpc: str, caller: Caller, **fields: Any) -> Any:
    """The result of a command."""
    return await Client(group.channel, group.metadata(caller))(rpc, **fields)


async def sees(group: Group, caller: Caller, customer_id: str, after: int) -> bool:
    """Whether a caller sees a customer once everything up to a position is there, the same in all queries."""
    client = Client(group.channel, group.metadata(caller))
    found = []
    for rpc in ("customer.GetCustomer", "customer.GetCustomerHistory", "notify.GetContact"):
        try:
            answer = await client.ask(rpc, after=after, customer_id=customer_id)
            found.append(bool(answer.ListFields()))
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND, error
            found.append(False)
    page = await client.ask("customer.SearchCustomers", after=after, page_size=500)
    found.append(customer_id in {one.customer_id for one in page.customers})
    assert len(set(found)) == 1, found
    return found[0]


async def acts(group: Group, caller: Caller, customer_id: str) -> bool:
    """Whether a caller may do something with a customer."""
    client = Client(group.channel, group.metadata(caller))
    note = {"channel": "INTERACTION_CHANNEL_CALL", "direction": "DIRECTION_INBOUND", "subject": "price"}
    try:
        await client("customer.LogInteraction", customer_id=customer_id, **note)
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.NOT_FOUND, error
        return False
    return True


async def test_a_shared_customer_is_there_at_once_and_gone_at_once(crowd: Crowd) -> None:
    group = crowd.group
    one = {"customer_id": await customer_of(group, STORE)}
    assert not await sees(group, NEIGHBOUR, **one, after=await group.runtime.store.head())
    for _ in range(2):
        shared = await command(group, "customer.ShareCustomer", STORE, **one, store="D002")
        assert await sees(group, NEIGHBOUR, **one, after=shared.position)
        assert await acts(group, NEIGHBOUR, **one)
        ended = await command(group, "customer.UnshareCustomer", STORE, **one, store="D002")
        assert not await sees(group, NEIGHBOUR, **one, after=ended.position)
        assert not await acts(group, NEIGHBOUR, **one)
        assert await sees(group, STORE, **one, after=ended.position)


async def test_whoever_it_is_shared_with_does_not_pass_it_on(crowd: Crowd) -> None:
    group = crowd.group
    one = {"customer_id": await customer_of(group, STORE)}
    await command(group, "customer.ShareCustomer", STORE, **one, store="D002")
    client = Client(group.channel, group.metadata(NEIGHBOUR))
    refused = await client.refused("customer.TransferCustomer", **one, to_store="D002")
    assert (refused.code, refused.slug) == (grpc.StatusCode.PERMISSION_DENIED, "owned-by-another")


async def test_a_customer_handed_over_changes_sides_at_once(crowd: Crowd) -> None:
    group = crowd.group
    one = {"customer_id": await customer_of(group, STORE)}
    moved = await command(group, "customer.TransferCustomer", STORE, **one, to_store="D002")
    assert await sees(group, NEIGHBOUR, **one, after=moved.position)
    assert await acts(group, NEIGHBOUR, **one)
    assert not await sees(group, STORE, **one, after=moved.position)
    assert not await acts(group, STORE, **one)
    assert await sees(group, HEAD, **one, after=moved.position)


async def test_a_car_that_moves_is_its_new_stores_at_once(crowd: Crowd) -> None:
    group, vin = crowd.group, next(VINS)
    await receive_car(Client(group.channel, group.metadata(STORE)), vin)
    there = Client(group.channel, group.metadata(NEIGHBOUR))
    here = Client(group.channel, group.metadata(STORE))
    assert (await there.refused("sales.RecordOdometer", vin=vin, odometer_km=9)).code.name == "NOT_FOUND"
    moved = await here("sales.TransferVehicle", vin=vin, to_store="D002")
    await there("sales.RecordOdometer", vin=vin, odometer_km=9)
    assert (await here.refused("sales.RecordOdometer", vin=vin, odometer_km=10)).code.name == "NOT_FOUND"
    assert (await there.ask("sales.GetVehicle", after=moved.position, vin=vin)).vin == vin
    gone = await here.refused("sales.GetVehicle", metadata={"after-position": str(moved.position)}, vin=vin)
    assert gone.code is grpc.StatusCode.NOT_FOUND
