"""One read model being folded: which rows an event touches, what becomes of them, and what is put aside.

Rows that were touched lately are kept, bounded, so that a rebuild and a busy aggregate are not loaded again
and again. What an event does to a read model is all or nothing; an event that cannot be decoded, or whose
handler raises, is put aside with its reason, and so is whatever follows it in its stream: the order within an
aggregate holds, and other streams go on. What erases personal data is followed nevertheless: it never comes too early.
"""

import contextlib
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import asyncpg
from asyncpg.pgproto.pgproto import UUID  # is a uuid.UUID, made and hashed ten times as fast

from forecourt.events import AnyEvent, Envelope, Meta, Recorded
from forecourt.eventstore.port import StoredEvent
from forecourt.projections.projection import Handler, Key, Projection
from forecourt.projections.tables import Registered, Table, canonical_relation
from forecourt.registry import Registry, UndecodableEvent

CACHED_ROWS = 20_000
"""Rows of one read model that are kept in memory between batches, at least; at most twice as many."""

COPY_FROM = 200
"""New rows from which COPY pays off against INSERT."""

Item = Recorded[AnyEvent] | UndecodableEvent
"""An event of a batch, as far as it could be decoded."""

Row = Any
_MISSING: Any = object()


class RowCache:
    """The rows touched lately, None for one that is known not to be there.

    Two generations: the older one is dropped when the younger one is full. That costs nothing per row, and
    what the last batch touched is always kept.
    """

    def __init__(self, size: int = CACHED_ROWS) -> None:
        self._size = size
        self._young: dict[Key, Row] = {}
        self._old: dict[Key, Row] = {}

    def turn(self) -> None:
        """Make room; called between batches."""
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}

    def get(self, key: Key, default: Any) -> Row:
        """The row with this key, or ``default`` where it is not known."""
        row = self._young.get(key, _MISSING)
        return self._old.get(key, default) if row is _MISSING else row

    def put(self, rows: Mapping[Key, Row]) -> None:
        """Keep rows."""
        self._young.update(rows)

    def clear(self) -> None:
        """Forget all rows."""
        self._young, self._old = {}, {}


@dataclass(frozen=True)
class PutAside:
    """An event that a read model could not take in."""

    event: StoredEvent
    reason: str


@dataclass(frozen=True)
class Changes:
    """What a batch does to one read model."""

    target: "Target"
    inserted: list[Row]
    updated: list[Row]
    deleted: list[Key]
    put_aside: list[PutAside]
    events: int


Touch = tuple[Callable[[Any, Any, Meta], Any], Key]
"""A handler's function, and the key of the row that it is applied to."""

Step = tuple[Recorded[AnyEvent], Sequence[Touch]] | PutAside


@dataclass
class Plan:
    """What a batch does to one read model: its steps in order, and the rows that they touch.

    ``before`` has every key that is touched, ``missing`` those of them whose rows have to be loaded first.
    """

    steps: list[Step]
    before: dict[Key, Row]
    missing: list[Key]


