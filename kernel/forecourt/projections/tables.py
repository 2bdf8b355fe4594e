"""The tables of read models: their DDL, the statements that load and write rows, and the registry of versions.

Each version of a projection has a table ``<schema>.<name>_v<version>``; the view ``<schema>.<name>`` shows the
active one. ``<schema>.projection`` says which versions there are and up to which position each is folded:

* ``building``  is being filled, nobody reads it yet
* ``active``    is what the view shows
* ``retired``   was active before; processes of the previous release may still read and follow it
"""

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import asyncpg
import msgspec
import structlog

from forecourt import migrations
from forecourt.connections import PATIENT_SECONDS
from forecourt.projections.columns import Column, columns_of
from forecourt.projections.projection import Index, Key, Projection

Pool = "asyncpg.Pool[asyncpg.Record]"
Connection = Any
"""A connection, or one that a pool lends: their types are unrelated in the stubs."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESERVED = frozenset({"projection", "projection_quarantine", "snapshot"})

log = structlog.get_logger(__name__)


class TableMismatch(Exception):
    """A table does not have the columns of its row struct: the projection needs a new version."""


def checked_name(what: str, name: str) -> str:
    """The name, if it can be part of an SQL identifier. Raises ValueError."""
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise ValueError(f"{what} {name!r}: must be 1 to 40 of a-z, 0-9, _, start with a letter")
    return name


class Table:
    """One version of a projection in the database, and the SQL for it."""

    def __init__(self, schema: str, projection: Projection[Any], relation: str | None = None) -> None:
        self.schema = checked_name("schema", schema)
        self.projection = projection
        self.relation = relation or canonical_relation(projection)
        self.columns = columns_of(projection.row)
        self.by_name = {column.name: column for column in self.columns}
        for column in self.columns:
            checked_name(f"projection {projection.name}: column", column.name)
        self.key = tuple(self.by_name[name] for name in projection.key)
        if any(column.sql in ("json", "text[]") or column.nullable for column in self.key):
            raise ValueError(f"projection {projection.name}: a key column must be a plain value, never None")
        self.full_name = f'"{schema}"."{self.relation}"'
        names = ", ".join(column.quoted for column in self.columns)
        self.load_sql = self._load_sql()
        self.delete_sql = f"DELETE FROM {self.full_name} AS t USING {self._keys()} WHERE {self._same_key()}"
        self.upsert_sql = self._upsert_sql(names)
        self.make_row = _row_maker(projection.row, self.columns)
        self._converted = [
            (index, column.encode) for index, column in enumerate(self.columns) if column.encode
        ]

    def _keys(self) -> str:
        arrays = ", ".join(f"${n}::{column.sql}[]" for n, column in enumerate(self.key, start=1))
        return f"unnest({arrays}) AS k({', '.join(column.quoted for column in self.key)})"

    def _same_key(self) -> str:
        return " AND ".join(f"t.{column.quoted} = k.{column.quoted}" for column in self.key)

    def _load_sql(self) -> str:
        names = ", ".join(f"t.{column.quoted}" for column in self.columns)
        if len(self.key) == 1:
            key = self.key[0]
            return f"SELECT {names} FROM {self.full_name} AS t WHERE {key.quoted} = ANY($1::{key.sql}[])"
        return f"SELECT {names} FROM {self.full_name} AS t JOIN {self._keys()} ON {self._same_key()}"

    def select_sql(self, column: str) -> str:
        """SELECT of the rows that have one of the ids ``$1`` in a column."""
        names = ", ".join(f"t.{one.quoted}" for one in self.columns)
        found = next(one for one in self.columns if one.name == column)
        return f"SELECT {names} FROM {self.full_name} AS t WHERE {found.quoted} = ANY($1::uuid[])"

    def _upsert_sql(self, names: str) -> str:
        arrays = ", ".join(f"${n}::{column.element}[]" for n, column in enumerate(self.columns, start=1))
        values = ", ".join(
            f"u.{c.quoted}" if c.element == c.sql else f"u.{c.quoted}::{c.sql}" for c in self.columns
        )
        keys = ", ".join(column.quoted for column in self.key)
        sets = ", ".join(f"{c.quoted} = EXCLUDED.{c.quoted}" for c in self.columns if c not in self.key)
        action = f"DO UPDATE SET {sets}" if sets else "DO NOTHING"
        return (
            f"INSERT INTO {self.full_name} ({names}) SELECT {values}"
            f" FROM unnest({arrays}) AS u({names}) ON CONFLICT ({keys}) {action}"
        )

    def create_sql(self) -> str:
        """CREATE TABLE, without secondary indexes."""
        lines = ", ".join(column.definition for column in self.columns)
        keys = ", ".join(column.quoted for column in self.key)
        name = f'"{self.relation}_pkey"'
        return f"CREATE TABLE {self.full_name} ({lines}, CONSTRAINT {name} PRIMARY KEY ({keys}))"

    def index_name(self, index: Index) -> str:
        """The name of a secondary index: the table's, and a digest of what it is."""
        return f"{self.relation}_{hashlib.sha256(repr(index).encode()).hexdigest()[:8]}"

    def index_sql(self, index: Index) -> str:
        """CREATE INDEX for one of the declared indexes."""
        unknown = [name for name in index.columns if name not in self.by_name]
        if unknown:
            raise ValueError(f"projection {self.projection.name}: index on unknown columns {unknown}")
        operators = " gin_trgm_ops" if index.trigram else ""
        kind = "gin" if index.trigram else checked_name("index kind", index.kind)
        names = ", ".join(f"{self.by_name[name].quoted}{operators}" for name in index.columns)
        unique = "UNIQUE " if index.unique else ""
        return (
            f'CREATE {unique}INDEX IF NOT EXISTS "{self.index_name(index)}"'
            f" ON {self.full_name} USING {kind} ({names})"
        )

    def key_arrays(self, keys: Iterable[Key]) -> list[list[Any]]:
        """The parameters of `load_sql` and `delete_sql`."""
        return [
            [column.encode(value) for value in values] if column.encode else list(values)
            for column, values in zip(self.key, zip(*keys, strict=True), strict=True)
        ]

    def upsert_arrays(self, rows: Iterable[msgspec.Struct]) -> list[Sequence[Any]]:
        """The parameters of `upsert_sql`: one array per column."""
        transposed = zip(*map(msgspec.structs.astuple, rows), strict=True)
        return [
            list(map(column.unnested, values)) if column.unnested else values
            for column, values in zip(self.columns, transposed, strict=True)
        ]

    def copy_records(self, rows: Iterable[msgspec.Struct]) -> Iterable[Sequence[Any]]:
        """The rows as COPY wants them."""
        if not self._converted:
            return map(msgspec.structs.astuple, rows)
        return map(self._converted_record, rows)

    def _converted_record(self, row: msgspec.Struct) -> list[Any]:
        record = list(msgspec.structs.astuple(row))
        for index, encode in self._converted:
            record[index] = encode(record[index])
        return record


