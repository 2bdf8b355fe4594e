"""``forecourt backup``: pg_dump and pg_restore, wrapped so that a backup is one moment, complete, and known to be good.

A backup is a folder with ``events.dump`` (all schemas but the keys of persons) and ``manifest.json``, and, at
another place, a file with the keys. Whoever has both can read everything: keep them on different media. Both are
dumped in one snapshot of the database. Read models hold personal data in clear, which destroying a key would not erase
from a backup: they are left out, unless asked for, and built anew from the events.

``verify`` restores into a database of its own, replays it, and compares the events and all states with the manifest; it
builds every read model, and compares it with the one in the backup where there is one.
"""

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit
from uuid import uuid4

import asyncpg
import msgspec

from forecourt.config import ConfigError, Settings
from forecourt.embedded.postgres import programs
from forecourt.embedded.process import EmbeddedServerError
from forecourt.errors import InvalidInput, Refused
from forecourt.fingerprints import Category, fingerprints
from forecourt.projections import tables
from forecourt.projections.folding import load_target
from forecourt.projections.follower import Follower
from forecourt.projections.projection import Projection
from forecourt.projections.rebuild import Rebuild
from forecourt.runtime import Runtime, ServiceRuntime, migrate
from forecourt.service import Service

DUMP = "events.dump"
MANIFEST = "manifest.json"
KEYS_SCHEMA = "keys"
FORMAT = 1


class BackupFailed(Refused):
    """A program of PostgreSQL is missing, too old, or failed; or the backup does not fit. The message says which."""


class NotEmpty(Refused):
    """The database to restore into holds something already."""


class Manifest(msgspec.Struct, frozen=True):
    """What a backup is: the source's position and fingerprints at its moment, and the digests of its files."""

    format: int
    created_at: datetime
    server_version: int
    position: int
    dump_sha256: str
    keys_sha256: str
    read_models: bool
    categories: dict[str, Category]
    """Empty where the backup was made without hashes."""

    def unfolded(self) -> list[str]:
        """Categories without states, because no service that folds them was installed where the backup was made."""
        return sorted(name for name, category in self.categories.items() if not category.states)


@dataclass
class Verdict:
    """What `verify` has found, in words."""

    wrong: list[str] = field(default_factory=list)
    """What is not as it was."""
    not_compared: list[str] = field(default_factory=list)
    """What could not be looked at, because a service was not installed here or where the backup was made."""
    left_out: list[str] = field(default_factory=list)
    """What was not looked at because of options, or of another release."""


# --- create


async def create(
    services: Sequence[Service],
    settings: Settings,
    folder: Path,
    keys_file: Path,
    *,
    hashes: bool = True,
    read_models: bool = False,
) -> Manifest:
    """Back up the database of the settings; the platform may go on meanwhile.

    Without ``hashes`` the source is not replayed, and `verify` has no states to compare with. Where a person is erased
    while it is, the states in the manifest are those after it. A backup that fails leaves nothing behind. Raises
    `ConfigError` where events are not in ``DATABASE_URL``, `BackupFailed`, and `InvalidInput` for a place that cannot
    be used.
    """
    if settings.store != settings.database:
        raise ConfigError("EVENT_STORE_URL: is another store than DATABASE_URL; see docs/backup.md")
    _check_places(folder, keys_file)
    program, version = await _client("pg_dump", settings.database)
    with _places(folder, keys_file):
        position = await _dump(program, settings.database, folder / DUMP, keys_file, read_models=read_models)
        categories = await _fingerprints(services, settings, position, with_keys=True) if hashes else {}
        manifest = Manifest(
            FORMAT,
            datetime.now(UTC),
            version,
            position,
            await asyncio.to_thread(_sha256, folder / DUMP),
            await asyncio.to_thread(_sha256, keys_file),
            read_models,
            categories,
        )
        # Last: a folder without a manifest is not a backup.
        _write_manifest(folder / MANIFEST, manifest)
    return manifest


def _write_manifest(file: Path, manifest: Manifest) -> None:
    try:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
    except OSError as error:
        raise BackupFailed(f"{file}: {error.strerror or type(error).__name__}") from error


async def _client(name: str, url: str) -> tuple[str, int]:
    """The path of a client program that fits the server, and the server's version. Raises as `create` does."""
    connection = await _connect(url)
    try:
        version = connection.get_server_version().major
    finally:
        await connection.close()
    return await _program(name, version), version


