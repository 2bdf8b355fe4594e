"""Rules of care: what an event leads to. Pure; a change of a rule that shows in events is a new version."""

import calendar
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from forecourt.deciders import Command, Decider
from service_desk.complaint.commands import ClimbLadder, ReceiveComplaint
from service_desk.complaint.decisions import complaint
from service_desk.foreign import VehicleDelivered
from service_desk.read_models.due import DueRow
from service_desk.read_models.vehicle_timeline import TimelineRow
from service_desk.reminder import Kind, MarkReminderDue, ScheduleReminder, reminder, reminder_id
from service_desk.repair_order.events import VehicleHandedBack
from service_desk.return_visit import (
    ExpireReturnVisit,
    LowScoreFlagged,
    MarkReturnVisitDue,
    ScheduleReturnVisit,
    Trigger,
    return_visit,
    return_visit_id,
)

REMINDER_RULES = 2
"""The version of the reminder rules below. Before 2, a car that was sold again had no reminders after it."""

MAINTENANCE: tuple[Kind, ...] = ("first_maintenance", "regular_maintenance")
"""What a maintenance repair order fulfils."""

FIRST_MAINTENANCE = (3, 5_000)
"""Months and kilometres after the delivery, whichever comes first."""
REGULAR_MAINTENANCE = (6, 10_000)
"""Months and kilometres after the maintenance before."""
INSURANCE_AHEAD = timedelta(days=30)
INSPECTION_AFTER_MONTHS, INSPECTION_AHEAD = 24, timedelta(days=30)
WARRANTY = (36, 100_000)
WARRANTY_AHEAD = timedelta(days=60)

RETURN_VISIT_AFTER: dict[Trigger, timedelta] = {
    "delivery": timedelta(days=3),
    "repair": timedelta(days=3),
    "complaint": timedelta(days=7),
}


def months_later(day: date, months: int) -> date:
    """The same day of a later month, or that month's last day where it is shorter."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def reminders_after_delivery(
    e: VehicleDelivered, order_id: UUID, delivered_on: date
) -> list[ScheduleReminder]:
    """First maintenance, annual inspection, end of warranty and, where its end is known, insurance renewal.

    Each order has its own: a car may come back and be delivered again.
    """
    months, km = FIRST_MAINTENANCE
    warranty_months, warranty_km = WARRANTY
    inspection_on = months_later(delivered_on, INSPECTION_AFTER_MONTHS) - INSPECTION_AHEAD
    warranty_on = months_later(delivered_on, warranty_months) - WARRANTY_AHEAD
    dates: list[tuple[Kind, date, int | None]] = [
        ("first_maintenance", months_later(delivered_on, months), e.odometer_km + km),
        ("annual_inspection", inspection_on, None),
        ("warranty_end", warranty_on, e.odometer_km + warranty_km),
    ]
    if e.insurance_until is not None:
        dates.append(("insurance_renewal", e.insurance_until - INSURANCE_AHEAD, None))
    return [
        ScheduleReminder(
            reminder_id=reminder_id(e.vin, kind, str(order_id)),
            customer_id=e.customer_id,
            vin=e.vin,
            kind=kind,
            cycle=str(order_id),
            due_on=max(due_on, delivered_on),
            due_km=due_km,
            odometer_km=e.odometer_km,
            read_on=delivered_on,
            rule_version=REMINDER_RULES,
        )
        for kind, due_on, due_km in dates
    ]


def reminder_after_maintenance(
    e: VehicleHandedBack, repair_order_id: UUID, handed_back_on: date
) -> ScheduleReminder | None:
    """The next maintenance, after one."""
    if e.kind != "maintenance":
        return None
    months, km = REGULAR_MAINTENANCE
    cycle = str(repair_order_id)
    return ScheduleReminder(
        reminder_id=reminder_id(e.vin, "regular_maintenance", cycle),
        customer_id=e.customer_id,
        vin=e.vin,
        kind="regular_maintenance",
        cycle=cycle,
        due_on=months_later(handed_back_on, months),
        due_km=e.odometer_km + km,
        odometer_km=e.odometer_km,
        read_on=handed_back_on,
        rule_version=REMINDER_RULES,
    )


def overtaken(kind: Kind, since: Iterable[TimelineRow]) -> bool:
    """Whether what happened to a car since leaves nothing to remind of: it came back, or its maintenance was done.

    An event may be handled long after it happened.
    """
    return any(
        row.event == "VehicleReturned"
        or (
            row.event == "VehicleHandedBack"
            and kind in MAINTENANCE
            and row.details.get("kind") == "maintenance"
        )
        for row in since
    )


def return_visit_after(
    event_id: UUID,
    *,
    trigger: Trigger,
    trigger_id: UUID,
    happened_at: datetime,
    customer_id: UUID,
    vin: str | None,
) -> ScheduleReturnVisit:
    """The return visit that an event leads to."""
    return ScheduleReturnVisit(
        return_visit_id=return_visit_id(event_id),
        customer_id=customer_id,
        vin=vin,
        trigger=trigger,
        trigger_id=trigger_id,
        due_at=happened_at + RETURN_VISIT_AFTER[trigger],
    )


def recovery_complaint(event_id: UUID, visit_id: UUID, e: LowScoreFlagged) -> ReceiveComplaint:
    """The complaint that a low score opens, so that somebody wins the customer back."""
    score = "without a score" if e.csi is None else f"with a score of {e.csi}"
    return ReceiveComplaint(
        complaint_id=uuid5(event_id, "recovery"),
        customer_id=e.customer_id,
        channel="return_visit",
        severity="high",
        subject=f"Dissatisfied after a {e.trigger}",
        description=f"The customer answered the return visit after a {e.trigger} {score}.",
        vin=e.vin,
        return_visit_id=visit_id,
    )


def _step(row: DueRow) -> Command:
    level = int(row.what.rpartition("_")[2])
    return ClimbLadder(complaint_id=row.subject_id, round=row.round, level=level)


_DUE: dict[str, tuple[Decider[Any], Callable[[DueRow], Command]]] = {
    "return_visit": (return_visit, lambda row: MarkReturnVisitDue(return_visit_id=row.subject_id)),
    "return_visit_expiry": (return_visit, lambda row: ExpireReturnVisit(return_visit_id=row.subject_id)),
    "reminder": (reminder, lambda row: MarkReminderDue(reminder_id=row.subject_id)),
    "step_1": (complaint, _step),
    "step_2": (complaint, _step),
    "step_3": (complaint, _step),
}


def command_due(row: DueRow) -> tuple[Decider[Any], Command]:
    """What the timer asks, of which aggregate, for a row of its list. It is safe to ask at any time and twice."""
    decider, command = _DUE[row.what]
    return decider, command(row)


def due_command_id(row: DueRow) -> UUID:
    """The id of that command: the same whenever the same is due."""
    return uuid5(row.subject_id, f"{row.what}:{row.due_at.isoformat()}")
