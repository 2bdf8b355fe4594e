"""A process that writes to an event store, for tests with several of them.

``python -m forecourt.testing.eventstore_writer URL EVENTS STREAM…`` appends EVENTS events, one to three at
a time, to each of the streams, all streams at once, and gives way to other writers of the same streams.
"""

import asyncio
import sys

from forecourt.eventstore import open_store
from forecourt.eventstore.port import EventStore
from forecourt.testing.eventstore_samples import append_with_retry, new_events


async def write(url: str, count: int, streams: list[str]) -> None:
    """Append ``count`` events to each of ``streams``."""
    store = await open_store(url)
    try:
        await asyncio.gather(*(_fill(store, stream, count) for stream in streams))
    finally:
        await store.close()


async def _fill(store: EventStore, stream: str, count: int) -> None:
    written = 0
    while written < count:
        batch = new_events(min(1 + written % 3, count - written))
        await append_with_retry(store, stream, batch)
        written += len(batch)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
