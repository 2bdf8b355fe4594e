"""A return visit: asking a customer, after a delivery, repair or complaint, how it went.

``scheduled → due → completed`` after attempts to reach the customer, or ``expired``. Answers belong to a
form with a version; forms stay as they were when they were answered.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Literal
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from forecourt.deciders import Command, Context, Decider
from forecourt.errors import InvalidInput, Refused
from forecourt.events import Event, Personal
from service_desk.fields import Moment, OptionalText
from trade.vin import VinStr

Trigger = Literal["delivery", "repair", "complaint"]
Channel = Literal["phone", "sms", "email", "visit"]
Reached = Literal["reached", "no_answer", "busy", "wrong_number", "call_later", "refused"]
Status = Literal["scheduled", "due", "completed", "expired"]

EXPIRES_AFTER = timedelta(days=14)
"""From the day it becomes due."""
MAX_ATTEMPTS = 20

FORMS: dict[tuple[Trigger, int], dict[str, Decimal]] = {
    ("delivery", 1): {
        "advice": Decimal("0.3"),
        "handover": Decimal("0.3"),
        "vehicle_condition": Decimal("0.4"),
    },
    ("repair", 1): {
        "reception": Decimal("0.2"),
        "quality_of_work": Decimal("0.4"),
        "on_time": Decimal("0.2"),
        "price": Decimal("0.2"),
    },
    ("complaint", 1): {"solution": Decimal("0.6"), "speed": Decimal("0.4")},
}
"""By trigger and form version: each question, and its weight in the CSI.

The weights of a form add up to one.
"""

LOW_CSI = Decimal("6.0")
"""Below it somebody should call the customer."""


class Answer(BaseModel):
    """A score from 0 (bad) to 10 (excellent) for one question of the form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]
    score: Annotated[int, Field(ge=0, le=10)]


class ReturnVisitScheduled(Event, name="ReturnVisitScheduled", version=1):
    """Somebody will ask the customer from ``due_at`` on.

    ``trigger_id`` is the order, repair order or complaint.
    """

    customer_id: UUID
    vin: str | None
    trigger: Trigger
    trigger_id: UUID
    due_at: datetime


class ReturnVisitBecameDue(Event, name="ReturnVisitBecameDue", version=1):
    """It is time to ask."""

    customer_id: UUID
    vin: str | None
    trigger: Trigger
    trigger_id: UUID
    expires_at: datetime


class ReturnVisitAttempted(Event, name="ReturnVisitAttempted", version=1):
    """Somebody tried to reach the customer."""

    channel: Channel
    result: Reached
    attempt: int


class ReturnVisitCompleted(Event, name="ReturnVisitCompleted", version=1, person="customer_id"):
    """The customer answered. ``csi`` is the weighted mean of the scores, 0 to 10 with one place."""

    customer_id: UUID
    vin: str | None
    trigger: Trigger
    trigger_id: UUID
    form_version: int
    answers: tuple[Answer, ...]
    csi: Decimal | None
    satisfied: bool
    remarks: Personal[str]


class LowScoreFlagged(Event, name="LowScoreFlagged", version=1):
    """The answers are bad enough for a complaint to be opened."""

    customer_id: UUID
    vin: str | None
    trigger: Trigger
    trigger_id: UUID
    csi: Decimal | None
    threshold: Decimal


class ReturnVisitExpired(Event, name="ReturnVisitExpired", version=1):
    """The customer could not be asked in time."""

    customer_id: UUID
    attempts: int


@dataclass(frozen=True)
class ReturnVisit:
    """What decisions about a return visit need."""

    status: Status = "scheduled"
    customer_id: UUID = UUID(int=0)
    vin: str | None = None
    trigger: Trigger = "delivery"
    trigger_id: UUID = UUID(int=0)
    due_at: datetime | None = None
    expires_at: datetime | None = None
    attempts: int = 0


class ReturnVisitNotDue(Refused):
    """It is not time to ask yet."""


class ReturnVisitIsOver(Refused):
    """The customer has answered, or the return visit expired."""


class TooManyAttempts(Refused):
    """The customer was tried often enough."""


class FormUnknown(InvalidInput):
    """There is no form of this version for what the customer is asked about."""


class AnswersDoNotFit(InvalidInput):
    """The answers are not those that the form asks for."""


class ScheduleReturnVisit(Command, creates=True):
    """Plan to ask a customer."""

    return_visit_id: UUID
    customer_id: UUID
    vin: VinStr | None
    trigger: Trigger
    trigger_id: UUID
    due_at: Moment


class MarkReturnVisitDue(Command):
    """Say that it is time. For the timer: does nothing where it is not so."""

    return_visit_id: UUID


class RecordReturnVisitAttempt(Command):
    """Note an attempt to reach the customer."""

    return_visit_id: UUID
    channel: Channel
    result: Reached


class CompleteReturnVisit(Command):
    """Note the customer's answers. No answers at all: the customer only said whether they are satisfied."""

    return_visit_id: UUID
    form_version: Annotated[int, Field(ge=1, le=1_000)] = 1
    answers: Annotated[tuple[Answer, ...], Field(max_length=30)] = ()
    satisfied: bool
    remarks: OptionalText = ""


