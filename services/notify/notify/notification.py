"""One message to one customer, from the reason that asked for it to the receipt of its delivery.

Its id is the idempotency key: derived from the event that is its reason and the rule that asked (`key_of`),
so the same reason heard twice leads to the same stream, and to one message.

An attempt is recorded *before* anything leaves the house. Where a recorded attempt has no recorded outcome,
the outcome is unknown, and ``docs/adr/0011-unknown-outcome.md`` says what may then be done.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import Field, model_validator

from forecourt.deciders import Command, Context, Decider
from forecourt.errors import Refused
from forecourt.events import Event, Personal

Channel = Literal["sms", "email"]
Language = Literal["zh", "en"]

Category = Literal["contract", "safety", "service", "marketing"]
"""What the message is for; consent is asked by category."""

Consent = Literal["contract", "safety", "service_default", "granted"]
"""Why the customer may be written to: owed by contract, for safety, service without objection, or granted."""

SuppressReason = Literal["no_consent", "opted_out", "no_address"]
DeferReason = Literal["quiet_hours"]

FailureOutcome = Literal["not_sent", "unknown", "withdrawn", "refused"]
"""What a failure tells: this attempt sent nothing; nobody knows; the provider confirms that nothing of any
attempt was or will be sent; or the provider refuses the message for good."""

DeadLetterReason = Literal["refused", "providers_exhausted", "outcome_unknown"]
ReceiptStatus = Literal["accepted", "delivered", "bounced"]

Name = Annotated[str, Field(min_length=1, max_length=80)]
Code = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[a-zA-Z0-9_.:-]+$")]


def key_of(reason_event_id: UUID, rule: str) -> UUID:
    """The idempotency key, and id, of the message that ``rule`` asks for because of an event.

    The channel is not part of it: heard a second time, after the customer's addresses have changed, the same
    reason must not lead to a second message on another channel.
    """
    return uuid5(NAMESPACE_URL, f"notification:{reason_event_id}:{rule}")


# events


class NotificationRequested(Event, name="NotificationRequested", version=1, person="customer_id"):
    """A rule found a reason to write to a customer. The text is final: what is stored here is sent."""

    idempotency_key: UUID
    customer_id: UUID
    category: Category
    channel: Channel
    rule: str
    reason_event_id: UUID
    reason_event_type: str
    reason_stream: str
    consent: Consent | None
    template: str
    template_version: int
    language: Language
    time_zone: str
    address: Personal[str]
    subject: Personal[str]
    text: Personal[str]
    html: Personal[str]
    lifetime_hours: int
    expires_at: datetime


class NotificationDeferred(Event, name="NotificationDeferred", version=1):
    """Not now: the message waits until ``until``."""

    until: datetime
    reason: DeferReason


class NotificationSuppressed(Event, name="NotificationSuppressed", version=1):
    """The message may not, or cannot, be sent. Final."""

    customer_id: UUID
    channel: Channel
    reason: SuppressReason


class ProviderAttempted(Event, name="ProviderAttempted", version=1, person="customer_id"):
    """The message is about to be handed to a provider: recorded before it is."""

    customer_id: UUID
    provider: str
    attempt: int
    address: Personal[str]


class ProviderFailed(Event, name="ProviderFailed", version=1):
    """An attempt did not succeed. ``retry_at`` and ``next_provider`` say how it goes on, if it does."""

    provider: str
    attempt: int
    code: str
    outcome: FailureOutcome
    retry_at: datetime | None
    next_provider: str | None


class ProviderFailedOver(Event, name="ProviderFailedOver", version=1):
    """Another provider takes over."""

    previous: str
    provider: str


class NotificationAccepted(Event, name="NotificationAccepted", version=1):
    """A provider took the message; ``reference`` is its name for it."""

    customer_id: UUID
    channel: Channel
    provider: str
    attempt: int
    reference: str


class NotificationDelivered(Event, name="NotificationDelivered", version=1):
    """The provider says that the message reached the customer."""

    customer_id: UUID
    channel: Channel
    provider: str
    reference: str


class NotificationBounced(Event, name="NotificationBounced", version=1):
    """The provider took the message, but could not deliver it."""

    customer_id: UUID
    channel: Channel
    provider: str
    reference: str
    code: str


class NotificationExpired(Event, name="NotificationExpired", version=1):
    """The message was not sent in time, and is now of no use."""

    customer_id: UUID
    channel: Channel


class NotificationDeadLettered(Event, name="NotificationDeadLettered", version=1):
    """Sending was given up; somebody has to look at it."""

    customer_id: UUID
    channel: Channel
    reason: DeadLetterReason


class DeadLetterRequeued(Event, name="DeadLetterRequeued", version=1):
    """Somebody looked at a dead letter and had it sent again."""

    note: str
    expires_at: datetime


# state

Phase = Literal[
    "none", "queued", "attempting", "accepted", "delivered", "bounced", "suppressed", "expired", "dead"
]


@dataclass(frozen=True)
class Notification:
    """What decisions need to know of a message."""

    phase: Phase = "none"
    customer_id: UUID = UUID(int=0)
    channel: Channel = "sms"
    expires_at: datetime = datetime.max.replace(tzinfo=UTC)
    lifetime_hours: int = 0
    provider: str = ""
    attempt: int = 0
    unknown: bool = False
    """An earlier attempt at ``provider`` may or may not have been sent, and nobody has found out since."""


# commands


class RequestNotification(Command, creates=True):
    """Queue a message as a rule worked it out; ``suppress`` or ``defer_until`` if it may not go (now)."""

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
    suppress: SuppressReason | None = None
    defer_until: datetime | None = None
    defer_reason: DeferReason | None = None

    @model_validator(mode="after")
    def _sendable(self) -> Self:
        if self.suppress is None and not (self.address and self.text):
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


class RequeueDeadLetter(Command):
    """Send a dead letter again, after somebody has looked at it; ``note`` says why."""

    notification_id: UUID
    note: Annotated[str, Field(min_length=1, max_length=500)]


# refusals


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


# decisions

notification = Decider(
    service="notify", category="notification", initial=Notification(), key="notification_id"
)


@notification.decides
def request(state: Notification, c: RequestNotification, ctx: Context) -> list[Event]:
    fields = c.model_dump(exclude={"notification_id", "suppress", "defer_until", "defer_reason"})
    expires_at = (c.defer_until or ctx.now) + timedelta(hours=c.lifetime_hours)
    requested = NotificationRequested(idempotency_key=c.notification_id, expires_at=expires_at, **fields)
    if c.suppress is not None:
        return [
            requested,
            NotificationSuppressed(customer_id=c.customer_id, channel=c.channel, reason=c.suppress),
        ]
    if c.defer_until is not None and c.defer_reason is not None:
        return [requested, NotificationDeferred(until=c.defer_until, reason=c.defer_reason)]
    return [requested]


@notification.decides
def defer(state: Notification, c: DeferNotification, ctx: Context) -> list[Event]:
    _must_be_queued(state)
    return [NotificationDeferred(until=c.until, reason=c.reason)]


@notification.decides
def suppress(state: Notification, c: SuppressNotification, ctx: Context) -> list[Event]:
    if state.phase == "suppressed":
        return []
    _must_be_queued(state)
    return [NotificationSuppressed(customer_id=state.customer_id, channel=state.channel, reason=c.reason)]


@notification.decides
def expire(state: Notification, c: ExpireNotification, ctx: Context) -> list[Event]:
    if state.phase == "expired":
        return []
    _must_be_queued(state)
    if state.unknown:
        raise OutcomeUnknown("notification: may have been sent, so it cannot expire unsent")
    if ctx.now < state.expires_at:
        raise NotQueued("notification: its time has not passed yet")
    return [NotificationExpired(customer_id=state.customer_id, channel=state.channel)]


@notification.decides
def start_attempt(state: Notification, c: StartAttempt, ctx: Context) -> list[Event]:
    _must_be_queued(state)
    attempted = ProviderAttempted(
        customer_id=state.customer_id, provider=c.provider, attempt=state.attempt + 1, address=c.address
    )
    if state.provider in ("", c.provider):
        return [attempted]
    if state.unknown:
        raise OutcomeUnknown()
    return [ProviderFailedOver(previous=state.provider, provider=c.provider), attempted]


@notification.decides
def record_accepted(state: Notification, c: RecordAccepted, ctx: Context) -> list[Event]:
    if state.phase == "accepted":
        return []
    _must_be_open(state, c.provider, c.attempt)
    return [
        NotificationAccepted(
            customer_id=state.customer_id,
            channel=state.channel,
            provider=c.provider,
            attempt=c.attempt,
            reference=c.reference,
        )
    ]


@notification.decides
def record_failure(state: Notification, c: RecordFailure, ctx: Context) -> list[Event]:
    if state.phase in ("accepted", "delivered", "bounced"):
        return []  # a receipt overtook the answer: the message did go out
    _must_be_open(state, c.provider, c.attempt)
    failed = ProviderFailed(
        provider=c.provider,
        attempt=c.attempt,
        code=c.code,
        outcome=c.outcome,
        retry_at=c.retry_at,
        next_provider=c.next_provider,
    )
    if c.dead_letter is None:
        return [failed]
    return [
        failed,
        NotificationDeadLettered(customer_id=state.customer_id, channel=state.channel, reason=c.dead_letter),
    ]


@notification.decides
def record_receipt(state: Notification, c: RecordReceipt, ctx: Context) -> list[Event]:
    if state.phase in ("delivered", "bounced"):
        return []
    if state.provider != c.provider:
        raise ForeignReceipt()
    customer, channel = state.customer_id, state.channel
    if c.status == "accepted":
        # Of no news, unless it answers an open question.
        if not (state.unknown or state.phase == "attempting"):
            return []
        return [
            NotificationAccepted(
                customer_id=customer,
                channel=channel,
                provider=c.provider,
                attempt=state.attempt,
                reference=c.reference,
            )
        ]
    if c.status == "delivered":
        return [
            NotificationDelivered(
                customer_id=customer, channel=channel, provider=c.provider, reference=c.reference
            )
        ]
    return [
        NotificationBounced(
            customer_id=customer, channel=channel, provider=c.provider, reference=c.reference, code=c.code
        )
    ]


@notification.decides
def requeue(state: Notification, c: RequeueDeadLetter, ctx: Context) -> list[Event]:
    if state.phase != "dead":
        raise NotADeadLetter()
    return [DeadLetterRequeued(note=c.note, expires_at=ctx.now + timedelta(hours=state.lifetime_hours))]


def _must_be_queued(state: Notification) -> None:
    if state.phase == "attempting":
        raise AttemptUnderWay()
    if state.phase != "queued":
        raise NotQueued(f"notification: is {state.phase}")


def _must_be_open(state: Notification, provider: str, attempt: int) -> None:
    """The attempt's outcome is still to be told: it is under way, or its outcome is unknown."""
    is_open = state.phase == "attempting" or (state.phase in ("queued", "dead") and state.unknown)
    delivered_early = state.phase in ("delivered", "bounced")
    if (provider, attempt) != (state.provider, state.attempt) or not (is_open or delivered_early):
        raise NoSuchAttempt()


