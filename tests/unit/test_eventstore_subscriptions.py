"""How the messages of an EventStoreDB subscription become batches."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from kurrentdbclient import RecordedEvent
from kurrentdbclient.events import CaughtUp, Checkpoint, FellBehind
from kurrentdbclient.exceptions import ConsumerTooSlowError

from forecourt.eventstore.port import Batch, StoredEvent, StoreUnavailable
from forecourt.eventstore.subscriptions import Arrivals, batches
from forecourt.testing.eventstore_samples import TIME

CAUGHT_UP = CaughtUp(0, 0, 0, None)
FELL_BEHIND = FellBehind(0, 0, 0, None)


def event(position: int, size: int = 2) -> RecordedEvent:
    return RecordedEvent(
        type="t",
        data=b"x" * size,
        metadata=b"",
        content_type="",
        id=UUID(int=position),
        stream_name="s",
        stream_position=position,
        commit_position=position,
        prepare_position=position,
    )


def checkpoint(commit: int, prepare: int | None = None) -> Checkpoint:
    return Checkpoint(commit, commit if prepare is None else prepare, None)


def stored(recorded: RecordedEvent) -> StoredEvent:
    return StoredEvent(
        position=recorded.commit_position,
        stream=recorded.stream_name,
        sequence=recorded.stream_position,
        id=recorded.id,
        type=recorded.type,
        version=1,
        time=TIME,
        data=recorded.data.decode(),
        correlation_id=recorded.id,
        causation_id=None,
        dealer_id="",
        brand="",
        actor_id="",
        metadata="{}",
    )


async def source(*steps: RecordedEvent | Exception | None) -> AsyncIterator[RecordedEvent]:
    """Messages; None lets everybody else run, an exception breaks off, the end is silence."""
    for step in steps:
        if isinstance(step, Exception):
            raise step
        if step is None:
            for _ in range(20):
                await asyncio.sleep(0)
        else:
            yield step
    await asyncio.Event().wait()


async def gathered(
    *steps: RecordedEvent | Exception | None, page: int = 100, page_bytes: int = 10_000, end: int = 0
) -> list[tuple[list[int], int, bool]]:
    """What is handed out, as (positions of the events, position, caught up)."""
    async with Arrivals(source(*steps), lambda error: StoreUnavailable(str(error))) as arrivals:
        handed_out = batches(
            arrivals, stored, position=10, end=end, page=page, page_bytes=page_bytes, silence=0.05
        )
        return [_summary(batch) async for batch in handed_out]


def _summary(batch: Batch) -> tuple[list[int], int, bool]:
    return [event.position for event in batch.events], batch.position, batch.caught_up


async def test_what_arrives_together_is_one_batch() -> None:
    assert await gathered(event(11), event(12), event(13), CAUGHT_UP) == [([11, 12, 13], 13, True)]


async def test_live_events_are_not_kept_waiting() -> None:
    assert await gathered(CAUGHT_UP, None, event(11), None, event(12)) == [
        ([], 10, True),
        ([11], 11, True),
        ([12], 12, True),
    ]


async def test_a_full_page_is_handed_out() -> None:
    assert await gathered(*map(event, range(11, 16)), CAUGHT_UP, page=2) == [
        ([11, 12], 12, False),
        ([13, 14], 14, False),
        ([15], 15, True),
    ]


async def test_a_page_of_large_events_is_handed_out_sooner() -> None:
    assert await gathered(event(11, 60), event(12, 60), event(13, 60), CAUGHT_UP, page_bytes=100) == [
        ([11, 12], 12, False),
        ([13], 13, True),
    ]


async def test_an_unfinished_page_is_handed_out_when_nothing_follows() -> None:
    assert await gathered(event(11)) == [([11], 11, False)]


async def test_checkpoints_move_the_position() -> None:
    assert await gathered(event(11), checkpoint(40), CAUGHT_UP, None, checkpoint(90)) == [
        ([11], 40, True),
        ([], 90, True),
    ]


async def test_a_checkpoint_that_may_name_the_next_record_is_not_used() -> None:
    assert await gathered(event(11), checkpoint(40, prepare=0), CAUGHT_UP) == [([11], 11, True)]


async def test_a_checkpoint_never_moves_the_position_back() -> None:
    assert await gathered(event(30), checkpoint(20), CAUGHT_UP) == [([30], 30, True)]


async def test_reaching_the_end_moves_the_position_to_where_the_end_was() -> None:
    assert await gathered(event(11), CAUGHT_UP, end=70) == [([11], 70, True)]


async def test_the_known_end_does_not_move_the_position_before_it_is_reached() -> None:
    assert await gathered(event(11), end=70) == [([11], 11, False)]


async def test_a_subscriber_that_fell_behind_is_not_caught_up_until_it_is_told() -> None:
    assert await gathered(CAUGHT_UP, None, FELL_BEHIND, event(11), event(12), page=1) == [
        ([], 10, True),
        ([11], 11, False),
        ([12], 12, False),
    ]


async def test_what_came_before_the_break_is_handed_out() -> None:
    broken = source(event(11), event(12), None, ConsumerTooSlowError("too slow"))
    async with Arrivals(broken, lambda error: StoreUnavailable(str(error))) as arrivals:
        handed_out = batches(arrivals, stored, position=10, end=0, page=9, page_bytes=99, silence=5)
        assert _summary(await anext(handed_out)) == ([11, 12], 12, False)
        with pytest.raises(StoreUnavailable, match="too slow"):
            await anext(handed_out)


async def test_leaving_while_the_queue_is_full_does_not_hang() -> None:
    async with asyncio.timeout(5):
        async with Arrivals(source(*map(event, range(500))), lambda error: StoreUnavailable(str(error))):
            await asyncio.sleep(0.01)
