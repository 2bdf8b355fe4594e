"""The event store on PostgreSQL: the default, beside the read models.

Concurrent appends are grouped: callers hand their events to one writer per process, which sends what has
gathered as a single call of a plpgsql function, in a transaction of its own. The function takes an advisory
lock, checks every append's expected version against the stream's last sequence, gives the positions, and
inserts those that fit.

Why the lock, held to the commit: sequence numbers handed out by concurrent transactions become visible out of
order, and a reader that trusts ``position > last`` then loses events. Under the lock positions are dense and
become visible in order, so plain keyset readers are safe, and a stream's last sequence cannot change between
the check and the insert. With grouping the lock costs nothing that can be measured.

Why ``force_custom_plan``: a cached generic plan of the ``unnest`` insert assumes too few rows and runs at a
third of the speed.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

import asyncpg

from forecourt import migrations
from forecourt.connections import LOST, STATEMENT_SECONDS, keep_listening, open_pool
from forecourt.eventstore.port import (
    PAGE,
    Append,
    AppendResult,
    Batch,
    NewEvent,
    StoredEvent,
    StoreUnavailable,
    WrongExpectedVersion,
    check_append,
)
from forecourt.waiting import Company, cancel_and_wait, end_if_cancelled, wait

GROUP_EVENTS = 500
"""Most events that one transaction takes."""

MAX_WAITING = 50_000
"""Appends that may wait for their group; more are refused. A server that is well takes a second for them."""

WINDOW = 20_000
"""Positions that one page of a filtered read spans."""

POLL_SECONDS = 1.0
"""How often a waiting reader looks by itself, should a notification be lost."""

RETRY_DELAYS = (0.05, 0.2, 0.5, 1.0, 2.0)
"""Seconds between the tries of an append whose connection broke. Repeating is safe: ids are compared."""

_COLUMNS = (
    "position, stream, sequence, id, type, version, time, data, correlation_id, causation_id, "
    "dealer_id, brand, actor_id, metadata"
)


@dataclass(slots=True)
class _Pending:
    """An append that waits for its group."""

    stream: str
    events: Sequence[NewEvent]
    expected: int
    done: "asyncio.Future[AppendResult]"


class PostgresEventStore:
    """`forecourt.eventstore.port.EventStore` on a PostgreSQL schema.

    ``on_group`` is told the number of events of every group that was written, for a metric.
    """

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        *,
        schema: str = "events",
        owns_pool: bool = False,
        on_group: Callable[[int], None] | None = None,
        statement_seconds: float = STATEMENT_SECONDS,
    ) -> None:
        self._pool = pool
        self._statement_seconds = statement_seconds
        self._schema = schema
        self._owns_pool = owns_pool
        self.on_group = on_group
        self._pending: deque[_Pending] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._company = Company()
        self._listener: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._closed = False

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        schema: str = "events",
        max_connections: int = 10,
        statement_seconds: float = STATEMENT_SECONDS,
    ) -> Self:
        """A store with a connection pool of its own. Raises `StoreUnavailable`."""
        try:
            pool = await open_pool(dsn, max_connections, statement_seconds=statement_seconds)
        except LOST as error:
            raise StoreUnavailable(f"event store: {type(error).__name__}") from error
        return cls(pool, schema=schema, owns_pool=True, statement_seconds=statement_seconds)

    async def migrate(self) -> None:
        """Bring schema, table and function up to date; safe to run at any time, by several at once."""
        await migrations.apply(self._pool, [migrations.events(self._schema)])

    async def pending(self) -> list[migrations.Migration]:
        """What `migrate` would do."""
        return await migrations.pending(self._pool, [migrations.events(self._schema)])

    async def append(self, stream: str, events: Sequence[NewEvent], *, expected: int) -> AppendResult:
        """Append ``events`` after exactly sequence ``expected``; see the port."""
        check_append(stream, events, expected)
        self._check_room(1)
        return await self._hand_over(stream, events, expected)

    async def append_many(self, appends: Sequence[Append]) -> list[AppendResult | WrongExpectedVersion]:
        """See the port: they are written in groups, together with what others append at the same time."""
        for stream, events, expected in appends:
            check_append(stream, events, expected)
        self._check_room(len(appends))
        handed = [self._hand_over(*one) for one in appends]
        results = await asyncio.gather(*handed, return_exceptions=True)
        return [_result_or_conflict(result) for result in results]

    def _check_room(self, appends: int) -> None:
        if self._closed:
            raise StoreUnavailable("event store: is closed")
        if len(self._pending) + appends > MAX_WAITING:
            raise StoreUnavailable("event store: too many appends wait for it")

    def _hand_over(
        self, stream: str, events: Sequence[NewEvent], expected: int
    ) -> "asyncio.Future[AppendResult]":
        pending = _Pending(stream, events, expected, asyncio.get_running_loop().create_future())
        self._pending.append(pending)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        return pending.done

    async def _write(self) -> None:
        """Send what has gathered, group by group, until nothing waits."""
        # One turn of the loop: callers that are ready at the same moment share the group.
        await asyncio.sleep(0)
        while self._pending:
            await self._company.gather(len(self._pending))
            group = self._next_group()
            self._company.went(len(group))
            try:
                await self._write_group(group)
            except Exception as error:  # noqa: BLE001 - it is not lost: it belongs to the callers of this group
                if isinstance(error.__cause__, TimeoutError):
                    # Each group behind it would wait as long for a server that is silent.
                    group += self._pending
                    self._pending.clear()
                for pending in group:
                    if not pending.done.done():
                        pending.done.set_exception(error)

    def _next_group(self) -> list[_Pending]:
        """Appends for one transaction: at most one per stream, since a second one depends on the first."""
        group: list[_Pending] = []
        streams: set[str] = set()
        later: list[_Pending] = []
        size = 0
        while self._pending and size < GROUP_EVENTS:
            pending = self._pending.popleft()
            if pending.done.done():
                continue
            if pending.stream in streams:
                later.append(pending)
                continue
            if group and size + len(pending.events) > GROUP_EVENTS:
                later.append(pending)
                break
            group.append(pending)
            streams.add(pending.stream)
            size += len(pending.events)
        self._pending.extendleft(reversed(later))
        return group

    async def _write_group(self, group: list[_Pending]) -> None:
        if not group:
            return
        base, actual = await self._call_append(group)
        position = base
        conflicts: list[tuple[_Pending, int]] = []
        for pending, found in zip(group, actual, strict=True):
            if found != pending.expected:
                conflicts.append((pending, found))
                continue
            position += len(pending.events)
            if not pending.done.done():
                pending.done.set_result(AppendResult(pending.expected + len(pending.events), position))
        if self.on_group is not None and position > base:
            self.on_group(position - base)
        for pending, found in conflicts:
            await self._answer_conflict(pending, found)

    async def _call_append(self, group: list[_Pending]) -> tuple[int, list[int]]:
        arguments = _columns(group)
        query = f"SELECT base, actual FROM {self._schema}.append($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15)"
        for delay in (*RETRY_DELAYS, None):
            try:
                async with self._pool.acquire(timeout=self._statement_seconds) as connection:
                    row = await connection.fetchrow(query, *arguments)
                assert row is not None
                return row["base"], row["actual"]
            except LOST as error:
                # Who has waited that long already had better hear of it.
                if delay is None or self._closed or isinstance(error, TimeoutError):
                    raise StoreUnavailable(f"event store: {type(error).__name__}") from error
                await asyncio.sleep(delay)
        raise AssertionError("unreachable")

    async def _answer_conflict(self, pending: _Pending, actual: int) -> None:
        """The first result where these very events stand there already, else the conflict."""
        ids = [event.id for event in pending.events]
        rows: list[Any] = []
        if actual >= pending.expected + len(ids):
            rows = await self._fetch(
                f"SELECT id, position FROM {self._schema}.event"
                " WHERE stream = $1 AND sequence > $2 AND sequence <= $3 ORDER BY sequence",
                pending.stream,
                pending.expected,
                pending.expected + len(ids),
            )
        if pending.done.done():
            return
        if [row["id"] for row in rows] == ids:
            pending.done.set_result(AppendResult(pending.expected + len(ids), rows[-1]["position"]))
        else:
            pending.done.set_exception(WrongExpectedVersion(pending.stream, pending.expected, actual))

    async def read_stream(
        self, stream: str, *, after: int = 0, page: int = 500
    ) -> AsyncIterator[list[StoredEvent]]:
        """Pages of a stream's events with a sequence above ``after``."""
        query = (
            f"SELECT {_COLUMNS} FROM {self._schema}.event"
            " WHERE stream = $1 AND sequence > $2 ORDER BY sequence LIMIT $3"
        )
        while True:
            rows = await self._fetch(query, stream, after, page)
            if rows:
                yield [StoredEvent(*row) for row in rows]
                after = rows[-1]["sequence"]
            if len(rows) < page:
                return

    async def read_all(
        self, *, after: int = 0, categories: Collection[str] | None = None, page: int = PAGE
    ) -> AsyncIterator[Batch]:
        """Batches of all events above ``after`` up to the present end, the next one fetched ahead."""
        upcoming = asyncio.ensure_future(self._batch(after, categories, page))
        try:
            while True:
                batch = await upcoming
                if batch.caught_up:
                    yield batch
                    return
                upcoming = asyncio.ensure_future(self._batch(batch.position, categories, page))
                if batch.events:
                    yield batch
        finally:
            await cancel_and_wait(upcoming)

    async def subscribe(
        self, *, after: int = 0, categories: Collection[str] | None = None, page: int = PAGE
    ) -> AsyncIterator[Batch]:
        """All events above ``after``, then those to come; goes on by itself after a restart of the server."""
        self._listen()
        first, delays = True, iter(RETRY_DELAYS)
        while True:
            # Taken before the read: what is appended while we read must not be slept over.
            news = self._news
            try:
                async for batch in self.read_all(after=after, categories=categories, page=page):
                    if batch.events or batch.position > after or first:
                        yield batch
                    after, first, delays = batch.position, first and not batch.caught_up, iter(RETRY_DELAYS)
                await self._wait_for(news)
            except StoreUnavailable:
                await asyncio.sleep(next(delays, RETRY_DELAYS[-1]))

    async def head(self) -> int:
        """The position of the last event, 0 when there is none."""
        rows = await self._fetch(f"SELECT coalesce(max(position), 0) AS head FROM {self._schema}.event")
        return int(rows[0]["head"])

    async def close(self) -> None:
        """Finish appends under way, then let go of the connections."""
        self._closed = True
        if self._writer is not None:
            await self._writer
        if self._listener is not None:
            await cancel_and_wait(self._listener)
        if self._owns_pool:
            await self._pool.close()

    async def _batch(self, after: int, categories: Collection[str] | None, page: int) -> Batch:
        """The next batch above ``after``. Positions are dense, so a window of them bounds a filtered read."""
        if categories is None:
            rows = await self._fetch(
                f"SELECT {_COLUMNS} FROM {self._schema}.event WHERE position > $1 ORDER BY position LIMIT $2",
                after,
                page,
            )
            position = rows[-1]["position"] if rows else after
            return Batch([StoredEvent(*row) for row in rows], position, len(rows) < page)
        # The end is taken before the events are read: what lies at or below it is complete.
        end = min(await self.head(), after + max(WINDOW, page))
        if end <= after:
            return Batch([], after, True)
        rows = await self._fetch(
            f"SELECT {_COLUMNS} FROM {self._schema}.event"
            " WHERE position > $1 AND position <= $2 AND category = ANY($3) ORDER BY position LIMIT $4",
            after,
            end,
            list(categories),
            page,
        )
        full = len(rows) == page
        position = rows[-1]["position"] if full else end
        return Batch(
            [StoredEvent(*row) for row in rows], position, not full and end < after + max(WINDOW, page)
        )

    async def _fetch(self, query: str, *arguments: Any) -> list[Any]:
        try:
            async with self._pool.acquire(timeout=self._statement_seconds) as connection:
                return list(await connection.fetch(query, *arguments))
        except LOST as error:
            end_if_cancelled(error)
            raise StoreUnavailable(f"event store: {type(error).__name__}") from error

    def _listen(self) -> None:
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(
                keep_listening(self._listen_once, "nobody listens for appends", seconds=POLL_SECONDS)
            )

    async def _listen_once(self) -> None:
        channel = f"{self._schema}_event"
        async with self._pool.acquire() as connection:
            await connection.add_listener(channel, self._notified)
            try:
                while not connection.is_closed():  # noqa: ASYNC110 - the driver tells of no close
                    await asyncio.sleep(POLL_SECONDS)
            finally:
                if not connection.is_closed():
                    with contextlib.suppress(*LOST):
                        await connection.remove_listener(channel, self._notified)

    def _notified(self, *_: object) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _wait_for(self, news: asyncio.Event) -> None:
        """Return when something was appended, at the latest after `POLL_SECONDS`."""
        await wait(news, POLL_SECONDS)


def _result_or_conflict(result: AppendResult | BaseException) -> AppendResult | WrongExpectedVersion:
    if isinstance(result, BaseException) and not isinstance(result, WrongExpectedVersion):
        raise result
    return result


def _columns(group: list[_Pending]) -> tuple[list[Any], ...]:
    """The group as columns, one array per parameter of the SQL function."""
    numbered = [
        (number, offset, event)
        for number, pending in enumerate(group, start=1)
        for offset, event in enumerate(pending.events, start=1)
    ]
    return (
        [pending.stream for pending in group],
        [pending.expected for pending in group],
        [number for number, _, _ in numbered],
        [offset for _, offset, _ in numbered],
        [event.id for _, _, event in numbered],
        [event.type for _, _, event in numbered],
        [event.version for _, _, event in numbered],
        [event.time for _, _, event in numbered],
        [event.data for _, _, event in numbered],
        [event.correlation_id for _, _, event in numbered],
        [event.causation_id for _, _, event in numbered],
        [event.dealer_id for _, _, event in numbered],
        [event.brand for _, _, event in numbered],
        [event.actor_id for _, _, event in numbered],
        [event.metadata for _, _, event in numbered],
    )
