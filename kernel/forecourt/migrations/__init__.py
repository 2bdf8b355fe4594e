"""Versioned changes of the tables that cannot be built anew: events, keys, checkpoints, what handlers have handled.

A component is a folder of numbered SQL files (``events/0001_event.sql``, …), applied in order to a schema of the
database, each in a transaction of its own, and recorded with its checksum in ``forecourt.migration``. ``{schema}``
in a file is the schema's name. Files once released are never changed; a change is a new file.

Processes of the previous release go on while files are applied. So a file only adds, and can be applied to a database
where what it adds is there already: to one from before this table, or restored without it. Read models are no matter
of this: they change by new version beside the old (`forecourt.projections`).
"""

import asyncio
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg

from forecourt.config import ConfigError
from forecourt.connections import PATIENT_SECONDS

FOLDER = Path(__file__).parent

LOCK_SECONDS = 3
"""How long a change waits for a table that others use, while they wait behind it."""

TRIES = 20
"""How often it tries; in between the others go on."""

PAUSE_SECONDS = 0.5

_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('forecourt.migration', 0))"

_RECORD = """
CREATE SCHEMA IF NOT EXISTS forecourt;
CREATE TABLE IF NOT EXISTS forecourt.migration (
    schema text NOT NULL,
    component text NOT NULL,
    version int NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (schema, component, version)
);
"""


class MigrationChanged(ConfigError):
    """A file that was applied is not the same any more; the message names it."""


class SchemaBehind(ConfigError):
    """The database lacks changes that this release needs; the message names the command that applies them."""


@dataclass(frozen=True)
class Component:
    """Tables that change together: the files of one folder, in one schema."""

    name: str
    schema: str


@dataclass(frozen=True)
class Migration:
    """One file of a component, for its schema."""

    component: Component
    version: int
    name: str
    sql: str
    checksum: str

    def __str__(self) -> str:
        return f"{self.component.schema}: {self.component.name}/{self.name}"


CLOCK = Component("clock", "events")
KEYS = Component("keys", "keys")
MESSAGING = Component("messaging", "messaging")


def events(schema: str) -> Component:
    """The event store in a schema."""
    return Component("events", schema)


def service(schema: str) -> Component:
    """What the kernel keeps for one service, beside its read models."""
    return Component("service", schema)


@cache
def files(folder: Path) -> tuple[tuple[int, str, str, str], ...]:
    """Version, name, text and checksum of each file of a component. Raises `ValueError` where a number is missing."""
    found = []
    for number, path in enumerate(sorted(folder.glob("*.sql")), start=1):
        match = _FILE.fullmatch(path.name)
        if match is None or int(match[1]) != number:
            raise ValueError(f"{folder.name}/{path.name}: must be {number:04}_<name>.sql")
        text = path.read_text()
        found.append((number, path.name, text, hashlib.sha256(text.encode()).hexdigest()))
    return tuple(found)


def migrations(component: Component) -> list[Migration]:
    """All files of a component, in order."""
    return [
        Migration(component, version, name, text.replace("{schema}", component.schema), checksum)
        for version, name, text, checksum in files(FOLDER / component.name)
    ]


async def pending(connection: Any, components: Iterable[Component]) -> list[Migration]:
    """What is not applied yet, in order, by a connection or a pool.

    What a newer release has applied is none of ours. Raises `MigrationChanged`.
    """
    applied: dict[tuple[str, str, int], str] = {}
    if await connection.fetchval("SELECT to_regclass('forecourt.migration')") is not None:
        rows = await connection.fetch("SELECT schema, component, version, checksum FROM forecourt.migration")
        applied = {(row["schema"], row["component"], row["version"]): row["checksum"] for row in rows}
    missing = []
    for migration in (found for component in components for found in migrations(component)):
        checksum = applied.get((migration.component.schema, migration.component.name, migration.version))
        if checksum is None:
            missing.append(migration)
        elif checksum != migration.checksum:
            raise MigrationChanged(
                f"{migration}: was applied with another content; take the change into a new file"
            )
    return missing


async def apply(pool: Any, components: Iterable[Component]) -> list[Migration]:
    """Apply what is pending, and answer it; safe to run at any time, by several at once.

    Raises `MigrationChanged`, `asyncpg.LockNotAvailableError` where a table was in use all the time, and whatever
    else PostgreSQL says about a file.
    """
    async with pool.acquire() as connection:
        return [
            migration
            for migration in await pending(connection, components)
            if await _apply_patiently(connection, migration)
        ]


async def _apply_patiently(connection: Any, migration: Migration) -> bool:
    for _ in range(TRIES - 1):
        try:
            return await _apply(connection, migration)
        except asyncpg.LockNotAvailableError:
            await asyncio.sleep(PAUSE_SECONDS)
    return await _apply(connection, migration)


async def _apply(connection: Any, migration: Migration) -> bool:
    """Apply and record one file in one transaction; False where another process has done it by now."""
    component = migration.component
    async with connection.transaction():
        await connection.execute(_LOCK, timeout=PATIENT_SECONDS)
        await connection.execute(_RECORD)
        key = (component.schema, component.name, migration.version)
        done = "SELECT 1 FROM forecourt.migration WHERE (schema, component, version) = ($1, $2, $3)"
        if await connection.fetchval(done, *key) is not None:
            return False
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        await connection.execute(migration.sql, timeout=PATIENT_SECONDS)
        await connection.execute(
            "INSERT INTO forecourt.migration (schema, component, version, name, checksum) VALUES ($1, $2, $3, $4, $5)",
            *key,
            migration.name,
            migration.checksum,
        )
        return True


def components_of(services: Iterable[str]) -> list[Component]:
    """What services, by name, need in ``DATABASE_URL``; the event store looks after its own tables."""
    return [CLOCK, MESSAGING, KEYS, *map(service, services)]


async def pending_for(pool: Any, store: Any, services: Iterable[str]) -> list[Migration]:
    """What is pending for services, in the event store (where that is PostgreSQL) and beside it."""
    of_store = getattr(store, "pending", None)
    return [
        *(await of_store() if of_store is not None else ()),
        *await pending(pool, components_of(services)),
    ]


async def require(pool: Any, store: Any, services: Iterable[str]) -> None:
    """Refuse to work on a database that lacks something. Raises `SchemaBehind`, `MigrationChanged`."""
    if missing := await pending_for(pool, store, services):
        raise SchemaBehind(describe(missing) + "; run 'forecourt migrate' first")


def describe(missing: Sequence[Migration]) -> str:
    """What is pending, in one line."""
    return f"DATABASE_URL: the schema is older than this release ({', '.join(map(str, missing))})"
