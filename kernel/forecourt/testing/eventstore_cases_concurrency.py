"""Cases of the conformance suite: many writers, in one process and in several; and anything in any order."""

import asyncio
import sys
from collections import defaultdict

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from forecourt.eventstore.port import AppendResult, EventStore, StoredEvent, WrongExpectedVersion
from forecourt.testing.eventstore_cases_subscribe import following
from forecourt.testing.eventstore_model import EventStoreMachine
from forecourt.testing.eventstore_samples import (
    all_batches,
    append_with_retry,
    events_of,
    new_category,
    new_event,
    new_events,
    new_stream,
    stream_events,
)
from forecourt.testing.eventstore_servers import EventStoreServer

PROCESSES = 3
STREAMS = 8
EVENTS = 60
"""Events that each process writes to each stream."""

MODEL_SETTINGS = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


async def _one_winner(store: EventStore, clients: list[EventStore], stream: str, expected: int) -> None:
    bids = [new_events(2) for _ in clients]
    answers = await asyncio.gather(
        *(client.append(stream, bid, expected=expected) for client, bid in zip(clients, bids, strict=True)),
        return_exceptions=True,
    )
    winners = [bid for bid, answer in zip(bids, answers, strict=True) if isinstance(answer, AppendResult)]
    losers = [answer for answer in answers if isinstance(answer, WrongExpectedVersion)]
    assert (len(winners), len(losers)) == (1, len(clients) - 1)
    assert {loser.actual for loser in losers} == {expected + 2}
    stored = await stream_events(store, stream, after=expected)
    assert [event.id for event in stored] == [event.id for event in winners[0]]


def _check_streams(events: list[StoredEvent], streams: list[str], count: int) -> None:
    """Every stream complete and in order, positions only growing, no event twice."""
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))
    assert len({event.id for event in events}) == len(events)
    sequences: dict[str, list[int]] = defaultdict(list)
    for event in events:
        sequences[event.stream].append(event.sequence)
    assert sequences == {stream: list(range(1, count + 1)) for stream in streams}


class ConcurrencyCases:
    """What holds when many write at once."""

    async def test_of_two_concurrent_writers_exactly_one_wins(
        self, store: EventStore, server: EventStoreServer
    ) -> None:
        other = await server.open()
        for _ in range(10):
            stream = new_stream(new_category())
            for expected in (0, 2, 4):
                await _one_winner(store, [store, other], stream, expected)
        await other.close()

    async def test_of_many_concurrent_writers_exactly_one_wins(
        self, store: EventStore, server: EventStoreServer
    ) -> None:
        clients = [await server.open() for _ in range(4)]
        stream = new_stream(new_category())
        for expected in range(0, 10, 2):
            await _one_winner(store, clients * 4, stream, expected)
        for client in clients:
            await client.close()

    async def test_a_conflict_in_one_stream_does_not_touch_the_others(self, store: EventStore) -> None:
        category = new_category()
        contested, free = new_stream(category), [new_stream(category) for _ in range(30)]
        answers = await asyncio.gather(
            *(
                store.append(stream, new_events(2), expected=0)
                for stream in (*free[:15], contested, *free[15:])
            ),
            *(store.append(contested, new_events(3), expected=0) for _ in range(5)),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, AppendResult) for answer in answers) == len(free) + 1
        assert sum(isinstance(answer, WrongExpectedVersion) for answer in answers) == 5
        for stream in free:
            assert len(await stream_events(store, stream)) == 2

    async def test_writers_that_try_again_all_get_in(self, store: EventStore) -> None:
        stream, count = new_stream(new_category()), 40
        results = await asyncio.gather(
            *(append_with_retry(store, stream, [new_event()]) for _ in range(count))
        )
        assert sorted(result.sequence for result in results) == list(range(1, count + 1))
        stored = await stream_events(store, stream)
        assert [event.sequence for event in stored] == list(range(1, count + 1))

    async def test_many_callers_are_all_answered(self, store: EventStore) -> None:
        start, category, count = await store.head(), new_category(), 500
        streams = [new_stream(category) for _ in range(count)]
        results = await asyncio.gather(
            *(store.append(stream, [new_event()], expected=0) for stream in streams)
        )
        found = events_of(await all_batches(store, category, after=start))
        assert {event.stream: event.position for event in found} == {
            stream: result.position for stream, result in zip(streams, results, strict=True)
        }

    async def test_a_tailing_reader_misses_nothing_while_several_processes_write(
        self, store: EventStore, server: EventStoreServer
    ) -> None:
        if server.url is None:
            pytest.skip("this store lives in one process")
        start, category = await store.head(), new_category()
        shared = [new_stream(category) for _ in range(STREAMS // 2)]
        own = [[new_stream(category) for _ in range(STREAMS // 2)] for _ in range(PROCESSES)]
        async with following(store, start, category, page=100) as follower:
            writers = [
                await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "forecourt.testing.eventstore_writer"),
                    *(server.url, str(EVENTS), *shared, *streams),
                )
                for streams in own
            ]
            polled = await _poll_until_exit(store, start, category, writers)
            assert [writer.returncode for writer in writers] == [0] * PROCESSES
            total = (STREAMS // 2) * EVENTS * PROCESSES * 2
            followed = await follower.until_events(total)
        assert polled == followed
        of_shared = [event for event in followed if event.stream in shared]
        of_own = [event for event in followed if event.stream not in shared]
        _check_streams(of_shared, shared, EVENTS * PROCESSES)
        _check_streams(of_own, [stream for streams in own for stream in streams], EVENTS)

    def test_any_sequence_of_steps_does_what_the_model_does(self, server: EventStoreServer) -> None:
        machine = type("Machine", (EventStoreMachine,), {"server": server})
        run_state_machine_as_test(machine, settings=MODEL_SETTINGS)


async def _poll_until_exit(
    store: EventStore, position: int, category: str, writers: list[asyncio.subprocess.Process]
) -> list[StoredEvent]:
    """Read on and on from the last checkpoint, until the writers have ended and everything is read."""
    found: list[StoredEvent] = []
    ended = asyncio.gather(*(writer.wait() for writer in writers))
    while True:
        last = ended.done()
        for batch in await all_batches(store, category, after=position):
            found.extend(batch.events)
            position = batch.position
        if last:
            return found
        await asyncio.sleep(0.02)
