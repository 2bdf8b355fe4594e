"""What the handlers of a worker process share: pools, event store, command handler, clock, settings.

Everything here is asynchronous and lives on the hub's loop.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import asyncpg
from pydantic import Field

from forecourt import migrations
from forecourt.audit.edge import Audit
from forecourt.audit.system import SystemCommands
from forecourt.audit.trail import AuditTrail
from forecourt.clock import Clock
from forecourt.codec import Codec
from forecourt.command_handler import CommandHandler
from forecourt.config import ServiceSettings, Settings, load
from forecourt.connections import open_pool
from forecourt.eventstore.port import EventStore
from forecourt.lease import Lease
from forecourt.privacy.keys_postgres import PostgresKeys, open_keys
from forecourt.service import Service

CONFIG_KEY = "FORECOURT_RUNTIME"
"""Where nameko's config holds the `Runtime`."""

HOLDERS = 5
"""Connections that are held for long: by those who listen for destroyed keys, for read models and for the clock, by the
lease of the timers, and by the claims of a sender."""

TRANSACTION: ContextVar[Any] = ContextVar("TRANSACTION")
"""The connection in whose transaction the present handler runs."""


class WorkerSettings(ServiceSettings):
    """Settings that only workers have. Times in seconds."""

    forecourt_worker_concurrency: int = Field(default=30, ge=1, le=1_000)
    """Handlers that run at once."""

    forecourt_worker_prefetch: int = Field(default=10, ge=1, le=1_000)
    """Messages that the broker hands out ahead, per handler."""

    forecourt_worker_transactions: int = Field(default=10, ge=1, le=200)
    """Database connections for the transactions of handlers."""

    forecourt_processed_days: int = Field(default=30, ge=1)
    """Days for which the ids of handled events are remembered."""


@dataclass(frozen=True)
class Runtime:
    """One per worker process; nameko's config holds it.

    Handlers' transactions have a pool of their own: a handler that holds one of its connections may wait for
    one of ``pool``, never the other way round, so they cannot starve each other.
    """

    service: Service
    settings: Settings
    worker: WorkerSettings
    pool: "asyncpg.Pool[asyncpg.Record]"
    transactions: "asyncpg.Pool[asyncpg.Record]"
    store: EventStore
    keys: PostgresKeys
    codec: Codec
    audit: Audit
    commands: CommandHandler
    clock: Clock
    timers: Lease
    read_models: Any = None
    service_settings: Any = None
    """The service's own settings, where it has any."""

    @property
    def delays(self) -> tuple[float, ...]:
        """Seconds before each further attempt."""
        return self.settings.forecourt_retry_delays

    async def forget_processed(self) -> int:
        """Delete a piece of the ids older than the settings say; how many were deleted."""
        answer: str = await self.pool.execute(
            f'DELETE FROM "{self.service.name}".processed_event WHERE (handler, event_id) IN ('
            f'SELECT handler, event_id FROM "{self.service.name}".processed_event'
            " WHERE processed_at < now() - make_interval(days => $1) LIMIT 5000)",
            self.worker.forecourt_processed_days,
        )
        return int(answer.rpartition(" ")[2])

    async def check_database(self) -> None:
        """Raise where the database does not answer."""
        await self.pool.execute("SELECT 1")

    async def close(self) -> None:
        """Let go of the lease, the store and the pools."""
        await self.timers.release()
        await self.audit.close()
        await self.store.close()
        await self.keys.close()
        await self.transactions.close()
        await self.pool.close()


async def open_runtime(
    service: Service,
    settings: Settings,
    *,
    store: EventStore,
    clock: Clock,
    read_models: Any = None,
) -> Runtime:
    """Open pools. Raises what asyncpg raises where the database does not answer, `ConfigError` for an old schema."""
    worker = load(WorkerSettings)
    pool, transactions = [
        await open_pool(
            settings.database,
            size,
            changes_sessions=True,
            statement_seconds=settings.forecourt_statement_seconds,
            application_name="forecourt",
        )
        for size in (settings.forecourt_pool_size + HOLDERS, worker.forecourt_worker_transactions)
    ]
    await migrations.require(pool, store, [service.name])
    keys = await open_keys(pool, settings)
    audit = Audit.to(AuditTrail(store, clock))
    codec = Codec(service.registry, keys, on_damage=audit.damage.note)
    return Runtime(
        service=service,
        settings=settings,
        worker=worker,
        pool=pool,
        transactions=transactions,
        store=store,
        keys=keys,
        codec=codec,
        audit=audit,
        commands=SystemCommands(store, codec, audit.trail),
        clock=clock,
        timers=Lease(pool, f"timers:{service.name}"),
        read_models=read_models,
        service_settings=None if service.settings is None else load(service.settings),
    )
