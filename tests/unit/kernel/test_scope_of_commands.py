"""Commands within a scope: what is another store's is not there, and what is shared or handed on changes at once."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecourt.access.ownership import Ownership
from forecourt.access.scope import UNRESTRICTED, Scope, scope_of
from forecourt.codec import Codec
from forecourt.command_handler import CommandHandler, Outcome, OwnedByAnother
from forecourt.deciders import Command, Context, Decider
from forecourt.errors import ForecourtError, NotFound
from forecourt.events import Event
from forecourt.eventstore.memory import MemoryEventStore
from forecourt.registry import build_registry
from forecourt.testing.given import CONTEXT, an_id


class Opened(Event, name="Opened", version=1):
    chest_id: UUID


class Filled(Event, name="Filled", version=1):
    pieces: int


class Lent(Event, name="Lent", version=1):
    to: str


class CalledBack(Event, name="CalledBack", version=1):
    from_: str


class Given(Event, name="Given", version=1):
    to: str


class Labelled(Event, name="Labelled", version=1):
    text: str


class Open(Command, creates=True):
    chest_id: UUID | None = None


class Fill(Command):
    chest_id: UUID
    pieces: int = 1


class FillOrOpen(Command, creates="if_missing"):
    chest_id: UUID


class Lend(Command):
    chest_id: UUID
    to: str


class CallBack(Command):
    chest_id: UUID
    from_: str


class Give(Command):
    chest_id: UUID
    to: str


class Label(Command):
    """Write on the chest whose it is."""

    chest_id: UUID


chest: Decider[int] = Decider(service="vault", category="chest", initial=0, key="chest_id")
chest.ownership.transfers(Given, to=lambda e: e.to)
chest.ownership.shares(Lent, with_=lambda e: e.to)
chest.ownership.ends_sharing(CalledBack, with_=lambda e: e.from_)
chest.ownership.only_owner(Lend, CallBack, Give)
chest.ignores(Opened, Lent, CalledBack, Given, Labelled)


@chest.decides
def open_(state: int, c: Open, ctx: Context) -> list[Event]:
    return [Opened(chest_id=ctx.new_id("opened"))]


@chest.decides
def fill(state: int, c: Fill, ctx: Context) -> list[Event]:
    return [Filled(pieces=c.pieces)]


@chest.decides
def fill_or_open(state: int, c: FillOrOpen, ctx: Context) -> list[Event]:
    return [Filled(pieces=1)]


@chest.decides
def lend(state: int, c: Lend, ctx: Context) -> list[Event]:
    return [Lent(to=c.to)]


@chest.decides
def call_back(state: int, c: CallBack, ctx: Context) -> list[Event]:
    return [CalledBack(from_=c.from_)]


@chest.decides
def give(state: int, c: Give, ctx: Context) -> list[Event]:
    return [Given(to=c.to)]


@chest.decides
def label(state: int, c: Label, ctx: Context) -> list[Event]:
    own = ctx.ownership
    return [Labelled(text=f"{own.dealer_id} {own.brand} {sorted(own.shared)}")]


@chest.evolves
def _filled(state: int, e: Filled) -> int:
    return state + e.pieces


registry = build_registry("vault", [("chest", chest.events)])

CHEST, NOWHERE = an_id("chest"), an_id("nowhere")


def by(dealer: str, brand: str = "hongtong", command_id: UUID | None = None) -> Context:
    """A store's staff, with a command id of their own."""
    return replace(
        CONTEXT,
        command_id=command_id or uuid4(),
        dealer_id=dealer,
        brand=brand,
        scope=scope_of((dealer,), (brand,)),
    )


@pytest.fixture
def store() -> MemoryEventStore:
    return MemoryEventStore()


def a_process(store: MemoryEventStore) -> CommandHandler:
    return CommandHandler(store, Codec(registry))


async def answer(
    handler: CommandHandler, command: Command, context: Context, expected: int | None = None
) -> object:
    """All that a caller is told."""
    try:
        return await handler.execute(chest, command, context, expected=expected)
    except ForecourtError as error:
        return type(error), error.message, error.fields


FOREIGN = [
    by("D002"),
    by("D001", "chery"),
    replace(by("D009"), scope=Scope(frozenset({"D002", "D009"}), None)),
    replace(by("D009"), scope=Scope(None, frozenset({"chery"}))),
    replace(by(""), scope=Scope(frozenset(), frozenset())),
]


