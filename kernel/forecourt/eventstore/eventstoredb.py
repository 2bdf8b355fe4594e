"""The event store on EventStoreDB / KurrentDB (23.10 or later), over gRPC with ``kurrentdbclient``.

How the port maps to the server:

* The server numbers a stream from 0, the port from 1: ``sequence = revision + 1``. A position is the
  server's commit position.
* ``data`` is the event's data; everything else of the envelope is the event's metadata, as JSON.
  Correlation and causation ids have the names that the server's own projections know.
* Only streams that have a name of the port's form are seen: system streams and strangers' streams are
  filtered out by the server.

Facts that shape the code (see docs/eventstoredb.md): the client reconnects when a call fails and then stops
every stream on the old connection, so each subscription has a client of its own. A checkpoint whose prepare
position differs from its commit position names a record that may not be written yet, and the client can only
resume with both alike, which would skip that record: such a checkpoint is not used.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

import grpc
from kurrentdbclient import AsyncKurrentDBClient, RecordedEvent, StreamState
from kurrentdbclient import NewEvent as ProposedEvent
from kurrentdbclient.common import AsyncRecordedEventIterator
from kurrentdbclient.exceptions import (
    KurrentDBClientError,
    MaximumAppendSizeExceededError,
    NotFoundError,
    StreamIsDeletedError,
    WrongCurrentVersionError,
)

from forecourt.eventstore.eventstoredb_records import proposed, stored
from forecourt.eventstore.port import (
    PAGE,
    Append,
    AppendResult,
    Batch,
    InvalidAppend,
    NewEvent,
    StoredEvent,
    StoreUnavailable,
    WrongExpectedVersion,
    check_append,
)
from forecourt.eventstore.subscriptions import Arrivals, batches
from forecourt.waiting import heeding_cancellation

CALL_TIMEOUT = 10.0
"""Seconds that an append, a look at the end, or the start of a subscription may take."""

CONCURRENT_APPENDS = 100
"""Appends on the way at once: a server allows 100 calls on a connection, and a waiting call's time runs."""

MAX_PAGE_BYTES = 16_000_000
"""Bytes of event data after which a page is handed out although it holds fewer events than asked for."""

SILENCE = 60.0
"""Seconds without any message after which a subscription is renewed, for it may have stalled in silence."""

RETRY_DELAYS = (0.2, 0.5, 1.0)
"""Seconds between the tries of an append that met no answer; ids make repeating it safe."""

_FIRST_DELAY, _LAST_DELAY = 0.1, 5.0
_WINDOW = 500
_ID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ANY_CATEGORY = "[A-Za-z][A-Za-z0-9_]*"

# A dead connection must be noticed by a subscriber that only waits, and be tried again soon.
_CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_KEEP_ALIVE = {"KeepAliveInterval": "10000", "KeepAliveTimeout": "10000"}

log = logging.getLogger(__name__)


