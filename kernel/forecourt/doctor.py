"""``forecourt doctor``: looks at everything that the platform stands on, changes nothing, and says what to do.

Each check is on its own: where one fails, the others are made as far as they can. Exit status 0: all is well;
1: warnings; 2: problems. Details name queues, tables and settings, never personal data.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import partial
from typing import Any

import asyncpg
from amqp.exceptions import NotFound as QueueNotFound

from forecourt import migrations
from forecourt.clock import Clock, SystemClock, monotonic
from forecourt.config import ConfigError, Settings, load
from forecourt.errors import ForecourtError
from forecourt.eventstore import open_store
from forecourt.eventstore.port import EventStore
from forecourt.messaging import topology
from forecourt.messaging.forwarder import BROKER_TROUBLE, connect
from forecourt.privacy.master import MasterKey, MasterKeyUnavailable, Wrapped
from forecourt.rpc import wiring
from forecourt.service import Service

CONNECT_SECONDS = 5.0

STATEMENT_SECONDS = 10.0
"""How long a statement may take: a table may be locked, or a disk stand still, and then that is what is found."""

_STORE_TROUBLE = (ForecourtError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

SKEW_WARNING = 1.0
SKEW_PROBLEM = 10.0
"""Seconds that the machine's clock may differ from the database's before tokens and time limits suffer."""

MUCH = 1_000
"""Positions behind the store's head from which a follower that moves is worth a warning."""

KEYS_TRIED = 100
"""Persons' keys, the newest ones, that are unwrapped as a sample."""