@pytest.mark.parametrize("context", FOREIGN)
@pytest.mark.parametrize("expected", [None, 0, 1, 7])
@pytest.mark.parametrize("make", [lambda i: Fill(chest_id=i), lambda i: Give(chest_id=i, to="D002")])
async def test_what_is_foreign_is_answered_like_what_is_not_there(
    store: MemoryEventStore, make: Callable[[UUID], Command], expected: int | None, context: Context
) -> None:
    warm, cold = a_process(store), a_process(store)
    await warm.execute(chest, Open(chest_id=CHEST), by("D001"))
    for handler in (warm, cold):
        there = await answer(handler, make(CHEST), context, expected)
        assert there == await answer(handler, make(NOWHERE), context, expected)
        assert there == (NotFound, "chest: not found", {})
    assert (await cold.load(chest, CHEST)).version == 1


@pytest.mark.parametrize("context", FOREIGN)
async def test_an_id_that_is_taken_elsewhere_cannot_be_created(
    store: MemoryEventStore, context: Context
) -> None:
    for handler in (a_process(store), a_process(store)):
        await handler.execute(chest, Open(chest_id=CHEST), by("D001", command_id=an_id("open")))
        for command in (Open(chest_id=CHEST), FillOrOpen(chest_id=CHEST)):
            for expected in (None, 0, 1):
                assert await answer(handler, command, context, expected) == (NotFound, "chest: not found", {})


async def test_the_command_id_of_another_store_is_worth_nothing(store: MemoryEventStore) -> None:
    """Neither the first answer nor the state of the other's object comes out, in a process that knows neither."""
    mine = by("D001", command_id=an_id("same"))
    first = await a_process(store).execute(chest, Open(), mine)
    assert await a_process(store).execute(chest, Open(), mine) == first
    process = a_process(store)
    assert await answer(process, Open(), by("D002", command_id=an_id("same"))) == (
        NotFound,
        "chest: not found",
        {},
    )
    assert (await process.load(chest, first.id)).ownership == Ownership("D001", "hongtong")
    many = await process.create_many(chest, [(Open(), mine)])
    assert many == [first]
    with pytest.raises(NotFound):
        await process.create_many(chest, [(Open(), by("D002", command_id=an_id("same")))])


async def test_what_was_handed_on_may_be_asked_again_by_whoever_did(store: MemoryEventStore) -> None:
    handler, gift = a_process(store), by("D001", command_id=an_id("gift"))
    await handler.execute(chest, Open(chest_id=CHEST), by("D001"))
    first = await handler.execute(chest, Give(chest_id=CHEST, to="D002"), gift)
    for process in (handler, a_process(store)):
        assert await process.execute(chest, Give(chest_id=CHEST, to="D002"), gift) == first
        assert await answer(process, Fill(chest_id=CHEST), by("D001")) == (NotFound, "chest: not found", {})


async def test_those_it_is_shared_with_act_on_it_but_do_not_own_it(store: MemoryEventStore) -> None:
    handler = a_process(store)
    await handler.execute(chest, Open(chest_id=CHEST), by("D001"))
    await handler.execute(chest, Lend(chest_id=CHEST, to="D002"), by("D001"))
    assert isinstance(await answer(handler, Fill(chest_id=CHEST), by("D002")), Outcome)
    with pytest.raises(OwnedByAnother):
        await handler.execute(chest, Give(chest_id=CHEST, to="D002"), by("D002"))
    assert await answer(handler, Fill(chest_id=CHEST), by("D002", "chery")) == (
        NotFound,
        "chest: not found",
        {},
    )


async def labels(store: MemoryEventStore) -> list[str]:
    codec = Codec(registry)
    found = [event for page in [e async for e in store.read_stream(chest.stream(CHEST))] for event in page]
    events = [recorded.event for recorded in await codec.decode(found)]
    return [event.text for event in events if isinstance(event, Labelled)]


async def test_a_decision_is_told_whose_the_object_is(store: MemoryEventStore) -> None:
    handler, label = a_process(store), Label(chest_id=CHEST)
    opened = (Open(chest_id=CHEST), by("D001"))
    await handler.create_many(chest, [opened], then={0: (label, by("D001"))})
    await handler.execute(chest, Lend(chest_id=CHEST, to="D002"), by("D001"))
    for process in (handler, a_process(store)):
        await process.execute(chest, label, by("D002"))
    await handler.execute(chest, Give(chest_id=CHEST, to="D003"), by("D001"))
    await handler.execute(chest, label, by("D003"))
    shared = "D001 hongtong ['D002']"
    assert await labels(store) == ["D001 hongtong []", shared, shared, "D003 hongtong ['D002']"]


