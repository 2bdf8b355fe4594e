"""What a process of any role stands on: settings, connections, clock, each service's commands and queries."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import asyncpg

from forecourt import connections, metrics, migrations
from forecourt.audit.edge import Audit
from forecourt.audit.trail import AuditTrail
from forecourt.clock import Clock, SystemClock
from forecourt.clock_store import ClockFollower
from forecourt.codec import Codec, OnDamage, not_told
from forecourt.command_handler import CommandHandler
from forecourt.config import ConfigError, Settings, load
from forecourt.eventstore import open_store
from forecourt.eventstore.port import EventStore
from forecourt.privacy.keys import KeyStore
from forecourt.privacy.keys_postgres import open_keys
from forecourt.projections import tables
from forecourt.projections.queries import ReadModels
from forecourt.service import Service
from forecourt.snapshots import PostgresSnapshots

LISTENERS = 2
"""Connections that listen, for destroyed keys and the clock; the read models of each service have one more."""

PATIENCE = 10
"""How much longer than others a statement may take that writes a batch of a read model, or waits for one."""

FOLLOWER_CONNECTIONS = 6
"""Connections that a projector or relay of one service may hold at once."""

Check = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class ServiceRuntime:
    """One service, ready to work."""

    service: Service
    codec: Codec
    commands: CommandHandler
    read_models: ReadModels
    settings: Any
    """The service's own settings, where it has any; else the general ones."""


@dataclass(frozen=True)
class Runtime:
    """Everything that the roles of one process share. Open it with `Runtime.open`, close it when done."""

    settings: Settings
    pool: "asyncpg.Pool[asyncpg.Record]"
    """For statements and transactions, which leave nothing behind in their connections."""
    sessions: "asyncpg.Pool[asyncpg.Record]"
    """For those who hold locks."""
    store: EventStore
    keys: KeyStore
    clock: Clock
    audit: Audit
    services: tuple[ServiceRuntime, ...]
    _stack: AsyncExitStack

    @classmethod
    async def open(
        cls,
        services: Sequence[Service],
        settings: Settings,
        *,
        followers: int = 0,
        notes_damage: bool = True,
    ) -> Self:
        """Connect and put the services together; ``followers`` of the event store need connections of their own.

        Without ``notes_damage`` the audit is not told of what cannot be read: a copy that is compared stays as it is.

        Raises `ConfigError` for a wrong setting or an old schema, `forecourt.errors.Unavailable` where the store is
        away.
        """
        async with AsyncExitStack() as stack:
            pool = await open_pool(settings, settings.forecourt_pool_size + LISTENERS + len(services))
            stack.push_async_callback(pool.close)
            sessions = await open_sessions(
                settings, settings.forecourt_pool_size + FOLLOWER_CONNECTIONS * followers
            )
            stack.push_async_callback(sessions.close)
            store = await open_store(settings.store, statement_seconds=settings.forecourt_statement_seconds)
            stack.push_async_callback(store.close)
            _observe_groups(store)
            await migrations.require(pool, store, [service.name for service in services])
            keys = await open_keys(pool, settings)
            stack.push_async_callback(keys.close)
            clock: Clock = SystemClock()
            if settings.forecourt_clock == "virtual":
                follower = await ClockFollower.open(pool)
                stack.push_async_callback(follower.close)
                clock = follower.clock
            audit = Audit.to(AuditTrail(store, clock))
            stack.push_async_callback(audit.close)
            on_damage = audit.damage.note if notes_damage else not_told
            parts = tuple(_compose(service, settings, pool, store, keys, on_damage) for service in services)
            for part in parts:
                stack.push_async_callback(part.read_models.close)
            return cls(settings, pool, sessions, store, keys, clock, audit, parts, stack.pop_all())

    def checks(self) -> dict[str, Check]:
        """What readiness depends on, by name."""
        return {"database": partial(self.pool.fetchval, "SELECT 1"), "store": self.store.head}

    async def close(self) -> None:
        """Let go of all connections, in the reverse order."""
        await self._stack.aclose()


async def open_pool(settings: Settings, size: int | None = None) -> "asyncpg.Pool[asyncpg.Record]":
    """A pool of connections to ``DATABASE_URL``. Raises `ConfigError` where no server answers there."""
    return await _connected(
        connections.open_pool(
            settings.database,
            size or settings.forecourt_pool_size,
            statement_seconds=settings.forecourt_statement_seconds,
            application_name="forecourt",
        )
    )


async def open_sessions(settings: Settings, size: int) -> "asyncpg.Pool[asyncpg.Record]":
    """The same for those who hold locks; connections are made when they are needed."""
    return await _connected(
        connections.open_pool(
            settings.database,
            size,
            least=0,
            changes_sessions=True,
            statement_seconds=PATIENCE * settings.forecourt_statement_seconds,
            application_name="forecourt",
        )
    )


async def _connected(
    opening: "Awaitable[asyncpg.Pool[asyncpg.Record]]",
) -> "asyncpg.Pool[asyncpg.Record]":
    try:
        return await opening
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise ConfigError(f"DATABASE_URL: cannot connect ({type(error).__name__})") from error


def _compose(
    service: Service,
    settings: Settings,
    pool: "asyncpg.Pool[asyncpg.Record]",
    store: EventStore,
    keys: KeyStore,
    on_damage: OnDamage,
) -> ServiceRuntime:
    codec = Codec(service.registry, keys, on_damage=on_damage)
    return ServiceRuntime(
        service,
        codec,
        CommandHandler(store, codec, snapshots=PostgresSnapshots(pool, service.name, codec)),
        ReadModels(pool, service.name, service.projections, hashes=keys),
        settings if service.settings is None else load(service.settings),
    )


def _observe_groups(store: EventStore) -> None:
    """Have the PostgreSQL store report the sizes of its groups."""
    if hasattr(store, "on_group"):
        store.on_group = metrics.APPEND_BATCH.observe


async def migrate(services: Sequence[Service], settings: Settings) -> None:
    """Bring every table that the services need up to date; safe to run at any time, by several at once."""
    pool = await open_pool(settings)
    try:
        store = await open_store(settings.store)
        try:
            if (make := getattr(store, "migrate", None)) is not None:
                await make()
        finally:
            await store.close()
        await migrations.apply(pool, migrations.components_of(service.name for service in services))
        for service in services:
            await tables.migrate(pool, service.name, service.projections)
    finally:
        await pool.close()


async def pending(services: Sequence[Service], settings: Settings) -> list[migrations.Migration]:
    """What `migrate` would change that is not a read model."""
    pool = await open_pool(settings)
    try:
        store = await open_store(settings.store)
        try:
            return await migrations.pending_for(pool, store, [service.name for service in services])
        finally:
            await store.close()
    finally:
        await pool.close()
