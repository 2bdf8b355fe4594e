"""Reminders as they stand."""

from datetime import date, datetime
from uuid import UUID

import msgspec

from forecourt.events import Meta
from forecourt.projections.projection import Index, Projection
from service_desk.reminder import (
    ReminderBecameDue,
    ReminderFulfilled,
    ReminderRescheduled,
    ReminderScheduled,
    ReminderWithdrawn,
)

OPEN = ("scheduled", "due")


class ReminderRow(msgspec.Struct, frozen=True):
    """A reminder. ``planned_at`` is the position of the event that planned it."""

    reminder_id: UUID
    dealer_id: str
    brand: str
    customer_id: UUID
    vin: str
    kind: str
    status: str
    due_on: date
    due_km: int | None
    rule_version: int
    planned_at: int
    moved: int = 0
    cause: str = ""
    became_due_at: datetime | None = None


reminders = Projection(
    "reminder",
    version=1,
    row=ReminderRow,
    key="reminder_id",
    indexes=[Index(("dealer_id", "due_on")), "vin", "customer_id"],
)


@reminders.on()
def _(row: ReminderRow | None, e: ReminderScheduled, m: Meta) -> ReminderRow:
    return ReminderRow(
        reminder_id=m.stream_id,
        dealer_id=m.dealer_id,
        brand=m.brand,
        customer_id=e.customer_id,
        vin=e.vin,
        kind=e.kind,
        status="scheduled",
        due_on=e.due_on,
        due_km=e.due_km,
        rule_version=e.rule_version,
        planned_at=m.position,
    )


@reminders.on()
def _(row: ReminderRow | None, e: ReminderRescheduled, m: Meta) -> ReminderRow | None:
    return row and msgspec.structs.replace(row, due_on=e.due_on, moved=row.moved + 1)


@reminders.on()
def _(row: ReminderRow | None, e: ReminderBecameDue, m: Meta) -> ReminderRow | None:
    return row and msgspec.structs.replace(row, status="due", became_due_at=m.time)


@reminders.on()
def _(row: ReminderRow | None, e: ReminderFulfilled, m: Meta) -> ReminderRow | None:
    return row and msgspec.structs.replace(row, status="fulfilled")


@reminders.on()
def _(row: ReminderRow | None, e: ReminderWithdrawn, m: Meta) -> ReminderRow | None:
    return row and msgspec.structs.replace(row, status="withdrawn", cause=e.cause)
