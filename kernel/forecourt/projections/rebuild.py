"""Builds a read model anew beside the one in use, compares the two, and switches.

::

    rebuild = Rebuild("sales", orders, store, codec, pool)
    await rebuild.build(progress)      # resumable: a killed build goes on where it was
    difference = await rebuild.diff()  # None where nothing is there to compare with
    await rebuild.switch()             # one transaction: readers see the old or the new one, whole
    await drop_retired(pool, "sales")

It works for a new version (its own table) and for the same version again (a table beside it, which takes the
name over). The old one goes on serving and being kept up to date. Rebuilding is also how quarantined events
are tried again after a fix.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import structlog

from forecourt.codec import Codec
from forecourt.connections import PATIENT_SECONDS
from forecourt.errors import Refused
from forecourt.eventstore.port import Batch, EventStore, close_batches
from forecourt.projections import tables
from forecourt.projections.collecting import collecting_rarely
from forecourt.projections.folding import Changes, Target, load_target
from forecourt.projections.follower import Follower
from forecourt.projections.projection import Key, Projection
from forecourt.projections.tables import Registered, Table

Progress = Callable[[int, int], None]
"""Told how many positions are done, and how many there are."""

INDEX_FIRST = 500_000
"""Positions up to which secondary indexes are made before the rows: they stay in memory and are kept up by the
database while this process folds. Beyond it, sorting at the end is cheaper than random inserts."""

LEFT_OVER = timedelta(days=1)
"""How long a table stays that is out of use and stands still: for processes of the previous release, and for a build
that was killed and is started again."""

SAMPLE = 20
"""Differing keys that a comparison names at most."""

log = structlog.get_logger(__name__)


class RebuildUnderWay(Refused):
    """Another process is building this read model."""


class NothingBuilt(Refused):
    """There is no complete build to compare or switch to."""


@dataclass(frozen=True)
class Difference:
    """How a build differs from the read model in use, both at the same position.

    ``columns`` are those compared: what both have. ``keys`` are some of the rows that differ.
    """

    position: int
    rows_old: int
    rows_new: int
    equal: bool
    columns: tuple[str, ...]
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class Built:
    """The result of a rebuild. ``difference`` is None where there was nothing to compare with."""

    position: int
    events: int
    quarantined: int
    difference: Difference | None


class Rebuild:
    """Rebuilds one projection of a service.

    The pool must have four connections to spare, besides those of the store.
    """

    def __init__(
        self, schema: str, projection: Projection[Any], store: EventStore, codec: Codec, pool: Any
    ) -> None:
        self.schema = tables.checked_name("schema", schema)
        self.projection = projection
        self._store = store
        self._codec = codec
        self._pool = pool
        self._events = 0

    async def run(self, progress: Progress | None = None, *, compare: bool = False) -> Built:
        """Build, compare if asked to, and switch. Raises `RebuildUnderWay`."""
        await self.build(progress)
        difference = await self.diff() if compare else None
        built = await self.switch()
        return replace(built, difference=difference)

    async def build(self, progress: Progress | None = None) -> None:
        """Fold all events into a table of its own, then create its indexes. Raises `RebuildUnderWay`."""
        async with self._alone():
            entry = await self._start()
            if await self._store.head() - entry.position <= INDEX_FIRST:
                await self._create_indexes(entry)
            with collecting_rarely():
                await self._catch_up(entry, progress)
            await self._create_indexes(entry)

    async def _create_indexes(self, entry: Registered) -> None:
        table = Table(self.schema, self.projection, entry.relation)
        async with self._pool.acquire() as connection:
            await tables.create_indexes(connection, table)

    async def diff(self) -> Difference | None:
        """Compare the build with the read model in use, at the same position.

        None where nothing is in use, or the two have different keys. Raises `NothingBuilt`.
        """
        async with self._alone() as connection, self._pool.acquire() as reader:
            built, active = await self._both()
            if active is None:
                return None
            async with reader.transaction(isolation="repeatable_read", readonly=True):
                async with self._standing_still(connection, active) as position:
                    await self._catch_up(built, None, until=position)
                    # The first query takes the snapshot; after it the read model in use may go on.
                    await reader.fetchval(f'SELECT count(*) FROM "{self.schema}".projection')
                return await self._compare(reader, active, built, position)

    async def switch(self) -> Built:
        """Put the build in the place of what is in use, in one transaction. Raises `NothingBuilt`."""
        async with self._alone() as connection:
            built, active = await self._both()
            await self._catch_up(built, None)
            async with self._standing_still(connection, active):
                position = await self._catch_up(built, None)
                # On the connection that holds the lock on the registry's row, which it changes.
                count = await self._switch(connection, built)
        log.info(
            "projection.switched", service=self.schema, projection=self.projection.name, position=position
        )
        return Built(position, self._events, count, None)

    async def abandon(self) -> None:
        """Throw an unfinished or unwanted build away; nothing happens where there is none."""
        async with self._alone() as connection, connection.transaction():
            known = await tables.registered(connection, self.schema, self.projection.name)
            entry = tables.find(known, self.projection, "building")
            if entry is not None:
                await _drop(connection, self.schema, entry)

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[Any]:
        """Be the only one who builds this read model; yields the connection that says so."""
        name = _lock_name(self.schema, self.projection.name)
        async with self._pool.acquire() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", name):
                raise RebuildUnderWay(f"{self.projection.name}: another process is building it")
            try:
                yield connection
            finally:
                if not connection.is_closed():
                    await connection.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", name)

    async def _start(self) -> Registered:
        """The build under way, or a new one."""
        await tables.migrate(self._pool, self.schema, ())
        async with self._pool.acquire() as connection, connection.transaction():
            await tables.lock_schema(connection, self.schema)
            known = await tables.registered(connection, self.schema, self.projection.name)
            entry = tables.find(known, self.projection, "building")
            if entry is None:
                # Under a name of its own until it is complete: nobody may read it by accident.
                relation = f"{tables.canonical_relation(self.projection)}_next"
                table = Table(self.schema, self.projection, relation)
                await tables.register(connection, table, "building")
                known = await tables.registered(connection, self.schema, self.projection.name)
                entry = tables.find(known, self.projection, "building")
        assert entry is not None
        return entry

    async def _both(self) -> tuple[Registered, Registered | None]:
        """The build, and what is in use."""
        async with self._pool.acquire() as connection:
            known = await tables.registered(connection, self.schema, self.projection.name)
        built = tables.find(known, self.projection, "building")
        if built is None:
            raise NothingBuilt(f"{self.projection.name} v{self.projection.version}: nothing was built")
        return built, next((entry for entry in known if entry.state == "active"), None)

    async def _catch_up(
        self, entry: Registered, progress: Progress | None, *, until: int | None = None
    ) -> int:
        """Fold what is new into a build, up to the store's end or exactly ``until``; answers the position."""
        target = await self._target(entry)
        end = await self._store.head() if until is None else until

        def written(batch: Batch, changes: list[Changes]) -> None:
            self._events += sum(change.events for change in changes)
            if progress is not None:
                progress(batch.position, max(end, batch.position))

        follower = Follower(self._pool, self.schema, self._codec, [target], on_written=written)
        batches = self._store.read_all(after=target.position, categories=follower.categories)
        await follower.follow(batches if until is None else _cut(batches, until))
        return target.position

    async def _target(self, entry: Registered) -> Target:
        async with self._pool.acquire() as connection:
            known = await tables.registered(connection, self.schema, self.projection.name)
            current = next(other for other in known if other.id == entry.id)
            return await load_target(connection, self._codec.registry, self.schema, self.projection, current)

    @contextlib.asynccontextmanager
    async def _standing_still(self, connection: Any, active: Registered | None) -> AsyncIterator[int]:
        """Keep what is in use from moving, in a transaction; yields the position at which it stands."""
        async with connection.transaction():
            position = await connection.fetchval(
                f'SELECT position FROM "{self.schema}".projection WHERE id = $1 FOR UPDATE',
                active.id if active is not None else 0,
            )
            yield position or 0

    async def _switch(self, connection: Any, built: Registered) -> int:
        """Give the build the canonical name and the view; the one before it is retired."""
        registry = f'"{self.schema}".projection'
        canonical = tables.canonical_relation(self.projection)
        known = await tables.registered(connection, self.schema, self.projection.name)
        for entry in known:
            if entry.id != built.id and entry.relation == canonical:
                await _rename(connection, self.schema, entry, f"{canonical}_r{entry.id}")
        await connection.execute(
            f"UPDATE {registry} SET state = 'retired', updated_at = now() WHERE name = $1 AND state = 'active'",
            self.projection.name,
        )
        await _rename(connection, self.schema, built, canonical)
        await connection.execute(f"UPDATE {registry} SET state = 'active' WHERE id = $1", built.id)
        await tables.show(connection, Table(self.schema, self.projection))
        count = await connection.fetchval(
            f'SELECT count(*) FROM "{self.schema}".projection_quarantine WHERE target = $1', built.id
        )
        return int(count)

    async def _compare(
        self, connection: Any, active: Registered, built: Registered, position: int
    ) -> Difference | None:
        old_columns = await _columns(connection, self.schema, active.relation)
        new = Table(self.schema, self.projection, built.relation)
        common = [c.name for c in new.columns if old_columns.get(c.name) == c.sql]
        if not set(self.projection.key) <= set(common):
            return None
        old_name = f'"{self.schema}"."{active.relation}"'
        old_rows, old_hash = await _digest(connection, old_name, common)
        new_rows, new_hash = await _digest(connection, new.full_name, common)
        equal = (old_rows, old_hash) == (new_rows, new_hash)
        keys: tuple[Key, ...] = ()
        if not equal:
            keys = await _differing(connection, old_name, new.full_name, self.projection.key, common)
        return Difference(position, old_rows, new_rows, equal, tuple(common), keys)


