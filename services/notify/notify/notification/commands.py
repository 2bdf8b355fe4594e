"""What can be asked of a message, and why it may be refused."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, model_validator

from forecourt.deciders import Command
from forecourt.errors import Refused
from notify.notification.events import (
    Category,
    Channel,
    Consent,
    DeadLetterReason,
    DeferReason,
    FailureOutcome,
    Language,
    ReceiptStatus,
    SuppressReason,
)
from trade.fields import Paragraph

Name = Annotated[str, Field(min_length=1, max_length=80)]
Code = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[a-zA-Z0-9_.:-]+$")]


class RequestNotification(Command, creates=True):
    """Queue a message as a rule worked it out; ``suppress`` or ``defer_until`` if it may not go (now).

    After ``expires_at`` it is of no use; ``too_late`` if that time passes before it may go.
    """

    notification_id: UUID
    customer_id: UUID
    category: Category
    channel: Channel
    rule: Name
    reason_event_id: UUID
    reason_event_type: Name
    reason_stream: Annotated[str, Field(max_length=120)]
    consent: Consent | None
    template: Name
    template_version: Annotated[int, Field(ge=1)]
    language: Language
    time_zone: Name
    address: Annotated[str, Field(max_length=320)]
    subject: Annotated[str, Field(max_length=500)]
    text: Annotated[str, Field(max_length=20_000)]
    html: Annotated[str, Field(max_length=100_000)]
    lifetime_hours: Annotated[int, Field(ge=1, le=8760)]
    expires_at: datetime
    suppress: SuppressReason | None = None
    too_late: bool = False
    defer_until: datetime | None = None
    defer_reason: DeferReason | None = None

    @model_validator(mode="after")
    def _sendable(self) -> Self:
        to_be_sent = self.suppress is None and not self.too_late
        if to_be_sent and not (self.address and self.text):
            raise ValueError("address and text: needed for a message that is to be sent")
        if (self.defer_until is None) != (self.defer_reason is None):
            raise ValueError("defer_reason: belongs to defer_until")
        return self


class DeferNotification(Command):
    """Let a queued message wait."""

    notification_id: UUID
    until: datetime
    reason: DeferReason


class SuppressNotification(Command):
    """Drop a queued message for a reason that came up after it was queued."""

    notification_id: UUID
    reason: SuppressReason


class ExpireNotification(Command):
    """Give up a queued message whose time has passed."""

    notification_id: UUID


class StartAttempt(Command):
    """Claim the message and record that it is now handed to ``provider``."""

    notification_id: UUID
    provider: Name
    address: Annotated[str, Field(min_length=1, max_length=320)]


class RecordAccepted(Command):
    """A provider took the message."""

    notification_id: UUID
    provider: Name
    attempt: Annotated[int, Field(ge=1)]
    reference: Annotated[str, Field(max_length=200)]


class RecordFailure(Command):
    """An attempt did not succeed: it is tried again at ``retry_at``, or given up as a ``dead_letter``."""

    notification_id: UUID
    provider: Name
    attempt: Annotated[int, Field(ge=1)]
    code: Code
    outcome: FailureOutcome
    retry_at: datetime | None = None
    next_provider: Name | None = None
    dead_letter: DeadLetterReason | None = None

    @model_validator(mode="after")
    def _one_way_on(self) -> Self:
        if (self.retry_at is None) == (self.dead_letter is None):
            raise ValueError("retry_at or dead_letter: exactly one says how it goes on")
        return self


class RecordReceipt(Command):
    """A provider reports what became of a message that it had taken."""

    notification_id: UUID
    provider: Name
    reference: Annotated[str, Field(max_length=200)]
    status: ReceiptStatus
    code: Annotated[str, Field(max_length=60)] = ""


class EraseNotification(Command):
    """Forget address and text, because the customer is erased; what still waits is not sent."""

    notification_id: UUID


class RequeueDeadLetter(Command):
    """Send a dead letter again, after somebody has looked at it; ``note`` says why."""

    notification_id: UUID
    note: Annotated[Paragraph, Field(min_length=1, max_length=500)]


class AttemptUnderWay(Refused):
    """Somebody is sending the message right now."""


class NotQueued(Refused):
    """The message is not waiting to be sent."""


class NoSuchAttempt(Refused):
    """The outcome is of an attempt that is not open."""


class OutcomeUnknown(Refused):
    """Another provider must not take over while an attempt may still have been sent."""


class NotADeadLetter(Refused):
    """Only dead letters are requeued."""


class ForeignReceipt(Refused):
    """The receipt comes from a provider that the message was never handed to."""
