"""Deciders: the pure heart of an aggregate, and the handler that runs commands against it.

A `Decider` collects the pure functions of one aggregate: ``decides`` turns a state and a command into events,
``evolves`` folds an event into the state. The `CommandHandler` does the rest: load, decide, append.

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict

from forecourt import logs, metrics, tracing
from forecourt.access.duties import NOBODY, Actors, Duties
from forecourt.access.ownership import Ownership, OwnershipRules
from forecourt.access.scope import UNRESTRICTED, Scope
from forecourt.codec import Codec
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
from forecourt.registry import RegistryError, Upcaster
from forecourt.snapshots import Snapshot, SnapshotStore

log = logs.get(__name__)

S = TypeVar("S")
C = TypeVar("C", bound="Command")
F = TypeVar("F", bound=Callable[..., Any])

ATTEMPTS = 8
"""How often a decision is made anew after a conflict before the conflict is answered."""

SNAPSHOT_EVERY = 200
"""Events between two snapshots of a stream; shorter streams have none."""

KNOWN_IDS = 1_000
"""Event ids remembered per stream, to recognise repeated commands."""


Creates = bool | Literal["if_missing"]


class Command(BaseModel):
    """Base class of commands: validated at the edge, frozen, unknown fields refused.

    ``class OpenOrder(Command, creates=True)`` may only start a stream, one with ``creates="if_missing"`` may start
    it or go on with it; every other command needs one that exists.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    creates: ClassVar[Creates] = False

    def __init_subclass__(cls, *, creates: Creates = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.creates = creates


@dataclass(frozen=True)
class Context:
    """All that a decision may know besides state and command: time, ids, and who asks.

    ``command_id`` is the idempotency key. ``dealer_id`` and ``brand`` are those the actor acts for, ``scope`` is what
    the actor reaches at all. ``metadata`` is that of the first event of the command: who was behind it
    (`forecourt.audit.entries.provenance`).
    """

    now: datetime
    command_id: UUID
    correlation_id: UUID
    causation_id: UUID | None = None
    actor_id: str = ""
    dealer_id: str = ""
    brand: str = ""
    roles: frozenset[str] = frozenset()
    metadata: str = "{}"
    scope: Scope = UNRESTRICTED

    def new_id(self, label: str) -> UUID:
        """An id that is the same whenever the same command is decided again."""
        return uuid5(self.command_id, label)

    def derived(self, label: str) -> "Context":
        """The context of a further command that this one causes; ``label`` tells several of them apart."""
        return replace(self, command_id=self.new_id(label), causation_id=self.command_id)

    def event_id(self, index: int) -> UUID:
        """The id of the command's event number ``index``: the same whenever the command is repeated.

        Where the scope is limited, the dealer and brand are part of it: the store answers a repeated append with its
        first result, and another store that uses the same command id must not get that.
        """
        if self.scope is UNRESTRICTED:
            return uuid5(self.command_id, str(index))
        return uuid5(self.command_id, f"{self.dealer_id}/{self.brand}/{index}")


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


class Decider(Generic[S]):
    """The pure functions of one aggregate.

    ``category`` names its streams; ``initial`` is the state before the first event; ``key`` is the field of
    every command that holds the aggregate's id, or a function that derives the id from the command. A
    ``creates`` command whose key field is None is given an id derived from its command id. ``ownership`` says
    which events change whose the aggregate is; ``every_brand`` why its brand limits nobody, where that is so;
    ``duties`` which commands need another person than the events before them.
    """

    def __init__(
        self,
        *,
        service: str,
        category: str,
        initial: S,
        key: str | Callable[[Any], UUID],
        every_brand: str = "",
    ) -> None:
        self.service = service
        self.category = category
        self.initial = initial
        self._key = key
        self._decides: dict[type[Command], Callable[[S, Any, Context], list[Event]]] = {}
        self._evolves: dict[type[Event], Callable[[S, Any], S] | None] = {}
        self.upcasters: list[tuple[str, int, Upcaster]] = []
        self.ownership = OwnershipRules(every_brand)
        self.duties = Duties(self._decides, self._evolves)

    def decides(self, function: F) -> F:
        """Register ``(state, command, context) -> list of events``, by the annotation of ``command``."""
        for cls in _annotated(function, 1):
            if cls in self._decides:
                raise RegistryError(f"{cls.__qualname__}: decided twice")
            self._decides[cls] = function
        return function

    def evolves(self, function: F) -> F:
        """Register ``(state, event) -> state``, by the annotation of ``event`` (a union is fine)."""
        for cls in _annotated(function, 1):
            self._register_event(cls, function)
        return function

    def ignores(self, *classes: type[Event]) -> None:
        """Register events of this aggregate that no decision depends on."""
        for cls in classes:
            self._register_event(cls, None)

    def _register_event(self, cls: type[Event], function: Callable[[S, Any], S] | None) -> None:
        if cls in self._evolves:
            raise RegistryError(f"{cls.__qualname__}: evolved twice")
        self._evolves[cls] = function

    def upcasts(self, name: str, *, from_version: int) -> Callable[[Upcaster], Upcaster]:
        """Register the step of event ``name`` from ``from_version`` to the next one."""

        def register(upcast: Upcaster) -> Upcaster:
            self.upcasters.append((name, from_version, upcast))
            return upcast

        return register

    @property
    def events(self) -> tuple[type[Event], ...]:
        """The events of this aggregate."""
        return tuple(self._evolves)

    @property
    def commands(self) -> tuple[type[Command], ...]:
        """The commands of this aggregate."""
        return tuple(self._decides)

    def decide(self, state: S, command: Command, context: Context) -> list[Event]:
        """The events that follow from the command, none where all is so already. Raises the domain's errors."""
        return self._decides[type(command)](state, command, context)

    def evolve(self, state: S, event: Event) -> S:
        """The state after the event."""
        function = self._evolves[type(event)]
        return state if function is None else function(state, event)

    def fold(self, events: Iterable[Event], state: S | None = None) -> S:
        """The state after all ``events``."""
        folded = self.initial if state is None else state
        for event in events:
            folded = self.evolve(folded, event)
        return folded

    def id_of(self, command: Command, context: Context) -> UUID:
        """The id of the aggregate that the command is for."""
        named = self.named_by(command)
        return context.new_id(self.category) if named is None else named

    def named_by(self, command: Command) -> UUID | None:
        """The id of the aggregate that the command names; None where its id is yet to be made."""
        if callable(self._key):
            return self._key(command)
        given: UUID | None = getattr(command, self._key)
        return given

    def stream(self, aggregate_id: UUID) -> str:
        """The name of an aggregate's stream."""
        return f"{self.category}-{aggregate_id}"


def _annotated(function: Callable[..., Any], index: int) -> list[type[Any]]:
    """The classes that the parameter number ``index`` is annotated with."""
    hints = typing.get_type_hints(function)
    name = list(hints)[index] if len(hints) > index else ""
    parameters = function.__code__.co_varnames[: function.__code__.co_argcount]
    annotation = hints[parameters[index]] if len(parameters) > index else hints[name]
    return list(typing.get_args(annotation)) or [annotation]


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
        decided = decider.decide(decider.fold(events), command, context)
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
        events = decider.decide(loaded.fold(decider), command, context)
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