async def _cut(batches: AsyncIterator[Batch], until: int) -> AsyncGenerator[Batch, None]:
    """The batches up to exactly position ``until``."""
    try:
        async for batch in batches:
            if batch.position >= until:
                yield Batch([event for event in batch.events if event.position <= until], until, True)
                return
            yield batch
    finally:
        await close_batches(batches)


async def _columns(connection: Any, schema: str, relation: str) -> dict[str, str]:
    rows = await connection.fetch(
        "SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute"
        " WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        f'"{schema}"."{relation}"',
    )
    names = {"timestamp with time zone": "timestamptz"}
    return {row["attname"]: names.get(row["type"], row["type"]) for row in rows}


async def _digest(connection: Any, table: str, columns: list[str]) -> tuple[int, Any]:
    """Rows of a table, and a hash over their columns that does not depend on their order."""
    names = ", ".join(f'"{name}"' for name in columns)
    row = await connection.fetchrow(
        f"SELECT count(*), coalesce(sum(hashtextextended(ROW({names})::text, 0)::numeric), 0) FROM {table}",
        timeout=PATIENT_SECONDS,
    )
    return int(row[0]), row[1]


async def _differing(
    connection: Any, old: str, new: str, key: tuple[str, ...], columns: list[str]
) -> tuple[Key, ...]:
    """Keys of some rows that only one table has, or that differ in a column."""
    same = " AND ".join(f'o."{name}" = n."{name}"' for name in key)
    answers = ", ".join(f'coalesce(o."{name}", n."{name}")' for name in key)
    left = ", ".join(f'o."{name}"' for name in columns)
    right = ", ".join(f'n."{name}"' for name in columns)
    rows = await connection.fetch(
        f"SELECT {answers} FROM {old} AS o FULL JOIN {new} AS n ON {same}"
        f" WHERE ROW({left})::text IS DISTINCT FROM ROW({right})::text LIMIT {SAMPLE}",
        timeout=PATIENT_SECONDS,
    )
    return tuple(tuple(row) for row in rows)


