"""What follows from a command, given what has happened to the message. Pure."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from forecourt.deciders import Context, Decider
from forecourt.events import Event
from notify.notification.commands import (
    AttemptUnderWay,
    DeferNotification,
    EraseNotification,
    ExpireNotification,
    ForeignReceipt,
    NoSuchAttempt,
    NotADeadLetter,
    NotQueued,
    OutcomeUnknown,
    RecordAccepted,
    RecordFailure,
    RecordReceipt,
    RequestNotification,
    RequeueDeadLetter,
    StartAttempt,
    SuppressNotification,
)
from notify.notification.events import (
    Channel,
    DeadLetterRequeued,
    NotificationAccepted,
    NotificationBounced,
    NotificationDeadLettered,
    NotificationDeferred,
    NotificationDelivered,
    NotificationErased,
    NotificationExpired,
    NotificationRequested,
    NotificationSuppressed,
    ProviderAttempted,
    ProviderFailed,
    ProviderFailedOver,
)

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

    erased: bool = False
    """The customer is erased, and with them address and text."""


notification = Decider(
    service="notify", category="notification", initial=Notification(), key="notification_id"
)


@notification.decides
def request(state: Notification, c: RequestNotification, ctx: Context) -> list[Event]:
    fields = c.model_dump(exclude={"notification_id", "suppress", "too_late", "defer_until", "defer_reason"})
    requested = NotificationRequested(idempotency_key=c.notification_id, **fields)
    if c.suppress is not None:
        return [
            requested,
            NotificationSuppressed(customer_id=c.customer_id, channel=c.channel, reason=c.suppress),
        ]
    if c.too_late:
        return [requested, NotificationExpired(customer_id=c.customer_id, channel=c.channel)]
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
    if state.erased:
        return [failed, _suppressed_as_erased(state)]
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
def erase(state: Notification, c: EraseNotification, ctx: Context) -> list[Event]:
    """What is under way cannot be called back; should it fail, it is not tried again."""
    if state.erased:
        return []
    erased = NotificationErased(customer_id=state.customer_id)
    return [erased, _suppressed_as_erased(state)] if state.phase in ("queued", "dead") else [erased]


def _suppressed_as_erased(state: Notification) -> Event:
    return NotificationSuppressed(customer_id=state.customer_id, channel=state.channel, reason="erased")


@notification.decides
def requeue(state: Notification, c: RequeueDeadLetter, ctx: Context) -> list[Event]:
    if state.phase != "dead":
        raise NotADeadLetter()
    expires_at = ctx.now + timedelta(hours=state.lifetime_hours)
    return [DeadLetterRequeued(customer_id=state.customer_id, note=c.note, expires_at=expires_at)]


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
def _(state: Notification, e: NotificationErased) -> Notification:
    return replace(state, erased=True)


@notification.evolves
def _(state: Notification, e: DeadLetterRequeued) -> Notification:
    return replace(state, phase="queued", expires_at=e.expires_at)


notification.ignores(NotificationDeferred, ProviderFailedOver)


@notification.upcasts("DeadLetterRequeued", from_version=1)
def _name_nobody(data: dict[str, Any]) -> dict[str, Any]:
    """Before version 2 the event did not say whose the note is, and the note was stored as it is."""
    return {"customer_id": None, **data}
