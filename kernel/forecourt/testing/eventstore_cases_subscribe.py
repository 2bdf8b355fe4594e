"""Cases of the conformance suite: subscriptions."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager

import pytest

from forecourt.eventstore.port import Batch, EventStore, StoredEvent
from forecourt.testing.eventstore_samples import new_category, new_event, new_events, new_stream
from forecourt.testing.eventstore_servers import EventStoreServer

PATIENCE = 30.0
"""Seconds to wait for what must come."""

CANCELLATIONS = 40


class Follower:
    """Collects what a subscription hands out."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._changed = asyncio.Condition()

    @property
    def events(self) -> list[StoredEvent]:
        """All events so far."""
        return [event for batch in self.batches for event in batch.events]

    async def follow(
        self, store: EventStore, after: int, categories: Collection[str] | None, page: int
    ) -> None:
        """Collect without end."""
        async with aclosing(store.subscribe(after=after, categories=categories, page=page)) as batches:  # type: ignore[type-var]  # the port says AsyncIterator, every adapter has a generator
            async for batch in batches:
                async with self._changed:
                    self.batches.append(batch)
                    self._changed.notify_all()

    async def until_events(self, count: int) -> list[StoredEvent]:
        """Wait for that many events in all."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.events) >= count)
        return self.events

    async def until_batches(self, count: int) -> None:
        """Wait for that many batches in all."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.batches) >= count)

    async def until_caught_up(self) -> Batch:
        """Wait for a batch that says it reached the end."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: any(batch.caught_up for batch in self.batches))
        return next(batch for batch in self.batches if batch.caught_up)


@asynccontextmanager
async def following(
    store: EventStore, after: int, *categories: str, page: int = 5_000
) -> AsyncIterator[Follower]:
    """A follower at work."""
    follower = Follower()
    task = asyncio.create_task(follower.follow(store, after, categories or None, page))
    try:
        yield follower
        if task.done():
            await task
    finally:
        task.cancel()
        await asyncio.wait([task])


def _check_order(events: list[StoredEvent]) -> None:
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))


class SubscribeCases:
    """What a subscription hands out, and when."""

    async def test_a_subscriber_ends_when_it_is_cancelled_at_any_moment(self, store: EventStore) -> None:
        after = await store.head()
        await store.append(new_stream(new_category()), new_events(6), expected=0)
        for moment in range(CANCELLATIONS):
            task = asyncio.create_task(Follower().follow(store, after, None, 2))
            await asyncio.sleep(0.001 * moment)
            task.cancel()
            await asyncio.wait([task], timeout=PATIENCE)
            assert task.cancelled(), f"still follows, cancelled at moment {moment}"

    async def test_it_hands_out_what_is_there_and_then_what_comes(self, store: EventStore) -> None:
        start, category = await store.head(), new_category()
        stream = new_stream(category)
        await store.append(stream, new_events(3), expected=0)
        async with following(store, start, category) as follower:
            await follower.until_events(3)
            await follower.until_caught_up()
            for sequence in range(3, 10):
                await store.append(stream, [new_event()], expected=sequence)
            events = await follower.until_events(10)
        assert [event.sequence for event in events] == list(range(1, 11))
        _check_order(events)

    async def test_it_says_so_when_there_is_nothing(self, store: EventStore) -> None:
        head = await store.head()
        async with following(store, head, new_category()) as follower:
            batch = await follower.until_caught_up()
        assert (batch.events, batch.position) == ([], head)

    async def test_it_starts_after_the_position(self, store: EventStore) -> None:
        category = new_category()
        stream = new_stream(category)
        first = await store.append(stream, new_events(2), expected=0)
        await store.append(stream, new_events(2), expected=2)
        async with following(store, first.position, category) as follower:
            events = await follower.until_events(2)
            await follower.until_caught_up()
        assert [event.sequence for event in events] == [3, 4]

    async def test_all_categories_are_followed_where_none_is_named(self, store: EventStore) -> None:
        start, streams = await store.head(), {new_stream(new_category()) for _ in range(3)}
        async with following(store, start) as follower:
            for stream in streams:
                await store.append(stream, [new_event()], expected=0)
            await follower.until_events(3)
        assert streams <= {event.stream for event in follower.events}

    async def test_other_categories_are_left_out_live_too(self, store: EventStore) -> None:
        start, wanted, other = await store.head(), new_category(), new_category()
        streams = [new_stream(wanted), new_stream(other)]
        async with following(store, start, wanted) as follower:
            await follower.until_caught_up()
            for sequence in range(10):
                for stream in streams:
                    await store.append(stream, [new_event()], expected=sequence)
            events = await follower.until_events(10)
        assert {event.category for event in events} == {wanted}

    async def test_its_checkpoint_goes_beyond_filtered_events(self, store: EventStore) -> None:
        start, wanted = await store.head(), new_category()
        last = await store.append(new_stream(new_category()), new_events(40), expected=0)
        async with following(store, start, wanted) as follower:
            batch = await follower.until_caught_up()
        assert batch.events == []
        assert batch.position >= last.position

    async def test_following_from_any_checkpoint_neither_skips_nor_repeats(self, store: EventStore) -> None:
        start, wanted, other = await store.head(), new_category(), new_category()
        streams = [new_stream(wanted), new_stream(other)]
        async with following(store, start, wanted, page=3) as follower:
            for sequence in range(20):
                for stream in streams:
                    await store.append(stream, [new_event()], expected=sequence)
            everything = await follower.until_events(20)
            batches = list(follower.batches)
        for index in range(0, len(batches), 3):
            rest = sum(len(batch.events) for batch in batches[index + 1 :])
            async with following(store, batches[index].position, wanted) as again:
                await again.until_events(rest)
                await again.until_caught_up()
            assert again.events == everything[20 - rest :]

    async def test_pages_are_no_larger_than_asked_for(self, store: EventStore) -> None:
        start, category = await store.head(), new_category()
        await store.append(new_stream(category), new_events(25), expected=0)
        async with following(store, start, category, page=4) as follower:
            await follower.until_events(25)
        assert max(len(batch.events) for batch in follower.batches) <= 4

    async def test_a_slow_follower_gets_everything(self, store: EventStore) -> None:
        start, category, count = await store.head(), new_category(), 600
        stream = new_stream(category)
        seen: list[StoredEvent] = []
        batches = store.subscribe(after=start, categories=[category], page=50)
        async with asyncio.timeout(PATIENCE):
            assert (await anext(batches)).caught_up
            for sequence in range(0, count, 20):
                await store.append(stream, new_events(20), expected=sequence)
            while len(seen) < count:
                seen.extend((await anext(batches)).events)
                await asyncio.sleep(0.005)
        await batches.aclose()  # type: ignore[attr-defined]  # the port says AsyncIterator, every adapter has a generator
        assert [event.sequence for event in seen] == list(range(1, count + 1))

    async def test_large_events_arrive(self, store: EventStore) -> None:
        start, category = await store.head(), new_category()
        stream, data = new_stream(category), f'{{"t":"{"x" * 900_000}"}}'
        async with following(store, start, category) as follower:
            for sequence in range(12):
                await store.append(stream, [new_event(data)], expected=sequence)
            events = await follower.until_events(12)
        assert [event.data == data for event in events] == [True] * 12

    async def test_it_survives_a_restart_of_the_server(
        self, store: EventStore, server: EventStoreServer
    ) -> None:
        if not server.can_restart:
            pytest.skip("this server cannot be restarted from here")
        start, category = await store.head(), new_category()
        stream = new_stream(category)
        async with following(store, start, category) as follower:
            await store.append(stream, new_events(5), expected=0)
            await follower.until_events(5)
            for sequence in (5, 10):
                await asyncio.to_thread(server.restart)
                await store.append(stream, new_events(5), expected=sequence)
                await follower.until_events(sequence + 5)
        assert [event.sequence for event in follower.events] == list(range(1, 16))
        _check_order(follower.events)

    async def test_several_followers_see_the_same(self, store: EventStore, server: EventStoreServer) -> None:
        start, category, other = await store.head(), new_category(), await server.open()
        stream = new_stream(category)
        async with following(store, start, category) as first, following(other, start, category) as second:
            for sequence in range(20):
                await store.append(stream, [new_event()], expected=sequence)
            assert await first.until_events(20) == await second.until_events(20)
        await other.close()