def several(
    dealers: tuple[str, ...], brands: tuple[str, ...], dealer: str, brand: str = "hongtong"
) -> Context:
    """Somebody whose token is for several dealers or brands, and for whom they act."""
    return replace(by(dealer, brand), scope=scope_of(dealers, brands))


HOUSES = ("D001", "D002", "D003")
BOTH = ("hongtong", "chery")


@pytest.mark.parametrize(
    ("context", "whose"),
    [
        (by("D001"), ("D001", "hongtong")),
        (by("D002"), ("D002", "hongtong")),
        (several(HOUSES, ("hongtong",), "D001"), ("D001", "hongtong")),
        (several(HOUSES, ("hongtong",), "D002"), ("D002", "hongtong")),
        (several(HOUSES, ("hongtong",), "D003"), ("D001", "hongtong")),
        (several(HOUSES[1:], ("hongtong",), "D003"), ("D002", "hongtong")),
        (several(("D001",), BOTH, "D001", "chery"), ("D001", "hongtong")),
        (several(("*",), ("hongtong",), "D009"), ("D001", "hongtong")),
        (several(("*",), ("*",), "D009", "chery"), ("D001", "hongtong")),
        (several(("*",), ("*",), "", ""), ("D001", "hongtong")),
    ],
)
async def test_an_event_belongs_to_a_store_that_has_the_aggregate_whomever_the_actor_named(
    store: MemoryEventStore, context: Context, whose: tuple[str, str]
) -> None:
    await a_process(store).execute(chest, Open(chest_id=CHEST), by("D001"))
    await a_process(store).execute(chest, Lend(chest_id=CHEST, to="D002"), by("D001"))
    handler = a_process(store)
    first = await handler.execute(chest, Fill(chest_id=CHEST), context)
    assert await a_process(store).execute(chest, Fill(chest_id=CHEST), context) == first
    async for page in store.read_stream(chest.stream(CHEST), after=2):
        assert [(event.dealer_id, event.brand) for event in page] == [whose]


async def test_whoever_creates_an_aggregate_says_whose_it_is(store: MemoryEventStore) -> None:
    handler = a_process(store)
    await handler.execute(chest, Open(chest_id=CHEST), several(HOUSES, BOTH, "D003", "chery"))
    assert (await a_process(store).load(chest, CHEST)).ownership == Ownership("D003", "chery")


STORES = ("D001", "D002", "D003")
steps = st.lists(
    st.tuples(st.sampled_from(["give", "lend", "call back"]), st.sampled_from(STORES)), max_size=8
)


def step(kind: str, store: str) -> Command:
    if kind == "call back":
        return CallBack(chest_id=CHEST, from_=store)
    return Give(chest_id=CHEST, to=store) if kind == "give" else Lend(chest_id=CHEST, to=store)


@settings(max_examples=60)
@given(steps)
async def test_whoever_has_it_reaches_it_at_once_and_nobody_else(
    history: list[tuple[str, str]],
) -> None:
    """In the process that changed it, and in one whose memory is old."""
    store = MemoryEventStore()
    here, there = a_process(store), a_process(store)
    await here.execute(chest, Open(chest_id=CHEST), by("D001"))
    owner, shared = "D001", set[str]()
    for kind, to in history:
        await here.execute(chest, step(kind, to), replace(by(owner), scope=UNRESTRICTED))
        if kind == "give":
            owner, shared = to, shared - {to}
        elif kind == "lend" and to != owner:
            shared.add(to)
        elif kind == "call back":
            shared.discard(to)
        for process in (there, here):
            for dealer in STORES:
                told = await answer(process, Fill(chest_id=CHEST), by(dealer))
                assert isinstance(told, Outcome) == (dealer == owner or dealer in shared)


def test_a_token_of_all_is_head_office() -> None:
    assert scope_of(("*",), ("D001", "*")) is UNRESTRICTED
    assert scope_of(("*",), ("hongtong",)) == Scope(None, frozenset({"hongtong"}))
    assert not scope_of((), ()).covers_dealer("")