def _row_maker(row: type[msgspec.Struct], columns: Sequence[Column]) -> Callable[[Any], Any]:
    """A function from a database record to a row struct."""
    decoders = [(index, column.decode) for index, column in enumerate(columns) if column.decode]
    names = [column.name for column in columns]
    keyword_only = all(p.kind is p.KEYWORD_ONLY for p in inspect.signature(row).parameters.values())

    def make(record: Any) -> Any:
        values = list(record)
        for index, decode in decoders:
            values[index] = decode(values[index])
        return row(**dict(zip(names, values, strict=True))) if keyword_only else row(*values)

    return make


def canonical_relation(projection: Projection[Any]) -> str:
    """The name of the table of a projection's version."""
    return f"{checked_name('projection', projection.name)}_v{projection.version}"


@dataclass(frozen=True)
class Registered:
    """A row of the registry: one table of a projection."""

    id: int
    name: str
    version: int
    state: str
    relation: str
    position: int


async def registered(connection: Connection, schema: str, name: str | None = None) -> list[Registered]:
    """What the registry knows, of one projection or of all."""
    rows = await connection.fetch(
        f'SELECT id, name, version, state, relation, position FROM "{schema}".projection'
        " WHERE $1::text IS NULL OR name = $1 ORDER BY id",
        name,
    )
    return [Registered(*row) for row in rows]


