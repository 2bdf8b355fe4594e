"""Writes entries: those of concurrent calls together, each answered when it is stored.

Every process writes streams of its own, one per dealer and day, of a bounded length: so nobody else appends to them,
and no entry ever waits for a conflict.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from time import monotonic
from uuid import UUID, uuid4, uuid5

from forecourt import logs, metrics
from forecourt.audit.entries import CATEGORY, SERVICE, Entry
from forecourt.clock import Clock
from forecourt.errors import ForecourtError, Unavailable
from forecourt.eventstore.port import Append, AppendResult, EventStore, NewEvent

log = logs.get(__name__)

QUEUE = 5_000
"""Entries that wait to be stored at most; further calls are answered UNAVAILABLE."""

TOGETHER = 400
"""Entries that are stored at once at most."""

STREAM_LENGTH = 10_000
"""Entries of one stream; then the next one is begun."""


class AuditUnavailable(Unavailable):
    """What happened cannot be noted down now, so it does not happen."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose call an entry is about, and what it belongs to."""

    correlation_id: UUID
    actor_id: str = ""
    dealer_id: str = ""
    brand: str = ""
    causation_id: UUID | None = None


@dataclass(slots=True)
class _Stream:
    name: str
    length: int = 0


@dataclass(slots=True)
class _Waiting:
    event: NewEvent
    since: float
    stored: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class AuditTrail:
    """The entries of one process. ``writer`` names its streams; no two processes may share one."""

    def __init__(
        self, store: EventStore, clock: Clock, *, writer: UUID | None = None, queue: int = QUEUE
    ) -> None:
        self.clock = clock
        self._store = store
        self._writer_id = writer or uuid4()
        self._limit = queue
        self._waiting: deque[_Waiting] = deque()
        self._numbers = 0
        self._streams: dict[str, _Stream] = {}
        self._day: date | None = None
        self._writing: asyncio.Task[None] | None = None
        self._under_way = 0

    async def record(self, entry: Entry, origin: Origin) -> None:
        """Store an entry and return when it is there.

        Raises `AuditUnavailable` where too many wait already, or the store does not take it.
        """
        await self.submit(entry, origin)

    def submit(self, entry: Entry, origin: Origin) -> "asyncio.Future[None]":
        """Have an entry stored; what is answered is done when it is there, or holds `AuditUnavailable`.

        For those who cannot wait. Raises `AuditUnavailable` where too many wait already.
        """
        if len(self._waiting) + self._under_way >= self._limit:
            metrics.AUDIT_LOST.inc()
            raise AuditUnavailable("the audit is behind; nothing is answered that it could not note down")
        waiting = _Waiting(self._event(entry, origin), monotonic())
        self._waiting.append(waiting)
        metrics.AUDIT_WAITING.set(len(self._waiting) + self._under_way)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return waiting.stored

    async def close(self) -> None:
        """Wait for what is being stored."""
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)

    def _event(self, entry: Entry, origin: Origin) -> NewEvent:
        self._numbers += 1
        return NewEvent(
            id=uuid5(self._writer_id, str(self._numbers)),
            type=f"{SERVICE}.{entry.event_name}",
            version=entry.event_version,
            time=self.clock.now(),
            data=entry.model_dump_json(),
            correlation_id=origin.correlation_id,
            causation_id=origin.causation_id,
            dealer_id=origin.dealer_id,
            brand=origin.brand,
            actor_id=origin.actor_id,
        )

    async def _write(self) -> None:
        """Store what has gathered until nothing waits."""
        # One turn of the loop: calls that are refused at the same moment share the append.
        await asyncio.sleep(0)
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
            self._under_way = len(group)
            try:
                await self._store_group(group)
            finally:
                self._under_way = 0
                metrics.AUDIT_WAITING.set(len(self._waiting))

    async def _store_group(self, group: Sequence[_Waiting]) -> None:
        by_dealer: dict[str, list[_Waiting]] = {}
        for waiting in group:
            by_dealer.setdefault(waiting.event.dealer_id, []).append(waiting)
        streams = [self._stream(dealer, group[0].event.time.date()) for dealer in by_dealer]
        appends = [
            Append(stream.name, [waiting.event for waiting in own], stream.length)
            for stream, own in zip(streams, by_dealer.values(), strict=True)
        ]
        results: Sequence[AppendResult | ForecourtError]
        try:
            results = await self._store.append_many(appends)
        except ForecourtError as error:
            results = [error] * len(appends)
        for stream, (dealer, own), result in zip(streams, by_dealer.items(), results, strict=True):
            if isinstance(result, AppendResult):
                stream.length = result.sequence
                self._done(own)
            else:
                # Where it stands now nobody knows: the next entry begins another stream.
                self._streams.pop(dealer, None)
                self._failed(own, result)

    def _stream(self, dealer: str, day: date) -> _Stream:
        """The stream that the entries of a dealer go to."""
        if day != self._day:
            self._streams.clear()
            self._day = day
        stream = self._streams.get(dealer)
        if stream is None or stream.length > STREAM_LENGTH - TOGETHER:
            self._numbers += 1
            name = uuid5(self._writer_id, f"{dealer}:{day}:{self._numbers}")
            stream = self._streams[dealer] = _Stream(f"{CATEGORY}-{name}")
        return stream

    @staticmethod
    def _done(group: Sequence[_Waiting]) -> None:
        now = monotonic()
        for waiting in group:
            metrics.AUDIT_SECONDS.observe(now - waiting.since)
            metrics.AUDIT_ENTRIES.labels(waiting.event.type.partition(".")[2]).inc()
            if not waiting.stored.done():
                waiting.stored.set_result(None)

    @staticmethod
    def _failed(group: Sequence[_Waiting], error: ForecourtError) -> None:
        log.warning("audit.not_stored", entries=len(group), error=error.slug)
        metrics.AUDIT_LOST.inc(len(group))
        for waiting in group:
            if not waiting.stored.done():
                waiting.stored.set_exception(AuditUnavailable("the audit cannot note this down now"))
                # Whoever does not wait has not to ask either: it is counted and logged above.
                waiting.stored.exception()
