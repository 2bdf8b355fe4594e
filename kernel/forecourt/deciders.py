"""Deciders: the pure heart of an aggregate.

A `Decider` collects the pure functions of one aggregate: ``decides`` turns a state and a command into events,
``evolves`` folds an event into the state. `forecourt.command_handler` does the rest: load, decide, append.
"""

import typing
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, Generic, Literal, TypeVar
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict

from forecourt.access.duties import Duties
from forecourt.access.ownership import Ownership, OwnershipRules
from forecourt.access.scope import UNRESTRICTED, Scope
from forecourt.events import Event
from forecourt.registry import RegistryError, Upcaster

S = TypeVar("S")
C = TypeVar("C", bound="Command")
F = TypeVar("F", bound=Callable[..., Any])

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
    (`forecourt.audit.entries.provenance`). ``ownership`` says whose the aggregate is, nobody's before its first event;
    the command handler fills it in.
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
    ownership: Ownership = Ownership()

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


class Decider(Generic[S]):
    """The pure functions of one aggregate.

    ``category`` names its streams; ``initial`` is the state before the first event; ``key`` is the field of
    every command that holds the aggregate's id, or a function that derives the id from the command. A
    ``creates`` command whose key field is None is given an id derived from its command id. ``ownership`` says
    which events change whose the aggregate is; ``every_brand`` why its brand limits nobody, where that is so;
    ``duties`` which commands need another person than the events before them. ``distinct_from`` names the categories
    whose ids an aggregate may not take: a person's key goes by the id alone, and two must not share one.
    """

    def __init__(
        self,
        *,
        service: str,
        category: str,
        initial: S,
        key: str | Callable[[Any], UUID],
        every_brand: str = "",
        distinct_from: Collection[str] = (),
    ) -> None:
        self.service = service
        self.category = category
        self.distinct_from = tuple(distinct_from)
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
