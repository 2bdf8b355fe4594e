"""Event stores are opened by URL."""

import pytest

from forecourt.errors import InvalidInput
from forecourt.eventstore import open_store
from forecourt.eventstore.eventstoredb import EventStoreDBStore
from forecourt.eventstore.memory import MemoryEventStore, MemoryLog
from forecourt.testing.eventstore_samples import new_category, new_events, new_stream, stream_events


async def test_memory_urls_open_a_new_store_each() -> None:
    first, second = await open_store("memory://"), await open_store("memory://")
    assert isinstance(first, MemoryEventStore)
    await first.append(new_stream(new_category()), new_events(1), expected=0)
    assert (await first.head(), await second.head()) == (1, 0)


@pytest.mark.parametrize("url", ["esdb://127.0.0.1:1?tls=false", "kurrentdb://127.0.0.1:1?tls=false"])
async def test_eventstoredb_and_kurrentdb_urls_open_the_same_adapter(url: str) -> None:
    store = await open_store(url)
    assert isinstance(store, EventStoreDBStore)
    await store.close()


@pytest.mark.parametrize("url", ["", "mysql://localhost/events", "events.db", "http://localhost:2113"])
async def test_any_other_url_is_refused_and_named(url: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        await open_store(url)
    assert list(refusal.value.fields) == ["url"]


async def test_an_empty_store_has_no_head_and_nothing_to_read() -> None:
    store = MemoryEventStore()
    assert await store.head() == 0
    assert [batch async for batch in store.read_all()][0].events == []  # noqa: RUF015


async def test_memory_stores_on_one_log_are_clients_of_one_store() -> None:
    log, stream = MemoryLog(), new_stream(new_category())
    await MemoryEventStore(log).append(stream, new_events(2), expected=0)
    assert len(await stream_events(MemoryEventStore(log), stream)) == 2
