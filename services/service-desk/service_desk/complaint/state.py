"""A complaint as far as decisions need it, and how facts change it."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from forecourt.deciders import Decider
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
    PauseReason,
    ResolutionProposed,
    RevisitCompleted,
    SlaBreached,
    SlaPaused,
    SlaResumed,
    SlaStarted,
)
from service_desk.sla import Deadline, Severity, TimeLeft

Status = Literal[
    "received",
    "acknowledged",
    "triaged",
    "dispatched",
    "handling",
    "proposed",
    "replied",
    "revisited",
    "closed",
]


@dataclass(frozen=True)
class Complaint:
    """What decisions about a complaint need. ``left`` is None while the clock runs."""

    status: Status = "received"
    customer_id: UUID = UUID(int=0)
    vin: str | None = None
    severity: Severity = "normal"
    owner_id: str = ""
    acknowledged: bool = False
    replied: bool = False
    revisited: bool = False
    satisfied: bool = False
    round: int = 1
    started_at: datetime | None = None
    calendar: str = ""
    deadlines: tuple[Deadline, ...] = ()
    left: tuple[TimeLeft, ...] | None = None
    paused_for: PauseReason | None = None
    climbed: frozenset[int] = frozenset()
    breached: frozenset[int] = frozenset()


complaint = Decider(service="service_desk", category="complaint", initial=Complaint(), key="complaint_id")


@complaint.evolves
def _(state: Complaint, e: ComplaintReceived) -> Complaint:
    return Complaint(customer_id=e.customer_id, vin=e.vin, severity=e.severity)


@complaint.evolves
def _(state: Complaint, e: SlaStarted) -> Complaint:
    fresh = e.round != state.round
    return replace(
        state,
        round=e.round,
        calendar=e.calendar,
        deadlines=e.deadlines,
        left=None,
        paused_for=None,
        started_at=e.started_at,
        climbed=frozenset() if fresh else state.climbed,
        breached=frozenset() if fresh else state.breached,
    )


@complaint.evolves
def _(state: Complaint, e: SlaPaused) -> Complaint:
    return replace(state, left=e.left, paused_for=e.reason, deadlines=())


@complaint.evolves
def _(state: Complaint, e: SlaResumed) -> Complaint:
    return replace(state, deadlines=e.deadlines, left=None, paused_for=None)


@complaint.evolves
def _(state: Complaint, e: SlaBreached) -> Complaint:
    pending = tuple(deadline for deadline in state.deadlines if deadline.level != e.level)
    return replace(state, deadlines=pending, breached=state.breached | {e.level})


@complaint.evolves
def _(state: Complaint, e: ComplaintEscalated) -> Complaint:
    return replace(state, climbed=state.climbed | {e.level})


@complaint.evolves
def _(state: Complaint, e: ComplaintAcknowledged) -> Complaint:
    status: Status = "acknowledged" if state.status == "received" else state.status
    left = None if state.left is None else tuple(item for item in state.left if item.level > 1)
    deadlines = tuple(deadline for deadline in state.deadlines if deadline.level > 1)
    return replace(state, status=status, acknowledged=True, deadlines=deadlines, left=left)


@complaint.evolves
def _(state: Complaint, e: ComplaintTriaged) -> Complaint:
    status: Status = "triaged" if state.status == "acknowledged" else state.status
    return replace(state, status=status, severity=e.severity)


@complaint.evolves
def _(state: Complaint, e: ComplaintDispatched) -> Complaint:
    status: Status = "dispatched" if state.status == "triaged" else state.status
    return replace(state, status=status, owner_id=e.owner_id)


@complaint.evolves
def _(state: Complaint, e: ActionRecorded) -> Complaint:
    # What is done meanwhile takes back neither an offer nor its acceptance.
    offered = state.status in ("proposed", "replied", "revisited")
    return state if offered else replace(state, status="handling")


@complaint.evolves
def _(state: Complaint, e: ResolutionProposed) -> Complaint:
    return replace(state, status="proposed", replied=False, revisited=False, satisfied=False)


@complaint.evolves
def _(state: Complaint, e: CustomerReplied) -> Complaint:
    return replace(state, status="replied" if e.accepted else "handling", replied=True)


@complaint.evolves
def _(state: Complaint, e: RevisitCompleted) -> Complaint:
    return replace(state, status="revisited", revisited=True, satisfied=e.satisfied)


@complaint.evolves
def _(state: Complaint, e: ComplaintClosed) -> Complaint:
    return replace(state, status="closed", deadlines=(), left=None, paused_for=None)


@complaint.evolves
def _(state: Complaint, e: ComplaintReopened) -> Complaint:
    return replace(state, status="dispatched", replied=False, revisited=False, satisfied=False)


@complaint.upcasts("ActionRecorded", from_version=1)
@complaint.upcasts("CustomerReplied", from_version=1)
@complaint.upcasts("RevisitCompleted", from_version=1)
def _name_nobody(data: dict[str, Any]) -> dict[str, Any]:
    """Before version 2 the event did not say whose the text is, and the text was stored as it is."""
    return {"customer_id": None, **data}
