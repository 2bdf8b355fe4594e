"""The relay: follows the event store and publishes what it finds, in order, at least once.

The event store is the outbox. The checkpoint, a row of ``messaging.relay_checkpoint``, moves only past what
the broker has confirmed, and only from where this relay left it. A relay that dies is followed by another one
that begins at the checkpoint: what was published after it comes again, and receivers drop it by its id.

Every message is mandatory, so the broker hands back what no queue is bound for. On a topic exchange that is
normal (nobody listens to that event yet): it is counted, and the relay goes on.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
from prometheus_client import Gauge

from forecourt import logs, tracing
from forecourt.clock import Clock, SystemClock
from forecourt.connections import LOST
from forecourt.eventstore.port import Batch, EventStore, StoredEvent, StoreUnavailable, age_after
from forecourt.lease import Lease
from forecourt.messaging.cloudevents import routing_key, to_cloudevent
from forecourt.messaging.publisher import ConfirmedPublisher, Outgoing
from forecourt.metrics import RELAY_ERRORS, RELAY_LAG_EVENTS, RELAY_LAG_SECONDS, RELAYED_BY_NAME
from forecourt.waiting import cancel_and_wait, end_if_cancelled, wait

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = logs.get(__name__)

PAGE = 500
"""Events in one batch from the store."""

PENDING = 2_000
"""Events that may be read and not yet confirmed, give or take a batch: bounds the memory."""

SAVE_SECONDS = 0.2
"""How often the checkpoint is written, while it moves."""

REPORT_SECONDS = 2.0
"""How often lag is measured."""

DRAIN_SECONDS = 5.0
"""How long a relay that stops waits for the confirms still due."""

WATCH_SECONDS = 1.0
"""How often the relay looks whether its publishing thread lives."""

LEADING = Gauge("forecourt_relay_leading", "1 in the process that publishes, 0 on standby", ["service"])


class CheckpointMoved(Exception):
    """Somebody else has moved this relay's checkpoint."""


class PublisherEnded(Exception):
    """The thread that publishes has ended by itself."""


class _Pending(NamedTuple):
    """A batch that is submitted and not yet confirmed."""

    position: int
    events: int
    spans: "Sequence[Span]" = ()


