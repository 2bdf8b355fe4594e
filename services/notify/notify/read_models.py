"""The read models of notify: whom to write to, where each message stands, and what happened to it."""

from datetime import datetime
from typing import get_args
from uuid import UUID

import msgspec
from msgspec.structs import replace

from forecourt.events import Event, Meta
from forecourt.privacy.fields import ERASED
from forecourt.projections.projection import Index, OwnedThrough, Projection
from forecourt.projections.queries import Where, any_of, eq
from notify.consent import ConsentState
from notify.foreign import (
    ConsentGranted,
    ConsentWithdrawn,
    ContactPointAdded,
    CustomerRegistered,
    CustomerShared,
    CustomerTransferred,
    CustomerUnshared,
    PersonalDataShredded,
    ProfileCorrected,
)
from notify.notification import (
    Category,
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

# --- contacts


class ContactRow(msgspec.Struct, frozen=True):
    """A customer, as far as messages need: addresses, language, time zone, consents (``purpose:channel``)."""

    customer_id: UUID
    name: str
    mobile: str
    email: str
    language: str
    time_zone: str
    granted: tuple[str, ...]
    withdrawn: tuple[str, ...]
    dealer_id: str
    brand: str
    shared_with: tuple[str, ...] = ()

    def address(self, channel: Channel) -> str:
        """The address for a channel, empty where there is none."""
        return self.mobile if channel == "sms" else self.email

    def reached_by(self, dealer_id: str, brand: str) -> bool:
        """Whether a store may write to the customer: its owner, and those it is shared with, for its own brand."""
        return brand == self.brand and (dealer_id == self.dealer_id or dealer_id in self.shared_with)

    @property
    def erased(self) -> bool:
        """Whether the customer's personal data is erased."""
        return self.name == ERASED

    def consent(self, category: Category, channel: Channel) -> ConsentState:
        """What the customer has said about messages of a category on a channel."""
        key = f"{category}:{channel}"
        if key in self.granted:
            return "granted"
        return "withdrawn" if key in self.withdrawn else "silent"


contacts = Projection(
    "contact",
    version=2,
    row=ContactRow,
    key="customer_id",
    indexes=["dealer_id", Index(("shared_with",), kind="gin")],
)

_ADDRESS_FIELDS = {"mobile": "mobile", "email": "email"}
_PROFILE_FIELDS = {**_ADDRESS_FIELDS, "name": "name", "language": "language", "time_zone": "time_zone"}


@contacts.on(CustomerRegistered)
def _(row: ContactRow | None, e: CustomerRegistered, m: Meta) -> ContactRow:
    points = {point.kind: point.value for point in reversed(e.contact_points)}
    return ContactRow(
        customer_id=m.stream_id,
        name=e.name,
        mobile=points.get("mobile", ""),
        email=points.get("email", ""),
        language=e.language,
        time_zone=e.time_zone,
        granted=tuple(sorted({f"{consent.purpose}:{consent.channel}" for consent in e.consents})),
        withdrawn=(),
        dealer_id=m.dealer_id,
        brand=m.brand,
    )


@contacts.on(ContactPointAdded)
def _(row: ContactRow | None, e: ContactPointAdded, m: Meta) -> ContactRow | None:
    """The newest address of a kind is the one to use."""
    field = _ADDRESS_FIELDS.get(e.kind)
    return row if row is None or field is None else replace(row, **{field: e.value})


@contacts.on(ProfileCorrected)
def _(row: ContactRow | None, e: ProfileCorrected, m: Meta) -> ContactRow | None:
    field = _PROFILE_FIELDS.get(e.field)
    return row if row is None or field is None else replace(row, **{field: e.value})


@contacts.on(ConsentGranted)
def _(row: ContactRow | None, e: ConsentGranted, m: Meta) -> ContactRow | None:
    if row is None:
        return None
    key = f"{e.purpose}:{e.channel}"
    return replace(row, granted=_with(row.granted, key), withdrawn=_without(row.withdrawn, key))


@contacts.on(ConsentWithdrawn)
def _(row: ContactRow | None, e: ConsentWithdrawn, m: Meta) -> ContactRow | None:
    if row is None:
        return None
    key = f"{e.purpose}:{e.channel}"
    return replace(row, granted=_without(row.granted, key), withdrawn=_with(row.withdrawn, key))


@contacts.on(CustomerShared)
def _(row: ContactRow | None, e: CustomerShared, m: Meta) -> ContactRow | None:
    if row is None or e.store == row.dealer_id:
        return row
    return replace(row, shared_with=_with(row.shared_with, e.store))


@contacts.on(CustomerUnshared)
def _(row: ContactRow | None, e: CustomerUnshared, m: Meta) -> ContactRow | None:
    return row and replace(row, shared_with=_without(row.shared_with, e.store))


@contacts.on(CustomerTransferred)
def _(row: ContactRow | None, e: CustomerTransferred, m: Meta) -> ContactRow | None:
    return row and replace(row, dealer_id=e.to_store, shared_with=_without(row.shared_with, e.to_store))


@contacts.on(PersonalDataShredded)
def _(row: ContactRow | None, e: PersonalDataShredded, m: Meta) -> ContactRow | None:
    """The customer stays known, as somebody who cannot be written to."""
    if row is None:
        return None
    return replace(row, name=ERASED, mobile="", email="", language="zh", time_zone="UTC", granted=())


def _with(keys: tuple[str, ...], key: str) -> tuple[str, ...]:
    return tuple(sorted({*keys, key}))


def _without(keys: tuple[str, ...], key: str) -> tuple[str, ...]:
    return tuple(k for k in keys if k != key)


# --- notifications


class NotificationRow(msgspec.Struct, frozen=True):
    """A message. While it is to be sent, ``due_at`` says when; ``version`` is that of its stream."""

    notification_id: UUID
    customer_id: UUID
    category: str
    channel: str
    state: str
    rule: str
    reason_event_id: UUID
    reason_event_type: str
    reason_stream: str
    consent: str
    template: str
    template_version: int
    language: str
    time_zone: str
    address: str
    subject: str
    text: str
    html: str
    requested_at: datetime
    due_at: datetime
    expires_at: datetime
    updated_at: datetime
    why: str
    provider: str
    next_provider: str
    attempts: int
    failures: int
    unknown: int
    failure_code: str
    reference: str
    correlation_id: UUID
    dealer_id: str
    brand: str
    version: int


notifications = Projection(
    "notification",
    version=1,
    row=NotificationRow,
    key="notification_id",
    indexes=[
        Index(("channel", "state", "due_at")),
        Index(("customer_id", "requested_at")),
        "reason_event_id",
        "reason_stream",
        Index(("requested_at", "notification_id")),
    ],
)

SENDABLE = ("queued", "deferred", "attempting")
"""What the sender has to look at: also messages being attempted, by a process that may have died."""

FINAL = ("delivered", "bounced")

DEAD_LETTERS: tuple[Where, ...] = (any_of("channel", get_args(Channel)), eq("state", "dead"))
"""Messages that wait for somebody. All channels are named because an index begins with them."""


@notifications.on(NotificationRequested)
def _(row: NotificationRow | None, e: NotificationRequested, m: Meta) -> NotificationRow:
    return NotificationRow(
        notification_id=m.stream_id,
        customer_id=e.customer_id,
        category=e.category,
        channel=e.channel,
        state="queued",
        rule=e.rule,
        reason_event_id=e.reason_event_id,
        reason_event_type=e.reason_event_type,
        reason_stream=e.reason_stream,
        consent=e.consent or "",
        template=e.template,
        template_version=e.template_version,
        language=e.language,
        time_zone=e.time_zone,
        address=e.address,
        subject=e.subject,
        text=e.text,
        html=e.html,
        requested_at=m.time,
        due_at=m.time,
        expires_at=e.expires_at,
        updated_at=m.time,
        why="",
        provider="",
        next_provider="",
        attempts=0,
        failures=0,
        unknown=0,
        failure_code="",
        reference="",
        correlation_id=m.correlation_id,
        dealer_id=m.dealer_id,
        brand=m.brand,
        version=m.sequence,
    )


def _changed(row: NotificationRow, m: Meta, **changes: object) -> NotificationRow:
    return replace(row, updated_at=m.time, version=m.sequence, **changes)


@notifications.on(NotificationDeferred)
def _(row: NotificationRow | None, e: NotificationDeferred, m: Meta) -> NotificationRow | None:
    return None if row is None else _changed(row, m, state="deferred", due_at=e.until, why=e.reason)


@notifications.on(NotificationSuppressed)
def _(row: NotificationRow | None, e: NotificationSuppressed, m: Meta) -> NotificationRow | None:
    return None if row is None else _changed(row, m, state="suppressed", why=e.reason)


@notifications.on(ProviderAttempted)
def _(row: NotificationRow | None, e: ProviderAttempted, m: Meta) -> NotificationRow | None:
    if row is None:
        return None
    return _changed(
        row,
        m,
        state="attempting",
        why="",
        provider=e.provider,
        attempts=e.attempt,
        address=e.address,
        due_at=m.time,
    )


@notifications.on(ProviderFailed)
def _(row: NotificationRow | None, e: ProviderFailed, m: Meta) -> NotificationRow | None:
    if row is None:
        return None
    unknown = row.unknown + 1 if e.outcome == "unknown" else row.unknown if e.outcome == "not_sent" else 0
    return _changed(
        row,
        m,
        state="queued",
        failures=row.failures + 1,
        unknown=unknown,
        failure_code=e.code,
        due_at=e.retry_at or m.time,
        next_provider=e.next_provider or "",
    )


@notifications.on(ProviderFailedOver)
def _(row: NotificationRow | None, e: ProviderFailedOver, m: Meta) -> NotificationRow | None:
    return None if row is None else _changed(row, m)


@notifications.on(NotificationAccepted)
def _(row: NotificationRow | None, e: NotificationAccepted, m: Meta) -> NotificationRow | None:
    if row is None:
        return None
    state = row.state if row.state in FINAL else "accepted"
    return _changed(row, m, state=state, why="", reference=e.reference, unknown=0)


@notifications.on(NotificationDelivered)
def _(row: NotificationRow | None, e: NotificationDelivered, m: Meta) -> NotificationRow | None:
    if row is None:
        return None
    return _changed(row, m, state="delivered", why="", reference=e.reference, unknown=0)


@notifications.on(NotificationBounced)
def _(row: NotificationRow | None, e: NotificationBounced, m: Meta) -> NotificationRow | None:
    if row is None:
        return None
    return _changed(row, m, state="bounced", why="", reference=e.reference, failure_code=e.code, unknown=0)


@notifications.on(NotificationExpired)
def _(row: NotificationRow | None, e: NotificationExpired, m: Meta) -> NotificationRow | None:
    return None if row is None else _changed(row, m, state="expired", why="")


@notifications.on(NotificationDeadLettered)
def _(row: NotificationRow | None, e: NotificationDeadLettered, m: Meta) -> NotificationRow | None:
    return None if row is None else _changed(row, m, state="dead", why=e.reason)


@notifications.on(DeadLetterRequeued)
def _(row: NotificationRow | None, e: DeadLetterRequeued, m: Meta) -> NotificationRow | None:
    if row is None:
        return None
    return _changed(
        row, m, state="queued", why="", failures=0, due_at=m.time, expires_at=e.expires_at, next_provider=""
    )


@notifications.on_all(PersonalDataShredded, "customer_id")
def _erased(row: NotificationRow) -> NotificationRow:
    """Whatever becomes of the message: `NotificationErased` follows, and says that it is not sent."""
    waits = row.state in ("queued", "deferred", "dead")
    state, why = ("suppressed", "erased") if waits else (row.state, row.why)
    return replace(row, address="", subject="", text="", html="", state=state, why=why)


@notifications.on(NotificationErased)
def _(row: NotificationRow | None, e: NotificationErased, m: Meta) -> NotificationRow | None:
    return None if row is None else _changed(row, m, address="", subject="", text="", html="")


# --- history


class HistoryRow(msgspec.Struct, frozen=True):
    """One event of a message's stream, for "why was I notified?"."""

    notification_id: UUID
    sequence: int
    at: datetime
    event: str
    event_id: UUID
    actor_id: str
    provider: str
    attempt: int
    detail: str
    until: datetime | None
    reference: str
    dealer_id: str
    brand: str


history = Projection(
    "notification_history",
    version=2,
    row=HistoryRow,
    key=("notification_id", "sequence"),
    owner=OwnedThrough(notifications, "notification_id"),
)


@history.on(
    NotificationRequested,
    NotificationDeferred,
    NotificationSuppressed,
    ProviderAttempted,
    ProviderFailed,
    ProviderFailedOver,
    NotificationAccepted,
    NotificationDelivered,
    NotificationBounced,
    NotificationExpired,
    NotificationDeadLettered,
    DeadLetterRequeued,
    NotificationErased,
    key=lambda e, m: (m.stream_id, m.sequence),
)
def _(row: HistoryRow | None, e: Event, m: Meta) -> HistoryRow:
    return HistoryRow(
        notification_id=m.stream_id,
        sequence=m.sequence,
        at=m.time,
        event=type(e).event_name,
        event_id=m.id,
        actor_id=m.actor_id,
        provider=getattr(e, "provider", ""),
        attempt=getattr(e, "attempt", 0),
        detail=_detail(e),
        until=getattr(e, "until", getattr(e, "retry_at", None)),
        reference=getattr(e, "reference", ""),
        dealer_id=m.dealer_id,
        brand=m.brand,
    )


def _detail(e: Event) -> str:
    match e:
        case NotificationRequested():
            consent, template = e.consent or "none", f"{e.template} v{e.template_version}"
            return f"{e.reason_event_type} → rule {e.rule}; consent: {consent}; template: {template}"
        case ProviderFailed():
            return f"{e.outcome}: {e.code}"
        case ProviderFailedOver():
            return f"from {e.previous}"
        case NotificationDeferred() | NotificationSuppressed() | NotificationDeadLettered():
            return e.reason
        case NotificationBounced():
            return e.code
    return ""
