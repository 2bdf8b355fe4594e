"""What falls due, and when: the timer's list.

A row is there from the event that plans it to the one that is it.
"""

from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from forecourt.events import AnyEvent, Meta
from forecourt.projections.projection import Projection
from service_desk.appointment import AppointmentBooked, AppointmentRescheduled
from service_desk.complaint.events import (
    ComplaintAcknowledged,
    ComplaintClosed,
    SlaBreached,
    SlaPaused,
    SlaResumed,
    SlaStarted,
)
from service_desk.reminder import (
    ReminderBecameDue,
    ReminderFulfilled,
    ReminderRescheduled,
    ReminderScheduled,
    ReminderWithdrawn,
)
from service_desk.return_visit import (
    ReturnVisitBecameDue,
    ReturnVisitCompleted,
    ReturnVisitExpired,
    ReturnVisitScheduled,
)
from service_desk.sla import TOP_LEVEL
from service_desk.workshop_day import CapacityReleased, CapacityReserved

HOLD_IS_FORGOTTEN_AFTER = timedelta(days=1)
"""A hold that no appointment stands on by then was left behind by a process that died in between."""


class DueRow(msgspec.Struct, frozen=True):
    """Something to do with ``subject_id`` at ``due_at``.

    ``round`` is a complaint's; ``day_id`` is a hold's day.
    """

    subject_id: UUID
    what: str
    due_at: datetime
    dealer_id: str
    brand: str
    round: int = 0
    day_id: UUID | None = None
    appointment_id: UUID | None = None


due = Projection("due", version=1, row=DueRow, key=("subject_id", "what"), indexes=["due_at"])


def _row(m: Meta, what: str, due_at: datetime, **more: Any) -> DueRow:
    return DueRow(m.stream_id, what, due_at, m.dealer_id, m.brand, **more)


def _done(row: DueRow | None, e: AnyEvent, m: Meta) -> None:
    return None


def _its(what: str) -> Any:
    return lambda e, m: (m.stream_id, what)


def _hold(e: Any, m: Meta) -> tuple[UUID, str]:
    return e.hold_id, "hold"


@due.on(key=_its("return_visit"))
def _(row: DueRow | None, e: ReturnVisitScheduled, m: Meta) -> DueRow:
    return _row(m, "return_visit", e.due_at)


@due.on(key=_its("return_visit_expiry"))
def _(row: DueRow | None, e: ReturnVisitBecameDue, m: Meta) -> DueRow:
    return _row(m, "return_visit_expiry", e.expires_at)


due.on(ReturnVisitBecameDue, key=_its("return_visit"))(_done)
due.on(ReturnVisitCompleted, ReturnVisitExpired, key=_its("return_visit_expiry"))(_done)


@due.on(key=_its("reminder"))
def _(row: DueRow | None, e: ReminderScheduled | ReminderRescheduled, m: Meta) -> DueRow:
    return _row(m, "reminder", e.due_at)


due.on(ReminderBecameDue, ReminderFulfilled, ReminderWithdrawn, key=_its("reminder"))(_done)


def _step(level: int, row: DueRow | None, e: SlaStarted | SlaResumed, m: Meta) -> DueRow | None:
    for deadline in e.deadlines:
        if deadline.level == level:
            return _row(m, f"step_{level}", deadline.due_at, round=e.round)
    return None


for _level in range(1, TOP_LEVEL + 1):
    due.on(SlaStarted, SlaResumed, key=_its(f"step_{_level}"))(partial(_step, _level))
    due.on(SlaPaused, ComplaintClosed, key=_its(f"step_{_level}"))(_done)

due.on(ComplaintAcknowledged, key=_its("step_1"))(_done)
due.on(SlaBreached, key=lambda e, m: (m.stream_id, f"step_{e.level}"))(_done)


@due.on(key=_hold)
def _(row: DueRow | None, e: CapacityReserved, m: Meta) -> DueRow:
    return DueRow(
        e.hold_id,
        "hold",
        m.time + HOLD_IS_FORGOTTEN_AFTER,
        m.dealer_id,
        m.brand,
        day_id=m.stream_id,
        appointment_id=e.appointment_id,
    )


due.on(CapacityReleased, AppointmentBooked, AppointmentRescheduled, key=_hold)(_done)
