"""Complaints as they stand, with their deadlines."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from forecourt.events import Meta
from forecourt.privacy.fields import erased_text
from forecourt.projections.projection import Index, Projection
from service_desk.complaint.events import (
    ActionRecorded,
    ComplaintAcknowledged,
    ComplaintClosed,
    ComplaintDispatched,
    ComplaintEscalated,
    ComplaintReceived,
    ComplaintReopened,
    ComplaintTriaged,
    CustomerReplied,
    ResolutionProposed,
    RevisitCompleted,
    SlaBreached,
    SlaPaused,
    SlaResumed,
    SlaStarted,
)
from service_desk.foreign import PersonalDataShredded
from service_desk.sla import Deadline


class ComplaintRow(msgspec.Struct, frozen=True):
    """A complaint. ``breaches`` counts passed deadlines of all rounds."""

    complaint_id: UUID
    dealer_id: str
    brand: str
    customer_id: UUID
    channel: str
    severity: str
    status: str
    subject: str
    description: str
    vin: str | None
    received_at: datetime
    changed_at: datetime
    topic: str = ""
    department: str = ""
    owner_id: str = ""
    round: int = 1
    escalation_level: int = 0
    acknowledge_by: datetime | None = None
    resolve_by: datetime | None = None
    clock_paused: bool = False
    breaches: int = 0
    result: str = ""
    closed_at: datetime | None = None


complaints = Projection(
    "complaint",
    version=2,
    row=ComplaintRow,
    key="complaint_id",
    indexes=[Index(("dealer_id", "received_at")), "status", "customer_id"],
)


def _changed(row: ComplaintRow | None, m: Meta, **fields: Any) -> ComplaintRow | None:
    return row and msgspec.structs.replace(row, changed_at=m.time, **fields)


def _due(deadlines: tuple[Deadline, ...], level: int) -> datetime | None:
    return next((deadline.due_at for deadline in deadlines if deadline.level == level), None)


@complaints.on()
def _(row: ComplaintRow | None, e: ComplaintReceived, m: Meta) -> ComplaintRow:
    return ComplaintRow(
        complaint_id=m.stream_id,
        dealer_id=m.dealer_id,
        brand=m.brand,
        customer_id=e.customer_id,
        channel=e.channel,
        severity=e.severity,
        status="received",
        subject=e.subject,
        description=e.description,
        vin=e.vin,
        received_at=m.time,
        changed_at=m.time,
    )


@complaints.on()
def _(row: ComplaintRow | None, e: SlaStarted, m: Meta) -> ComplaintRow | None:
    if row is None:
        return None
    return _changed(
        row,
        m,
        round=e.round,
        escalation_level=row.escalation_level if e.round == row.round else 0,
        acknowledge_by=_due(e.deadlines, 1),
        resolve_by=_due(e.deadlines, 2),
        clock_paused=False,
    )


@complaints.on()
def _(row: ComplaintRow | None, e: SlaPaused, m: Meta) -> ComplaintRow | None:
    return _changed(row, m, acknowledge_by=None, resolve_by=None, clock_paused=True)


@complaints.on()
def _(row: ComplaintRow | None, e: SlaResumed, m: Meta) -> ComplaintRow | None:
    return _changed(
        row,
        m,
        acknowledge_by=_due(e.deadlines, 1),
        resolve_by=_due(e.deadlines, 2),
        clock_paused=False,
    )


@complaints.on()
def _(row: ComplaintRow | None, e: SlaBreached, m: Meta) -> ComplaintRow | None:
    return row and _changed(row, m, breaches=row.breaches + 1)


@complaints.on()
def _(row: ComplaintRow | None, e: ComplaintEscalated, m: Meta) -> ComplaintRow | None:
    return row and _changed(row, m, escalation_level=max(row.escalation_level, e.level))


@complaints.on()
def _(row: ComplaintRow | None, e: ComplaintAcknowledged, m: Meta) -> ComplaintRow | None:
    return _changed(row, m, status="acknowledged", acknowledge_by=None)


@complaints.on()
def _(row: ComplaintRow | None, e: ComplaintTriaged, m: Meta) -> ComplaintRow | None:
    status = "triaged" if row and row.status == "acknowledged" else row and row.status
    return _changed(row, m, status=status, topic=e.topic, severity=e.severity)


@complaints.on()
def _(row: ComplaintRow | None, e: ComplaintDispatched, m: Meta) -> ComplaintRow | None:
    status = "dispatched" if row and row.status == "triaged" else row and row.status
    return _changed(row, m, status=status, department=e.department, owner_id=e.owner_id)


@complaints.on()
def _(row: ComplaintRow | None, e: ActionRecorded, m: Meta) -> ComplaintRow | None:
    offered = row is not None and row.status in ("proposed", "replied", "revisited")
    return _changed(row, m) if offered else _changed(row, m, status="handling")


@complaints.on()
def _(row: ComplaintRow | None, e: ResolutionProposed, m: Meta) -> ComplaintRow | None:
    return _changed(row, m, status="proposed")


@complaints.on()
def _(row: ComplaintRow | None, e: CustomerReplied, m: Meta) -> ComplaintRow | None:
    return _changed(row, m, status="replied" if e.accepted else "handling")


@complaints.on()
def _(row: ComplaintRow | None, e: RevisitCompleted, m: Meta) -> ComplaintRow | None:
    return _changed(row, m, status="revisited")


@complaints.on()
def _(row: ComplaintRow | None, e: ComplaintClosed, m: Meta) -> ComplaintRow | None:
    return _changed(
        row,
        m,
        status="closed",
        result=e.result,
        closed_at=m.time,
        acknowledge_by=None,
        resolve_by=None,
        clock_paused=False,
    )


@complaints.on()
def _(row: ComplaintRow | None, e: ComplaintReopened, m: Meta) -> ComplaintRow | None:
    return _changed(row, m, status="dispatched", result="", closed_at=None)


@complaints.on_all(PersonalDataShredded, "customer_id")
def _erased(row: ComplaintRow) -> ComplaintRow:
    return msgspec.structs.replace(
        row, subject=erased_text(row.subject), description=erased_text(row.description)
    )