class EventStoreDBStore:
    """`forecourt.eventstore.port.EventStore` on an EventStoreDB or KurrentDB server or cluster."""

    def __init__(self, uri: str, client: AsyncKurrentDBClient, *, silence: float = SILENCE) -> None:
        self._uri = uri
        self._client = client
        self._silence = silence
        self._slots = asyncio.Semaphore(CONCURRENT_APPENDS)
        self._underway = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._followers: set[AsyncKurrentDBClient] = set()
        self._closed = False

    @classmethod
    async def open(cls, uri: str, *, silence: float = SILENCE) -> "EventStoreDBStore":
        """Make ready to use the server at ``uri`` (``esdb://…``).

        With a single target nothing is sent yet; a cluster is asked for its leader. Raises ValueError for a
        malformed URI and `StoreUnavailable` where a cluster does not answer. ``silence`` is in seconds.
        """
        client = _new_client(uri)
        with _translated():
            await client.connect()
        return cls(uri, client, silence=silence)

    async def append(self, stream: str, events: Sequence[NewEvent], *, expected: int) -> AppendResult:
        """See the port. The server limits what one append holds in all (1 MiB unless configured)."""
        check_append(stream, events, expected)
        new = [proposed(index, event) for index, event in enumerate(events)]
        with self._counted():
            async with self._slots:
                return await self._append_patiently(stream, events, new, expected)

    async def append_many(self, appends: Sequence[Append]) -> list[AppendResult | WrongExpectedVersion]:
        """See the port. The protocol confirms append by append: they are under way at the same time."""
        for stream, events, expected in appends:
            check_append(stream, events, expected)
        return list(await asyncio.gather(*map(self._append_or_conflict, appends)))

    async def _append_or_conflict(self, one: Append) -> AppendResult | WrongExpectedVersion:
        try:
            return await self.append(one.stream, one.events, expected=one.expected)
        except WrongExpectedVersion as conflict:
            return conflict

    async def _append_patiently(
        self, stream: str, events: Sequence[NewEvent], new: list[ProposedEvent], expected: int
    ) -> AppendResult:
        """Sit out a short absence of the server, such as the election of another leader."""
        clock = asyncio.get_running_loop().time
        started = clock()
        for delay in RETRY_DELAYS:
            try:
                with _translated():
                    return await self._append(stream, events, new, expected)
            except StoreUnavailable:
                if self._closed or clock() - started > CALL_TIMEOUT:
                    raise
            await asyncio.sleep(delay)
        with _translated():
            return await self._append(stream, events, new, expected)

    async def _append(
        self, stream: str, events: Sequence[NewEvent], new: list[ProposedEvent], expected: int
    ) -> AppendResult:
        try:
            position = await self._client.append_to_stream(
                stream,
                events=new,
                current_version=expected - 1 if expected else StreamState.NO_STREAM,
                timeout=CALL_TIMEOUT,
            )
        except WrongCurrentVersionError as error:
            # The server recognises repeats by the events' ids, but does not promise to: look for ourselves.
            first = await self._first_result(stream, events, expected)
            if first is None:
                raise WrongExpectedVersion(stream, expected, await self._actual(stream, error)) from None
            return first
        if not position:
            # A server may confirm a repeat without saying where the events stand.
            first = await self._first_result(stream, events, expected)
            if first is None:
                raise StoreUnavailable("an append was confirmed, but its events cannot be read")
            return first
        return AppendResult(expected + len(events), position)

    async def _first_result(
        self, stream: str, events: Sequence[NewEvent], expected: int
    ) -> AppendResult | None:
        """Where the events stand, if exactly they follow ``expected`` in the stream."""
        present: list[RecordedEvent] = []
        with suppress(NotFoundError):
            response = await self._client.read_stream(
                stream, stream_position=expected, limit=len(events), timeout=CALL_TIMEOUT
            )
            async with _stopping(response):
                present = [event async for event in response]
        if [event.id for event in present] != [event.id for event in events]:
            return None
        return AppendResult(present[-1].stream_position + 1, present[-1].commit_position)

    async def _actual(self, stream: str, error: WrongCurrentVersionError) -> int:
        actual = error.actual_version
        if actual is None:
            actual = await self._client.get_current_version(stream, timeout=CALL_TIMEOUT)
        return actual + 1 if isinstance(actual, int) else 0

    async def read_stream(
        self, stream: str, *, after: int = 0, page: int = 500
    ) -> AsyncIterator[list[StoredEvent]]:
        """See the port. Raises `StoreUnavailable`. A deleted stream has no events."""
        self._check_open()
        try:
            with _translated():
                response = await self._client.read_stream(stream, stream_position=after)
            async with _stopping(response), aclosing(_pages(response, page)) as pages:
                async for events in pages:
                    yield events
        except (_NoStream, _StreamDeleted):
            return

    async def read_all(
        self, *, after: int = 0, categories: Collection[str] | None = None, page: int = PAGE
    ) -> AsyncIterator[Batch]:
        """See the port. Raises `StoreUnavailable`. ``after`` must be a position that the store handed out."""
        # The end is looked up first: all that matches up to there is read, so that is a safe last checkpoint.
        end = await self.head()
        if after >= end:
            yield Batch([], after, caught_up=True)
            return
        with _translated():
            response = await self._client.read_all(
                commit_position=after or None,
                filter_include=(_stream_pattern(categories),),
                filter_by_stream_name=True,
            )
        held: list[StoredEvent] = []
        async with _stopping(response), aclosing(_pages(response, page, after=after)) as pages:
            async for events in pages:
                if held:
                    yield Batch(held, held[-1].position, caught_up=False)
                held = events
        position = max(end, held[-1].position if held else 0)
        yield Batch(held, position, caught_up=True)

    async def subscribe(
        self, *, after: int = 0, categories: Collection[str] | None = None, page: int = PAGE
    ) -> AsyncIterator[Batch]:
        """See the port. Reconnects for as long as it takes; only `ForeignEvent` ends it."""
        position, delay = after, _FIRST_DELAY
        while True:
            try:
                async with aclosing(self._follow(position, categories, page)) as followed:
                    async for batch in followed:
                        position, delay = batch.position, _FIRST_DELAY
                        yield batch
            except StoreUnavailable as error:
                self._check_open()
                log.warning(
                    "event store subscription broke off after %d, next in %.1f s: %s", position, delay, error
                )
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LAST_DELAY)

    async def _follow(
        self, position: int, categories: Collection[str] | None, page: int
    ) -> AsyncGenerator[Batch, None]:
        """One subscription, until it breaks (raises `StoreUnavailable`) or was silent for long (ends)."""
        end = await self.head()
        async with self._own_client() as client:
            with _translated():
                async with asyncio.timeout(CALL_TIMEOUT):
                    subscription = await client.subscribe_to_all(
                        commit_position=position or None,
                        filter_include=(_stream_pattern(categories),),
                        filter_by_stream_name=True,
                        include_checkpoints=True,
                        include_caught_up=True,
                        include_fell_behind=True,
                        window_size=_WINDOW,
                        checkpoint_interval_multiplier=1,
                    )
            async with _stopping(subscription), Arrivals(subscription, _unavailable) as arrivals:
                handed_out = batches(
                    arrivals,
                    stored,
                    position=position,
                    end=end,
                    page=page,
                    page_bytes=MAX_PAGE_BYTES,
                    silence=self._silence,
                )
                async with aclosing(handed_out):
                    async for batch in handed_out:
                        yield batch

    async def head(self) -> int:
        """See the port. Raises `StoreUnavailable`. Events of other categories count, system events do not."""
        self._check_open()
        with _translated():
            response = await self._client.read_all(
                backwards=True,
                filter_include=(_stream_pattern(None),),
                filter_by_stream_name=True,
                limit=1,
                timeout=CALL_TIMEOUT,
            )
            async with _stopping(response):
                async for event in response:
                    return event.commit_position
        return 0

    async def close(self) -> None:
        """See the port."""
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        for client in (self._client, *self._followers):
            await client.close()

    @asynccontextmanager
    async def _own_client(self) -> AsyncIterator[AsyncKurrentDBClient]:
        client = _new_client(self._uri)
        with _translated():
            await client.connect()
        self._followers.add(client)
        try:
            yield client
        finally:
            self._followers.discard(client)
            await client.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the event store is closed")

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._check_open()
        self._underway += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._underway -= 1
            if not self._underway:
                self._idle.set()


