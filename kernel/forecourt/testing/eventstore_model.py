"""A model of an event store, and a state machine that compares a real one with it, step by step."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from forecourt.eventstore.port import AppendResult, NewEvent, StoredEvent, WrongExpectedVersion
from forecourt.testing.eventstore_samples import (
    all_batches,
    events_of,
    new_category,
    new_events,
    new_stream,
    stream_events,
)
from forecourt.testing.eventstore_servers import EventStoreServer

T = TypeVar("T")

STREAMS_PER_CATEGORY = 2


class EventStoreMachine(RuleBasedStateMachine):
    """Appends, repeats, conflicts and reads in any order. Subclasses name the ``server``."""

    server: EventStoreServer

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = self.run(self.server.open())
        self.categories: list[str] = []
        self.streams: dict[str, list[UUID]] = {}
        self.order: list[tuple[str, UUID]] = []
        self.appends: list[tuple[str, list[NewEvent], int, AppendResult]] = []
        self.start = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()

    @initialize()
    def begin(self) -> None:
        self.categories = [new_category(), new_category()]
        names = [new_stream(category) for category in self.categories for _ in range(STREAMS_PER_CATEGORY)]
        self.streams = {name: [] for name in names}
        self.start = self.run(self.store.head())

    @rule(number=st.integers(0, 3), count=st.integers(1, 4), off=st.sampled_from([0, 0, 0, -2, -1, 1]))
    def append(self, number: int, count: int, off: int) -> None:
        stream = list(self.streams)[number]
        present = self.streams[stream]
        expected = max(len(present) + off, 0)
        events = new_events(count)
        if expected != len(present):
            with pytest.raises(WrongExpectedVersion) as refusal:
                self.run(self.store.append(stream, events, expected=expected))
            assert refusal.value.actual == len(present)
            return
        result = self.run(self.store.append(stream, events, expected=expected))
        assert result.sequence == len(present) + count
        assert self.run(self.store.head()) >= result.position
        present.extend(event.id for event in events)
        self.order.extend((stream, event.id) for event in events)
        self.appends.append((stream, events, expected, result))

    @rule(choice=st.integers(0, 1_000))
    def repeat(self, choice: int) -> None:
        if self.appends:
            stream, events, expected, first = self.appends[choice % len(self.appends)]
            assert self.run(self.store.append(stream, events, expected=expected)) == first

    @rule(number=st.integers(0, 3), after=st.integers(0, 12), page=st.integers(1, 5))
    def read_stream(self, number: int, after: int, page: int) -> None:
        stream = list(self.streams)[number]
        found = self.run(stream_events(self.store, stream, after=after, page=page))
        present = self.streams[stream]
        assert [event.id for event in found] == present[after:]
        assert [event.sequence for event in found] == list(range(after + 1, len(present) + 1))

    @rule(which=st.sampled_from([(0,), (1,), (0, 1)]), page=st.integers(1, 5), choice=st.integers(0, 1_000))
    def read_all(self, which: tuple[int, ...], page: int, choice: int) -> None:
        categories = [self.categories[index] for index in which]
        batches = self.run(all_batches(self.store, categories, after=self.start, page=page))
        expected = [event_id for stream, event_id in self.order if stream.partition("-")[0] in categories]
        assert [event.id for event in events_of(batches)] == expected
        # Going on from the checkpoint of any batch finds exactly what comes after that batch.
        index = choice % len(batches)
        again = self.run(all_batches(self.store, categories, after=batches[index].position, page=page))
        assert events_of(again) == events_of(batches[index + 1 :])

    @invariant()
    def positions_follow_the_order(self) -> None:
        if self.categories:
            found: list[StoredEvent] = events_of(
                self.run(all_batches(self.store, self.categories, after=self.start))
            )
            positions = [event.position for event in found]
            assert positions == sorted(set(positions))
            assert [(event.stream, event.id) for event in found] == self.order
