"""The event store in memory, for unit tests: all rules of the port, nothing kept when the process ends."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC

from forecourt.eventstore.port import (
    PAGE,
    Append,
    AppendResult,
    Batch,
    NewEvent,
    StoredEvent,
    StoreUnavailable,
    WrongExpectedVersion,
    check_append,
)


class MemoryLog:
    """What is stored. Several `MemoryEventStore` on one log behave like several clients of one server."""

    def __init__(self) -> None:
        self.events: list[StoredEvent] = []
        self.streams: dict[str, list[StoredEvent]] = {}
        self._waiting: set[asyncio.Event] = set()

    def add(self, stream: str, new: Sequence[NewEvent]) -> None:
        """Store events at the end of a stream and wake who waits. A position is the event's place, from 1."""
        stored = self.streams.setdefault(stream, [])
        for event in new:
            record = _stored(stream, event, position=len(self.events) + 1, sequence=len(stored) + 1)
            self.events.append(record)
            stored.append(record)
        for waiting in self._waiting:
            waiting.set()

    async def grown(self, position: int) -> None:
        """Wait until there is an event above ``position``."""
        waiting = asyncio.Event()
        self._waiting.add(waiting)
        try:
            while len(self.events) <= position:
                await waiting.wait()
                waiting.clear()
        finally:
            self._waiting.discard(waiting)


class MemoryEventStore:
    """`forecourt.eventstore.port.EventStore` on a `MemoryLog`, by default one of its own."""

    def __init__(self, log: MemoryLog | None = None) -> None:
        self._log = log or MemoryLog()
        self._closed = False

    async def append(self, stream: str, events: Sequence[NewEvent], *, expected: int) -> AppendResult:
        """See the port. Raises `WrongExpectedVersion`, `InvalidAppend`, or `StoreUnavailable` when closed."""
        check_append(stream, events, expected)
        if self._closed:
            raise StoreUnavailable("the event store is closed")
        stored = self._log.streams.get(stream, [])
        if expected != len(stored):
            present = stored[expected : expected + len(events)]
            if [event.id for event in present] != [event.id for event in events]:
                raise WrongExpectedVersion(stream, expected, len(stored))
            return AppendResult(present[-1].sequence, present[-1].position)
        self._log.add(stream, events)
        last = self._log.events[-1]
        return AppendResult(last.sequence, last.position)

    async def append_many(self, appends: Sequence[Append]) -> list[AppendResult | WrongExpectedVersion]:
        """See the port."""
        for stream, events, expected in appends:
            check_append(stream, events, expected)
        results: list[AppendResult | WrongExpectedVersion] = []
        for stream, events, expected in appends:
            try:
                results.append(await self.append(stream, events, expected=expected))
            except WrongExpectedVersion as conflict:
                results.append(conflict)
        return results

    async def read_stream(
        self, stream: str, *, after: int = 0, page: int = 500
    ) -> AsyncIterator[list[StoredEvent]]:
        """See the port."""
        stored = self._log.streams.get(stream, [])
        for start in range(after, len(stored), page):
            yield stored[start : start + page]

    async def read_all(
        self, *, after: int = 0, categories: Collection[str] | None = None, page: int = PAGE
    ) -> AsyncIterator[Batch]:
        """See the port."""
        end = len(self._log.events)
        while True:
            batch = self._batch(after, end, categories, page)
            yield batch
            if batch.caught_up:
                return
            after = batch.position

    async def subscribe(
        self, *, after: int = 0, categories: Collection[str] | None = None, page: int = PAGE
    ) -> AsyncIterator[Batch]:
        """See the port. There is no server that could restart."""
        while True:
            batch = self._batch(after, len(self._log.events), categories, page)
            yield batch
            after = batch.position
            if batch.caught_up:
                await self._log.grown(after)

    async def head(self) -> int:
        """See the port."""
        return len(self._log.events)

    async def close(self) -> None:
        """See the port."""
        self._closed = True

    def _batch(self, after: int, end: int, categories: Collection[str] | None, page: int) -> Batch:
        events: list[StoredEvent] = []
        position = after
        while position < end and len(events) < page:
            event = self._log.events[position]
            if categories is None or event.category in categories:
                events.append(event)
            position += 1
        return Batch(events, position, caught_up=position >= end)


def _stored(stream: str, event: NewEvent, *, position: int, sequence: int) -> StoredEvent:
    return StoredEvent(
        position=position,
        stream=stream,
        sequence=sequence,
        id=event.id,
        type=event.type,
        version=event.version,
        time=event.time.astimezone(UTC),
        data=event.data,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        dealer_id=event.dealer_id,
        brand=event.brand,
        actor_id=event.actor_id,
        metadata=event.metadata,
    )