async def _rename(connection: Any, schema: str, entry: Registered, relation: str) -> None:
    """Rename a table and its indexes, which carry its name."""
    indexes = await connection.fetch(
        "SELECT indexname FROM pg_indexes WHERE schemaname = $1 AND tablename = $2", schema, entry.relation
    )
    await connection.execute(f'ALTER TABLE "{schema}"."{entry.relation}" RENAME TO "{relation}"')
    for row in indexes:
        name = row["indexname"]
        if name.startswith(entry.relation):
            renamed = relation + name.removeprefix(entry.relation)
            await connection.execute(f'ALTER INDEX "{schema}"."{name}" RENAME TO "{renamed}"')
    await connection.execute(
        f'UPDATE "{schema}".projection SET relation = $2 WHERE id = $1', entry.id, relation
    )


async def _drop(connection: Any, schema: str, entry: Registered) -> None:
    drop = f'DROP TABLE IF EXISTS "{schema}"."{entry.relation}"'
    await connection.execute(drop, timeout=PATIENT_SECONDS)
    await connection.execute(f'DELETE FROM "{schema}".projection WHERE id = $1', entry.id)


def _lock_name(schema: str, name: str) -> str:
    return f"forecourt.rebuild.{schema}.{name}"


async def drop_left_over(pool: Any, schema: str, age: timedelta = LEFT_OVER) -> list[str]:
    """Drop the tables out of use that nobody has moved for ``age``; answers their names.

    Nobody follows them, so whoever is erased would stay in them for ever.
    """
    tables.checked_name("schema", schema)
    left = f"FROM \"{schema}\".projection WHERE state <> 'active' AND updated_at < now() - $1::interval"
    dropped = []
    async with pool.acquire() as connection:
        for name in [row["name"] for row in await connection.fetch(f"SELECT DISTINCT name {left}", age)]:
            async with connection.transaction():
                if not await connection.fetchval(
                    "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))", _lock_name(schema, name)
                ):
                    continue  # somebody is building just now
                found = await connection.fetch(
                    f"SELECT id, name, version, state, relation, position {left} AND name = $2 FOR UPDATE",
                    age,
                    name,
                )
                for row in found:
                    await _drop(connection, schema, Registered(*row))
                    dropped.append(row["relation"])
    if dropped:
        log.info("projection.dropped", service=schema, tables=dropped)
    return dropped