class ExpireReturnVisit(Command):
    """Give up. For the timer: does nothing before its time."""

    return_visit_id: UUID


def return_visit_id(event_id: UUID) -> UUID:
    """The return visit that an event leads to: the same however often the event arrives."""
    return uuid5(event_id, "return-visit")


return_visit = Decider(
    service="service_desk", category="return_visit", initial=ReturnVisit(), key="return_visit_id"
)


@return_visit.decides
def schedule(state: ReturnVisit, c: ScheduleReturnVisit, ctx: Context) -> list[Event]:
    """Plan it."""
    return [
        ReturnVisitScheduled(
            customer_id=c.customer_id,
            vin=c.vin,
            trigger=c.trigger,
            trigger_id=c.trigger_id,
            due_at=c.due_at,
        )
    ]


@return_visit.decides
def mark_due(state: ReturnVisit, c: MarkReturnVisitDue, ctx: Context) -> list[Event]:
    """Once, when its time has come."""
    if state.status != "scheduled" or state.due_at is None or ctx.now < state.due_at:
        return []
    return [
        ReturnVisitBecameDue(
            customer_id=state.customer_id,
            vin=state.vin,
            trigger=state.trigger,
            trigger_id=state.trigger_id,
            expires_at=ctx.now + EXPIRES_AFTER,
        )
    ]


@return_visit.decides
def attempt(state: ReturnVisit, c: RecordReturnVisitAttempt, ctx: Context) -> list[Event]:
    """While it is due."""
    _due(state)
    if state.attempts >= MAX_ATTEMPTS:
        raise TooManyAttempts()
    return [ReturnVisitAttempted(channel=c.channel, result=c.result, attempt=state.attempts + 1)]


@return_visit.decides
def complete(state: ReturnVisit, c: CompleteReturnVisit, ctx: Context) -> list[Event]:
    """Answers that fit the form; bad ones are flagged."""
    _due(state)
    csi = _csi(state.trigger, c)
    done = ReturnVisitCompleted(
        customer_id=state.customer_id,
        vin=state.vin,
        trigger=state.trigger,
        trigger_id=state.trigger_id,
        form_version=c.form_version,
        answers=c.answers,
        csi=csi,
        satisfied=c.satisfied,
        remarks=c.remarks,
    )
    if c.satisfied and (csi is None or csi >= LOW_CSI):
        return [done]
    flagged = LowScoreFlagged(
        customer_id=state.customer_id,
        vin=state.vin,
        trigger=state.trigger,
        trigger_id=state.trigger_id,
        csi=csi,
        threshold=LOW_CSI,
    )
    return [done, flagged]


@return_visit.decides
def expire(state: ReturnVisit, c: ExpireReturnVisit, ctx: Context) -> list[Event]:
    """Once, a while after it became due."""
    if state.status != "due" or state.expires_at is None or ctx.now < state.expires_at:
        return []
    return [ReturnVisitExpired(customer_id=state.customer_id, attempts=state.attempts)]


def _due(state: ReturnVisit) -> None:
    if state.status == "scheduled":
        raise ReturnVisitNotDue()
    if state.status != "due":
        raise ReturnVisitIsOver(f"the return visit is {state.status}")


def _csi(trigger: Trigger, c: CompleteReturnVisit) -> Decimal | None:
    weights = FORMS.get((trigger, c.form_version))
    if weights is None:
        raise FormUnknown(fields={"form_version": f"there is no such form after a {trigger}"})
    if not c.answers:
        return None
    scores = {answer.question: answer.score for answer in c.answers}
    if scores.keys() != weights.keys() or len(scores) != len(c.answers):
        raise AnswersDoNotFit(fields={"answers": f"must answer once each: {', '.join(sorted(weights))}"})
    mean = sum((weights[question] * score for question, score in scores.items()), Decimal(0))
    return mean.quantize(Decimal("0.1"), ROUND_HALF_UP)


@return_visit.evolves
def _(state: ReturnVisit, e: ReturnVisitScheduled) -> ReturnVisit:
    return ReturnVisit("scheduled", e.customer_id, e.vin, e.trigger, e.trigger_id, e.due_at)


@return_visit.evolves
def _(state: ReturnVisit, e: ReturnVisitBecameDue) -> ReturnVisit:
    return replace(state, status="due", expires_at=e.expires_at)


@return_visit.evolves
def _(state: ReturnVisit, e: ReturnVisitAttempted) -> ReturnVisit:
    return replace(state, attempts=e.attempt)


@return_visit.evolves
def _(state: ReturnVisit, e: ReturnVisitCompleted) -> ReturnVisit:
    return replace(state, status="completed")


@return_visit.evolves
def _(state: ReturnVisit, e: ReturnVisitExpired) -> ReturnVisit:
    return replace(state, status="expired")


return_visit.ignores(LowScoreFlagged)