async def _dump(program: str, url: str, events: Path, keys: Path, *, read_models: bool) -> int:
    """Dump events and keys in one snapshot of the database; its position."""
    connection = await _connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
            position: int = await connection.fetchval("SELECT coalesce(max(position), 0) FROM events.event")
            dump = [program, "--format=custom", f"--snapshot={snapshot}"]
            left_out = [] if read_models else await _read_model_relations(connection)
            # The record of migrations, too: it would say of what is left out that it is there.
            without = [
                f"--exclude-schema={KEYS_SCHEMA}",
                "--exclude-schema=forecourt",
                *(f"--exclude-table={name}" for name in left_out),
            ]
            await _run([*dump, *without], url, output=events)
            await _run([*dump, f"--schema={KEYS_SCHEMA}"], url, output=keys)
    finally:
        await connection.close()
    return position


async def _read_model_relations(connection: Any) -> list[str]:
    """The tables and views of all read models, and their registries, whichever release made them."""
    found = []
    for schema in await _read_model_schemas(connection):
        rows = await connection.fetch(f'SELECT name, relation FROM "{schema}".projection')
        names = {"projection", "projection_quarantine", *(name for row in rows for name in row)}
        found += [f'"{schema}"."{name}"' for name in sorted(names)]
    return found


async def _read_model_schemas(connection: Any) -> list[str]:
    """The schemas with a registry of read models, by a connection or a pool: one for each service."""
    rows = await connection.fetch(
        "SELECT nspname FROM pg_namespace n"
        " WHERE to_regclass(format('%I.projection_quarantine', nspname)) IS NOT NULL ORDER BY nspname"
    )
    return [row["nspname"] for row in rows]


def _check_places(folder: Path, keys_file: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"folder: {folder} is not empty", fields={"folder": "must be new or empty"})
    if keys_file.exists():
        raise InvalidInput(f"keys: {keys_file} is there already", fields={"keys": "must be a new file"})
    if keys_file.resolve().is_relative_to(folder.resolve()):
        reason = "must not lie with the backup: whoever has both can read everything"
        raise InvalidInput(f"keys: {reason}", fields={"keys": reason})


@contextmanager
def _places(folder: Path, keys_file: Path) -> Iterator[None]:
    """Make the files of a backup; where it fails, remove what was made, so that the same command can be repeated.

    Raises `InvalidInput` for a place that cannot be written to.
    """
    with ExitStack() as undoing:
        try:
            _make_places(folder, keys_file, undoing)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InvalidInput(f"{error.filename}: {reason}") from error
        yield
        undoing.pop_all()


def _make_places(folder: Path, keys_file: Path, undoing: ExitStack) -> None:
    keys_file.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        folder.mkdir(parents=True)
        undoing.callback(_remove, folder.rmdir)
    undoing.callback(_remove, (folder / MANIFEST).unlink)
    for file in (folder / DUMP, keys_file):
        # Only what this run made is its to remove, so a file that somebody made meanwhile is refused.
        file.touch(mode=0o600, exist_ok=False)
        undoing.callback(_remove, file.unlink)


def _remove(remove: Callable[[], None]) -> None:
    # What made the backup fail is to be told, not that a medium which is gone cannot be cleaned.
    with suppress(OSError):
        remove()


async def _fingerprints(
    services: Sequence[Service], settings: Settings, until: int, *, with_keys: bool
) -> dict[str, Category]:
    runtime = await Runtime.open(services, settings)
    try:
        codecs = {part.service.name: part.codec for part in runtime.services}
        return await fingerprints(runtime.store, services, codecs if with_keys else None, until=until)
    finally:
        await runtime.close()


# --- restore


async def restore(folder: Path, keys_file: Path | None, url: str) -> Manifest:
    """Restore a backup into the empty database at ``url``; without ``keys_file`` no personal data can be read there.

    All or nothing, but for the keys, which come last. Raises `NotEmpty`, `BackupFailed` and `ConfigError`.
    """
    manifest = await asyncio.to_thread(read_manifest, folder, keys_file)
    connection = await _connect(url, "--to")
    try:
        present = await connection.fetch(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'"
            " AND nspname NOT IN ('public', 'information_schema')"
        )
        version = connection.get_server_version().major
    finally:
        await connection.close()
    if present:
        names = ", ".join(sorted(row["nspname"] for row in present))
        raise NotEmpty(f"database: holds the schemas {names}; restore into an empty one")
    program = await _program("pg_restore", version)
    options = ["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges", "--dbname="]
    for file in (folder / DUMP, keys_file):
        if file is not None:
            await _run([program, *options, str(file)], url)
    return manifest


