"""Follows a sequence of batches with one or several read models: decode, load, fold, write, move the checkpoint.

While one batch is written the next one is already folded; the rows that the first one touched are at hand
until it is committed. Everything in memory is void as soon as something unexpected happens: then the caller
starts again from what the database says.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from forecourt import tracing
from forecourt.codec import Codec
from forecourt.events import Envelope, Recorded
from forecourt.eventstore.port import Batch, StoredEvent, close_batches
from forecourt.projections import checkpoint
from forecourt.projections.folding import Changes, Item, PutAside, RowsRefused, Step, Target, write
from forecourt.projections.projection import Key
from forecourt.registry import UndecodableEvent
from forecourt.waiting import cancel_and_wait

_ENVELOPE = Envelope()

SLICE = 500
"""Events folded at a stretch, before others on the event loop get their turn."""


@dataclass(frozen=True)
class Prepared:
    """A batch, folded and ready to be written."""

    batch: Batch
    targets: list[Target]
    changes: list[Changes]


class Follower:
    """Folds batches into targets, in order, each exactly once.

    ``on_written`` is told of every committed batch and what it changed, also when that is nothing. ``traced``: batches
    have spans, where traces are on.
    """

    def __init__(
        self,
        pool: Any,
        schema: str,
        codec: Codec,
        targets: Sequence[Target],
        *,
        on_written: Callable[[Batch, list[Changes]], None] | None = None,
        traced: bool = False,
    ) -> None:
        self._pool = pool
        self._schema = schema
        self._codec = codec
        self._targets = list(targets)
        self._types = frozenset[str]().union(*(target.types for target in targets))
        self._looks_at_all = any(target.categories is None for target in targets)
        self._on_written = on_written
        self._traced = traced
        self._writing: asyncio.Task[None] | None = None
        self._written: Batch | None = None

    @property
    def categories(self) -> frozenset[str] | None:
        """The categories of the streams that the targets are made of; None for all."""
        if self._looks_at_all:
            return None
        return frozenset[str]().union(*(target.categories or () for target in self._targets))

    async def follow(self, batches: AsyncIterator[Batch]) -> None:
        """Fold all ``batches``.

        Raises `forecourt.projections.checkpoint.CheckpointMoved` when somebody else moved a checkpoint, and
        whatever the store and the database raise; nothing of an unfinished batch is left behind.
        """
        async with self._pool.acquire() as connection:
            # Safe to lose in a crash: rows and checkpoint are lost together, and folded again.
            await connection.execute("SET synchronous_commit = off")
            upcoming = asyncio.ensure_future(anext(batches, None))
            try:
                while (batch := await upcoming) is not None:
                    upcoming = asyncio.ensure_future(anext(batches, None))
                    ended = self._span_of(batch)
                    prepared = await self._prepare(batch, connection)
                    if await self._settle(connection):
                        prepared = await self._prepare(batch, connection)
                    self._written = batch
                    self._writing = asyncio.create_task(self._commit(connection, prepared, bulk=True))
                    if ended is not None:
                        self._writing.add_done_callback(ended)
                    if batch.caught_up:
                        await self._settle(connection)
                await self._settle(connection)
            finally:
                try:
                    await cancel_and_wait(*(task for task in (upcoming, self._writing) if task is not None))
                finally:
                    await close_batches(batches)

    def _span_of(self, batch: Batch) -> Callable[[asyncio.Future[None]], None] | None:
        """What ends the span of a batch, where it has one."""
        if tracing.tracer is None or not self._traced:
            return None
        wanted = (event for event in batch.events if event.type in self._types)
        return tracing.tracer.folded(self._schema, wanted)

    async def _settle(self, connection: Any) -> bool:
        """Wait for the write under way; True where it had to be done in parts: what was folded on it is void."""
        if self._writing is None or self._written is None:
            return False
        writing, self._writing = self._writing, None
        try:
            await writing
        except RowsRefused:
            await self._isolate(connection, self._written)
            return True
        return False

    async def _items(self, events: Sequence[StoredEvent]) -> list[Item]:
        """The events that a target wants, decoded; those whose envelope is enough, with no data."""
        decoded = await self._decode(events)
        if not self._looks_at_all:
            return decoded
        items = iter(decoded)
        return [next(items) if e.type in self._types else Recorded(_ENVELOPE, e) for e in events]

    async def _decode(self, events: Sequence[StoredEvent]) -> list[Item]:
        handled = [event for event in events if event.type in self._types]
        try:
            found: list[Item] = []
            for start in range(0, len(handled), 1000):
                found += await self._codec.decode(handled[start : start + 1000])
                await asyncio.sleep(0)
            return found
        except UndecodableEvent:
            return [await self._decode_one(event) for event in handled]

    async def _decode_one(self, event: StoredEvent) -> Item:
        try:
            return (await self._codec.decode([event]))[0]
        except UndecodableEvent as error:
            return error

    async def _prepare(self, batch: Batch, connection: Any) -> Prepared:
        items = await self._items(batch.events)
        moving = [target for target in self._targets if batch.position > target.folded]
        prepared = Prepared(batch, moving, [])
        for target in moving:
            changes = await self._fold(target, items, connection)
            if changes is not None:
                prepared.changes.append(changes)
            target.folded = batch.position
        return prepared

    async def _fold(self, target: Target, items: Sequence[Item], connection: Any) -> Changes | None:
        target.cache.turn()
        plan = target.plan(items)
        if not plan.steps:
            return None
        barred = await self._barred(target, plan.steps) if target.has_quarantine else set[str]()
        if plan.missing:
            plan.before.update(await self._load(target, plan.missing, connection))
        rows = dict(plan.before)
        put_aside: list[PutAside] = []
        for start in range(0, len(plan.steps), SLICE):
            target.fold(plan.steps[start : start + SLICE], rows, barred, put_aside)
            if self._writing is not None:
                await asyncio.sleep(0)
        swept = target.projection.swept(step[0] for step in plan.steps if isinstance(step, tuple))
        for cls, ids in swept.items():
            found = await self._rows_with(target, target.projection.sweeps[cls][0], ids)
            for key in found.keys() - rows.keys():
                plan.before[key] = rows[key] = found[key]
            target.projection.sweep(cls, ids, rows)
        target.has_quarantine = target.has_quarantine or bool(put_aside)
        target.cache.put(rows)
        return target.changes(plan.before, rows, put_aside, len(plan.steps))

    async def _load(self, target: Target, keys: Sequence[Key], connection: Any) -> dict[Key, Any]:
        table = target.table
        arguments = table.key_arrays(keys)
        if self._writing is None:
            records = await connection.fetch(table.load_sql, *arguments)
        else:
            # The write under way touches none of these keys: those are in the cache.
            records = await self._pool.fetch(table.load_sql, *arguments)
        rows = [table.make_row(record) for record in records]
        return {target.projection.key_of(row): row for row in rows}

    async def _rows_with(self, target: Target, column: str, ids: Collection[UUID]) -> dict[Key, Any]:
        """The rows in the database that have one of these ids in a column."""
        if self._writing is not None:
            # The write under way may be adding to them.
            await asyncio.wait([self._writing])
        records = await self._pool.fetch(target.table.select_sql(column), list(ids))
        rows = [target.table.make_row(record) for record in records]
        return {target.projection.key_of(row): row for row in rows}

    async def _barred(self, target: Target, steps: Sequence[Step]) -> set[str]:
        """The streams of these steps that have events in quarantine."""
        if self._writing is not None:
            # The write under way may be adding to it.
            await asyncio.wait([self._writing])
        streams = {(s[0].meta if isinstance(s, tuple) else s.event).stream for s in steps}
        rows = await self._pool.fetch(
            f'SELECT DISTINCT stream FROM "{self._schema}".projection_quarantine'
            " WHERE target = $1 AND stream = ANY($2::text[])",
            target.id,
            list(streams),
        )
        return {row["stream"] for row in rows}

    async def _commit(self, connection: Any, prepared: Prepared, *, bulk: bool) -> None:
        batch, targets = prepared.batch, prepared.targets
        if targets:
            await self._write(connection, prepared, bulk=bulk)
        if self._on_written is not None:
            self._on_written(batch, prepared.changes)

    async def _write(self, connection: Any, prepared: Prepared, *, bulk: bool) -> None:
        batch, targets = prepared.batch, prepared.targets
        async with connection.transaction():
            answer = await checkpoint.move(
                connection,
                self._schema,
                [checkpoint.Standing(t.id, t.table.relation, t.position) for t in targets],
                batch.position,
                news(batch.position, targets),
            )
            if answer is not checkpoint.Moved.OK:
                raise checkpoint.CheckpointMoved(answer)
            for changes in prepared.changes:
                await write(connection, changes, bulk=bulk)
        for target in targets:
            target.position = batch.position

    async def _isolate(self, connection: Any, batch: Batch) -> None:
        """Write a batch that the database refused in ever smaller parts, and put aside the event at fault."""
        for target in self._targets:
            target.forget()
        try:
            await self._commit(connection, await self._prepare(batch, connection), bulk=False)
        except RowsRefused as refused:
            if len(batch.events) > 1:
                for part in halves(batch):
                    await self._isolate(connection, part)
                return
            refused.target.refused[batch.events[0].position] = refused.reason
            await self._isolate(connection, batch)
        for target in self._targets:
            target.refused.clear()


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """A batch of two or more events in two parts."""
    middle = len(batch.events) // 2
    first, second = batch.events[:middle], batch.events[middle:]
    return Batch(first, first[-1].position, False), Batch(second, batch.position, batch.caught_up)


def news(position: int, targets: Sequence[Target]) -> str:
    """What waiting readers are told: ``<position> <name>.<version> ...``."""
    names = (f"{target.projection.name}.{target.projection.version}" for target in targets if target.serves)
    return " ".join((str(position), *names))