class Relay:
    """Publishes the events of ``categories`` (None: of all) to the broker.

    ``name`` names checkpoint and lease: two relays of one name never publish at the same time, the second one
    waits until the first is gone. ``types`` are the stored types of events that are expected, for the metrics.
    """

    def __init__(
        self,
        *,
        name: str,
        store: EventStore,
        pool: "asyncpg.Pool[asyncpg.Record]",
        amqp_uri: str,
        categories: Collection[str] | None = None,
        clock: Clock | None = None,
        types: Collection[str] = (),
    ) -> None:
        self._name = name
        self._store = store
        self._pool = pool
        self._uri = amqp_uri
        self._categories = categories
        self._clock = clock or SystemClock()
        self._lease = Lease(pool, f"relay:{name}")
        # From the start: a relay on standby says so, and Prometheus sees the first event of each name as an increase.
        LEADING.labels(name)
        for stored_type in types:
            RELAYED_BY_NAME.labels(name, _short(stored_type))
        self._pending: deque[_Pending] = deque()
        self._pending_events = 0
        self._room = asyncio.Event()
        self._moved = asyncio.Event()
        self._saving = asyncio.Lock()
        self._confirmed = 0
        self._saved = 0

    @property
    def confirmed(self) -> int:
        """The position up to which the broker has confirmed everything; 0 before this relay leads."""
        return self._confirmed

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until ``stop`` is set, whatever happens to the broker, the database or the store."""
        while not stop.is_set():
            try:
                if not await self._lease.acquire(stop):
                    return
                LEADING.labels(self._name).set(1)
                await self._lead(stop)
            except (*LOST, asyncpg.PostgresError, StoreUnavailable, CheckpointMoved, PublisherEnded) as error:
                end_if_cancelled(error)
                RELAY_ERRORS.labels(self._name).inc()
                log.warning("relay begins again", relay=self._name, error=type(error).__name__)
                await wait(stop, 1.0)
            finally:
                LEADING.labels(self._name).set(0)
                await self._lease.release()

    async def _lead(self, stop: asyncio.Event) -> None:
        self._confirmed = self._saved = await self._load()
        self._pending.clear()
        self._pending_events = 0
        self._room.set()
        publisher = ConfirmedPublisher(self._name, self._uri, self._in_loop(self._on_confirmed))
        publisher.start()
        tasks = [
            asyncio.create_task(work)
            for work in (
                self._follow(publisher),
                self._save_often(),
                self._report(),
                _watch(publisher),
                self._lease.lost.wait(),
                stop.wait(),
            )
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            tasks[0].cancel()
            if self._lease.held and not publisher.ended:
                await self._drain()
            for task in done:
                task.result()
        finally:
            await cancel_and_wait(*tasks)
            await asyncio.to_thread(publisher.stop, DRAIN_SECONDS)

    async def _follow(self, publisher: ConfirmedPublisher) -> None:
        async for batch in self._store.subscribe(
            after=self._confirmed, categories=self._categories, page=PAGE
        ):
            self._accept(batch, publisher)
            if self._pending_events >= PENDING:
                self._room.clear()
                await self._room.wait()

    def _accept(self, batch: Batch, publisher: ConfirmedPublisher) -> None:
        events = batch.events
        spans: list[Span] = []
        messages = (
            [_outgoing(event) for event in events] if tracing.tracer is None else _traced(events, spans)
        )
        self._pending.append(_Pending(batch.position, len(events), spans))
        self._pending_events += len(events)
        publisher.submit(messages, batch.position)
        for stored_type, count in Counter(e.type for e in events).items():
            RELAYED_BY_NAME.labels(self._name, _short(stored_type)).inc(count)

    def _in_loop(self, function: Callable[[int], None]) -> Callable[[int], None]:
        """A function for the publisher's thread that calls ``function`` in this loop."""
        loop = asyncio.get_running_loop()

        def call(mark: int) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(function, mark)

        return call

    def _on_confirmed(self, position: int) -> None:
        self._confirmed = max(self._confirmed, position)
        while self._pending and self._pending[0].position <= position:
            done = self._pending.popleft()
            self._pending_events -= done.events
            for span in done.spans:
                span.end()
        if self._pending_events < PENDING:
            self._room.set()
        self._moved.set()

    async def _report(self) -> None:
        """Measure the lag by what the store has, for ever: by what was read, a stalled subscription has none."""
        while True:
            # This first: what is appended between the two must not look like work already done.
            position = self._confirmed
            behind = max(0, await self._store.head() - position)
            now = self._clock.now()
            age = await age_after(self._store, position, self._categories, now) if behind else 0.0
            RELAY_LAG_EVENTS.labels(self._name).set(behind)
            RELAY_LAG_SECONDS.labels(self._name).set(age)
            await asyncio.sleep(REPORT_SECONDS)

    async def _save_often(self) -> None:
        """Write the checkpoint while it moves."""
        while True:
            await self._moved.wait()
            await asyncio.sleep(SAVE_SECONDS)
            await self._save()

    async def _save(self) -> None:
        async with self._saving:
            self._moved.clear()
            position = self._confirmed
            if position == self._saved:
                return
            moved = await self._pool.fetchval(
                "UPDATE messaging.relay_checkpoint SET position = $3, updated_at = now()"
                " WHERE name = $1 AND position = $2 RETURNING position",
                self._name,
                self._saved,
                position,
            )
            if moved is None:
                raise CheckpointMoved(self._name)
            self._saved = position

    async def _load(self) -> int:
        await self._pool.execute(
            "INSERT INTO messaging.relay_checkpoint (name, position) VALUES ($1, 0) ON CONFLICT DO NOTHING",
            self._name,
        )
        return int(
            await self._pool.fetchval(
                "SELECT position FROM messaging.relay_checkpoint WHERE name = $1", self._name
            )
        )

    async def _drain(self) -> None:
        """Wait a little for the confirms still due, and keep what they brought."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._pending:
                    self._moved.clear()
                    await self._moved.wait()
        await self._save()


def _outgoing(event: StoredEvent, headers: Mapping[str, str] | None = None) -> Outgoing:
    key = routing_key(event.type, event.brand, event.dealer_id)
    return Outgoing(key, str(event.id), to_cloudevent(event), headers)


def _traced(events: Sequence[StoredEvent], spans: "list[Span]") -> list[Outgoing]:
    """The messages of events; those that belong to a trace say so, and their spans, open still, go into ``spans``."""
    messages = []
    for event in events:
        found = tracing.tracer.published(event) if tracing.tracer is not None else None
        if found is not None:
            spans.append(found[0])
        messages.append(_outgoing(event, found and found[1]))
    return messages


def _short(stored_type: str) -> str:
    """The event's name without the service's."""
    return stored_type.rpartition(".")[2]


async def _watch(publisher: ConfirmedPublisher) -> None:
    """Raise `PublisherEnded` when the thread is gone: a relay that only seems to lead keeps everybody else out."""
    while not publisher.ended:  # noqa: ASYNC110 - a thread that dies tells nobody
        await asyncio.sleep(WATCH_SECONDS)
    raise PublisherEnded