class _NoStream(StoreUnavailable):
    """There is no such stream; never leaves this module."""


class _StreamDeleted(InvalidAppend):
    """The stream was deleted for good, by an operator: nothing of ours does that."""


@contextmanager
def _translated() -> Iterator[None]:
    """The one place where the client's errors become the port's."""
    try:
        with heeding_cancellation():
            yield
    except NotFoundError:
        raise _NoStream("there is no such stream") from None
    except StreamIsDeletedError:
        reason = "was deleted in the event store"
        raise _StreamDeleted(f"stream: {reason}", fields={"stream": reason}) from None
    except MaximumAppendSizeExceededError as error:
        reason = f"are together larger than the event store allows: {error}"
        raise InvalidAppend(f"events: {reason}", fields={"events": reason}) from None
    except (KurrentDBClientError, grpc.RpcError, grpc.aio.UsageError, TimeoutError) as error:
        raise _unavailable(error) from error


def _unavailable(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"event store: {type(error).__name__}: {error}")


def _new_client(uri: str) -> AsyncKurrentDBClient:
    query = urlsplit(uri).query
    given = {name.lower() for name in parse_qs(query)}
    missing = [f"{name}={value}" for name, value in _KEEP_ALIVE.items() if name.lower() not in given]
    if missing:
        uri += ("&" if query else "?") + "&".join(missing)
    client = AsyncKurrentDBClient(uri)
    client.grpc_options += _CHANNEL_OPTIONS
    return client


@asynccontextmanager
async def _stopping(response: AsyncRecordedEventIterator) -> AsyncIterator[None]:
    """End the call however its reading ended. An error that comes up only now interests nobody."""
    try:
        yield
    finally:
        with suppress(KurrentDBClientError), heeding_cancellation():
            await response.stop()


async def _pages(
    response: AsyncRecordedEventIterator, page: int, *, after: int = 0
) -> AsyncGenerator[list[StoredEvent], None]:
    """Events above position ``after`` in lists of ``page``, sooner where they grow large."""
    events: list[StoredEvent] = []
    size = 0
    with _translated():
        async for recorded in response:
            if recorded.commit_position <= after:
                continue
            events.append(stored(recorded))
            size += len(recorded.data)
            if len(events) >= page or size >= MAX_PAGE_BYTES:
                yield events
                events, size = [], 0
    if events:
        yield events


def _stream_pattern(categories: Collection[str] | None) -> str:
    """A regular expression for whole stream names; the client adds the anchors."""
    names = _ANY_CATEGORY if categories is None else "|".join(re.escape(name) for name in sorted(categories))
    return f"(?:{names})-{_ID}"
