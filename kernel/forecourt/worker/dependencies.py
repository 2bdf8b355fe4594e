"""nameko dependency providers: what a handler finds on ``self``.

::

    class CareReactions:
        name = "service_desk"
        commands = Commands()
        clock = ClockProvider()
        database = Database()

All of them are asynchronous adapters, the same that ``serve`` uses.
"""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

import asyncpg
from nameko.extensions import DependencyProvider

from forecourt.audit.entries import provenance_of_system
from forecourt.clock import Clock
from forecourt.command_handler import Outcome
from forecourt.deciders import Command, Context, Decider
from forecourt.events import Recorded
from forecourt.eventstore.port import EventStore, StoredEvent
from forecourt.privacy.keys import KeyStore
from forecourt.worker.runtime import CONFIG_KEY, TRANSACTION, Runtime

ROLES = frozenset({"system"})
"""Roles of what no person asked for."""


class _Provider(DependencyProvider):  # type: ignore[misc]  # nameko has no types
    """A provider with the process's runtime at hand."""

    @property
    def runtime(self) -> Runtime:
        runtime: Runtime = self.container.config[CONFIG_KEY]
        return runtime


@dataclass
class BoundCommands:
    """Executes commands on behalf of one handler run.

    The id of each command is derived from the event, the handler and ``label``; so a run that is repeated
    finds its commands done. Several commands of one run need different labels.
    """

    runtime: Runtime
    handler: str
    event: StoredEvent | None
    _labels: set[str] = field(default_factory=set)

    async def execute(
        self,
        decider: Decider[Any],
        command: Command,
        *,
        label: str = "",
        command_id: UUID | None = None,
        dealer_id: str | None = None,
        brand: str | None = None,
        expected: int | None = None,
    ) -> Outcome:
        """Execute ``command``, caused by the event at hand, for its dealer and brand unless others are named.

        A timer has no event: it must give a ``command_id`` that is the same whenever it asks for the same.
        Raises the domain's errors, and `ValueError` for a missing id or a label used twice.
        """
        context = self._context(label, command_id, dealer_id, brand)
        return await self.runtime.commands.execute(decider, command, context, expected=expected)

    def _context(
        self, label: str, command_id: UUID | None, dealer_id: str | None, brand: str | None
    ) -> Context:
        event = self.event
        if command_id is None:
            command_id = self._derived(label)
        return Context(
            now=self.runtime.clock.now(),
            command_id=command_id,
            correlation_id=event.correlation_id if event else command_id,
            causation_id=event.id if event else None,
            actor_id=f"system:{self.handler}",
            dealer_id=(event.dealer_id if event else "") if dealer_id is None else dealer_id,
            brand=(event.brand if event else "") if brand is None else brand,
            roles=ROLES,
            metadata=provenance_of_system(self.handler),
        )

    def _derived(self, label: str) -> UUID:
        if self.event is None:
            raise ValueError("command_id: a timer has no event to derive it from, so it must be given")
        if label in self._labels:
            raise ValueError(f"label: {label!r} is used twice in one run, two commands would share an id")
        self._labels.add(label)
        return uuid5(self.event.id, f"{self.handler}:{label}" if label else self.handler)


class Commands(_Provider):
    """Provides `BoundCommands`."""

    def get_dependency(self, worker_ctx: Any) -> BoundCommands:
        """The commands of one handler run."""
        recorded = worker_ctx.args[0] if worker_ctx.args else None
        handler = f"{worker_ctx.service_name}.{worker_ctx.entrypoint.method_name}"
        return BoundCommands(self.runtime, handler, recorded.meta if isinstance(recorded, Recorded) else None)


@dataclass(frozen=True)
class HandlerDatabase:
    """The database, as a handler uses it."""

    pool: "asyncpg.Pool[asyncpg.Record]"

    @property
    def tx(self) -> "asyncpg.Connection[asyncpg.Record]":
        """The connection of this run's transaction: what is written through it happens exactly once.

        Raises `RuntimeError` in a timer, which has no transaction of its own.
        """
        connection: asyncpg.Connection[asyncpg.Record] | None = TRANSACTION.get(None)
        if connection is None:
            raise RuntimeError("no event is being handled: use pool, and begin a transaction")
        return connection


class Database(_Provider):
    """Provides `HandlerDatabase`."""

    def get_dependency(self, worker_ctx: Any) -> HandlerDatabase:
        """The database."""
        return HandlerDatabase(self.runtime.pool)


class ClockProvider(_Provider):
    """Provides the process's clock."""

    def get_dependency(self, worker_ctx: Any) -> Clock:
        """The clock."""
        return self.runtime.clock


class EventStoreProvider(_Provider):
    """Provides the event store."""

    def get_dependency(self, worker_ctx: Any) -> EventStore:
        """The event store."""
        return self.runtime.store


class Keys(_Provider):
    """Provides the keys of persons (`forecourt.privacy.keys.KeyStore`), to destroy them."""

    def get_dependency(self, worker_ctx: Any) -> KeyStore:
        """The keys."""
        return self.runtime.keys


class ReadModelsProvider(_Provider):
    """Provides the service's read models (`forecourt.projections.queries.ReadModels`)."""

    def get_dependency(self, worker_ctx: Any) -> Any:
        """The read models."""
        return self.runtime.read_models


class SettingsProvider(_Provider):
    """Provides the service's own settings (`forecourt.service.Service.settings`)."""

    def get_dependency(self, worker_ctx: Any) -> Any:
        """The settings; None where the service has none."""
        return self.runtime.service_settings
