"""Sends what is due: takes messages from the queue, hands them to providers, and records what became of it.

The read model of notifications is the queue; it may lag behind. So every step names the version of the stream
that it was decided on, and a step decided on an old row is refused by the aggregate, not done twice.

An outcome is recorded without a version, because it is a fact whatever else has happened, and until the store
has taken it: an outcome that is lost is an unknown one.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID, uuid4, uuid5

from forecourt import logs, tracing
from forecourt.audit.entries import provenance_of_system
from forecourt.clock import Clock, monotonic
from forecourt.command_handler import CommandHandler
from forecourt.connections import LOST
from forecourt.deciders import Command, Context
from forecourt.errors import ForecourtError, NotFound, Refused, Unavailable, VersionConflict
from forecourt.metrics import DELIVERIES, DELIVERY_SECONDS
from forecourt.projections.queries import ReadModels, any_of, eq, le
from forecourt.waiting import cancel_and_wait
from notify import metrics
from notify.claims import Claims
from notify.consent import consent_for
from notify.notification import (
    Category,
    Channel,
    DeferNotification,
    ExpireNotification,
    RecordAccepted,
    RecordFailure,
    StartAttempt,
    SuppressNotification,
    SuppressReason,
    notification,
)
from notify.policies import House, wait_until
from notify.providers.port import Accepted, Answer, Failed, Outgoing, Provider
from notify.read_models import SENDABLE, ContactRow, NotificationRow, contacts, notifications
from notify.retries import GiveUp, Trail, after_failure

log = logs.get(__name__)

ACTOR = "system:notify.sender"
INTERRUPTED = Failed("unknown", "interrupted")
"""The answer of an attempt whose process is gone."""

REPEATS = 2
"""How often a message of unknown outcome is repeated, before the provider is asked what became of it."""

RECORDING_SECONDS = 60.0
"""How long an outcome is offered to a store that does not answer."""

OUTAGE_SECONDS = 0.5
"""Pause after a store or read model that does not answer."""

SEEN = 10_000


@dataclass
class Sender:
    """The sender of one process. ``providers`` of each channel are in order of preference."""

    commands: CommandHandler
    read_models: ReadModels
    claims: Claims
    clock: Clock
    providers: Mapping[Channel, Sequence[Provider]]
    house: House
    delays: Sequence[timedelta]
    concurrency: int = 16
    new_id: Callable[[], UUID] = uuid4

    def __post_init__(self) -> None:
        self._in_hand: set[UUID] = set()
        self._seen: dict[UUID, int] = {}

    async def run(self, seconds: float) -> int:
        """Send what is due, and what falls due within ``seconds``; answers the number of messages handled.

        Returns earlier when nothing is due, and later when a provider is slow: nothing is left in hand.
        """
        until = monotonic() + seconds
        try:
            channels = (self._run_channel(channel, until) for channel in self.providers)
            handled = await asyncio.gather(*channels, return_exceptions=True)
        finally:
            await self.claims.close()
        for outcome in handled:
            if isinstance(outcome, BaseException):
                raise outcome
        return sum(count for count in handled if isinstance(count, int))

    async def _run_channel(self, channel: Channel, until: float) -> int:
        """Each channel has hands of its own, so that one that hangs does not hold up the other."""
        tasks: set[asyncio.Task[None]] = set()
        handled = 0
        failure: BaseException | None = None
        try:
            while True:
                free = self.concurrency - len(tasks)
                if failure is None and free > self.concurrency // 2 and monotonic() < until:
                    try:
                        rows = await self._take(channel, free)
                    except (ForecourtError, *LOST) as error:
                        failure, rows = error, []
                    tasks.update(asyncio.get_running_loop().create_task(self._handle(row)) for row in rows)
                if not tasks:
                    break
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                handled += len(done)
                failure = failure or next((e for task in done if (e := task.exception()) is not None), None)
        finally:
            # Only a run that is cancelled leaves any: whatever fails, what was begun is finished and recorded.
            await cancel_and_wait(*tasks)
        if failure is not None:
            raise failure
        return handled

    async def _take(self, channel: Channel, free: int) -> list[NotificationRow]:
        """Rows that are due, that nobody has in hand, and that are newer than what was done to them here."""
        due = await self.read_models.all(
            notifications,
            where=[
                eq("channel", channel),
                any_of("state", SENDABLE),
                le("due_at", self.clock.now()),
            ],
            order=["due_at"],
            limit=free + 2 * self.concurrency,
        )
        fresh = [
            row
            for row in due
            if row.notification_id not in self._in_hand
            and row.version > self._seen.get(row.notification_id, 0)
        ][:free]
        self._in_hand.update(row.notification_id for row in fresh)
        try:
            claimed = await self.claims.take([row.notification_id for row in fresh])
        except BaseException:
            self._in_hand.difference_update(row.notification_id for row in fresh)
            raise
        self._in_hand.difference_update({row.notification_id for row in fresh} - claimed)
        return [row for row in fresh if row.notification_id in claimed]

    async def _handle(self, row: NotificationRow) -> None:
        try:
            await self._step(row)
            self._note(row)
        except (VersionConflict, NotFound, Refused):
            # Somebody else, or a receipt, was faster: the row is old, and a newer one will come or none is needed.
            self._note(row)
        except Unavailable as error:
            log.warning("a message has to wait", notification_id=str(row.notification_id), error=error.slug)
            await asyncio.sleep(OUTAGE_SECONDS)
        finally:
            with suppress(*LOST):  # claims end with their connection
                await self.claims.give_back([row.notification_id])
            self._in_hand.discard(row.notification_id)

    def _note(self, row: NotificationRow) -> None:
        self._seen[row.notification_id] = row.version
        if len(self._seen) > 2 * SEEN:
            self._seen = dict(list(self._seen.items())[-SEEN:])

    async def _step(self, row: NotificationRow) -> None:
        """What comes next for a message."""
        now = self.clock.now()
        if row.state == "attempting":
            await self._record(row, row.provider, row.attempts, INTERRUPTED, expected=row.version)
        elif not row.text:
            # Erased while it was under way, and not known to the message itself yet.
            await self._suppress(row, "erased")
        elif row.unknown:
            await self._settle(row, now)
        elif now >= row.expires_at:
            await self._execute(row, ExpireNotification(notification_id=row.notification_id))
            metrics.EXPIRED.labels(row.channel).inc()
        else:
            contact = await self.read_models.get(contacts, row.customer_id)
            if not await self._suppressed(row, contact):
                provider = self._provider(row, row.next_provider) or self._of(row)[0]
                await self._attempt(row, provider, _address(row, contact), now)

    async def _settle(self, row: NotificationRow, now: datetime) -> None:
        """Go on after an unknown outcome: with the same provider only."""
        provider = self._provider(row, row.provider)
        if provider is None:
            await self._record(
                row, row.provider, row.attempts, Failed("unknown", "no_provider"), expected=row.version
            )
            return
        expired = now >= row.expires_at
        if provider.can_find_out and (row.unknown > REPEATS or expired or not provider.repeats_safely):
            answer = await provider.find_out(self._outgoing(row, row.address))
            await self._record(row, provider.name, row.attempts, answer, expected=row.version)
        elif expired:
            await self._give_up(row)
        elif not await self._suppressed(row, await self.read_models.get(contacts, row.customer_id)):
            await self._attempt(row, provider, row.address, now)

    async def _give_up(self, row: NotificationRow) -> None:
        """Leave a message to a person that is too late to be repeated, and may have been sent."""
        command = RecordFailure(
            notification_id=row.notification_id,
            provider=row.provider,
            attempt=row.attempts,
            code="expired",
            outcome="unknown",
            dead_letter="outcome_unknown",
        )
        await self._execute(row, command)
        metrics.DEAD_LETTERED.labels(row.channel, "outcome_unknown").inc()

    async def _attempt(self, row: NotificationRow, provider: Provider, address: str, now: datetime) -> None:
        until = wait_until(cast(Category, row.category), row.time_zone, self.house.quiet, now)
        if until is not None:
            defer = DeferNotification(notification_id=row.notification_id, until=until, reason="quiet_hours")
            await self._execute(row, defer)
            metrics.DEFERRED.labels(row.channel, "quiet_hours").inc()
            return
        if tracing.tracer is None:
            await self._send(row, provider, address)
            return
        asked = await self.commands.origin(notification, row.notification_id)
        key = str(row.notification_id)
        with tracing.tracer.delivery(row.channel, provider.name, key, asked) as span:
            span.set_attribute("crm.outcome", await self._send(row, provider, address))

    async def _send(self, row: NotificationRow, provider: Provider, address: str) -> str:
        """One attempt, recorded before and after; its outcome."""
        start = StartAttempt(notification_id=row.notification_id, provider=provider.name, address=address)
        # Never derived: a second process that decided the same would be answered with our success, and send too.
        await self._execute(row, start, command_id=self.new_id())
        started = monotonic()
        answer = await provider.send(self._outgoing(row, address))
        DELIVERY_SECONDS.labels(row.channel, provider.name).observe(monotonic() - started)
        await self._record(row, provider.name, row.attempts + 1, answer)
        return _word(answer)

    async def _suppressed(self, row: NotificationRow, contact: ContactRow | None) -> bool:
        """Ask once more whether the customer may be written to: much may have changed while the message waited."""
        answer = None if contact is None else _objection(row, contact)
        if answer is None:
            return False
        await self._suppress(row, answer)
        return True

    async def _suppress(self, row: NotificationRow, reason: SuppressReason) -> None:
        await self._execute(row, SuppressNotification(notification_id=row.notification_id, reason=reason))
        metrics.SUPPRESSED.labels(row.channel, reason).inc()

    async def _record(
        self,
        row: NotificationRow,
        provider: str,
        attempt: int,
        answer: Answer,
        *,
        expected: int | None = None,
    ) -> None:
        """Record what became of an attempt, and how it goes on."""
        command = self._outcome(row, provider, attempt, answer)
        pause, until = 0.1, monotonic() + RECORDING_SECONDS
        while True:
            try:
                context = self._context(row, command, None)
                await self.commands.execute(notification, command, context, expected=expected)
                break
            except Unavailable:
                if monotonic() > until:
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, 3.0)
        DELIVERIES.labels(row.channel, provider, _word(answer)).inc()
        if isinstance(command, RecordFailure) and command.dead_letter:
            metrics.DEAD_LETTERED.labels(row.channel, command.dead_letter).inc()

    def _outcome(
        self, row: NotificationRow, provider: str, attempt: int, answer: Answer
    ) -> RecordAccepted | RecordFailure:
        if isinstance(answer, Accepted):
            return RecordAccepted(
                notification_id=row.notification_id,
                provider=provider,
                attempt=attempt,
                reference=answer.reference,
            )
        used = self._provider(row, provider)
        trail = Trail(
            provider=provider,
            failures=row.failures + 1,
            unknown=answer.outcome == "unknown" or (bool(row.unknown) and answer.outcome == "not_sent"),
            can_find_out=used is not None and (used.repeats_safely or used.can_find_out),
        )
        names = [each.name for each in self._of(row)]
        step = after_failure(answer.outcome, trail, names, self.delays, self.clock.now())
        return RecordFailure(
            notification_id=row.notification_id,
            provider=provider,
            attempt=attempt,
            code=answer.code,
            outcome=answer.outcome,
            retry_at=None if isinstance(step, GiveUp) else step.at,
            next_provider=None if isinstance(step, GiveUp) else step.provider,
            dead_letter=step.reason if isinstance(step, GiveUp) else None,
        )

    async def _execute(
        self, row: NotificationRow, command: Command, *, command_id: UUID | None = None
    ) -> None:
        """Run a step that was decided on ``row``, and is refused if the message has changed since."""
        context = self._context(row, command, command_id)
        await self.commands.execute(notification, command, context, expected=row.version)

    def _context(self, row: NotificationRow, command: Command, command_id: UUID | None) -> Context:
        # Derived from what was seen, so that the same step repeated after a broken answer is the same command.
        derived = uuid5(row.notification_id, f"{type(command).__name__}:{row.version}")
        return Context(
            now=self.clock.now(),
            command_id=command_id or derived,
            correlation_id=row.correlation_id,
            causation_id=row.reason_event_id,
            actor_id=ACTOR,
            dealer_id=row.dealer_id,
            brand=row.brand,
            roles=frozenset({"system"}),
            metadata=provenance_of_system("notify.sender"),
        )

    def _of(self, row: NotificationRow) -> Sequence[Provider]:
        return self.providers[cast(Channel, row.channel)]

    def _provider(self, row: NotificationRow, name: str) -> Provider | None:
        return next((provider for provider in self._of(row) if provider.name == name), None)

    @staticmethod
    def _outgoing(row: NotificationRow, address: str) -> Outgoing:
        return Outgoing(
            key=row.notification_id, address=address, subject=row.subject, text=row.text, html=row.html
        )


def _objection(row: NotificationRow, contact: ContactRow) -> SuppressReason | None:
    """Why a message may not go out any more, if it may not."""
    if not contact.reached_by(row.dealer_id, row.brand):
        return "out_of_scope"
    if contact.erased:
        return "erased"
    category, channel = cast(Category, row.category), cast(Channel, row.channel)
    consent = consent_for(category, contact.consent(category, channel))
    return consent if consent == "opted_out" or consent == "no_consent" else None


def _address(row: NotificationRow, contact: ContactRow | None) -> str:
    """Today's address: the one that the message was queued with may have been corrected."""
    return (contact and contact.address(cast(Channel, row.channel))) or row.address


def _word(answer: Answer) -> str:
    """An answer in metrics and traces."""
    return "accepted" if isinstance(answer, Accepted) else answer.outcome
