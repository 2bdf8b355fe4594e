"""What a complaint allows, and how its clock is driven."""

from datetime import datetime

from forecourt.deciders import Context
from forecourt.events import Event
from service_desk.complaint import commands as c_
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
from service_desk.complaint.state import Complaint, complaint
from service_desk.sla import (
    RULE_VERSION,
    TOP_LEVEL,
    Deadline,
    Severity,
    continued,
    delay,
    delayed,
    ladder,
    time_left,
)
from service_desk.stores import calendar_of, store_of

__all__ = ["complaint"]


def _open(state: Complaint) -> None:
    if state.status == "closed":
        raise c_.ComplaintIsClosed()


def _acknowledged(state: Complaint) -> None:
    _open(state)
    if not state.acknowledged:
        raise c_.NotAcknowledged()


def _dispatched(state: Complaint) -> None:
    _acknowledged(state)
    if state.status == "acknowledged":
        raise c_.NotTriaged()
    if not state.owner_id:
        raise c_.NotDispatched()


@complaint.decides
def receive(state: Complaint, c: c_.ReceiveComplaint, ctx: Context) -> list[Event]:
    """Take it in and start the clock."""
    if c.channel == "return_visit" and c.return_visit_id is None:
        raise c_.ReturnVisitMissing(fields={"return_visit_id": "is needed for the channel return_visit"})
    received = ComplaintReceived(
        customer_id=c.customer_id,
        channel=c.channel,
        severity=c.severity,
        vin=c.vin,
        subject=c.subject,
        description=c.description,
        repair_order_id=c.repair_order_id,
        return_visit_id=c.return_visit_id,
    )
    return [received, _new_round(1, c.severity, ctx, acknowledged=False)]


def _new_round(round_: int, severity: Severity, ctx: Context, *, acknowledged: bool) -> SlaStarted:
    calendar = store_of(ctx.dealer_id).office
    return SlaStarted(
        round=round_,
        rule_version=RULE_VERSION,
        calendar=calendar.name,
        severity=severity,
        started_at=ctx.now,
        deadlines=ladder(calendar, ctx.now, severity, acknowledged=acknowledged),
    )


@complaint.decides
def acknowledge(state: Complaint, c: c_.AcknowledgeComplaint, ctx: Context) -> list[Event]:
    """Once; again says nothing."""
    _open(state)
    if state.acknowledged:
        return []
    acknowledged = ComplaintAcknowledged(customer_id=state.customer_id, acknowledged_by=ctx.actor_id)
    return [*_overdue(state, ctx), acknowledged]


@complaint.decides
def triage(state: Complaint, c: c_.TriageComplaint, ctx: Context) -> list[Event]:
    """After acknowledging; the deadlines follow the severity."""
    _acknowledged(state)
    triaged = ComplaintTriaged(topic=c.topic, severity=c.severity)
    if c.severity == state.severity or state.started_at is None:
        return [triaged]
    if state.left is not None:
        raise c_.ClockIsStanding("resume the clock before changing the severity")
    missed = _overdue(state, ctx)
    return [*missed, triaged, _recounted(complaint.fold(missed, state), state.started_at, c.severity, ctx)]


def _recounted(state: Complaint, started_at: datetime, severity: Severity, ctx: Context) -> SlaStarted:
    """The round's clock by another severity; what has passed has passed."""
    calendar = calendar_of(state.calendar, ctx.dealer_id)
    before = ladder(calendar, started_at, state.severity, acknowledged=False)
    steps = ladder(calendar, started_at, severity, acknowledged=True)
    steps = delayed(calendar, steps, delay(calendar, before, state.deadlines))
    return SlaStarted(
        round=state.round,
        rule_version=RULE_VERSION,
        calendar=calendar.name,
        severity=severity,
        started_at=started_at,
        deadlines=tuple(step for step in steps if step.level not in state.breached),
    )


@complaint.decides
def dispatch(state: Complaint, c: c_.DispatchComplaint, ctx: Context) -> list[Event]:
    """After triage; again while it is open."""
    _acknowledged(state)
    if state.status == "acknowledged":
        raise c_.NotTriaged()
    return [ComplaintDispatched(department=c.department, owner_id=c.owner_id)]


@complaint.decides
def record_action(state: Complaint, c: c_.RecordComplaintAction, ctx: Context) -> list[Event]:
    """By those who own it."""
    _dispatched(state)
    return [ActionRecorded(customer_id=state.customer_id, action=c.action)]


@complaint.decides
def propose(state: Complaint, c: c_.ProposeResolution, ctx: Context) -> list[Event]:
    """An offer, or a better one; then the clock stands until the customer answers."""
    _dispatched(state)
    if state.status == "replied":
        raise c_.ProposalAccepted()
    proposed = ResolutionProposed(
        customer_id=state.customer_id, resolution=c.resolution, compensation=c.compensation
    )
    if state.left is not None:
        return [proposed]
    missed = _overdue(state, ctx)
    return [*missed, proposed, _paused(complaint.fold(missed, state), "customer", ctx)]


