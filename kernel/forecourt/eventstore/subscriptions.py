"""From the messages of an EventStoreDB subscription to the port's batches.

A batch must hold all that has arrived, must not wait for more once the subscription is live, and must not be
larger than memory allows. So a task takes messages off the wire into a small queue, and `batches` empties it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import TracebackType

from kurrentdbclient import RecordedEvent
from kurrentdbclient.exceptions import KurrentDBClientError

from forecourt.eventstore.port import Batch, StoredEvent, StoreUnavailable
from forecourt.waiting import cancel_and_wait

BUFFER = 100
"""Messages that may wait; the server is slowed down beyond it. Events have at most 1 MB."""

LINGER = 0.2
"""Seconds that an unfinished page waits for more while the subscription is still catching up."""


class Arrivals:
    """The messages of a subscription, taken off the wire by a task for as long as the context is open.

    ``unavailable`` translates the error with which the subscription ends.
    """

    def __init__(
        self,
        source: AsyncIterator[RecordedEvent],
        unavailable: Callable[[Exception], StoreUnavailable],
    ) -> None:
        self._source = source
        self._unavailable = unavailable
        self._queue: asyncio.Queue[RecordedEvent | StoreUnavailable] = asyncio.Queue(BUFFER)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Arrivals":
        self._task = asyncio.create_task(self._take())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._task is not None:
            # The task may still have its ending to say: room for that, or it would wait for ever.
            while not self._queue.empty():
                self._queue.get_nowait()
            await cancel_and_wait(self._task)
            if not self._task.cancelled():
                self._task.result()

    async def _take(self) -> None:
        ending = StoreUnavailable("event store: the subscription ended")
        try:
            async for message in self._source:
                await self._queue.put(message)
        except KurrentDBClientError as error:
            ending = self._unavailable(error)
        await self._queue.put(ending)

    @property
    def none_waiting(self) -> bool:
        """No message has arrived that was not handed out."""
        return self._queue.empty()

    async def next(self, timeout: float) -> RecordedEvent:
        """The next message. Raises `StoreUnavailable` at the end, TimeoutError after ``timeout`` seconds."""
        async with asyncio.timeout(timeout):
            message = await self._queue.get()
        if isinstance(message, StoreUnavailable):
            raise message
        return message


class _Gathering:
    """The batch that is being filled."""

    def __init__(self, position: int) -> None:
        self.events: list[StoredEvent] = []
        self.bytes = 0
        self.position = position
        self.moved = False
        self.live = False

    def add(self, event: StoredEvent) -> None:
        self.events.append(event)
        self.bytes += len(event.data)
        self.move(event.position)

    def move(self, position: int) -> None:
        if position > self.position:
            self.position = position
            self.moved = True

    def take(self, caught_up: bool) -> Batch:
        batch = Batch(self.events, self.position, caught_up)
        self.events, self.bytes, self.moved = [], 0, False
        return batch


async def batches(
    arrivals: Arrivals,
    stored: Callable[[RecordedEvent], StoredEvent],
    *,
    position: int,
    end: int,
    page: int,
    page_bytes: int,
    silence: float,
) -> AsyncGenerator[Batch, None]:
    """Gather messages into batches of at most ``page`` events.

    ``position`` is where the subscription started, ``end`` a position that the store had reached before it
    started. Ends when nothing has come for ``silence`` seconds; raises `StoreUnavailable` when it breaks off.
    """
    batch = _Gathering(position)
    while True:
        if batch.moved and batch.live and arrivals.none_waiting:
            yield batch.take(caught_up=True)
        try:
            message = await arrivals.next(LINGER if batch.events else silence)
        except TimeoutError:
            if not batch.events:
                return
            yield batch.take(caught_up=False)
            continue
        except StoreUnavailable:
            if batch.events:
                yield batch.take(caught_up=False)
            raise
        if message.is_checkpoint:
            if message.prepare_position == message.commit_position:
                batch.move(message.commit_position)
        elif message.is_fell_behind:
            batch.live = False
        elif message.is_caught_up:
            batch.live = True
            batch.move(end)
            yield batch.take(caught_up=arrivals.none_waiting)
        else:
            batch.add(stored(message))
            if len(batch.events) >= page or batch.bytes >= page_bytes:
                yield batch.take(caught_up=batch.live and arrivals.none_waiting)
