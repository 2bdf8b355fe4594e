"""Events of an opportunity."""

from datetime import date, datetime
from typing import Literal
from uuid import UUID

from forecourt.events import Event, Personal
from forecourt.values import Money
from sales.terms import (
    SaleLine,
)

Stage = Literal["new", "needs", "test_drive", "quote", "negotiation", "won", "lost"]
OpenStage = Literal["new", "needs", "test_drive", "quote", "negotiation"]
LossReason = Literal["price", "competitor", "no_stock", "financing", "postponed", "unreachable", "other"]


class OpportunityOpened(Event, name="OpportunityOpened", version=1):
    """A customer may buy a car of this model."""

    customer_id: UUID
    model: str
    lead_id: UUID | None
    salesperson: str | None
    probability: int


class OpportunityAssigned(Event, name="OpportunityAssigned", version=1):
    """A salesperson takes care of it from now on."""

    previous: str | None
    salesperson: str


class StageAdvanced(Event, name="StageAdvanced", version=1):
    """The sale came a step further. ``probability`` in per cent."""

    previous: Stage
    stage: Stage
    probability: int


class TestDriveScheduled(Event, name="TestDriveScheduled", version=1):
    """The customer will drive the car."""

    test_drive_id: UUID
    customer_id: UUID
    vin: str
    starts_at: datetime
    ends_at: datetime


class TestDriveCompleted(Event, name="TestDriveCompleted", version=1, person="customer_id"):
    """The customer drove the car."""

    test_drive_id: UUID
    customer_id: UUID
    vin: str
    odometer_km: int | None
    impression: Personal[str]


class TestDriveCancelled(Event, name="TestDriveCancelled", version=1, person="customer_id"):
    """The customer will not drive the car after all."""

    test_drive_id: UUID
    customer_id: UUID
    vin: str
    reason: Personal[str]


class QuoteIssued(Event, name="QuoteIssued", version=1):
    """The customer was given a price; a later version replaces the earlier one."""

    customer_id: UUID
    quote_version: int
    lines: tuple[SaleLine, ...]
    total: Money
    valid_until: date


class OpportunityWon(Event, name="OpportunityWon", version=1):
    """The customer buys: the order is ``order_id``."""

    customer_id: UUID
    order_id: UUID
    previous: Stage


class OpportunityLost(Event, name="OpportunityLost", version=1, person="customer_id"):
    """The customer does not buy from us, and why."""

    customer_id: UUID
    reason: LossReason
    competitor: str | None
    note: Personal[str]
    previous: Stage


class OpportunityReopened(Event, name="OpportunityReopened", version=1, person="customer_id"):
    """A lost customer is back; the sale goes on at ``stage``."""

    customer_id: UUID
    reason: Personal[str]
    stage: Stage
    probability: int