async def drop_retired(pool: Any, schema: str, name: str | None = None) -> list[str]:
    """Drop the tables of retired versions, of one projection or of all; answers their names."""
    tables.checked_name("schema", schema)
    async with pool.acquire() as connection, connection.transaction():
        await tables.lock_schema(connection, schema)
        retired = [e for e in await tables.registered(connection, schema, name) if e.state == "retired"]
        for entry in retired:
            await connection.fetchval(
                f'SELECT id FROM "{schema}".projection WHERE id = $1 FOR UPDATE', entry.id
            )
            await _drop(connection, schema, entry)
    return [entry.relation for entry in retired]


@dataclass(frozen=True)
class Quarantined:
    """An event that a read model has put aside."""

    projection: str
    version: int
    position: int
    stream: str
    type: str
    reason: str


async def quarantined(pool: Any, schema: str, *, limit: int = 100) -> list[Quarantined]:
    """The first events in quarantine of the read models in use."""
    tables.checked_name("schema", schema)
    rows = await pool.fetch(
        "SELECT q.projection, q.version, q.position, q.stream, q.type, q.reason"
        f' FROM "{schema}".projection_quarantine AS q JOIN "{schema}".projection AS p ON p.id = q.target'
        " WHERE p.state = 'active' ORDER BY q.projection, q.position LIMIT $1",
        limit,
    )
    return [Quarantined(*row) for row in rows]
