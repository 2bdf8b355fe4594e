"""Cases of the conformance suite: the rules of appending."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import msgspec
import pytest

from forecourt.errors import Unavailable
from forecourt.eventstore.port import (
    MAX_APPEND_EVENTS,
    MAX_EVENT_BYTES,
    Append,
    AppendResult,
    EventStore,
    InvalidAppend,
    NewEvent,
    WrongExpectedVersion,
)
from forecourt.testing.eventstore_samples import (
    TIME,
    new_category,
    new_event,
    new_events,
    new_stream,
    stream_events,
)
from forecourt.testing.eventstore_servers import EventStoreServer

TEXTS = {
    "chinese": '{"name":"北京现代汽车有限公司","reason":"客户满意"}',
    "emoji": '{"mood":"👩🏽‍🔧🚗💨","flag":"🇨🇳"}',
    "combining": '{"composed":"\u00e9","decomposed":"e\u0301","vietnamese":"ệ"}',
    "escapes": r'{"path":"C:\\Autos\\\"x\"","lines":"a\nb\tc\r\n","unit":"\u001f","pair":"\ud83d\ude97"}',
    "right_to_left": '{"name":"سيارة","mixed":"VIN \u202eLSVAA\u202c"}',
    "separators": '{"text":"a\u2028b\u2029c\ufeff"}',
    "layout": '{ "b": 1.0,\n  "a": 1.00, "b2": [ ],  "n": 12345678901234567890 }',
    "empty": "{}",
}


def _full_event() -> NewEvent:
    return NewEvent(
        id=uuid4(),
        type="sales.VehicleDelivered",
        version=3,
        time=TIME,
        data='{"vin":"LSVAA4182E2184847","price":"189900.00"}',
        correlation_id=uuid4(),
        causation_id=uuid4(),
        dealer_id="D-0001",
        brand="hongtong",
        actor_id="seller:王芳",
        metadata='{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}',
    )


class AppendCases:
    """What an append does, and what it refuses."""

    async def test_first_append_starts_the_stream_at_sequence_one(self, store: EventStore) -> None:
        before = await store.head()
        result = await store.append(new_stream(new_category()), [new_event()], expected=0)
        assert result.sequence == 1
        assert result.position > before

    async def test_an_event_is_read_back_with_every_field_as_it_was_given(self, store: EventStore) -> None:
        stream, event = new_stream(new_category()), _full_event()
        result = await store.append(stream, [event], expected=0)
        [stored] = await stream_events(store, stream)
        assert msgspec.structs.asdict(stored) == {
            **msgspec.structs.asdict(event),
            "stream": stream,
            "sequence": 1,
            "position": result.position,
        }
        assert stored.time.utcoffset() == timedelta(0)

    async def test_optional_fields_may_be_left_out(self, store: EventStore) -> None:
        stream = new_stream(new_category())
        await store.append(stream, [new_event()], expected=0)
        [stored] = await stream_events(store, stream)
        assert stored.causation_id is None
        assert (stored.dealer_id, stored.brand, stored.actor_id, stored.metadata) == ("", "", "", "{}")

    async def test_a_time_with_another_offset_is_stored_as_the_same_instant_in_utc(
        self, store: EventStore
    ) -> None:
        stream = new_stream(new_category())
        local = datetime(2024, 3, 1, 7, 30, tzinfo=timezone(timedelta(hours=8)))
        await store.append(stream, [msgspec.structs.replace(new_event(), time=local)], expected=0)
        [stored] = await stream_events(store, stream)
        assert stored.time.isoformat() == datetime(2024, 2, 29, 23, 30, tzinfo=UTC).isoformat()

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
    async def test_text_comes_back_to_the_letter(self, store: EventStore, text: str) -> None:
        stream = new_stream(new_category())
        await store.append(stream, [msgspec.structs.replace(new_event(text), metadata=text)], expected=0)
        [stored] = await stream_events(store, stream)
        assert stored.data == text
        assert stored.metadata == text

    async def test_several_events_get_consecutive_sequences_and_growing_positions(
        self, store: EventStore
    ) -> None:
        stream, events = new_stream(new_category()), new_events(5)
        result = await store.append(stream, events, expected=0)
        stored = await stream_events(store, stream)
        assert [event.id for event in stored] == [event.id for event in events]
        assert [event.sequence for event in stored] == [1, 2, 3, 4, 5]
        positions = [event.position for event in stored]
        assert positions == sorted(set(positions))
        assert result == AppendResult(5, positions[-1])

    async def test_streams_are_counted_apart(self, store: EventStore) -> None:
        category = new_category()
        first, second = new_stream(category), new_stream(category)
        await store.append(first, new_events(3), expected=0)
        assert (await store.append(second, new_events(2), expected=0)).sequence == 2
        assert (await store.append(first, new_events(1), expected=3)).sequence == 4

    @pytest.mark.parametrize(
        ("present", "expected"), [(0, 1), (0, 1_000_000), (1, 0), (1, 2), (4, 0), (4, 3), (4, 5), (4, 10**9)]
    )
    async def test_any_other_expected_version_is_refused(
        self, store: EventStore, present: int, expected: int
    ) -> None:
        stream = new_stream(new_category())
        if present:
            await store.append(stream, new_events(present), expected=0)
        with pytest.raises(WrongExpectedVersion) as refusal:
            await store.append(stream, new_events(1), expected=expected)
        assert (refusal.value.stream, refusal.value.expected, refusal.value.actual) == (
            stream,
            expected,
            present,
        )
        assert len(await stream_events(store, stream)) == present

    async def test_a_refused_append_of_several_stores_nothing(self, store: EventStore) -> None:
        stream = new_stream(new_category())
        await store.append(stream, new_events(2), expected=0)
        before = await store.head()
        with pytest.raises(WrongExpectedVersion):
            await store.append(stream, new_events(3), expected=1)
        assert len(await stream_events(store, stream)) == 2
        assert await store.head() == before

    async def test_several_appends_succeed_or_fail_each_on_its_own(self, store: EventStore) -> None:
        category = new_category()
        new, taken, grown = (new_stream(category) for _ in range(3))
        await store.append(taken, new_events(2), expected=0)
        await store.append(grown, new_events(1), expected=0)
        first, conflict, second = await store.append_many(
            [Append(new, new_events(3), 0), Append(taken, new_events(1), 0), Append(grown, new_events(2), 1)]
        )
        assert isinstance(first, AppendResult)
        assert first.sequence == 3
        assert isinstance(second, AppendResult)
        assert second.sequence == 3
        assert isinstance(conflict, WrongExpectedVersion)
        assert conflict.actual == 2
        assert [len(await stream_events(store, stream)) for stream in (new, taken, grown)] == [3, 2, 3]

    async def test_the_same_appends_again_are_answered_with_their_first_results(
        self, store: EventStore
    ) -> None:
        category = new_category()
        appends = [Append(new_stream(category), new_events(2), 0) for _ in range(20)]
        first = await store.append_many(appends)
        assert await store.append_many(appends) == first
        assert await store.append_many([]) == []

    async def test_several_appends_with_a_malformed_one_store_nothing(self, store: EventStore) -> None:
        good, before = new_stream(new_category()), await store.head()
        with pytest.raises(InvalidAppend):
            await store.append_many([Append(good, new_events(1), 0), Append("no stream", new_events(1), 0)])
        assert await store.head() == before

    async def test_the_same_events_again_are_answered_with_the_first_result(self, store: EventStore) -> None:
        stream, events = new_stream(new_category()), new_events(3)
        first = await store.append(stream, events, expected=0)
        assert await store.append(stream, events, expected=0) == first
        assert len(await stream_events(store, stream)) == 3

    async def test_a_repeat_is_recognised_after_later_appends_too(
        self, store: EventStore, server: EventStoreServer
    ) -> None:
        stream, start, middle = new_stream(new_category()), new_events(2), new_events(2)
        await store.append(stream, start, expected=0)
        first = await store.append(stream, middle, expected=2)
        await store.append(stream, new_events(3), expected=4)
        other = await server.open()
        assert await other.append(stream, middle, expected=2) == first
        await other.close()
        assert len(await stream_events(store, stream)) == 7

    async def test_the_same_append_twice_at_once_is_stored_once(
        self, store: EventStore, server: EventStoreServer
    ) -> None:
        other = await server.open()
        for _ in range(10):
            stream, events = new_stream(new_category()), new_events(2)
            answers = await asyncio.gather(
                *(client.append(stream, events, expected=0) for client in (store, other, store))
            )
            assert len(set(map(repr, answers))) == 1
            assert len(await stream_events(store, stream)) == 2
        await other.close()

    async def test_other_events_after_the_same_version_are_no_repeat(self, store: EventStore) -> None:
        stream, events = new_stream(new_category()), new_events(2)
        await store.append(stream, events, expected=0)
        with pytest.raises(WrongExpectedVersion):
            await store.append(stream, [events[0], new_event()], expected=0)
        with pytest.raises(WrongExpectedVersion):
            await store.append(stream, [events[1], events[0]], expected=0)
        with pytest.raises(WrongExpectedVersion):
            await store.append(stream, [*events, new_event()], expected=0)
        assert len(await stream_events(store, stream)) == 2

    async def test_the_same_events_at_another_version_are_no_repeat(self, store: EventStore) -> None:
        stream, events = new_stream(new_category()), new_events(2)
        await store.append(stream, events, expected=0)
        with pytest.raises(WrongExpectedVersion):
            await store.append(stream, events, expected=1)
        with pytest.raises(WrongExpectedVersion):
            await store.append(stream, events, expected=7)
        assert len(await stream_events(store, stream)) == 2

    @pytest.mark.parametrize(
        "stream",
        [
            "",
            "customer",
            f"-{UUID(int=1)}",
            f"$customer-{UUID(int=1)}",
            f"1customer-{UUID(int=1)}",
            f"two-words-{UUID(int=1)}",
            f"客户-{UUID(int=1)}",
            f"customer-{UUID(int=1)}\n",
            f"customer-{UUID(int=10**37)}".upper(),
            "customer-1",
            f"{'c' * 65}-{UUID(int=1)}",
        ],
    )
    async def test_a_malformed_stream_name_is_refused(self, store: EventStore, stream: str) -> None:
        with pytest.raises(InvalidAppend) as refusal:
            await store.append(stream, [new_event()], expected=0)
        assert list(refusal.value.fields) == ["stream"]

    async def test_a_negative_expected_version_is_refused(self, store: EventStore) -> None:
        with pytest.raises(InvalidAppend) as refusal:
            await store.append(new_stream(new_category()), [new_event()], expected=-1)
        assert list(refusal.value.fields) == ["expected"]

    @pytest.mark.parametrize("count", [0, MAX_APPEND_EVENTS + 1])
    async def test_too_few_or_too_many_events_are_refused(self, store: EventStore, count: int) -> None:
        with pytest.raises(InvalidAppend) as refusal:
            await store.append(new_stream(new_category()), new_events(count), expected=0)
        assert list(refusal.value.fields) == ["events"]

    async def test_as_many_events_as_allowed_are_stored(self, store: EventStore) -> None:
        stream = new_stream(new_category())
        result = await store.append(stream, new_events(MAX_APPEND_EVENTS), expected=0)
        assert result.sequence == MAX_APPEND_EVENTS
        assert len(await stream_events(store, stream)) == MAX_APPEND_EVENTS

    async def test_an_event_id_twice_in_one_append_is_refused(self, store: EventStore) -> None:
        event = new_event()
        with pytest.raises(InvalidAppend) as refusal:
            await store.append(new_stream(new_category()), [event, event], expected=0)
        assert list(refusal.value.fields) == ["events"]

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"type": ""}, "type"),
            ({"type": "t" * 201}, "type"),
            ({"time": datetime(2024, 1, 1)}, "time"),  # noqa: DTZ001
            ({"data": r'{"text":"\u0000"}'}, "data"),
        ],
    )
    async def test_a_malformed_event_is_refused_and_named(
        self, store: EventStore, changes: dict[str, object], field: str
    ) -> None:
        stream = new_stream(new_category())
        with pytest.raises(InvalidAppend) as refusal:
            await store.append(
                stream, [new_event(), msgspec.structs.replace(new_event(), **changes)], expected=0
            )
        assert list(refusal.value.fields) == [f"events[1].{field}"]
        assert await stream_events(store, stream) == []

    @pytest.mark.parametrize("letter", ["x", "汉"])
    async def test_the_largest_event_is_stored_and_one_byte_more_is_refused(
        self, store: EventStore, letter: str
    ) -> None:
        stream = new_stream(new_category())
        frame = len('{"t":""}') + len("{}")
        letters, rest = divmod(MAX_EVENT_BYTES - frame, len(letter.encode()))
        data = f'{{"t":"{letter * letters}{"x" * rest}"}}'
        with pytest.raises(InvalidAppend) as refusal:
            await store.append(stream, [new_event(data.replace('"}', 'x"}'))], expected=0)
        assert list(refusal.value.fields) == ["events[0].data"]
        assert str(MAX_EVENT_BYTES) in refusal.value.message
        assert (await store.append(stream, [new_event(data)], expected=0)).sequence == 1
        [stored] = await stream_events(store, stream)
        assert stored.data == data

    async def test_appends_under_way_are_finished_when_the_store_is_closed(
        self, server: EventStoreServer
    ) -> None:
        store = await server.open()
        streams = [new_stream(new_category()) for _ in range(200)]
        appends = [asyncio.create_task(store.append(stream, new_events(2), expected=0)) for stream in streams]
        await asyncio.sleep(0)
        await store.close()
        assert [result.sequence for result in await asyncio.gather(*appends)] == [2] * len(streams)

    async def test_a_closed_store_refuses_to_append(self, server: EventStoreServer) -> None:
        store = await server.open()
        await store.close()
        with pytest.raises(Unavailable):
            await store.append(new_stream(new_category()), [new_event()], expected=0)
        await store.close()