# evolution


@notification.evolves
def _(state: Notification, e: NotificationRequested) -> Notification:
    return replace(
        state,
        phase="queued",
        customer_id=e.customer_id,
        channel=e.channel,
        lifetime_hours=e.lifetime_hours,
        expires_at=e.expires_at,
    )


@notification.evolves
def _(state: Notification, e: NotificationSuppressed) -> Notification:
    return replace(state, phase="suppressed")


@notification.evolves
def _(state: Notification, e: ProviderAttempted) -> Notification:
    return replace(state, phase="attempting", provider=e.provider, attempt=e.attempt)


@notification.evolves
def _(state: Notification, e: ProviderFailed) -> Notification:
    unknown = e.outcome == "unknown" or (state.unknown and e.outcome == "not_sent")
    return replace(state, phase="queued", unknown=unknown)


@notification.evolves
def _(state: Notification, e: NotificationAccepted) -> Notification:
    phase: Phase = state.phase if state.phase in ("delivered", "bounced") else "accepted"
    return replace(state, phase=phase, unknown=False)


@notification.evolves
def _(state: Notification, e: NotificationDelivered) -> Notification:
    return replace(state, phase="delivered", unknown=False)


@notification.evolves
def _(state: Notification, e: NotificationBounced) -> Notification:
    return replace(state, phase="bounced", unknown=False)


@notification.evolves
def _(state: Notification, e: NotificationExpired) -> Notification:
    return replace(state, phase="expired")


@notification.evolves
def _(state: Notification, e: NotificationDeadLettered) -> Notification:
    return replace(state, phase="dead")


@notification.evolves
def _(state: Notification, e: DeadLetterRequeued) -> Notification:
    return replace(state, phase="queued", expires_at=e.expires_at)


notification.ignores(NotificationDeferred, ProviderFailedOver)
