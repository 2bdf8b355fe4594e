"""Commands to an opportunity."""

from datetime import date, datetime, timedelta
from uuid import UUID

from pydantic import Field

from forecourt.deciders import Command
from sales.opportunity.events import LossReason, OpenStage
from sales.terms import Model, SaleLines
from trade.fields import Kilometres, Line, Moment, Paragraph
from trade.vin import VinStr


class OpenOpportunity(Command, creates=True):
    """Note that a customer may buy a car of this model."""

    opportunity_id: UUID | None = None
    customer_id: UUID
    model: Model
    lead_id: UUID | None = None
    salesperson: Line | None = None


class AssignOpportunity(Command):
    """Give it to a salesperson."""

    opportunity_id: UUID
    salesperson: Line


class AdvanceStage(Command):
    """Say that the sale came a step further; a stage can be left out but not gone back to."""

    opportunity_id: UUID
    stage: OpenStage


class ScheduleTestDrive(Command):
    """Arrange a test drive of at most 4 hours; 30 minutes unless ``ends_at`` is given."""

    opportunity_id: UUID
    test_drive_id: UUID | None = None
    vin: VinStr
    starts_at: Moment
    ends_at: Moment | None = None

    @property
    def end(self) -> datetime:
        """When the car is back."""
        return self.ends_at or self.starts_at + timedelta(minutes=30)


class CompleteTestDrive(Command):
    """Note that the customer drove. ``test_drive_id`` may be left out where there is only one to come."""

    opportunity_id: UUID
    test_drive_id: UUID | None = None
    odometer_km: Kilometres | None = None
    impression: Paragraph = ""


class CancelTestDrive(Command):
    """Call a test drive off. ``test_drive_id`` may be left out where there is only one to come."""

    opportunity_id: UUID
    test_drive_id: UUID | None = None
    reason: Line


class IssueQuote(Command):
    """Give the customer a price, valid up to and including the day ``valid_until``."""

    opportunity_id: UUID
    lines: SaleLines
    valid_until: date


class WinOpportunity(Command):
    """The customer buys: ``order_id`` is the order placed or to be placed."""

    opportunity_id: UUID
    order_id: UUID


class LoseOpportunity(Command):
    """The customer does not buy from us. A reason is required, and a competitor where that is the reason."""

    opportunity_id: UUID
    reason: LossReason
    competitor: Line | None = None
    note: Paragraph = ""


class ReopenOpportunity(Command):
    """A lost customer is back."""

    opportunity_id: UUID
    reason: Line = Field(default="customer is back")