@complaint.decides
def reply(state: Complaint, c: c_.RecordCustomerReply, ctx: Context) -> list[Event]:
    """To the latest offer; a refusal lets the clock run again."""
    _open(state)
    if state.status != "proposed":
        raise c_.NothingProposed()
    replied = CustomerReplied(customer_id=state.customer_id, accepted=c.accepted, remarks=c.remarks)
    return [replied] if c.accepted else [replied, *_resumed(state, ctx)]


@complaint.decides
def revisit(state: Complaint, c: c_.CompleteRevisit, ctx: Context) -> list[Event]:
    """After the reply; a customer who is not satisfied lets the clock run again."""
    _replied(state)
    done = RevisitCompleted(customer_id=state.customer_id, satisfied=c.satisfied, remarks=c.remarks)
    return [done] if c.satisfied else [done, *_resumed(state, ctx)]


def _replied(state: Complaint) -> None:
    _open(state)
    if state.status == "proposed":
        raise c_.ProposalUnanswered()
    if not state.replied:
        raise c_.NotReplied()


@complaint.decides
def close(state: Complaint, c: c_.CloseComplaint, ctx: Context) -> list[Event]:
    """After reply and revisit, never before."""
    if state.status == "closed":
        return []
    _replied(state)
    if not state.revisited:
        raise c_.NotRevisited()
    if c.result == "resolved" and not state.satisfied:
        raise c_.CustomerNotSatisfied(fields={"result": "the customer is not satisfied"})
    closed = ComplaintClosed(customer_id=state.customer_id, vin=state.vin, result=c.result)
    return [*_overdue(state, ctx), closed]


@complaint.decides
def reopen(state: Complaint, c: c_.ReopenComplaint, ctx: Context) -> list[Event]:
    """A closed one, for another round."""
    if state.status != "closed":
        raise c_.ComplaintNotClosed()
    reopened = ComplaintReopened(customer_id=state.customer_id, reason=c.reason, round=state.round + 1)
    return [reopened, _new_round(state.round + 1, state.severity, ctx, acknowledged=True)]


@complaint.decides
def escalate(state: Complaint, c: c_.EscalateComplaint, ctx: Context) -> list[Event]:
    """To the level above the highest that knows of it."""
    _open(state)
    level = max(state.climbed, default=0) + 1
    if level > TOP_LEVEL:
        raise c_.TopOfLadder()
    return [
        ComplaintEscalated(customer_id=state.customer_id, round=state.round, level=level, reason="asked_for")
    ]


@complaint.decides
def climb(state: Complaint, c: c_.ClimbLadder, ctx: Context) -> list[Event]:
    """Note a passed deadline once, and tell the level that does not know of it yet."""
    if c.round != state.round:
        return []
    return [event for step in _passed(state, ctx) if step.level == c.level for event in _missed(state, step)]


def _passed(state: Complaint, ctx: Context) -> list[Deadline]:
    return [step for step in state.deadlines if step.due_at <= ctx.now]


def _missed(state: Complaint, step: Deadline) -> list[Event]:
    breached = SlaBreached(
        round=state.round,
        clock="acknowledge" if step.level == 1 else "resolve",
        level=step.level,
        due_at=step.due_at,
    )
    if step.level in state.climbed:
        return [breached]
    escalated = ComplaintEscalated(
        customer_id=state.customer_id, round=state.round, level=step.level, reason="deadline_missed"
    )
    return [breached, escalated]


def _overdue(state: Complaint, ctx: Context) -> list[Event]:
    """What the timer has not noted yet. To be said first by whatever takes deadlines away: it never could later."""
    return [event for step in _passed(state, ctx) for event in _missed(state, step)]


@complaint.decides
def pause(state: Complaint, c: c_.PauseComplaintSla, ctx: Context) -> list[Event]:
    """Let a running clock stand."""
    _open(state)
    if state.left is not None:
        raise c_.ClockIsStanding()
    missed = _overdue(state, ctx)
    return [*missed, _paused(complaint.fold(missed, state), c.reason, ctx)]


@complaint.decides
def resume(state: Complaint, c: c_.ResumeComplaintSla, ctx: Context) -> list[Event]:
    """Let a standing clock run."""
    _open(state)
    if state.left is None:
        raise c_.ClockIsRunning()
    return _resumed(state, ctx)


def _paused(state: Complaint, reason: PauseReason, ctx: Context) -> Event:
    left = time_left(calendar_of(state.calendar, ctx.dealer_id), ctx.now, state.deadlines)
    return SlaPaused(round=state.round, reason=reason, left=left)


def _resumed(state: Complaint, ctx: Context) -> list[Event]:
    if state.left is None:
        return []
    calendar = calendar_of(state.calendar, ctx.dealer_id)
    return [SlaResumed(round=state.round, deadlines=continued(calendar, ctx.now, state.left))]
