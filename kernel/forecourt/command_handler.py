"""The command handler: runs commands against aggregates, by loading, deciding, and appending.

* Every append names the exact version that the decision was made on.
* Event ids are derived from the command's id (uuid5), so a repeated command finds its own events and is
  answered with its first result.
* A conflict is retried a bounded number of times, and only where the caller gave no version of its own.
* Who submitted something does not approve it (`Decider.duties`).
* What lies outside the scope of whoever asks (`Context.scope`) is answered as if it were not there.
* States lately used are kept in the process. A cached state may be stale: an append on it fails and reloads,
  and before a refusal is answered from it, it is brought up to date and asked again.
"""

import typing
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from forecourt import logs, metrics, tracing
from forecourt.access.duties import NOBODY, Actors
from forecourt.access.ownership import Ownership
from forecourt.access.scope import UNRESTRICTED, Scope
from forecourt.codec import Codec
from forecourt.deciders import Command, Context, Decider
from forecourt.errors import (
    AlreadyExists,
    Forbidden,
    ForecourtError,
    InvalidInput,
    NotFound,
    Refused,
    VersionConflict,
)
from forecourt.events import Event
from forecourt.eventstore.port import Append, AppendResult, EventStore, NewEvent, WrongExpectedVersion
from forecourt.snapshots import Snapshot, SnapshotStore

log = logs.get(__name__)

S = TypeVar("S")

ATTEMPTS = 8
"""How often a decision is made anew after a conflict before the conflict is answered."""

SNAPSHOT_EVERY = 200
"""Events between two snapshots of a stream; shorter streams have none."""

KNOWN_IDS = 1_000
"""Event ids remembered per stream, to recognise repeated commands."""


@dataclass(frozen=True)
class Outcome:
    """The answer to a command: the aggregate's id, its version, and the position of its last event."""

    id: UUID
    version: int
    position: int
    unchanged: bool = field(default=False, compare=False)
    """Everything was so already: nothing was stored."""


class OwnedByAnother(Forbidden):
    """The object is shared with the caller, but only its owner may do this."""


@dataclass
class Loaded(Generic[S]):
    """A stream's state in memory, and what is needed to append after it.

    ``known`` maps ids of events in the stream to (sequence, position). ``unfolded`` are events after ``state``: that of
    an aggregate that is not used again is never worked out. ``era`` is the handler's when it was read.
    """

    state: S
    version: int = 0
    position: int = 0
    ownership: Ownership = Ownership()
    known: dict[UUID, tuple[int, int]] = field(default_factory=dict)
    actors: Actors = field(default_factory=lambda: NOBODY)
    unfolded: Sequence[Event] = ()
    era: int = 0

    def fold(self, decider: "Decider[S]") -> S:
        """The state with nothing left to fold."""
        if self.unfolded:
            self.state, self.unfolded = decider.fold(self.unfolded, self.state), ()
        return self.state

    def first_answer(self, context: Context) -> tuple[int, int] | None:
        """(version, position) after the events of this very command, where the stream has them."""
        answer, index = None, 0
        if not self.known:
            return None
        while (found := self.known.get(context.event_id(index))) is not None:
            answer, index = found, index + 1
        return answer

    def remember(self, event_id: UUID, sequence: int, position: int) -> None:
        """Note an event of the stream."""
        self.known[event_id] = (sequence, position)
        if len(self.known) > 2 * KNOWN_IDS:
            self.known = dict(list(self.known.items())[-KNOWN_IDS:])


def _is_foreign(decider: Decider[Any], loaded: Loaded[Any], scope: Scope) -> bool:
    """Whether an aggregate is there, outside ``scope``."""
    if scope is UNRESTRICTED or not loaded.version:
        return False
    return not decider.ownership.reaches(scope, loaded.ownership)


class _Created(NamedTuple):
    """A new aggregate before it is appended; ``of`` says for each event of which command it is, and its number there.

    ``whole`` unless a command that follows has to be run alone.
    """

    id: UUID
    stream: str
    events: list[Event]
    of: list[tuple[int, Context]]
    whole: bool


def _decided_after(
    decider: Decider[Any], events: list[Event], created_by: Context, command: Command, context: Context
) -> list[Event]:
    """The events of a command that follows an aggregate's first ones; none where it has to be run alone."""
    ownership = Ownership(created_by.dealer_id, created_by.brand)
    for event in events:
        ownership = decider.ownership.after(ownership, event)
    scope = context.scope
    if scope is not UNRESTRICTED and not decider.ownership.reaches(scope, ownership):
        return []
    if not decider.ownership.allows(command, scope, ownership):
        return []
    try:
        decided = decider.decide(decider.fold(events), command, replace(context, ownership=ownership))
        decider.duties.check(
            command, context.actor_id, decider.duties.after(NOBODY, events, created_by.actor_id)
        )
    except ForecourtError:
        return []
    return decided