class State(IntEnum):
    """How bad a finding is; also the exit status."""

    OK = 0
    WARNING = 1
    PROBLEM = 2


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``advice`` says what to do where it is not ok."""

    check: str
    state: State
    detail: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """For scripts."""
        return {**asdict(self), "state": self.state.name.lower()}


def worst(findings: Sequence[Finding]) -> State:
    """The state of the whole."""
    return max((finding.state for finding in findings), default=State.OK)


class Doctor:
    """Examines the platform that the settings name, for ``services``.

    ``handlers`` are the queues of the services' handlers. ``watch`` is for how many seconds a follower that is
    behind may take to be seen moving. ``clock`` is the machine's.
    """

    def __init__(
        self,
        services: Sequence[Service],
        settings: Settings,
        *,
        handlers: Sequence[str],
        watch: float = 3.0,
        clock: Clock | None = None,
    ) -> None:
        self._services = services
        self._settings = settings
        self._handlers = handlers
        self._watch = watch
        self._clock = clock or SystemClock()
        self.findings: list[Finding] = []

    async def examine(self) -> list[Finding]:
        """Make all checks; what was found, in their order."""
        self._check_settings()
        async with self._database() as database:
            head = await self._check_store()
            if database is not None:
                await self._guarded("migrations", self._check_migrations(database))
                await self._guarded("clock", self._check_clock(database))
                await self._guarded("keys", self._check_keys(database))
            await asyncio.to_thread(self._check_broker)
            if database is not None and head is not None:
                await self._guarded("lag", self._check_lag(database))
                await self._guarded("quarantine", self._check_quarantine(database))
        return self.findings

    def _note(self, check: str, state: State, detail: str, advice: str = "") -> None:
        self.findings.append(Finding(check, state, detail, advice))

    async def _guarded(self, check: str, work: Awaitable[None]) -> None:
        """A check that the database or the store breaks off is a problem of its own, not the end of the examination."""
        try:
            await work
        except TimeoutError:
            detail = f"no answer within {STATEMENT_SECONDS:g} seconds"
            advice = "look for locks in pg_stat_activity, and for a disk that stands still, run again"
            self._note(check, State.PROBLEM, detail, advice)
        except (ConfigError, ForecourtError) as error:
            self._note(check, State.PROBLEM, str(error), "start the server, or look at its log, run again")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            self._note(
                check,
                State.PROBLEM,
                f"database: {type(error).__name__}",
                "look at the database's log, run again",
            )

    # --- settings

    def _check_settings(self) -> None:
        wrong = []
        checks: list[Callable[[], object]] = [partial(wiring.check, self._settings)]
        checks += [partial(load, service.settings) for service in self._services if service.settings]
        for check in checks:
            try:
                check()
            except ConfigError as error:
                wrong.append(str(error))
        if wrong:
            self._note(
                "settings", State.PROBLEM, "; ".join(wrong), "set the variables: docs/configuration.md"
            )
        else:
            self._note("settings", State.OK, f"FORECOURT_ENV={self._settings.forecourt_env}")

    # --- database and store

    @asynccontextmanager
    async def _database(self) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record] | None]":
        try:
            connection = await asyncpg.connect(
                self._settings.database, timeout=CONNECT_SECONDS, command_timeout=STATEMENT_SECONDS
            )
        except ConfigError as error:
            self._note("database", State.PROBLEM, str(error), "set DATABASE_URL")
            yield None
            return
        except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            advice = "start PostgreSQL, or correct DATABASE_URL"
            self._note("database", State.PROBLEM, f"does not answer: {type(error).__name__}", advice)
            yield None
            return
        try:
            version = connection.get_server_version()
            self._note("database", State.OK, f"PostgreSQL {version.major}.{version.minor}")
            yield connection
        finally:
            # A server that has fallen silent does not say goodbye; what was found is to be told all the same.
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=CONNECT_SECONDS)

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[EventStore]:
        opening = open_store(self._settings.store, statement_seconds=STATEMENT_SECONDS)
        store = await asyncio.wait_for(opening, CONNECT_SECONDS)
        try:
            yield store
        finally:
            await store.close()

    async def _check_store(self) -> int | None:
        advice = "start it, or correct EVENT_STORE_URL"
        try:
            async with self._store() as store:
                head = await asyncio.wait_for(store.head(), CONNECT_SECONDS)
        except ConfigError as error:
            self._note("event store", State.PROBLEM, str(error), advice)
        except asyncpg.UndefinedTableError:
            self._note("event store", State.PROBLEM, "has no table of events", "run 'forecourt migrate'")
        except _STORE_TROUBLE as error:
            self._note("event store", State.PROBLEM, f"does not answer: {type(error).__name__}", advice)
        else:
            self._note("event store", State.OK, f"head at position {head}")
            return head
        return None

    async def _check_migrations(self, database: Any) -> None:
        try:
            pending = await self._pending(database)
        except migrations.MigrationChanged as error:
            advice = "install the release that the database was migrated with, or a newer one"
            self._note("migrations", State.PROBLEM, str(error), advice)
            return
        if pending:
            detail = f"{len(pending)} pending: {', '.join(map(str, pending))}"
            self._note("migrations", State.PROBLEM, detail, "run 'forecourt migrate'")
            return
        missing = [name for name in self._relations() if not await _exists(database, name)]
        if missing:
            # What is recorded as applied is not applied again.
            advice = "restore them: docs/backup.md; or delete their schemas' rows in forecourt.migration and migrate"
            self._note("migrations", State.PROBLEM, f"missing: {', '.join(sorted(missing))}", advice)
            return
        behind = []
        for service in self._services:
            rows = await database.fetch(f'SELECT name, version, state FROM "{service.name}".projection')
            active = {(row["name"], row["version"]) for row in rows if row["state"] == "active"}
            wanted = {(one.name, one.version) for one in service.projections}
            behind += [f"{service.name}.{name} v{version}" for name, version in sorted(wanted - active)]
        if behind:
            detail = f"read models of this release that are not in use yet: {', '.join(behind)}"
            self._note(
                "migrations", State.WARNING, detail, "let 'project' build them, or 'forecourt rebuild'"
            )
        else:
            self._note("migrations", State.OK, f"of {len(self._services)} services")

    async def _pending(self, database: Any) -> list[migrations.Migration]:
        """What processes would refuse to start on; without the event store's where that does not answer."""
        names = [service.name for service in self._services]
        try:
            async with self._store() as store:
                return await migrations.pending_for(database, store, names)
        except migrations.MigrationChanged:
            raise
        except (ConfigError, *_STORE_TROUBLE):
            return await migrations.pending(database, migrations.components_of(names))

    def _relations(self) -> list[str]:
        own = [
            f'"{service.name}".{table}' for service in self._services for table in ("projection", "snapshot")
        ]
        common = ["events.clock_setting", "messaging.relay_checkpoint", "keys.person_key"]
        return own + common

    # --- clocks

    async def _check_clock(self, database: Any) -> None:
        before = self._clock.now()
        theirs: datetime = await database.fetchval("SELECT clock_timestamp()")
        after = self._clock.now()
        skew = (theirs - (before + (after - before) / 2)).total_seconds()
        uncertain = (after - before).total_seconds() / 2
        beyond = max(0.0, abs(skew) - uncertain)
        state = (
            State.PROBLEM if beyond > SKEW_PROBLEM else State.WARNING if beyond > SKEW_WARNING else State.OK
        )
        advice = "" if state is State.OK else "synchronise machine and database server (NTP)"
        self._note("clock", state, f"the database is {skew:+.3f} s from this machine", advice)
        if await _exists(database, "events.clock_setting"):
            await self._check_virtual_clock(database, theirs)

    async def _check_virtual_clock(self, database: Any, real: datetime) -> None:
        row = await database.fetchrow("SELECT real, virtual, rate FROM events.clock_setting")
        if row is None:
            self._note("virtual clock", State.PROBLEM, "has no setting", "run 'forecourt migrate'")
            return
        shown = row["virtual"] + (real - row["real"]) * row["rate"]
        off = (shown - real).total_seconds()
        detail = f"{shown.astimezone(UTC).isoformat(timespec='seconds')} at rate {row['rate']:g}"
        if self._settings.forecourt_clock == "virtual":
            standing = row["rate"] == 0
            advice = "timers wait: 'forecourt clock rate 1'" if standing else ""
            self._note("virtual clock", State.WARNING if standing else State.OK, detail, advice)
        elif abs(off) > SKEW_PROBLEM or row["rate"] != 1:
            advice = "no process may run with FORECOURT_CLOCK=virtual beside others that do not"
            self._note(
                "virtual clock", State.WARNING, f"{detail}, and this process lives in real time", advice
            )

    # --- keys

    async def _check_keys(self, database: Any) -> None:
        if not await _exists(database, "keys.person_key"):
            return  # said by the check of migrations
        try:
            master = self._settings.master_key()
        except ConfigError as error:
            self._note("keys", State.PROBLEM, str(error), "give the master key: docs/operating.md")
            return
        try:
            await self._check_master(database, master)
        except MasterKeyUnavailable as error:
            self._note("keys", State.PROBLEM, str(error), "start Vault, or correct FORECOURT_VAULT_ADDR")
        finally:
            await master.close()

    async def _check_master(self, database: Any, master: MasterKey) -> None:
        await master.current_id()
        used = await database.fetch(
            "SELECT DISTINCT master_id FROM keys.person_key WHERE master_id IS NOT NULL"
        )
        unknown = [row["master_id"] for row in used if not master.knows(row["master_id"])]
        if unknown:
            detail = f"persons' keys are wrapped with master keys not given: {', '.join(unknown)}"
            self._note("keys", State.PROBLEM, detail, "give that master key too, behind the present one")
            return
        rows = await database.fetch(
            "SELECT person_id::text AS person, master_id, wrapped FROM keys.person_key"
            " WHERE wrapped IS NOT NULL ORDER BY created_at DESC LIMIT $1",
            KEYS_TRIED,
        )
        wrapped = [(row["person"].encode(), Wrapped(row["master_id"], row["wrapped"])) for row in rows]
        lost = sum(key is None for key in await master.unwrap(wrapped))
        if lost:
            detail = f"{lost} of {len(rows)} persons' keys do not unwrap"
            self._note("keys", State.PROBLEM, detail, "restore the schema 'keys': docs/backup.md")
        else:
            self._note("keys", State.OK, f"{len(rows)} persons' keys tried")

    # --- broker

    def _check_broker(self) -> None:
        if self._settings.amqp_uri is None:
            self._note("broker", State.WARNING, "AMQP_URI: is not set", "set it to examine RabbitMQ too")
            return
        try:
            with connect(self._settings.amqp_uri) as connection:
                self._note("broker", State.OK, f"{len(self._handlers)} handlers")
                for queue in self._handlers:
                    self._check_queue(connection, queue)
        except BROKER_TROUBLE as error:
            advice = "start RabbitMQ, or correct AMQP_URI"
            self._note("broker", State.PROBLEM, f"does not answer: {type(error).__name__}", advice)

    def _check_queue(self, connection: Any, queue: str) -> None:
        service = queue.partition(".")[0]
        found, parked = _look(connection, queue), _look(connection, topology.parking_queue(queue))
        if found is None or parked is None:
            detail = "is not declared: what is published does not reach the handler"
            self._note(f"queue {queue}", State.PROBLEM, detail, "run 'forecourt migrate' with AMQP_URI set")
            return
        if not found.consumer_count:
            state = State.PROBLEM if found.message_count else State.WARNING
            detail = f"has no consumer, {found.message_count} messages wait"
            self._note(f"queue {queue}", state, detail, f"start 'forecourt work {service}'")
        if parked.message_count:
            detail = f"{parked.message_count} messages are parked"
            self._note(f"parked {queue}", State.WARNING, detail, f"'forecourt parked show {queue}'")

    # --- lag

    async def _check_lag(self, database: Any) -> None:
        """Who is behind is watched for a while: one that moves is busy, one that stands is broken or missing."""
        async with self._store() as store:
            head = await store.head()
            first = await self._positions(database)
            behind = {name: position for name, position in first.items() if position < head}
            deadline = monotonic() + self._watch
            latest = first
            while any(latest.get(name, 0) < head for name in behind) and monotonic() < deadline:
                await asyncio.sleep(0.1)
                latest = await self._positions(database)
        for name, position in behind.items():
            self._judge(name, position, latest.get(name, position), head)
        if not behind:
            self._note("lag", State.OK, f"{len(first)} projections and relays at position {head}")
        for name in sorted(self._expected() - first.keys()):
            role = name.partition(" ")[0]
            state = State.PROBLEM if head else State.WARNING
            self._note(f"lag of {name}", state, "has never run", f"start 'forecourt {_ROLES[role]}'")

    def _judge(self, name: str, before: int, after: int, head: int) -> None:
        if after >= head:
            self._note(f"lag of {name}", State.OK, f"has caught up with position {head}")
        elif after == before:
            role = _ROLES[name.partition(" ")[0]]
            detail = f"stands still at position {after} of {head}"
            self._note(
                f"lag of {name}", State.PROBLEM, detail, f"start 'forecourt {role}', or look at its log"
            )
        else:
            state = State.WARNING if head - after > MUCH else State.OK
            detail = f"at position {after} of {head}, and moving"
            self._note(f"lag of {name}", state, detail, "wait, or look at its log" if state else "")

    def _expected(self) -> set[str]:
        return {f"relay {service.name}" for service in self._services}

    async def _positions(self, database: Any) -> dict[str, int]:
        """How far each projection in use and each relay is."""
        found: dict[str, int] = {}
        for service in self._services:
            rows = await database.fetch(
                f"SELECT name, position FROM \"{service.name}\".projection WHERE state = 'active'"
            )
            found |= {f"projection {service.name}.{row['name']}": row["position"] for row in rows}
        names = [service.name for service in self._services]
        rows = await database.fetch(
            "SELECT name, position FROM messaging.relay_checkpoint WHERE name = ANY($1)", names
        )
        return found | {f"relay {row['name']}": row["position"] for row in rows}

    async def _check_quarantine(self, database: Any) -> None:
        for service in self._services:
            rows = await database.fetch(
                f'SELECT q.projection, count(*) AS n FROM "{service.name}".projection_quarantine q'
                f" JOIN \"{service.name}\".projection p ON p.id = q.target AND p.state = 'active' GROUP BY 1"
            )
            for row in rows:
                name = f"{service.name}.{row['projection']}"
                advice = f"mend the handler, then 'forecourt rebuild {service.name} {row['projection']}'"
                self._note(f"quarantine {name}", State.WARNING, f"{row['n']} events are put aside", advice)


_ROLES = {"projection": "project", "relay": "relay"}


async def _exists(database: Any, relation: str) -> bool:
    return bool(await database.fetchval("SELECT to_regclass($1) IS NOT NULL", relation))


def _look(connection: Any, queue: str) -> Any:
    """Counts of a queue, None where there is no such queue."""
    channel = connection.channel()
    try:
        return channel.queue_declare(queue, passive=True)
    except QueueNotFound:
        return None
    finally:
        if channel.is_open:
            channel.close()