def read_manifest(folder: Path, keys_file: Path | None) -> Manifest:
    """The manifest of a backup whose files are whole. Raises `BackupFailed`."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except OSError:
        raise BackupFailed(f"{folder}: has no {MANIFEST}, so it is no finished backup") from None
    except msgspec.DecodeError as error:
        raise BackupFailed(f"{folder / MANIFEST}: {error}") from None
    if manifest.format != FORMAT:
        raise BackupFailed(f"{folder / MANIFEST}: has format {manifest.format}, this release reads {FORMAT}")
    for file, digest in ((folder / DUMP, manifest.dump_sha256), (keys_file, manifest.keys_sha256)):
        if file is not None and (not file.is_file() or _sha256(file) != digest):
            raise BackupFailed(f"{file}: is missing, damaged, or of another backup")
    return manifest


# --- verify


async def verify(
    services: Sequence[Service],
    settings: Settings,
    folder: Path,
    keys_file: Path | None,
    *,
    restored: bool = False,
) -> Verdict:
    """What is wrong with a backup, and what was not compared.

    Restores it into a database of its own on the server of ``DATABASE_URL``, which is dropped in the end; with
    ``restored`` it looks at ``DATABASE_URL`` itself, into which it was restored and where nothing has run since.
    Without ``keys_file`` states are not compared. Raises `BackupFailed` and `ConfigError`.
    """
    if restored:
        manifest = await asyncio.to_thread(read_manifest, folder, keys_file)
        return await _compare(services, settings, manifest, with_keys=keys_file is not None)
    async with _scratch(settings.database) as url:
        manifest = await restore(folder, keys_file, url)
        scratch = settings.model_copy(update={"database_url": url, "event_store_url": None})
        return await _compare(services, scratch, manifest, with_keys=keys_file is not None)


@asynccontextmanager
async def _scratch(url: str) -> AsyncIterator[str]:
    """A new database on the same server, dropped in the end."""
    name = f"forecourt_verify_{uuid4().hex[:12]}"
    connection = await _connect(url)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        try:
            yield _url(urlsplit(url), path=f"/{name}")
        finally:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await connection.close()


async def _compare(
    services: Sequence[Service], settings: Settings, manifest: Manifest, *, with_keys: bool
) -> Verdict:
    await migrate(services, settings)
    runtime = await Runtime.open(services, settings, notes_damage=False)
    verdict = Verdict()
    try:
        head = await runtime.store.head()
        if head != manifest.position:
            verdict.wrong.append(f"the head is {head}, and was {manifest.position}")
        await _compare_categories(runtime, manifest, verdict, with_keys=with_keys)
        if with_keys:
            await _compare_read_models(runtime, manifest, verdict)
        else:
            verdict.left_out.append("states and read models: without keys")
        return verdict
    finally:
        await runtime.close()


async def _compare_categories(
    runtime: Runtime, manifest: Manifest, verdict: Verdict, *, with_keys: bool
) -> None:
    if not manifest.categories and manifest.position:
        verdict.left_out.append("events and states: the backup was made without hashes")
        return
    codecs = {part.service.name: part.codec for part in runtime.services}
    services = [part.service for part in runtime.services]
    found = await fingerprints(
        runtime.store, services, codecs if with_keys else None, until=manifest.position
    )
    verdict.wrong += differences(manifest.categories, found, with_states=with_keys)
    if with_keys:
        verdict.not_compared += without_states(manifest.categories, found)


def differences(
    wanted: dict[str, Category], found: dict[str, Category], *, with_states: bool = True
) -> list[str]:
    """How fingerprints differ, in words."""
    wrong = [f"category {name}: is missing" for name in sorted(wanted.keys() - found.keys())]
    wrong += [f"category {name}: was not there" for name in sorted(found.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & found.keys()):
        one, other = wanted[name], found[name]
        if (one.streams, one.events, one.stored) != (other.streams, other.events, other.stored):
            wrong.append(
                f"category {name}: {other.events} events, not the same as the {one.events} of the source"
            )
        elif with_states and one.states and other.states and one.states != other.states:
            wrong.append(f"category {name}: the same events lead to other states")
    return wrong


def without_states(wanted: dict[str, Category], found: dict[str, Category]) -> list[str]:
    """The categories whose states no installed service folds, in words: `differences` has nothing to compare."""
    words = []
    for name in sorted(wanted.keys() & found.keys()):
        if not found[name].states:
            words.append(f"states of category {name}: no installed service folds them")
        elif not wanted[name].states:
            words.append(f"states of category {name}: no service folded them where the backup was made")
    return words


async def _compare_read_models(runtime: Runtime, manifest: Manifest, verdict: Verdict) -> None:
    for part in runtime.services:
        await _check_read_models(runtime, part, verdict, compare=manifest.read_models)
    installed = {part.service.name for part in runtime.services}
    # Where the backup holds none, those of other services are not there to be compared.
    for schema in await _read_model_schemas(runtime.pool) if manifest.read_models else ():
        if schema not in installed:
            verdict.not_compared.append(f"read models of {schema}: the service is not installed")


async def _check_read_models(
    runtime: Runtime, part: ServiceRuntime, verdict: Verdict, *, compare: bool
) -> None:
    """Bring each read model up to the head; with ``compare`` rebuild it beside, and compare.

    One of another release is left out.
    """
    schema = part.service.name
    await tables.migrate(runtime.pool, schema, part.service.projections)
    async with runtime.pool.acquire() as connection:
        known = await tables.registered(connection, schema)
    for projection in part.service.projections:
        active = tables.find(known, projection, "active")
        if active is None:
            verdict.left_out.append(f"read model {schema}.{projection.name}: is of another release")
            continue
        await _bring_up(runtime, part, projection, active)
        if compare and not await _equals_a_rebuild(runtime, part, projection):
            verdict.wrong.append(f"read model {schema}.{projection.name}: is not what its events lead to")
    put_aside = await runtime.pool.fetchval(f'SELECT count(*) FROM "{schema}".projection_quarantine')
    if put_aside:
        verdict.wrong.append(f"read models of {schema}: {put_aside} events in quarantine")


async def _bring_up(
    runtime: Runtime, part: ServiceRuntime, projection: Projection[Any], active: tables.Registered
) -> None:
    async with runtime.pool.acquire() as connection:
        registry, schema = part.codec.registry, part.service.name
        target = await load_target(connection, registry, schema, projection, active)
    follower = Follower(runtime.pool, part.service.name, part.codec, [target])
    await follower.follow(runtime.store.read_all(after=target.position, categories=follower.categories))


async def _equals_a_rebuild(runtime: Runtime, part: ServiceRuntime, projection: Projection[Any]) -> bool:
    rebuild = Rebuild(part.service.name, projection, runtime.store, part.codec, runtime.sessions)
    await rebuild.build()
    difference = await rebuild.diff()
    await rebuild.abandon()
    return difference is not None and difference.equal


# --- PostgreSQL's programs


async def _program(name: str, server: int) -> str:
    """The path of a client program that is not older than the server: the system's, else the embedded one.

    Raises `BackupFailed`.
    """
    tried = []
    for path in _candidates(name):
        major = await _major(path)
        if major >= server:
            return path
        tried.append(f"{path} is of PostgreSQL {major}")
    why = "; ".join(tried) or "none is installed"
    raise BackupFailed(
        f"{name}: the server is PostgreSQL {server} and needs a {name} that is not older ({why}): "
        f"install postgresql-client-{server}"
    )


def _candidates(name: str) -> list[str]:
    found = [path] if (path := shutil.which(name)) else []
    try:
        embedded = programs() / name
    except EmbeddedServerError:
        return found
    return [*found, str(embedded)] if embedded.exists() else found


async def _major(path: str) -> int:
    child = await asyncio.create_subprocess_exec(path, "--version", stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    # "pg_dump (PostgreSQL) 18.1", also "19beta1" and "19devel".
    found = re.search(r"\) (\d+)", output.decode())
    return int(found[1]) if found else 0


async def _run(command: Sequence[str], url: str, *, output: Path | None = None) -> None:
    """Run a client program on a database. The password is not on its command line, where all users could see it."""
    address, password = without_password(url)
    environment = {**os.environ, "PGCONNECT_TIMEOUT": "10"}
    if password is not None:
        environment["PGPASSWORD"] = password
    arguments = [f"--dbname={address}" if part == "--dbname=" else part for part in command]
    if output is not None:
        arguments += [f"--dbname={address}", f"--file={output}"]
    child = await asyncio.create_subprocess_exec(
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await child.communicate()
    if child.returncode:
        raise BackupFailed(f"{Path(command[0]).name}: {errors.decode(errors='replace').strip()[-500:]}")


def without_password(url: str) -> tuple[str, str | None]:
    """The URL of a database without its password, and the password, if there is one.

    Hosts are left as they are: there may be several, or addresses in brackets.
    """
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    user, _, quoted = login.partition(":")
    password = unquote(quoted) or None
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    named = [value for name, value in pairs if name == "password"]
    if password is None and named:
        password = named[-1]
    query = parts.query
    if named:
        query = urlencode([pair for pair in pairs if pair[0] != "password"], quote_via=quote)
    return _url(parts, netloc=f"{user}{at}{hosts}", query=query), password


def _url(parts: SplitResult, **changed: str) -> str:
    """The text of a URL. ``urlunsplit`` drops the slashes of one without hosts, and libpq wants them."""
    parts = parts._replace(**changed)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{parts.path}{query}"


async def _connect(url: str, named: str = "DATABASE_URL") -> "asyncpg.Connection[asyncpg.Record]":
    try:
        return await asyncpg.connect(url, timeout=10)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ConfigError(f"{named}: cannot connect ({type(error).__name__})") from error


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