def find(known: Iterable[Registered], projection: Projection[Any], *states: str) -> Registered | None:
    """The registered table of exactly this version in one of ``states``, the first named state first."""
    for state in states:
        for entry in known:
            if (entry.name, entry.version, entry.state) == (projection.name, projection.version, state):
                return entry
    return None


async def migrate(pool: Any, schema: str, projections: Iterable[Projection[Any]]) -> None:
    """Create the registry, and the tables of projections that are new altogether.

    A version beside an older one is not created here: it has to be built first (``forecourt.projections.rebuild``).
    Safe to run at any time, by several processes at once. Raises `TableMismatch`.
    """
    checked_name("schema", schema)
    await migrations.apply(pool, [migrations.service(schema)])
    async with pool.acquire() as connection, connection.transaction():
        await lock_schema(connection, schema)
        for projection in projections:
            known = await registered(connection, schema, projection.name)
            table = Table(schema, projection)
            if not known:
                await register(connection, table, "active")
                await create_indexes(connection, table)
                await show(connection, table)
            elif (entry := find(known, projection, "active", "retired")) is not None:
                table = Table(schema, projection, entry.relation)
                await _check_columns(connection, table)
                await create_indexes(connection, table)


async def lock_schema(connection: Connection, schema: str) -> None:
    """Let only one transaction at a time change the tables of a schema."""
    lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 2))"
    await connection.execute(lock, f"projections.{schema}", timeout=PATIENT_SECONDS)


async def register(connection: Connection, table: Table, state: str) -> int:
    """Create a table and its entry in the registry; answers the entry's id."""
    await connection.execute(table.create_sql())
    found = await connection.fetchval(
        f'INSERT INTO "{table.schema}".projection (name, version, state, relation)'
        " VALUES ($1, $2, $3, $4) RETURNING id",
        table.projection.name,
        table.projection.version,
        state,
        table.relation,
    )
    return cast(int, found)


async def show(connection: Connection, table: Table) -> None:
    """Point the stable view at a table."""
    view = f'"{table.schema}"."{table.projection.name}"'
    query = f"VIEW {view} AS SELECT * FROM {table.full_name}"
    try:
        async with connection.transaction():
            await connection.execute(f"CREATE OR REPLACE {query}")
    except asyncpg.InvalidTableDefinitionError:
        # Replacing keeps grants and dependent views, but cannot change the columns.
        await connection.execute(f"DROP VIEW {view}")
        await connection.execute(f"CREATE {query}")


async def create_indexes(connection: Connection, table: Table) -> None:
    """Create the declared secondary indexes that are missing."""
    for index in table.projection.indexes:
        query = table.index_sql(index)
        exists = await connection.fetchval(
            "SELECT to_regclass($1) IS NOT NULL", f'"{table.schema}"."{table.index_name(index)}"'
        )
        if exists:
            continue
        if index.trigram and not await _trigrams(connection):
            log.warning("projection.no_trigrams", projection=table.projection.name, columns=index.columns)
            continue
        await connection.execute(query, timeout=PATIENT_SECONDS)


async def _trigrams(connection: Connection) -> bool:
    """Whether the extension for trigram indexes is there, installing it where that is allowed."""
    try:
        async with connection.transaction():
            # Everybody's search path holds public: the operator class must be found from any schema.
            await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public")
    except (
        asyncpg.InsufficientPrivilegeError,
        asyncpg.UndefinedFileError,
        asyncpg.FeatureNotSupportedError,
        asyncpg.UniqueViolationError,
    ):
        found = await connection.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'")
        return bool(found)
    return True


async def _check_columns(connection: Connection, table: Table) -> None:
    rows = await connection.fetch(
        "SELECT attname, format_type(atttypid, NULL) AS type, attnotnull FROM pg_attribute"
        " WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        table.full_name,
    )
    present = [(row["attname"], row["type"], not row["attnotnull"]) for row in rows]
    names = {"timestamptz": "timestamp with time zone"}
    wanted = [(c.name, names.get(c.sql, c.sql), c.nullable) for c in table.columns]
    if present != wanted:
        differing = sorted({str(item[0]) for item in set(present) ^ set(wanted)})
        raise TableMismatch(
            f"projection {table.projection.name} v{table.projection.version}: the table differs in columns "
            f"{differing or 'order'}; raise the projection's version"
        )