class CommandHandler:
    """Runs commands: loads the aggregate, decides, appends. One per process, used by all calls at once."""

    def __init__(
        self,
        store: EventStore,
        codec: Codec,
        *,
        snapshots: SnapshotStore | None = None,
        cache_size: int = 10_000,
    ) -> None:
        self._store = store
        self._codec = codec
        self._snapshots = snapshots
        self._cache: OrderedDict[str, Loaded[Any]] = OrderedDict()
        self._cache_size = cache_size
        self._era = 0
        codec.on_erased(self.forget_all)

    async def execute(
        self, decider: Decider[Any], command: Command, context: Context, *, expected: int | None = None
    ) -> Outcome:
        """Decide ``command`` and append what follows.

        ``expected`` is the version the caller has seen; another one raises `VersionConflict` without retry.
        Raises `NotFound`, `AlreadyExists`, the domain's refusals, or the store's errors.
        """
        aggregate_id = decider.id_of(command, context)
        stream = decider.stream(aggregate_id)
        fresh = False
        for _ in range(ATTEMPTS):
            loaded, current = await self._obtain(decider, stream, command, fresh)
            try:
                outcome = await self._attempt(
                    decider, stream, aggregate_id, loaded, command, context, expected
                )
            except WrongExpectedVersion:
                self.forget(stream)
                fresh = True
                continue
            except ForecourtError:
                if current:
                    raise
                self.forget(stream)
                fresh = True
                continue
            if outcome is not None:
                return outcome
            fresh = True
        raise VersionConflict(f"{decider.category}: changed by others {ATTEMPTS} times while deciding")

    async def create_many(
        self,
        decider: Decider[Any],
        commands: Sequence[tuple[Command, Context]],
        *,
        then: Mapping[int, tuple[Command, Context]] = MappingProxyType({}),
    ) -> list["Outcome | ForecourtError"]:
        """Run many commands that each create an aggregate, in one append; an outcome or a refusal for each.

        ``then`` has, by the number of such a command, another one to be run right after it on the same aggregate, where
        possible in the same append. The answer is that of the last one that was run.

        The states do not go into the cache: a bulk of new aggregates would only drive out those in use.
        Raises the store's errors.
        """
        created = [
            self._create(decider, command, context, then.get(number))
            for number, (command, context) in enumerate(commands)
        ]
        data = await self._codec.encode_many([(one.stream, one.events, 0) for one in created])
        appends = [
            Append(
                one.stream,
                [
                    self._new_event(event, text, index, context, context.dealer_id, context.brand)
                    for event, text, (index, context) in zip(one.events, texts, one.of, strict=True)
                ],
                0,
            )
            for one, texts in zip(created, data, strict=True)
        ]
        results = iter(await self._store.append_many([append for append in appends if append.events]))
        answers: list[Outcome | ForecourtError] = []
        for number, one in enumerate(created):
            result = next(results) if one.events else None
            if isinstance(result, AppendResult) and one.whole:
                answers.append(Outcome(one.id, result.sequence, result.position))
            else:
                # It is there already, or refused on a state that may be stale: alone it gets the right answer.
                answers.append(await self._one_by_one(decider, commands[number], then.get(number)))
        return answers

    def _create(
        self,
        decider: Decider[Any],
        command: Command,
        context: Context,
        then: tuple[Command, Context] | None,
    ) -> "_Created":
        aggregate_id = decider.id_of(command, context)
        stream = decider.stream(aggregate_id)
        try:
            events = decider.decide(decider.initial, command, context) if command.creates is True else []
        except ForecourtError:
            events = []
        of = [(index, context) for index in range(len(events))]
        if then is None or not events:
            return _Created(aggregate_id, stream, events, of, whole=then is None)
        further = _decided_after(decider, events, context, *then)
        of += [(index, then[1]) for index in range(len(further))]
        return _Created(aggregate_id, stream, [*events, *further], of, whole=bool(further))

    async def _one_by_one(
        self, decider: Decider[Any], first: tuple[Command, Context], then: tuple[Command, Context] | None
    ) -> "Outcome | ForecourtError":
        answer = await self._execute_or_refusal(decider, *first)
        if then is None or isinstance(answer, ForecourtError):
            return answer
        return await self._execute_or_refusal(decider, *then)

    async def _execute_or_refusal(
        self, decider: Decider[Any], command: Command, context: Context
    ) -> "Outcome | ForecourtError":
        try:
            return await self.execute(decider, command, context)
        except (InvalidInput, Refused, AlreadyExists) as error:
            return error

    async def load(
        self,
        decider: Decider[S],
        aggregate_id: UUID,
        scope: Scope = UNRESTRICTED,
        *,
        foreign_is_missing: bool = True,
    ) -> Loaded[S]:
        """The present state, read up to the stream's end. Version 0 where there is no stream.

        One outside ``scope`` is not there either, or raises `NotFound` unless ``foreign_is_missing``.
        """
        loaded = await self._load(decider, decider.stream(aggregate_id))
        if _is_foreign(decider, loaded, scope):
            if not foreign_is_missing:
                raise NotFound(f"{decider.category}: not found")
            return Loaded(decider.initial)
        return loaded

    async def origin(self, decider: Decider[Any], aggregate_id: UUID) -> str:
        """The metadata of an aggregate's first event, as JSON; an empty object where there is no stream."""
        async for page in self._store.read_stream(decider.stream(aggregate_id), page=1):
            return page[0].metadata
        return "{}"

    async def exists(self, stream: str) -> bool:
        """Whether a stream, of any service, has events."""
        async for _ in self._store.read_stream(stream, page=1):
            return True
        return False

    async def head(self) -> int:
        """The position of the last event in the store."""
        return await self._store.head()

    def forget(self, stream: str) -> None:
        """Drop a stream's state from the cache."""
        self._cache.pop(stream, None)

    def forget_all(self) -> None:
        """Drop all states, also those that are being read: any may hold texts about somebody who is erased."""
        self._era += 1
        self._cache.clear()

    async def _obtain(
        self, decider: Decider[Any], stream: str, command: Command, fresh: bool
    ) -> tuple[Loaded[Any], bool]:
        """A state to decide on, and whether it is known to be current."""
        if not fresh:
            cached = self._cache.get(stream)
            if cached is not None:
                return cached, False
            if command.creates is True:
                # Most likely nothing is there yet: the append itself finds out, without a read before it.
                return Loaded(decider.initial, era=self._era), False
        return await self._load(decider, stream), True

    async def _attempt(
        self,
        decider: Decider[Any],
        stream: str,
        aggregate_id: UUID,
        loaded: Loaded[Any],
        command: Command,
        context: Context,
        expected: int | None,
    ) -> Outcome | None:
        scope = context.scope
        is_foreign = _is_foreign(decider, loaded, scope)
        if not is_foreign or decider.ownership.reached(scope, loaded.ownership):
            answer = loaded.first_answer(context)
            if answer is not None:
                return Outcome(aggregate_id, *answer)
        if is_foreign or not (command.creates or loaded.version):
            # Before anything is said about the version: both cases must look alike.
            raise NotFound(f"{decider.category}: not found")
        if expected is not None and expected != loaded.version:
            raise VersionConflict(
                f"version: is {loaded.version}, expected {expected}",
                fields={"expected-version": f"the object is at version {loaded.version}"},
            )
        if command.creates is True and loaded.version:
            raise AlreadyExists(f"{decider.category}: exists already")
        if loaded.version and not decider.ownership.allows(command, scope, loaded.ownership):
            raise OwnedByAnother("only the owner of the object may do this")
        version = loaded.version
        if not version and decider.distinct_from and decider.named_by(command) is not None:
            await self._check_distinct(decider, aggregate_id)
        known = replace(context, ownership=loaded.ownership) if version else context
        events = decider.decide(loaded.fold(decider), command, known)
        if not events:
            # "Already so" must not be said from a state that others may have changed since.
            current = await self._load(decider, stream)
            if current.version != version:
                return None
            return Outcome(aggregate_id, version, current.position, unchanged=True)
        decider.duties.check(command, context.actor_id, loaded.actors)
        data = await self._codec.encode(stream, events, after=version)
        dealer_id, brand = context.dealer_id, context.brand
        if version:
            dealer_id, brand = decider.ownership.acted_for(loaded.ownership, scope, dealer_id, brand)
        new = [
            self._new_event(event, text, index, context, dealer_id, brand)
            for index, (event, text) in enumerate(zip(events, data, strict=True))
        ]
        result = await self._store.append(stream, new, expected=version)
        await self._advance(decider, stream, loaded, version, events, new, result.position)
        return Outcome(aggregate_id, result.sequence, result.position)

    async def _check_distinct(self, decider: Decider[Any], aggregate_id: UUID) -> None:
        for category in decider.distinct_from:
            if await self.exists(f"{category}-{aggregate_id}"):
                raise AlreadyExists(f"{decider.category}: exists already")

    def _new_event(
        self, event: Event, data: str, index: int, context: Context, dealer_id: str, brand: str
    ) -> NewEvent:
        metadata = context.metadata if index == 0 else "{}"
        return NewEvent(
            id=context.event_id(index),
            type=self._codec.registry.type_of(type(event)),
            version=event.event_version,
            time=context.now,
            data=data,
            correlation_id=context.correlation_id,
            causation_id=context.causation_id or context.command_id,
            dealer_id=dealer_id,
            brand=brand,
            actor_id=context.actor_id,
            metadata=metadata if tracing.tracer is None else tracing.tracer.stamp(metadata),
        )

    async def _advance(
        self,
        decider: Decider[Any],
        stream: str,
        before: Loaded[Any],
        version: int,
        events: list[Event],
        new: list[NewEvent],
        position: int,
    ) -> None:
        """Put the state after an append into the cache, as a new object: others may be deciding on the old."""
        if before.version != version:
            return
        after = Loaded(
            before.state,
            version + len(events),
            position,
            before.ownership if version else Ownership(new[0].dealer_id, new[0].brand),
            dict(before.known),
            decider.duties.after(before.actors, events, new[0].actor_id),
            events,
            before.era,
        )
        for happened in events:
            after.ownership = decider.ownership.after(after.ownership, happened)
        for index, event in enumerate(new, start=1):
            after.remember(event.id, version + index, position)
        self._keep(stream, after)
        if (version // SNAPSHOT_EVERY) != (after.version // SNAPSHOT_EVERY):
            await self._snapshot(decider, stream, after)

    async def _load(self, decider: Decider[Any], stream: str) -> Loaded[Any]:
        era, cached = self._era, self._cache.get(stream)
        start = cached or await self._from_snapshot(decider, stream)
        start.fold(decider)
        loaded = replace(start, known=dict(start.known), era=era)
        async for page in self._store.read_stream(stream, after=loaded.version):
            for recorded in await self._codec.decode(page):
                meta = recorded.meta
                if loaded.version == 0:
                    loaded.ownership = Ownership(meta.dealer_id, meta.brand)
                loaded.ownership = decider.ownership.after(loaded.ownership, recorded.event)
                loaded.actors = decider.duties.after(loaded.actors, (recorded.event,), meta.actor_id)
                loaded.state = decider.evolve(loaded.state, typing.cast(Event, recorded.event))
                loaded.version, loaded.position = meta.sequence, meta.position
                loaded.remember(meta.id, meta.sequence, meta.position)
        if loaded.version:
            self._keep(stream, loaded)
        return loaded

    def _keep(self, stream: str, loaded: Loaded[Any]) -> None:
        if self._cache_size <= 0 or loaded.era != self._era:
            return
        present = self._cache.get(stream)
        if present is None or present.version <= loaded.version:
            self._cache[stream] = loaded
            self._cache.move_to_end(stream)
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    async def _from_snapshot(self, decider: Decider[Any], stream: str) -> Loaded[Any]:
        found = None
        if self._snapshots is not None:
            found = await self._snapshots.load(stream, type(decider.initial))
        if found is None:
            return Loaded(decider.initial)
        known = dict(found.known)
        return Loaded(found.state, found.version, found.position, found.ownership, known, found.actors)

    async def _snapshot(self, decider: Decider[Any], stream: str, loaded: Loaded[Any]) -> None:
        if self._snapshots is None:
            return
        snapshot = Snapshot(
            loaded.fold(decider),
            loaded.version,
            loaded.position,
            loaded.ownership,
            dict(list(loaded.known.items())[-KNOWN_IDS:]),
            loaded.actors,
        )
        try:
            await self._snapshots.save(stream, snapshot, type(decider.initial))
        except Exception as error:  # noqa: BLE001
            # The command is stored, and a snapshot is only a shortcut: its loss must not look like the command's.
            metrics.FAILED_SNAPSHOTS.inc()
            log.warning("snapshot not stored", category=decider.category, error=type(error).__name__)
