"""Facts in the life of a complaint."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from forecourt.events import Event, Personal
from forecourt.values import Money
from service_desk.sla import Deadline, Severity, TimeLeft

Channel = Literal["phone", "email", "counter", "web", "social", "manufacturer", "return_visit"]
Topic = Literal["vehicle", "workmanship", "price", "waiting", "conduct", "parts", "sales", "other"]
Department = Literal["sales", "service", "parts", "finance", "customer_care", "head_office"]
PauseReason = Literal["customer", "parts", "manufacturer"]
Result = Literal["resolved", "no_agreement"]
Clock = Literal["acknowledge", "resolve"]
EscalationReason = Literal["deadline_missed", "asked_for"]


class ComplaintReceived(Event, name="ComplaintReceived", version=1, person="customer_id"):
    """A customer complained. The record refers to the customer and quotes nobody's personal data."""

    customer_id: UUID
    channel: Channel
    severity: Severity
    vin: str | None
    subject: Personal[str]
    description: Personal[str]
    repair_order_id: UUID | None
    return_visit_id: UUID | None


class SlaStarted(Event, name="SlaStarted", version=1):
    """The clock of a round began to run, by a version of the rules and a calendar."""

    round: int
    rule_version: int
    calendar: str
    severity: Severity
    started_at: datetime
    deadlines: tuple[Deadline, ...]


class SlaPaused(Event, name="SlaPaused", version=1):
    """The clock stands; ``left`` is the business time that each step still had."""

    round: int
    reason: PauseReason
    left: tuple[TimeLeft, ...]


class SlaResumed(Event, name="SlaResumed", version=1):
    """The clock runs again."""

    round: int
    deadlines: tuple[Deadline, ...]


class SlaBreached(Event, name="SlaBreached", version=1):
    """A deadline passed."""

    round: int
    clock: Clock
    level: int
    due_at: datetime


class ComplaintEscalated(Event, name="ComplaintEscalated", version=1):
    """The next level hears of it."""

    customer_id: UUID
    round: int
    level: int
    reason: EscalationReason


class ComplaintAcknowledged(Event, name="ComplaintAcknowledged", version=1):
    """The customer was told that the complaint is known."""

    customer_id: UUID
    acknowledged_by: str


class ComplaintTriaged(Event, name="ComplaintTriaged", version=1):
    """What it is about, and how severe."""

    topic: Topic
    severity: Severity


class ComplaintDispatched(Event, name="ComplaintDispatched", version=1):
    """A department and a person own it."""

    department: Department
    owner_id: str


class ActionRecorded(Event, name="ActionRecorded", version=2, person="customer_id"):
    """Something was done about it."""

    customer_id: UUID | None
    action: Personal[str]


class ResolutionProposed(Event, name="ResolutionProposed", version=1, person="customer_id"):
    """The store replied with what it offers."""

    customer_id: UUID
    resolution: Personal[str]
    compensation: Money | None


class CustomerReplied(Event, name="CustomerReplied", version=2, person="customer_id"):
    """What the customer says to the offer."""

    customer_id: UUID | None
    accepted: bool
    remarks: Personal[str]


class RevisitCompleted(Event, name="RevisitCompleted", version=2, person="customer_id"):
    """The customer was asked again after the resolution was carried out."""

    customer_id: UUID | None
    satisfied: bool
    remarks: Personal[str]


class ComplaintClosed(Event, name="ComplaintClosed", version=1):
    """Nothing more is to be done."""

    customer_id: UUID
    vin: str | None
    result: Result


class ComplaintReopened(Event, name="ComplaintReopened", version=1, person="customer_id"):
    """It was not over."""

    customer_id: UUID
    reason: Personal[str]
    round: int
