"""The command handler: versions, repeats, conflicts, caches, snapshots."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4, uuid5

import pytest

from forecourt import metrics
from forecourt.codec import Codec
from forecourt.command_handler import ATTEMPTS, SNAPSHOT_EVERY, CommandHandler, Outcome
from forecourt.deciders import Command, Context, Decider
from forecourt.errors import AlreadyExists, NotFound, Refused, VersionConflict
from forecourt.events import Event
from forecourt.eventstore.memory import MemoryEventStore
from forecourt.registry import build_registry
from forecourt.snapshots import Snapshot
from forecourt.testing.given import CONTEXT, an_id


class Opened(Event, name="Opened", version=1):
    limit: int


class Added(Event, name="Added", version=1):
    amount: int


@dataclass(frozen=True)
class Counter:
    total: int = 0
    limit: int = 0


class Open(Command, creates=True):
    counter_id: UUID | None = None
    limit: int = 1_000_000


class Add(Command):
    counter_id: UUID
    amount: int
    times: int = 1


class LimitReached(Refused):
    """The counter may not go higher."""


counter = Decider(service="test", category="counter", initial=Counter(), key="counter_id")


@counter.decides
def open_counter(state: Counter, c: Open, ctx: Context) -> list[Event]:
    return [Opened(limit=c.limit)]


@counter.decides
def add(state: Counter, c: Add, ctx: Context) -> list[Event]:
    if state.total + c.amount * c.times > state.limit:
        raise LimitReached()
    return [Added(amount=c.amount) for _ in range(c.times) if c.amount]


@counter.evolves
def _opened(state: Counter, e: Opened) -> Counter:
    return replace(state, limit=e.limit)


@counter.evolves
def _added(state: Counter, e: Added) -> Counter:
    return replace(state, total=state.total + e.amount)


ID = an_id("counter")
CODEC = Codec(build_registry("test", [("counter", counter.events)]))


class MemorySnapshots:
    """Snapshots in a dict."""

    def __init__(self) -> None:
        self.kept: dict[str, Snapshot] = {}

    async def load(self, stream: str, state_type: type[Any]) -> Snapshot | None:
        return self.kept.get(stream)

    async def save(self, stream: str, snapshot: Snapshot, state_type: type[Any]) -> None:
        self.kept[stream] = snapshot


def fresh() -> Context:
    return replace(CONTEXT, command_id=uuid4())


@pytest.fixture
def store() -> MemoryEventStore:
    return MemoryEventStore()


async def opened(store: MemoryEventStore, limit: int = 1_000_000, **options: Any) -> CommandHandler:
    handler = CommandHandler(store, CODEC, **options)
    await handler.execute(counter, Open(counter_id=ID, limit=limit), fresh())
    return handler


async def stored(store: MemoryEventStore) -> list[Any]:
    return [event async for page in store.read_stream(f"counter-{ID}") for event in page]


async def test_the_outcome_names_id_version_and_position(store: MemoryEventStore) -> None:
    handler = await opened(store)
    outcome = await handler.execute(counter, Add(counter_id=ID, amount=1, times=2), fresh())
    assert outcome == Outcome(ID, 3, await store.head())


async def test_an_id_is_derived_from_the_command_where_none_is_given(store: MemoryEventStore) -> None:
    outcome = await CommandHandler(store, CODEC).execute(counter, Open(), CONTEXT)
    assert outcome.id == CONTEXT.new_id("counter")


async def test_event_ids_are_derived_from_the_command(store: MemoryEventStore) -> None:
    await (await opened(store)).execute(counter, Add(counter_id=ID, amount=1, times=2), CONTEXT)
    ids = [event.id for event in await stored(store)][1:]
    assert ids == [uuid5(CONTEXT.command_id, "0"), uuid5(CONTEXT.command_id, "1")]


@pytest.mark.parametrize("cache_size", [0, 100])
async def test_a_repeated_command_is_answered_with_its_first_result(
    store: MemoryEventStore, cache_size: int
) -> None:
    handler = await opened(store, limit=2, cache_size=cache_size)
    first = await handler.execute(counter, Add(counter_id=ID, amount=1, times=2), CONTEXT)
    again = await handler.execute(counter, Add(counter_id=ID, amount=1, times=2), CONTEXT)
    elsewhere = await CommandHandler(store, CODEC).execute(
        counter, Add(counter_id=ID, amount=1, times=2), CONTEXT
    )
    assert again == first == elsewhere
    assert len(await stored(store)) == 3


async def test_a_repeated_creation_is_answered_with_its_first_result(store: MemoryEventStore) -> None:
    first = await CommandHandler(store, CODEC).execute(counter, Open(), CONTEXT)
    assert await CommandHandler(store, CODEC).execute(counter, Open(), CONTEXT) == first


async def test_a_repeat_is_recognised_even_when_the_caller_names_the_old_version(
    store: MemoryEventStore,
) -> None:
    handler = await opened(store)
    first = await handler.execute(counter, Add(counter_id=ID, amount=1), CONTEXT, expected=1)
    assert await handler.execute(counter, Add(counter_id=ID, amount=1), CONTEXT, expected=1) == first


async def test_creating_what_is_there_is_refused(store: MemoryEventStore) -> None:
    await opened(store)
    with pytest.raises(AlreadyExists):
        await CommandHandler(store, CODEC).execute(counter, Open(counter_id=ID), fresh())


async def test_a_command_to_nothing_is_not_found(store: MemoryEventStore) -> None:
    with pytest.raises(NotFound):
        await CommandHandler(store, CODEC).execute(counter, Add(counter_id=ID, amount=1), fresh())


async def test_an_old_version_of_the_caller_is_a_conflict_without_retry(store: MemoryEventStore) -> None:
    handler = await opened(store)
    await handler.execute(counter, Add(counter_id=ID, amount=1), fresh(), expected=1)
    with pytest.raises(VersionConflict) as caught:
        await handler.execute(counter, Add(counter_id=ID, amount=1), fresh(), expected=1)
    assert "expected-version" in caught.value.fields


async def test_a_stale_cache_decides_anew(store: MemoryEventStore) -> None:
    one = await opened(store)
    other = CommandHandler(store, CODEC)
    await other.execute(counter, Add(counter_id=ID, amount=5), fresh())
    outcome = await one.execute(counter, Add(counter_id=ID, amount=5), fresh())
    assert outcome.version == 3


async def test_the_state_in_the_cache_is_that_of_all_events_after_every_command(
    store: MemoryEventStore,
) -> None:
    handler = await opened(store, limit=100)
    for number in range(1, 8):
        await handler.execute(counter, Add(counter_id=ID, amount=number, times=number % 3 + 1), fresh())
        if number % 2:
            # Not after every command: looking folds, too.
            cached, anew = (
                await handler.load(counter, ID),
                await CommandHandler(store, CODEC).load(counter, ID),
            )
            assert (cached.state, cached.version, cached.position) == (
                anew.state,
                anew.version,
                anew.position,
            )
    with pytest.raises(LimitReached):
        await handler.execute(counter, Add(counter_id=ID, amount=100), fresh())


async def test_a_refusal_is_never_given_from_a_stale_state(store: MemoryEventStore) -> None:
    handler = await opened(store, limit=1)
    await handler.execute(counter, Add(counter_id=ID, amount=1), fresh())
    other = CommandHandler(store, CODEC)
    await other.execute(counter, Add(counter_id=ID, amount=-1), fresh())
    outcome = await handler.execute(counter, Add(counter_id=ID, amount=1), fresh())
    assert outcome.version == 4


async def test_a_refusal_writes_nothing(store: MemoryEventStore) -> None:
    handler = await opened(store, limit=1)
    with pytest.raises(LimitReached):
        await handler.execute(counter, Add(counter_id=ID, amount=2), fresh())
    assert len(await stored(store)) == 1


async def test_nothing_to_say_is_answered_with_the_present_version(store: MemoryEventStore) -> None:
    handler = await opened(store)
    await CommandHandler(store, CODEC).execute(counter, Add(counter_id=ID, amount=1), fresh())
    outcome = await handler.execute(counter, Add(counter_id=ID, amount=0), fresh())
    assert outcome == Outcome(ID, 2, await store.head())


async def test_many_at_once_on_one_stream_all_succeed_up_to_the_limit(store: MemoryEventStore) -> None:
    handlers = [await opened(store, limit=10), CommandHandler(store, CODEC)]
    results = await asyncio.gather(
        *(handlers[n % 2].execute(counter, Add(counter_id=ID, amount=1), fresh()) for n in range(12)),
        return_exceptions=True,
    )
    loaded = await CommandHandler(store, CODEC).load(counter, ID)
    succeeded = [result for result in results if isinstance(result, Outcome)]
    assert loaded.state.total == len(succeeded) <= 10
    assert all(isinstance(r, Outcome | LimitReached | VersionConflict) for r in results)


async def test_conflicts_are_retried_a_bounded_number_of_times(store: MemoryEventStore) -> None:
    class Contended(MemoryEventStore):
        """Somebody else always gets there first."""

        tries = 0

        async def append(self, stream: str, events: Any, *, expected: int) -> Any:
            if expected:
                self.tries += 1
                other = await self._one()
                await super().append(stream, other, expected=expected)
            return await super().append(stream, events, expected=expected)

        async def _one(self) -> list[Any]:
            text = (await CODEC.encode("", [Added(amount=1)], after=0))[0]
            handler = CommandHandler(self, CODEC)
            return [handler._new_event(Added(amount=1), text, 0, fresh(), "", "")]

    contended = Contended()
    handler = await opened(contended)
    with pytest.raises(VersionConflict):
        await handler.execute(counter, Add(counter_id=ID, amount=1), fresh())
    assert contended.tries == ATTEMPTS


def opening(number: int, limit: int = 5) -> tuple[Open, Context]:
    return Open(counter_id=an_id(f"counter {number}"), limit=limit), replace(
        CONTEXT, command_id=an_id(f"c{number}")
    )


async def test_many_are_created_in_one_append_and_repeated_get_their_first_answers(
    store: MemoryEventStore,
) -> None:
    commands = [opening(number) for number in range(20)]
    first = await CommandHandler(store, CODEC).create_many(counter, commands)
    assert [one.id for one in first if isinstance(one, Outcome)] == [
        command.counter_id for command, _ in commands
    ]
    assert await CommandHandler(store, CODEC).create_many(counter, commands) == first
    assert await store.head() == 20


async def test_of_many_created_each_is_refused_alone(store: MemoryEventStore) -> None:
    handler = CommandHandler(store, CODEC)
    await handler.execute(counter, *opening(1))
    taken = opening(1)[0], fresh()
    first, refused, last = await handler.create_many(counter, [opening(0), taken, opening(2)])
    assert isinstance(first, Outcome)
    assert isinstance(last, Outcome)
    assert isinstance(refused, AlreadyExists)


def adding(number: int, amount: int) -> tuple[Add, Context]:
    return Add(counter_id=an_id(f"counter {number}"), amount=amount), replace(
        CONTEXT, command_id=an_id(f"a{number}"), metadata='{"of": "the addition"}'
    )


async def test_a_command_that_follows_a_creation_is_in_the_same_append_with_ids_of_its_own(
    store: MemoryEventStore,
) -> None:
    handler = CommandHandler(store, CODEC)
    commands, then = [opening(0), opening(1)], {1: adding(1, 2)}
    first = await handler.create_many(counter, commands, then=then)
    assert [one.version for one in first if isinstance(one, Outcome)] == [1, 2]
    assert await CommandHandler(store, CODEC).create_many(counter, commands, then=then) == first
    assert await CommandHandler(store, CODEC).execute(counter, *adding(1, 2)) == first[1]
    (page,) = [page async for page in store.read_stream(f"counter-{an_id('counter 1')}")]
    assert [event.id for event in page] == [commands[1][1].event_id(0), then[1][1].event_id(0)]
    assert page[1].metadata == then[1][1].metadata


async def test_where_a_command_that_follows_is_refused_the_creation_stands(store: MemoryEventStore) -> None:
    handler = CommandHandler(store, CODEC)
    refused, also = await handler.create_many(
        counter, [opening(0), opening(1)], then={0: adding(0, 9), 1: adding(1, 0)}
    )
    assert isinstance(refused, LimitReached)
    assert also == Outcome(an_id("counter 1"), 1, 2)
    assert (await handler.load(counter, an_id("counter 0"))).version == 1


async def test_commands_that_create_nothing_are_run_too_where_many_are_created(
    store: MemoryEventStore,
) -> None:
    handler = await opened(store)
    outcomes = await handler.create_many(counter, [(Add(counter_id=ID, amount=2), fresh()), opening(3)])
    assert [one.version for one in outcomes if isinstance(one, Outcome)] == [2, 1]


async def test_what_is_created_in_bulk_does_not_drive_out_states_in_use(store: MemoryEventStore) -> None:
    handler = CommandHandler(store, CODEC, cache_size=1)
    await handler.execute(counter, *opening(0))
    await handler.create_many(counter, [opening(number) for number in range(1, 10)])
    assert list(handler._cache) == [f"counter-{an_id('counter 0')}"]


async def test_long_streams_are_loaded_from_their_snapshot(store: MemoryEventStore) -> None:
    snapshots = MemorySnapshots()
    handler = await opened(store, snapshots=snapshots)
    for _ in range(3):
        await handler.execute(counter, Add(counter_id=ID, amount=1, times=SNAPSHOT_EVERY // 2), fresh())
    last = replace(CONTEXT, command_id=uuid4())
    first = await handler.execute(counter, Add(counter_id=ID, amount=1), last)
    assert snapshots.kept[f"counter-{ID}"].version > SNAPSHOT_EVERY

    reads: list[int] = []

    class Watched(MemoryEventStore):
        def read_stream(self, stream: str, *, after: int = 0, page: int = 500) -> Any:
            reads.append(after)
            return store.read_stream(stream, after=after, page=page)

    loaded = await CommandHandler(Watched(), CODEC, snapshots=snapshots).load(counter, ID)
    assert loaded.state.total == 3 * (SNAPSHOT_EVERY // 2) + 1
    assert reads == [snapshots.kept[f"counter-{ID}"].version]
    again = await CommandHandler(store, CODEC, snapshots=snapshots).execute(
        counter, Add(counter_id=ID, amount=1), last
    )
    assert again == first


async def test_a_snapshot_that_cannot_be_stored_does_not_fail_its_command(store: MemoryEventStore) -> None:
    class Full(MemorySnapshots):
        async def save(self, stream: str, snapshot: Snapshot, state_type: type[Any]) -> None:
            raise ConnectionError("no room")

    failed = metrics.FAILED_SNAPSHOTS._value.get()
    handler = await opened(store, snapshots=Full())
    outcome = await handler.execute(counter, Add(counter_id=ID, amount=1, times=SNAPSHOT_EVERY), fresh())
    assert outcome == Outcome(ID, SNAPSHOT_EVERY + 1, await store.head())
    assert (await handler.execute(counter, Add(counter_id=ID, amount=1), fresh())).version > outcome.version
    assert metrics.FAILED_SNAPSHOTS._value.get() == failed + 1


async def test_the_owner_is_the_dealer_of_the_first_event(store: MemoryEventStore) -> None:
    handler = await opened(store)
    other = replace(fresh(), dealer_id="D009")
    await handler.execute(counter, Add(counter_id=ID, amount=1), other)
    assert (await handler.load(counter, ID)).ownership.dealer_id == CONTEXT.dealer_id
