"""The gRPC API of notify: queries, and a hand for dead letters."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from forecourt.errors import NotFound
from forecourt.projections.queries import Page, Where, any_of, eq, ge
from forecourt.rpc.binding import Api
from forecourt.rpc.calls import Call
from forecourt.rpc.queries import PagedQuery, Query
from notify.catalogue import catalogue
from notify.notification import Channel, DeadLetterReason, Language, RequeueDeadLetter, notification
from notify.read_models import ContactRow, NotificationRow, contacts, history, notifications
from trade.fields import Line

State = Literal[
    "queued",
    "deferred",
    "attempting",
    "accepted",
    "delivered",
    "bounced",
    "suppressed",
    "expired",
    "dead",
]
Value = Annotated[str, Field(max_length=2_000)]
Values = Annotated[dict[Annotated[str, Field(max_length=80)], Value], Field(max_length=50)]


class NotificationNotFound(NotFound):
    """There is no such message, or none that the caller may see."""


class ContactNotFound(NotFound):
    """There is no such customer, or none that the caller may see."""


class GetNotification(Query):
    """One message with its history."""

    notification_id: UUID


class ListNotifications(PagedQuery):
    """Messages, the newest first."""

    customer_id: UUID | None = None
    state: State | None = None
    channel: Channel | None = None
    reason_event_id: UUID | None = None
    reason_stream: Annotated[Line, Field(max_length=120)] | None = None


class CountNotifications(Query):
    """Numbers of messages by channel and state."""

    since: AwareDatetime | None = None


class ListDeadLetters(PagedQuery):
    """Messages that were given up, the oldest first."""

    reason: DeadLetterReason | None = None


class PreviewTemplate(Query):
    """A template as it would be sent."""

    template: Annotated[Line, Field(max_length=80)]
    version: Annotated[int, Field(ge=1)] | None = None
    language: Language
    channel: Channel
    values: Annotated[dict[Annotated[str, Field(max_length=80)], Value], Field(max_length=50)] = Field(
        default_factory=dict
    )
    time_zone: Annotated[str, Field(min_length=1, max_length=80)] = "Asia/Shanghai"


class GetContact(Query):
    """What is known of a customer."""

    customer_id: UUID


async def get_notification(q: GetNotification, call: Call) -> dict[str, Any]:
    """The message, its text, and everything that happened to it."""
    row = await call.read_models.get(notifications, q.notification_id)
    if row is None:
        raise NotificationNotFound()
    events = await call.read_models.all(
        history, where=[eq("notification_id", q.notification_id)], order=["sequence"]
    )
    return {
        "notification": row,
        "address": row.address,
        "subject": row.subject,
        "text": row.text,
        "html": row.html,
        "history": events,
    }


async def list_notifications(q: ListNotifications, call: Call) -> Page[NotificationRow]:
    """A page of messages."""
    given = {
        "customer_id": q.customer_id,
        "state": q.state,
        "channel": q.channel,
        "reason_event_id": q.reason_event_id,
        "reason_stream": q.reason_stream,
    }
    where = [eq(column, value) for column, value in given.items() if value is not None]
    page: Page[NotificationRow] = await call.read_models.page(
        notifications, where=where, order=["-requested_at"], page=q.page
    )
    return page


async def count_notifications(q: CountNotifications, call: Call) -> dict[str, Any]:
    """Numbers by channel and state."""
    where: list[Where] = [] if q.since is None else [ge("requested_at", q.since)]
    counts = await call.read_models.count(notifications, by=["channel", "state"], where=where)
    return {"counts": counts}


async def list_dead_letters(q: ListDeadLetters, call: Call) -> Page[NotificationRow]:
    """A page of dead letters."""
    where: list[Where] = [any_of("state", ["dead"])]
    if q.reason is not None:
        where.append(eq("why", q.reason))
    page: Page[NotificationRow] = await call.read_models.page(
        notifications, where=where, order=["updated_at"], page=q.page
    )
    return page


async def preview_template(q: PreviewTemplate, call: Call) -> dict[str, Any]:
    """The template, filled in by the very code that fills in messages."""
    version = catalogue().latest(q.template) if q.version is None else q.version
    values = {**catalogue().sample(q.template, version), **q.values}
    rendered = catalogue().render(q.template, version, q.language, q.channel, values, q.time_zone)
    return {
        "version": version,
        "subject": rendered.subject,
        "text": rendered.text,
        "html": rendered.html,
    }


async def get_contact(q: GetContact, call: Call) -> ContactRow:
    """The contact."""
    row: ContactRow | None = await call.read_models.get(contacts, q.customer_id)
    if row is None:
        raise ContactNotFound()
    return row


api = Api("crm.notify.v1.NotifyService")
api.query("GetNotification", GetNotification, get_notification, reads=[notifications, history])
api.query("ListNotifications", ListNotifications, list_notifications, reads=[notifications])
api.query("CountNotifications", CountNotifications, count_notifications, reads=[notifications])
api.query("ListDeadLetters", ListDeadLetters, list_dead_letters, reads=[notifications])
api.command("RequeueDeadLetter", notification, RequeueDeadLetter)
api.query("PreviewTemplate", PreviewTemplate, preview_template)
api.query("GetContact", GetContact, get_contact, reads=[contacts])
