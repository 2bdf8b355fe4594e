"""Events and small helpers for tests of event stores."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

from forecourt.eventstore.port import (
    AppendResult,
    Batch,
    EventStore,
    NewEvent,
    StoredEvent,
    WrongExpectedVersion,
)

TIME = datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)


def new_category() -> str:
    """A category that nobody else uses: a store may be shared, and hold the events of earlier runs."""
    return f"suite_{uuid4().hex[:12]}"


def new_stream(category: str) -> str:
    """A stream that does not exist yet."""
    return f"{category}-{uuid4()}"


def new_event(data: str = '{"n":1}', *, event_id: UUID | None = None) -> NewEvent:
    """An event with unremarkable values in all fields but those given."""
    return NewEvent(
        id=event_id or uuid4(),
        type="suite.Happened",
        version=1,
        time=TIME,
        data=data,
        correlation_id=UUID(int=7),
    )


def new_events(count: int) -> list[NewEvent]:
    """Several events, numbered in their data."""
    return [new_event(f'{{"n":{number}}}') for number in range(1, count + 1)]


async def stream_events(
    store: EventStore, stream: str, *, after: int = 0, page: int = 500
) -> list[StoredEvent]:
    """All events of a stream after a sequence."""
    return [event async for events in store.read_stream(stream, after=after, page=page) for event in events]


async def all_batches(
    store: EventStore, category: str | Sequence[str], *, after: int = 0, page: int = 5_000
) -> list[Batch]:
    """All batches of one or several categories after a position."""
    categories = [category] if isinstance(category, str) else list(category)
    return [batch async for batch in store.read_all(after=after, categories=categories, page=page)]


def events_of(batches: Sequence[Batch]) -> list[StoredEvent]:
    """The events of all batches, in order."""
    return [event for batch in batches for event in batch.events]


async def append_with_retry(store: EventStore, stream: str, events: Sequence[NewEvent]) -> AppendResult:
    """Append at the stream's end, wherever that is by then."""
    expected = 0
    while True:
        try:
            return await store.append(stream, events, expected=expected)
        except WrongExpectedVersion as error:
            expected = error.actual
