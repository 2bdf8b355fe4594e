"""Cases of the conformance suite: reading a stream, reading all, the head."""

import asyncio
from datetime import UTC, datetime

import pytest

from forecourt.eventstore.port import AppendResult, EventStore, age_after
from forecourt.testing.eventstore_samples import (
    all_batches,
    events_of,
    new_category,
    new_event,
    new_events,
    new_stream,
    stream_events,
)

CANCELLATIONS = 60
PATIENCE = 10.0


async def _interleaved(store: EventStore, categories: list[str], rounds: int) -> list[AppendResult]:
    """One stream in each category, and events in all of them by turns."""
    streams = [new_stream(category) for category in categories]
    return [
        await store.append(stream, [new_event()], expected=sequence)
        for sequence in range(rounds)
        for stream in streams
    ]


class ReadCases:
    """What readers see."""

    async def test_an_unknown_stream_has_no_pages(self, store: EventStore) -> None:
        assert [page async for page in store.read_stream(new_stream(new_category()))] == []

    @pytest.mark.parametrize(
        ("count", "page", "sizes"),
        [(1, 1, [1]), (4, 2, [2, 2]), (5, 2, [2, 2, 1]), (5, 5, [5]), (5, 6, [5]), (6, 5, [5, 1])],
    )
    async def test_a_stream_is_read_in_pages(
        self, store: EventStore, count: int, page: int, sizes: list[int]
    ) -> None:
        stream = new_stream(new_category())
        await store.append(stream, new_events(count), expected=0)
        pages = [events async for events in store.read_stream(stream, page=page)]
        assert [len(events) for events in pages] == sizes
        assert [event.sequence for events in pages for event in events] == list(range(1, count + 1))

    @pytest.mark.parametrize("after", [0, 1, 4, 5, 6, 1_000_000])
    async def test_a_stream_is_read_after_a_sequence(self, store: EventStore, after: int) -> None:
        stream = new_stream(new_category())
        await store.append(stream, new_events(5), expected=0)
        found = await stream_events(store, stream, after=after, page=2)
        assert [event.sequence for event in found] == list(range(after + 1, 6))

    async def test_reading_can_be_given_up_at_any_time(self, store: EventStore) -> None:
        stream = new_stream(new_category())
        await store.append(stream, new_events(50), expected=0)
        async for events in store.read_stream(stream, page=1):
            assert events[0].sequence == 1
            break
        assert len(await stream_events(store, stream)) == 50

    async def test_a_reader_ends_when_it_is_cancelled_at_any_moment(self, store: EventStore) -> None:
        """Also while it lets go of what it fetched ahead: a cancellation that is swallowed there ends nobody."""
        after = await store.head()
        await store.append(new_stream(new_category()), new_events(6), expected=0)

        async def look() -> None:
            while True:
                await age_after(store, after, None, datetime.now(UTC))
                await asyncio.sleep(0)  # a store in memory never waits

        for moment in range(CANCELLATIONS):
            task = asyncio.create_task(look())
            await asyncio.sleep(0.0004 * moment)
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)
            assert task.cancelled(), f"still reads, cancelled at moment {moment}"

    async def test_all_streams_are_read_in_the_order_of_their_appends(self, store: EventStore) -> None:
        start, categories = await store.head(), [new_category(), new_category(), new_category()]
        results = await _interleaved(store, categories, 4)
        batches = [batch async for batch in store.read_all(after=start)]
        ours = [event for event in events_of(batches) if event.category in categories]
        assert [event.position for event in ours] == [result.position for result in results]
        assert [batch.caught_up for batch in batches] == [False] * (len(batches) - 1) + [True]

    async def test_reading_all_from_the_beginning_finds_the_same(self, store: EventStore) -> None:
        category = new_category()
        await store.append(new_stream(category), new_events(3), expected=0)
        assert len(events_of(await all_batches(store, category))) == 3

    async def test_categories_filter(self, store: EventStore) -> None:
        start, first, second, third = await store.head(), new_category(), new_category(), new_category()
        await _interleaved(store, [first, second, third], 3)
        found = events_of(await all_batches(store, [first, third], after=start))
        assert [event.category for event in found] == [first, third] * 3
        assert [event.category for event in events_of(await all_batches(store, second, after=start))] == [
            second
        ] * 3

    async def test_a_category_is_not_matched_by_its_beginning(self, store: EventStore) -> None:
        start, short = await store.head(), new_category()
        await _interleaved(store, [short, f"{short}_more", f"more_{short}"], 1)
        assert len(events_of(await all_batches(store, short, after=start))) == 1

    async def test_no_category_at_all_matches_nothing(self, store: EventStore) -> None:
        start = await store.head()
        await _interleaved(store, [new_category()], 2)
        assert events_of(await all_batches(store, [], after=start)) == []

    @pytest.mark.parametrize(("count", "page"), [(1, 1), (4, 2), (5, 2), (5, 5), (5, 6)])
    async def test_all_is_read_in_pages(self, store: EventStore, count: int, page: int) -> None:
        start, category = await store.head(), new_category()
        await store.append(new_stream(category), new_events(count), expected=0)
        batches = await all_batches(store, category, after=start, page=page)
        assert all(len(batch.events) <= page for batch in batches)
        assert len(events_of(batches)) == count
        assert batches[-1].caught_up

    async def test_the_checkpoint_goes_beyond_filtered_events(self, store: EventStore) -> None:
        start, wanted, other = await store.head(), new_category(), new_category()
        await _interleaved(store, [wanted], 2)
        [*_, last] = await _interleaved(store, [other], 40)
        batches = await all_batches(store, wanted, after=start)
        assert len(events_of(batches)) == 2
        assert batches[-1].position >= last.position

    async def test_going_on_from_any_checkpoint_neither_skips_nor_repeats(self, store: EventStore) -> None:
        start, wanted, other = await store.head(), new_category(), new_category()
        await _interleaved(store, [wanted, other, other], 7)
        batches = await all_batches(store, wanted, after=start, page=2)
        for index, batch in enumerate(batches):
            rest = events_of(await all_batches(store, wanted, after=batch.position, page=3))
            assert rest == events_of(batches[index + 1 :])

    async def test_at_the_end_there_is_one_empty_batch(self, store: EventStore) -> None:
        await _interleaved(store, [new_category()], 1)
        head = await store.head()
        [batch] = [batch async for batch in store.read_all(after=head)]
        assert (batch.events, batch.position, batch.caught_up) == ([], head, True)

    async def test_an_unused_category_gives_one_empty_batch_at_the_end(self, store: EventStore) -> None:
        await _interleaved(store, [new_category()], 3)
        batches = await all_batches(store, new_category())
        assert events_of(batches) == []
        assert batches[-1].caught_up
        assert batches[-1].position >= await store.head()

    async def test_the_head_is_the_position_of_the_last_event(self, store: EventStore) -> None:
        for result in await _interleaved(store, [new_category(), new_category()], 1):
            last = result
        assert await store.head() == last.position
