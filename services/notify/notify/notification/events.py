"""The words and the events of a message."""

from datetime import datetime
from typing import Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from forecourt.events import Event, Personal

Channel = Literal["sms", "email"]
Language = Literal["zh", "en"]

Category = Literal["contract", "safety", "service", "marketing"]
"""What the message is for; consent is asked by category."""

Consent = Literal["contract", "safety", "service_default", "granted"]
"""Why the customer may be written to: owed by contract, for safety, service without objection, or granted."""

SuppressReason = Literal["no_consent", "opted_out", "no_address", "erased", "out_of_scope"]
"""``out_of_scope``: the customer is neither the store's that the message is of, nor shared with it."""

DeferReason = Literal["quiet_hours"]

FailureOutcome = Literal["not_sent", "unknown", "withdrawn", "refused"]
"""What a failure tells: this attempt sent nothing; nobody knows; the provider confirms that nothing of any
attempt was or will be sent; or the provider refuses the message for good."""

DeadLetterReason = Literal["refused", "providers_exhausted", "outcome_unknown"]
ReceiptStatus = Literal["accepted", "delivered", "bounced"]


def key_of(reason_event_id: UUID, rule: str) -> UUID:
    """The idempotency key, and id, of the message that ``rule`` asks for because of an event.

    The channel is not part of it: heard a second time, after the customer's addresses have changed, the same
    reason must not lead to a second message on another channel.
    """
    return uuid5(NAMESPACE_URL, f"notification:{reason_event_id}:{rule}")


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


class DeadLetterRequeued(Event, name="DeadLetterRequeued", version=2, person="customer_id"):
    """Somebody looked at a dead letter and had it sent again."""

    customer_id: UUID | None
    note: Personal[str]
    expires_at: datetime


class NotificationErased(Event, name="NotificationErased", version=1):
    """The customer is erased: address and text of the message are gone."""

    customer_id: UUID