@dataclass(eq=False)
class Target:
    """A table that is being folded. ``position`` is what is committed, ``folded`` what is in memory."""

    id: int
    table: Table
    position: int
    has_quarantine: bool
    handlers: dict[type[AnyEvent], list[Handler]]
    types: frozenset[str]
    categories: frozenset[str] | None
    """None: all of them, since it looks at every event's envelope."""
    serves: bool
    """Whether it is read, so that its progress is news."""
    folded: int = 0
    cache: RowCache = field(default_factory=RowCache)
    refused: dict[int, str] = field(default_factory=dict)
    """Positions of events whose rows the database refused, with the reason."""

    @property
    def projection(self) -> Projection[Any]:
        """The projection that is folded."""
        return self.table.projection

    def forget(self) -> None:
        """Drop what is in memory; go on from what is committed."""
        self.cache.clear()
        self.folded = self.position

    def plan(self, items: Iterable[Item]) -> Plan:
        """The steps that a batch takes here, with the rows that are at hand."""
        steps: list[Step] = []
        before: dict[Key, Row] = {}
        missing: list[Key] = []
        handlers_of, cached, after = self._folds.get, self.cache.get, self.folded
        for item in items:
            if isinstance(item, UndecodableEvent):
                if item.event.type in self.types and item.event.position > after:
                    steps.append(PutAside(item.event, f"undecodable: {item.reason}"))
                continue
            handlers, meta = handlers_of(type(item.event)), item.meta
            if handlers is None or meta.position <= after:
                continue
            touches: Sequence[Touch]
            if isinstance(handlers, list):
                try:
                    touches = self._touches(handlers, item)
                except Exception as error:  # noqa: BLE001
                    # Whatever a key function raises is this event's fault and nobody else's.
                    steps.append(PutAside(meta, _reason(error)))
                    continue
            else:
                touches = ((handlers, (UUID(meta.stream[-36:]),)),)
            steps.append((item, touches))
            for _, key in touches:
                if key not in before:
                    row = cached(key, _MISSING)
                    if row is _MISSING:
                        missing.append(key)
                        row = None
                    before[key] = row
        return Plan(steps, before, missing)

    @cached_property
    def _folds(self) -> dict[type[AnyEvent], Any]:
        """The handlers by event: a bare function where there is one, on the row of the event's own aggregate."""
        return {
            cls: handlers[0].fold if len(handlers) == 1 and handlers[0].key is None else handlers
            for cls, handlers in self.handlers.items()
        }

    def _touches(self, handlers: Sequence[Handler], item: Recorded[AnyEvent]) -> list[Touch]:
        width = len(self.projection.key)
        touches = [(handler.fold, key) for handler in handlers for key in self.projection.keys(handler, item)]
        for _, key in touches:
            if len(key) != width or None in key:
                raise ValueError("the key function did not answer a value for every key column")
            hash(key)
        return touches

    def fold(
        self, steps: Sequence[Step], rows: dict[Key, Row], barred: set[str], put_aside: list[PutAside]
    ) -> None:
        """Apply steps to ``rows`` in place; events of ``barred`` streams are put aside."""
        refused = self.refused
        for step in steps:
            if isinstance(step, PutAside):
                barred.add(step.event.stream)
                put_aside.append(step)
                continue
            item, touches = step
            if barred or refused:
                reason = self._objection(item.meta, barred)
                if reason is not None:
                    put_aside.append(PutAside(item.meta, reason))
                    if item.event.erases and item.meta.position not in refused:
                        self._erase(item, touches, rows)
                    barred.add(item.meta.stream)
                    continue
            try:
                self._apply(item, touches, rows)
            except Exception as error:  # noqa: BLE001
                # A handler is pure code of a service: its error must not stop the other streams.
                barred.add(item.meta.stream)
                put_aside.append(PutAside(item.meta, _reason(error)))

    def _erase(self, item: Recorded[AnyEvent], touches: Sequence[Touch], rows: dict[Key, Row]) -> None:
        """Take in an event that only removes, on rows that lack what was put aside before it."""
        with contextlib.suppress(Exception):  # it is put aside already
            self._apply(item, touches, rows)

    def _objection(self, meta: StoredEvent, barred: Collection[str]) -> str | None:
        """Why an event cannot be taken in, known beforehand."""
        if meta.stream in barred:
            return "follows an event of its stream that was put aside"
        return self.refused.get(meta.position)

    def _apply(self, item: Recorded[AnyEvent], touches: Sequence[Touch], rows: dict[Key, Row]) -> None:
        """Apply one event to all rows it touches, or to none."""
        event, meta = item.event, item.meta
        # A single row cannot be half done, so it needs no stage.
        staged = rows if len(touches) == 1 else dict[Key, Row]()
        for fold, key in touches:
            row = fold(staged[key] if key in staged else rows[key], event, meta)
            if row is not None and (type(row) is not self._row or self._key_of(row) != key):
                raise ValueError("the handler answered a row with another key, or no row at all")
            staged[key] = row
        if staged is not rows:
            rows.update(staged)

    @cached_property
    def _row(self) -> type[Any]:
        return self.projection.row

    @cached_property
    def _key_of(self) -> Callable[[Any], Key]:
        return self.projection.key_of

    def changes(
        self, before: Mapping[Key, Row], after: Mapping[Key, Row], put_aside: list[PutAside], events: int
    ) -> Changes:
        """What has to be written to get from the rows ``before`` to those ``after``."""
        inserted: list[Row] = []
        updated: list[Row] = []
        deleted: list[Key] = []
        for key, row in after.items():
            was = before[key]
            if row is was:
                continue
            if row is None:
                deleted.append(key)
            elif was is None:
                inserted.append(row)
            else:
                updated.append(row)
        return Changes(self, inserted, updated, deleted, put_aside, events)


