"""The event store's port: what every adapter does, and the raw records that cross it.

An adapter stores bytes, not meaning: names, versions and upcasting belong to `forecourt.registry`.

Rules that the conformance suite (`forecourt.testing.eventstore_suite`) holds every adapter to:

* A stream is named ``<category>-<uuid>``; a category has letters, digits and underscores only.
* The first event of a stream has sequence 1; ``expected=0`` means "the stream does not exist yet".
* An append names the exact sequence of the stream's last event; anything else raises `WrongExpectedVersion`.
* An append of several events is all or nothing.
* The same events (by id) appended again after the same ``expected`` answer the first result and store nothing.
* Positions are integers that only grow; a reader that has seen position p will never see a new event at or
  below p. Within a stream positions follow the sequence.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

from forecourt.errors import ForecourtError, InvalidInput, Unavailable

MAX_EVENT_BYTES = 1_000_000
"""Largest ``data`` plus ``metadata`` of one event, in UTF-8 bytes (EventStoreDB's default limit is 1 MiB)."""

MAX_APPEND_EVENTS = 500
"""Most events that one append may hold."""

PAGE = 5_000
"""Default number of events in one page of a bulk read."""

_STREAM = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class NewEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it is handed to the store. ``data`` and ``metadata`` are JSON objects as text."""

    id: UUID
    type: str
    version: int
    time: datetime
    data: str
    correlation_id: UUID
    causation_id: UUID | None = None
    dealer_id: str = ""
    brand: str = ""
    actor_id: str = ""
    metadata: str = "{}"


class StoredEvent(msgspec.Struct, frozen=True):
    """An event as it is read back: everything of `NewEvent`, plus where it stands."""

    position: int
    stream: str
    sequence: int
    id: UUID
    type: str
    version: int
    time: datetime
    data: str
    correlation_id: UUID
    causation_id: UUID | None
    dealer_id: str
    brand: str
    actor_id: str
    metadata: str

    @property
    def category(self) -> str:
        """The part of the stream's name before the hyphen."""
        return self.stream.partition("-")[0]

    @property
    def stream_id(self) -> UUID:
        """The id of the aggregate that the stream belongs to."""
        return UUID(self.stream.partition("-")[2])


class Append(NamedTuple):
    """One of several appends that are sent together."""

    stream: str
    events: Sequence[NewEvent]
    expected: int


class AppendResult(msgspec.Struct, frozen=True):
    """Where the last event of an append stands."""

    sequence: int
    position: int


class Batch(msgspec.Struct, frozen=True):
    """What a subscription hands out: events in order, and the position up to which nothing is missing.

    ``position`` may lie past the last event (others were filtered out): it is safe as a checkpoint.
    ``caught_up`` says that the store held nothing newer when the batch was read.
    """

    events: list[StoredEvent]
    position: int
    caught_up: bool


class WrongExpectedVersion(ForecourtError):
    """The stream is not where the append expected it; ``actual`` is its last sequence (0: no stream)."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"stream {stream} is at version {actual}, expected {expected}")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class InvalidAppend(InvalidInput):
    """An append breaks a rule of the port: name, number or size."""


class StoreUnavailable(Unavailable):
    """The event store does not answer, or broke off; the outcome of an append is then unknown."""


class EventStore(Protocol):
    """An append-only store of event streams with one global order."""

    async def append(self, stream: str, events: Sequence[NewEvent], *, expected: int) -> AppendResult:
        """Append ``events`` after exactly sequence ``expected``.

        Raises `WrongExpectedVersion`, `InvalidAppend` or `StoreUnavailable`.
        """

    async def append_many(self, appends: Sequence[Append]) -> list[AppendResult | WrongExpectedVersion]:
        """Several appends in as few round trips as the store allows, each on its own: one may fail alone.

        Answers one result or conflict for each, in their order. Raises `InvalidAppend` before anything is stored,
        and `StoreUnavailable`, where some may be stored and others not.
        """

    def read_stream(
        self, stream: str, *, after: int = 0, page: int = 500
    ) -> AsyncIterator[list[StoredEvent]]:
        """Pages of a stream's events with a sequence above ``after``; no page at all where there are none."""

    def read_all(
        self, *, after: int = 0, categories: Collection[str] | None = None, page: int = PAGE
    ) -> AsyncIterator[Batch]:
        """Batches of all events with a position above ``after``, in order, up to the present end.

        The last batch has ``caught_up`` set (it may be empty). ``categories`` limits the streams.
        """

    def subscribe(
        self, *, after: int = 0, categories: Collection[str] | None = None, page: int = PAGE
    ) -> AsyncIterator[Batch]:
        """Like `read_all`, and then goes on with what is appended later, without end.

        Survives a restart of the server: reconnects by itself and goes on after the last batch handed out.
        Yields an empty caught-up batch when it first reaches the end, so that a follower knows.
        """

    async def head(self) -> int:
        """The position of the last event in the store, 0 when there is none."""

    async def close(self) -> None:
        """Let go of connections; appends under way are finished first."""


async def age_after(
    store: EventStore, position: int, categories: Collection[str] | None, now: datetime
) -> float:
    """Seconds since the first event above ``position``, 0 where there is none."""
    batches = store.read_all(after=position, categories=categories, page=1)
    try:
        async for batch in batches:
            if batch.events:
                return max(0.0, (now - batch.events[0].time).total_seconds())
        return 0.0
    finally:
        await close_batches(batches)


async def close_batches(batches: AsyncIterator[Batch]) -> None:
    """Let go of batches that are not read to their end: what was fetched ahead is given up now, not when collected."""
    if isinstance(batches, AsyncGenerator):
        await batches.aclose()


def check_append(stream: str, events: Sequence[NewEvent], expected: int) -> None:
    """Raise `InvalidAppend`, naming the field, where an append breaks a rule of the port."""
    if not _STREAM.fullmatch(stream):
        raise _invalid("stream", f"must be <category>-<uuid>, is {stream[:80]!r}")
    if expected < 0:
        raise _invalid("expected", "must be 0 or the sequence of the stream's last event")
    if not 1 <= len(events) <= MAX_APPEND_EVENTS:
        raise _invalid("events", f"must be 1 to {MAX_APPEND_EVENTS}, are {len(events)}")
    for index, event in enumerate(events):
        _check_event(f"events[{index}]", event)
    if len(events) > 1 and len({event.id for event in events}) != len(events):
        raise _invalid("events", "event ids must differ")


def _check_event(path: str, event: NewEvent) -> None:
    # len() counts code points, of at most four bytes each: only what may be too large is encoded to be sure.
    length = len(event.data) + len(event.metadata)
    if length * 4 > MAX_EVENT_BYTES:
        size = len(event.data.encode()) + len(event.metadata.encode())
        if size > MAX_EVENT_BYTES:
            raise _invalid(f"{path}.data", f"must be at most {MAX_EVENT_BYTES} bytes, has {size}")
    if "\\u0000" in event.data:
        raise _invalid(f"{path}.data", "must not hold the character U+0000")
    if not event.type or len(event.type) > 200:
        raise _invalid(f"{path}.type", "must have 1 to 200 characters")
    if event.time.tzinfo is None:
        raise _invalid(f"{path}.time", "must be aware, in UTC")


def _invalid(field: str, reason: str) -> InvalidAppend:
    return InvalidAppend(f"{field}: {reason}", fields={field: reason})
