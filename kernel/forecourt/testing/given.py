"""given / when / then for deciders and projections.

::

    given(order, OrderPlaced(...)).when(CancelOrder(...)).then(OrderCancelled(...))
    given(order).when(CancelOrder(...)).then_raises(NotFound)
    given_rows(customers).when(event, ...).then_row(key, CustomerRow(...))
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from forecourt.access.duties import NOBODY
from forecourt.access.ownership import Ownership
from forecourt.deciders import Command, Context, Decider
from forecourt.errors import AlreadyExists, ForecourtError, NotFound
from forecourt.events import AnyEvent, Event, Recorded
from forecourt.eventstore.port import StoredEvent
from forecourt.projections.projection import Key, Projection

NAMESPACE = UUID("6f0f2c4e-0000-4000-8000-000000000000")
NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
CONTEXT = Context(
    now=NOW,
    command_id=uuid5(NAMESPACE, "command"),
    correlation_id=uuid5(NAMESPACE, "correlation"),
    actor_id="tester",
    dealer_id="D001",
    brand="hongtong",
)


def an_id(label: str) -> UUID:
    """A fixed id for a label: the same in every run."""
    return uuid5(NAMESPACE, label)


@dataclass(frozen=True)
class Given:
    """A decider with history; `when` decides a command on it."""

    decider: Decider[Any]
    events: tuple[Event, ...]
    context: Context = CONTEXT
    predecessor: str = "predecessor"

    def at(self, now: datetime) -> "Given":
        """Decide at another moment."""
        return replace(self, context=replace(self.context, now=now))

    def by(self, actor_id: str, *roles: str) -> "Given":
        """Decide for another actor."""
        return replace(self, context=replace(self.context, actor_id=actor_id, roles=frozenset(roles)))

    def done_by(self, actor_id: str) -> "Given":
        """Say who caused the history; somebody else than who decides, unless said."""
        return replace(self, predecessor=actor_id)

    def when(self, command: Command) -> "Then":
        """Decide the command, under the same rules for missing and existing aggregates as in production."""
        state = self.decider.fold(self.events)
        try:
            if command.creates is True and self.events:
                raise AlreadyExists()
            if not command.creates and not self.events:
                raise NotFound()
            context = replace(self.context, ownership=self._ownership())
            events = tuple(self.decider.decide(state, command, context))
            if events:
                actors = self.decider.duties.after(NOBODY, self.events, self.predecessor)
                self.decider.duties.check(command, self.context.actor_id, actors)
            return Then(events, None)
        except ForecourtError as error:
            return Then((), error)

    def _ownership(self) -> Ownership:
        """Whose the aggregate is after its history, which began at the store that decides."""
        if not self.events:
            return Ownership()
        ownership = Ownership(self.context.dealer_id, self.context.brand)
        for event in self.events:
            ownership = self.decider.ownership.after(ownership, event)
        return ownership


@dataclass(frozen=True)
class Then:
    """What a command led to."""

    events: tuple[Event, ...]
    error: ForecourtError | None

    def then(self, *expected: Event) -> None:
        """Exactly these events followed."""
        assert self.error is None, f"refused: {self.error!r}"
        assert self.events == expected

    def then_types(self, *expected: type[Event]) -> tuple[Event, ...]:
        """Events of exactly these classes followed; answers them for a closer look."""
        assert self.error is None, f"refused: {self.error!r}"
        assert tuple(type(event) for event in self.events) == expected
        return self.events

    def then_nothing(self) -> None:
        """All was so already: no event, no error."""
        self.then()

    def then_raises(self, expected: type[ForecourtError], *, field: str | None = None) -> None:
        """The command was refused with exactly this error, naming ``field`` if given."""
        assert type(self.error) is expected, f"got {self.error!r} and events {self.events}"
        assert field is None or field in self.error.fields


def given(decider: Decider[Any], *events: Event) -> Given:
    """A decider whose aggregate has this history."""
    return Given(decider, events)


def recorded(
    event: AnyEvent,
    *,
    stream_id: UUID,
    sequence: int = 1,
    position: int = 1,
    time: datetime = NOW,
    category: str = "test",
    dealer_id: str = "D001",
    brand: str = "hongtong",
    actor_id: str = "tester",
) -> Recorded[AnyEvent]:
    """An event as a reader gets it, with a made-up envelope."""
    if isinstance(event, Event):
        type_, version = f"test.{event.event_name}", event.event_version
    else:
        type_, version = type(event).event_type, 1
    meta = StoredEvent(
        position,
        f"{category}-{stream_id}",
        sequence,
        uuid5(stream_id, str(sequence)),
        type_,
        version,
        time,
        event.model_dump_json(),
        CONTEXT.correlation_id,
        None,
        dealer_id,
        brand,
        actor_id,
        "{}",
    )
    return Recorded(event, meta)


@dataclass
class ProjectionUnderTest:
    """A projection with rows in memory."""

    projection: Projection[Any]
    rows: dict[Key, Any]

    def when(self, *batch: Recorded[AnyEvent]) -> "ProjectionUnderTest":
        """Fold recorded events (see `recorded`) into the rows."""
        self.projection.fold(self.rows, batch)
        return self

    def then_row(self, key: Any, expected: Any) -> None:
        """The row with this key is exactly ``expected`` (None: there is none)."""
        assert self.rows.get(key if isinstance(key, tuple) else (key,)) == expected

    def then_rows(self, expected: Sequence[Any]) -> None:
        """Exactly these rows are there, in any order."""
        present = [row for row in self.rows.values() if row is not None]
        assert sorted(present, key=repr) == sorted(expected, key=repr)


def given_rows(projection: Projection[Any], *rows: Any) -> ProjectionUnderTest:
    """A projection whose table holds ``rows``."""
    return ProjectionUnderTest(projection, {projection.key_of(row): row for row in rows})


def later(**delta: float) -> datetime:
    """The tests' moment plus a timedelta."""
    return NOW + timedelta(**delta)