async def load_target(
    connection: Any, registry: Registry, schema: str, projection: Projection[Any], entry: Registered
) -> Target:
    """The target for a registered table. Raises `forecourt.registry.RegistryError` for an unknown event."""
    has_quarantine = await connection.fetchval(
        f'SELECT EXISTS (SELECT FROM "{schema}".projection_quarantine WHERE target = $1)', entry.id
    )
    decoded = [cls for cls in projection.events if cls is not Envelope]
    return Target(
        id=entry.id,
        table=Table(schema, projection, entry.relation),
        position=entry.position,
        has_quarantine=has_quarantine,
        handlers=projection.handlers,
        types=frozenset(registry.type_of(cls) for cls in decoded),
        categories=None
        if Envelope in projection.events
        else frozenset(registry.category_of(cls) for cls in decoded),
        serves=entry.state != "building" and entry.relation == canonical_relation(projection),
        folded=entry.position,
    )


def _reason(error: Exception) -> str:
    """What went wrong and where, without the message: it may hold a person's data."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"


REFUSED = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.UntranslatableCharacterError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What the database, or the encoder before it, raises for a value that no column can hold."""


class RowsRefused(Exception):
    """Rows of one read model cannot be written as they are."""

    def __init__(self, target: Target, error: Exception) -> None:
        constraint = getattr(error, "constraint_name", None) or getattr(error, "column_name", None) or ""
        self.target = target
        self.reason = f"row refused: {type(error).__name__} {constraint}".rstrip()
        super().__init__(self.reason)


async def write(connection: Any, changes: Changes, *, bulk: bool) -> None:
    """Write one read model's changes. Raises `RowsRefused`."""
    try:
        await _write_rows(connection, changes, bulk=bulk)
    except REFUSED as error:
        raise RowsRefused(changes.target, error) from error
    if changes.put_aside:
        await _write_put_aside(connection, changes)


async def _write_rows(connection: Any, changes: Changes, *, bulk: bool) -> None:
    table, upserted = changes.target.table, changes.updated
    if changes.deleted:
        # First: a unique column may pass from a deleted row to a new one within the batch.
        await connection.execute(table.delete_sql, *table.key_arrays(changes.deleted))
    if bulk and len(changes.inserted) >= COPY_FROM:
        await connection.copy_records_to_table(
            table.relation,
            schema_name=table.schema,
            columns=[column.name for column in table.columns],
            records=table.copy_records(changes.inserted),
        )
    else:
        upserted = [*changes.inserted, *upserted]
    if upserted:
        await connection.execute(table.upsert_sql, *table.upsert_arrays(upserted))


async def _write_put_aside(connection: Any, changes: Changes) -> None:
    table = changes.target.table
    await connection.executemany(
        f'INSERT INTO "{table.schema}".projection_quarantine'
        " (target, projection, version, position, stream, type, reason)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        [
            (
                changes.target.id,
                table.projection.name,
                table.projection.version,
                aside.event.position,
                aside.event.stream,
                aside.event.type,
                aside.reason,
            )
            for aside in changes.put_aside
        ],
    )
