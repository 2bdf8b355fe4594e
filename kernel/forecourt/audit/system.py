"""Commands that the platform gives by itself, in handlers and timers: their refusals are entries, too."""

from collections import OrderedDict
from typing import Any
from uuid import UUID

from forecourt.audit.entries import CommandRefused, decode_provenance
from forecourt.audit.trail import AuditTrail, Origin
from forecourt.codec import Codec
from forecourt.command_handler import CommandHandler, Outcome
from forecourt.deciders import Command, Context, Decider
from forecourt.errors import ForecourtError
from forecourt.eventstore.port import EventStore
from forecourt.rpc.errors import NOT_DECIDED, code_of
from forecourt.snapshots import SnapshotStore

REMEMBERED = 10_000
"""Refused commands whose repetition is no further entry; the one refused longest ago is forgotten."""


class SystemCommands(CommandHandler):
    """Runs commands of handlers and timers, and notes those that are refused.

    A handler that fails is tried again, and a timer asks again: the same command, refused for the same reason, is
    one entry of a process.
    """

    def __init__(
        self, store: EventStore, codec: Codec, trail: AuditTrail, *, snapshots: SnapshotStore | None = None
    ) -> None:
        super().__init__(store, codec, snapshots=snapshots)
        self._trail = trail
        self._noted: OrderedDict[tuple[UUID, str], None] = OrderedDict()

    async def execute(
        self, decider: Decider[Any], command: Command, context: Context, *, expected: int | None = None
    ) -> Outcome:
        """Decide ``command`` and append what follows; see `CommandHandler.execute`.

        Raises `forecourt.audit.trail.AuditUnavailable` instead of a refusal that cannot be noted down.
        """
        try:
            return await super().execute(decider, command, context, expected=expected)
        except ForecourtError as error:
            await self._note(error, decider.id_of(command, context), context)
            raise

    async def _note(self, error: ForecourtError, subject: UUID, context: Context) -> None:
        code = code_of(error)
        mark = (context.command_id, error.slug)
        if code in NOT_DECIDED or mark in self._noted:
            return
        by = decode_provenance(context.metadata)
        entry = CommandRefused(
            rpc=by.rpc,
            subjects=(subject,),
            code=code.name,
            slug=error.slug,
            roles=by.roles,
            dealers=by.dealers,
            brands=by.brands,
        )
        origin = Origin(
            context.correlation_id,
            context.actor_id,
            context.dealer_id,
            context.brand,
            context.causation_id,
        )
        await self._trail.record(entry, origin)
        self._noted[mark] = None
        if len(self._noted) > REMEMBERED:
            self._noted.popitem(last=False)
