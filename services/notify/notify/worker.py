"""Reacts to events of the other services with messages, and sends what is due."""

from typing import Any

from forecourt.config import load
from forecourt.errors import AlreadyExists
from forecourt.events import Recorded
from forecourt.messaging.entrypoints import every, on_event
from forecourt.projections.queries import eq, gt
from forecourt.worker.dependencies import ClockProvider, Commands, Database, ReadModelsProvider
from notify import metrics
from notify.catalogue import catalogue
from notify.composition import make_sender
from notify.foreign import REASONS, PersonalDataShredded
from notify.notification import EraseNotification, RequestNotification, notification
from notify.policies import requests_for
from notify.read_models import DEAD_LETTERS, contacts, notifications
from notify.sender import Sender
from notify.settings import NotifySettings

FRESHNESS_SECONDS = 5.0
"""How long a reaction waits for the contacts to be as fresh as its event."""

SENDING_SECONDS = 2.0
"""How long one run of the sender takes up new messages."""

ERASED_AT_ONCE = 200
"""Messages looked up at a time when a customer is erased."""


class NotifyReactions:
    """The nameko service."""

    name = "notify"

    commands = Commands()
    read_models = ReadModelsProvider()
    clock = ClockProvider()
    database = Database()

    settings = load(NotifySettings)
    _sender: Sender | None = None

    @on_event(*REASONS)
    async def notify(self, recorded: Recorded[Any]) -> None:
        """Ask for the messages that the rules want because of an event.

        What was said to the customer service before the event is known here before it is acted on: a consent
        withdrawn yesterday counts today. A customer that is not known even then is tried again later.
        """
        await self.read_models.wait_for(contacts, recorded.meta.position, FRESHNESS_SECONDS)
        contact = await self.read_models.get(contacts, recorded.event.customer_id)
        wanted = requests_for(recorded, contact, catalogue(), self.settings.house, self.clock.now())
        for request in wanted:
            await self._request(request)

    async def _request(self, request: RequestNotification) -> None:
        try:
            await self.commands.execute(notification, request, label=request.rule)
        except AlreadyExists:
            return  # asked for before, when perhaps another address was known: one reason, one message
        metrics.REQUESTED.labels(request.rule, request.channel).inc()
        if request.suppress is not None:
            metrics.SUPPRESSED.labels(request.channel, request.suppress).inc()
        elif request.too_late:
            metrics.EXPIRED.labels(request.channel).inc()
        elif request.defer_reason is not None:
            metrics.DEFERRED.labels(request.channel, request.defer_reason).inc()

    @on_event(PersonalDataShredded)
    async def erase(self, recorded: Recorded[PersonalDataShredded]) -> None:
        """Forget address and text of every message to an erased customer."""
        await self.read_models.wait_for(notifications, recorded.meta.position, FRESHNESS_SECONDS)
        where = [eq("customer_id", recorded.stream_id)]
        while rows := await self.read_models.all(
            notifications, where=where, order=["notification_id"], limit=ERASED_AT_ONCE
        ):
            for row in rows:
                command = EraseNotification(notification_id=row.notification_id)
                await self.commands.execute(notification, command, label=str(row.notification_id))
            where = [eq("customer_id", recorded.stream_id), gt("notification_id", rows[-1].notification_id)]

    @every(seconds=0.3, all_replicas=True)
    async def send_due(self) -> None:
        """Send what is due. Every replica does: claims keep them out of each other's way."""
        cls = type(self)
        if cls._sender is None:
            cls._sender = make_sender(
                self.settings,
                commands=self.commands.runtime.commands,
                read_models=self.read_models,
                pool=self.database.pool,
                clock=self.clock,
            )
        await cls._sender.run(SENDING_SECONDS)

    @every(seconds=15)
    async def count_dead_letters(self) -> None:
        """Show how many messages wait for somebody."""
        groups = await self.read_models.count(notifications, by=["why"], where=DEAD_LETTERS)
        metrics.DEAD_LETTERS.clear()
        for group in groups:
            metrics.DEAD_LETTERS.labels(group["why"]).set(group["count"])
