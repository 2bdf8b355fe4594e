"""What the EventStoreDB adapter does when the server, the network or a stranger misbehaves.

These run on the stand-in only: they start it with faults, kill it, or write to it past the adapter.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from uuid import uuid4

import msgspec
import pytest
import pytest_asyncio
from kurrentdbclient import AsyncKurrentDBClient, StreamState
from kurrentdbclient import NewEvent as ProposedEvent
from kurrentdbclient.exceptions import NotFoundError, StreamIsDeletedError, WrongCurrentVersionError

from forecourt.eventstore import open_store
from forecourt.eventstore.eventstoredb import EventStoreDBStore
from forecourt.eventstore.eventstoredb_records import ForeignEvent
from forecourt.eventstore.port import EventStore, InvalidAppend, StoreUnavailable, WrongExpectedVersion
from forecourt.testing.eventstore_cases_subscribe import PATIENCE, following
from forecourt.testing.eventstore_samples import (
    all_batches,
    events_of,
    new_category,
    new_event,
    new_events,
    new_stream,
    stream_events,
)
from forecourt.testing.eventstore_servers import StandInServer, standin_server


@pytest.fixture(scope="module")
def server() -> Iterator[StandInServer]:
    with standin_server() as server:
        yield server


@pytest_asyncio.fixture
async def store(server: StandInServer) -> AsyncIterator[EventStore]:
    store = await server.open()
    yield store
    await store.close()


@pytest_asyncio.fixture
async def client(server: StandInServer) -> AsyncIterator[AsyncKurrentDBClient]:
    async with AsyncKurrentDBClient(str(server.url)) as client:
        yield client


async def test_a_repeat_is_recognised_even_where_the_server_does_not_recognise_it() -> None:
    with standin_server("--no-deduplication") as server:
        store, stream, events = await server.open(), new_stream(new_category()), new_events(3)
        first = await store.append(stream, events, expected=0)
        await store.append(stream, new_events(2), expected=3)
        assert await store.append(stream, events, expected=0) == first
        with pytest.raises(WrongExpectedVersion):
            await store.append(stream, new_events(3), expected=0)
        assert len(await stream_events(store, stream)) == 5
        await store.close()


@pytest.mark.parametrize("lost", ["1", "4", "7"])
@pytest.mark.parametrize("options", [(), ("--no-deduplication",)])
async def test_an_append_whose_answer_was_lost_is_stored_once(options: tuple[str, ...], lost: str) -> None:
    with standin_server("--lose-replies", lost, *options) as server:
        store, stream = await server.open(), new_stream(new_category())
        result = await store.append(stream, new_events(2), expected=0)
        assert result.sequence == 2
        stored = await stream_events(store, stream)
        assert (len(stored), stored[-1].position) == (2, result.position)
        await store.close()


async def test_a_server_that_is_down_is_reported_soon_and_used_again_when_it_is_back() -> None:
    with standin_server() as server:
        store, stream = await server.open(), new_stream(new_category())
        await store.append(stream, new_events(1), expected=0)
        server.kill()
        started = monotonic()
        for attempt in (store.append(stream, new_events(1), expected=1), store.head()):
            with pytest.raises(StoreUnavailable):
                await attempt
        with pytest.raises(StoreUnavailable):
            await stream_events(store, stream)
        assert monotonic() - started < PATIENCE
        server.start()
        assert (await store.append(stream, new_events(1), expected=1)).sequence == 2
        await store.close()


async def test_opening_a_single_target_makes_no_call() -> None:
    store = await open_store("esdb://127.0.0.1:1?Tls=false")
    with pytest.raises(StoreUnavailable):
        await store.head()
    await store.close()


async def test_a_cluster_is_discovered_through_gossip(server: StandInServer) -> None:
    store = await open_store(str(server.url).replace("esdb://", "esdb+discover://"))
    assert (await store.append(new_stream(new_category()), new_events(1), expected=0)).sequence == 1
    await store.close()


async def test_system_events_and_strangers_streams_are_never_seen(
    store: EventStore, client: AsyncKurrentDBClient
) -> None:
    start, stream = await store.head(), new_stream(new_category())
    await store.append(stream, new_events(1), expected=0)
    head = await store.head()
    await client.set_stream_metadata(stream, metadata={"$maxCount": 1_000})
    stranger = ProposedEvent(type="Strange", data=b"{}")
    await client.append_to_stream(
        f"stranger-{uuid4().hex}", events=[stranger], current_version=StreamState.ANY
    )
    assert await store.head() == head
    batches = [batch async for batch in store.read_all(after=start)]
    assert [event.stream for event in events_of(batches)] == [stream]
    everything = events_of([batch async for batch in store.read_all()])
    assert not [event for event in everything if event.type.startswith("$") or event.stream.startswith("$")]


async def test_a_strangers_event_in_one_of_our_streams_is_named(
    store: EventStore, client: AsyncKurrentDBClient
) -> None:
    stream = new_stream(new_category())
    stranger = ProposedEvent(type="Strange", data=b"{}", metadata=b'{"source":"elsewhere"}')
    await client.append_to_stream(stream, events=[stranger], current_version=StreamState.NO_STREAM)
    with pytest.raises(ForeignEvent, match=stream):
        await stream_events(store, stream)


async def test_the_servers_own_limit_is_an_invalid_append_that_names_the_events(store: EventStore) -> None:
    stream, half = new_stream(new_category()), f'{{"t":"{"x" * 600_000}"}}'
    with pytest.raises(InvalidAppend) as refusal:
        await store.append(stream, [new_event(half), new_event(half)], expected=0)
    assert list(refusal.value.fields) == ["events"]
    assert await stream_events(store, stream) == []


@pytest.mark.parametrize("metadata", ["", "[]", '{"a":1', '{"a":1},"version":9'])
async def test_metadata_that_is_no_json_object_is_refused(store: EventStore, metadata: str) -> None:
    event = msgspec.structs.replace(new_event(), metadata=metadata)
    with pytest.raises(InvalidAppend) as refusal:
        await store.append(new_stream(new_category()), [event], expected=0)
    assert list(refusal.value.fields) == ["events[0].metadata"]


async def test_a_deleted_stream_has_no_events_and_takes_none(
    store: EventStore, client: AsyncKurrentDBClient
) -> None:
    stream = new_stream(new_category())
    await store.append(stream, new_events(2), expected=0)
    await client.tombstone_stream(stream, current_version=1)
    assert await stream_events(store, stream) == []
    with pytest.raises(InvalidAppend) as refusal:
        await store.append(stream, new_events(1), expected=2)
    assert list(refusal.value.fields) == ["stream"]


async def test_a_checkpoint_never_skips_the_event_that_is_written_next(store: EventStore) -> None:
    # A server's last checkpoint may be the place of a record to come; going on after it would lose that one.
    start, wanted, other = await store.head(), new_category(), new_stream(new_category())
    written = 0
    for size in (500, 500, 250, 250, 499, 1):
        await store.append(other, new_events(size), expected=written)
        written += size
        async with following(store, start, wanted) as follower:
            checkpoint = (await follower.until_caught_up()).position
        stream = new_stream(wanted)
        result = await store.append(stream, new_events(1), expected=0)
        found = events_of(await all_batches(store, wanted, after=checkpoint))
        assert [event.stream for event in found] == [stream]
        async with following(store, checkpoint, wanted) as follower:
            assert [event.stream for event in await follower.until_events(1)] == [stream]
        start = result.position


async def test_a_silent_subscription_is_renewed_and_goes_on(server: StandInServer) -> None:
    store = await EventStoreDBStore.open(str(server.url), silence=0.05)
    start, category = await store.head(), new_category()
    stream = new_stream(category)
    async with following(store, start, category) as follower:
        for count in range(3):
            await follower.until_batches(3 * (count + 1))
            await store.append(stream, new_events(1), expected=count)
        await follower.until_events(3)
        await follower.until_batches(len(follower.batches) + 3)
    assert [event.sequence for event in follower.events] == [1, 2, 3]
    await store.close()


async def test_a_failed_append_does_not_break_a_subscription(server: StandInServer) -> None:
    with standin_server("--lose-replies", "3") as server:
        store, category = await server.open(), new_category()
        async with following(store, 0, category) as follower:
            await follower.until_caught_up()
            streams = [new_stream(category) for _ in range(3)]
            for stream in streams:
                await store.append(stream, new_events(2), expected=0)
            events = await follower.until_events(6)
        assert [event.stream for event in events] == [stream for stream in streams for _ in range(2)]
        await store.close()


async def test_closing_the_store_ends_its_subscriptions(server: StandInServer) -> None:
    store = await server.open()
    batches = store.subscribe(after=await store.head())
    assert (await anext(batches)).caught_up
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(PATIENCE):
            await waiting


async def test_closing_ends_soon_although_the_server_is_gone() -> None:
    with standin_server() as server:
        store, stream = await server.open(), new_stream(new_category())
        batches = store.subscribe()
        assert (await anext(batches)).caught_up
        waiting = asyncio.ensure_future(anext(batches))
        server.kill()
        append = asyncio.create_task(store.append(stream, new_events(1), expected=0))
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            await store.close()
            ends = await asyncio.gather(append, waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [StoreUnavailable] * 2
        server.start()


class TestStandInAsTheClientSeesIt:
    """The stand-in's protocol beyond what the adapter uses, through the real client."""

    async def test_a_soft_deleted_stream_is_not_found_and_goes_on_where_it_ended(
        self, client: AsyncKurrentDBClient
    ) -> None:
        stream = f"soft-{uuid4().hex}"
        await client.append_to_stream(stream, events=_proposed(3), current_version=StreamState.NO_STREAM)
        await client.delete_stream(stream, current_version=2)
        with pytest.raises(NotFoundError):
            await client.get_stream(stream)
        await client.append_to_stream(stream, events=_proposed(2), current_version=StreamState.NO_STREAM)
        assert [event.stream_position for event in await client.get_stream(stream)] == [3, 4]

    async def test_deleting_at_another_version_is_refused(self, client: AsyncKurrentDBClient) -> None:
        stream = f"kept-{uuid4().hex}"
        await client.append_to_stream(stream, events=_proposed(3), current_version=StreamState.NO_STREAM)
        with pytest.raises(WrongCurrentVersionError) as refusal:
            await client.delete_stream(stream, current_version=7)
        assert refusal.value.actual_version == 2
        with pytest.raises(WrongCurrentVersionError):
            await client.tombstone_stream(stream, current_version=1)

    async def test_a_tombstoned_stream_is_gone_for_good(self, client: AsyncKurrentDBClient) -> None:
        stream = f"gone-{uuid4().hex}"
        await client.append_to_stream(stream, events=_proposed(1), current_version=StreamState.NO_STREAM)
        await client.tombstone_stream(stream, current_version=StreamState.ANY)
        with pytest.raises(StreamIsDeletedError):
            await client.get_stream(stream)
        with pytest.raises(StreamIsDeletedError):
            await client.append_to_stream(stream, events=_proposed(1), current_version=StreamState.ANY)

    async def test_metadata_limits_what_is_read(self, client: AsyncKurrentDBClient) -> None:
        stream = f"short-{uuid4().hex}"
        assert await client.get_stream_metadata(stream) == ({}, StreamState.NO_STREAM)
        await client.append_to_stream(stream, events=_proposed(5), current_version=StreamState.NO_STREAM)
        await client.set_stream_metadata(stream, metadata={"$maxCount": 2})
        assert await client.get_stream_metadata(stream) == ({"$maxCount": 2}, 0)
        assert [event.stream_position for event in await client.get_stream(stream)] == [3, 4]

    async def test_a_stream_is_read_backwards_and_its_version_is_known(
        self, client: AsyncKurrentDBClient
    ) -> None:
        stream = f"back-{uuid4().hex}"
        await client.append_to_stream(stream, events=_proposed(4), current_version=StreamState.NO_STREAM)
        found = await client.get_stream(stream, backwards=True, limit=3)
        assert [event.stream_position for event in found] == [3, 2, 1]
        found = await client.get_stream(stream, backwards=True, stream_position=1)
        assert [event.stream_position for event in found] == [1, 0]
        assert await client.get_current_version(stream) == 3

    async def test_one_stream_is_followed(self, client: AsyncKurrentDBClient) -> None:
        stream = f"one-{uuid4().hex}"
        await client.append_to_stream(stream, events=_proposed(2), current_version=StreamState.NO_STREAM)
        async with await client.subscribe_to_stream(stream, include_caught_up=True) as subscription:
            async with asyncio.timeout(PATIENCE):
                kinds = [(await anext(subscription)).is_caught_up for _ in range(3)]
                await client.append_to_stream(stream, events=_proposed(1), current_version=1)
                assert (await anext(subscription)).stream_position == 2
            assert kinds == [False, False, True]

    async def test_all_is_read_in_both_directions_from_a_position(self, client: AsyncKurrentDBClient) -> None:
        stream = f"both-{uuid4().hex}"
        await client.append_to_stream(stream, events=_proposed(3), current_version=StreamState.NO_STREAM)
        positions = [event.commit_position for event in await client.get_stream(stream)]
        forwards = [event async for event in await client.read_all(commit_position=positions[1])]
        assert [event.commit_position for event in forwards][:2] == positions[1:]
        backwards = [
            event
            async for event in await client.read_all(commit_position=positions[1], backwards=True, limit=1)
        ]
        assert [event.commit_position for event in backwards] == positions[:1]

    async def test_events_are_filtered_by_type_and_by_prefix(self, client: AsyncKurrentDBClient) -> None:
        kind = f"Kind{uuid4().hex}"
        events = [*_proposed(2), ProposedEvent(type=kind, data=b"{}")]
        await client.append_to_stream(
            f"types-{uuid4().hex}", events=events, current_version=StreamState.NO_STREAM
        )
        for by_prefix in (False, True):
            response = await client.read_all(filter_include=[kind], filter_by_prefix=by_prefix)
            found = [event async for event in response]
            assert [event.type for event in found] == [kind]

    async def test_what_was_stored_is_there_after_a_kill_and_half_a_frame_is_not(self) -> None:
        with standin_server() as server:
            async with AsyncKurrentDBClient(str(server.url)) as client:
                await client.append_to_stream(
                    "kept-1", events=_proposed(3), current_version=StreamState.NO_STREAM
                )
            server.kill()
            with server.data.open("ab") as file:
                file.write(b"\x00\x00\x10\x00half a frame")
            server.start()
            async with AsyncKurrentDBClient(str(server.url)) as client:
                await client.append_to_stream("kept-1", events=_proposed(1), current_version=2)
                assert len(await client.get_stream("kept-1")) == 4


def _proposed(count: int) -> list[ProposedEvent]:
    return [ProposedEvent(type="Plain", data=b"{}") for _ in range(count)]
