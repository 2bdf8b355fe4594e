"""Opportunities, with their test drives and quotes."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import msgspec
from msgspec.structs import replace

from forecourt.events import Meta
from forecourt.privacy.fields import erased_text
from forecourt.projections.projection import Index, Projection
from forecourt.values import Money
from sales.foreign import PersonalDataShredded
from sales.opportunity.events import (
    OpportunityAssigned,
    OpportunityLost,
    OpportunityOpened,
    OpportunityReopened,
    OpportunityWon,
    QuoteIssued,
    StageAdvanced,
    TestDriveCancelled,
    TestDriveCompleted,
    TestDriveScheduled,
)
from sales.opportunity.state import PROBABILITIES
from sales.terms import SaleLine


class DriveRow(msgspec.Struct, frozen=True):
    """A test drive, in the row of its opportunity."""

    test_drive_id: UUID
    vin: str
    starts_at: datetime
    ends_at: datetime
    state: str
    impression: str


class QuoteRow(msgspec.Struct, frozen=True):
    """A quote, in the row of its opportunity."""

    quote_version: int
    lines: tuple[SaleLine, ...]
    total: Money
    valid_until: date


class OpportunityRow(msgspec.Struct, frozen=True):
    """An opportunity as it is now. ``quoted`` is the amount of the last quote, in ``currency``."""

    opportunity_id: UUID
    customer_id: UUID
    model: str
    stage: str
    probability: int
    salesperson: str | None
    lead_id: UUID | None
    test_drives: tuple[DriveRow, ...]
    quotes: tuple[QuoteRow, ...]
    quoted: Decimal
    currency: str | None
    order_id: UUID | None
    loss_reason: str | None
    competitor: str | None
    dealer_id: str
    brand: str
    opened_at: datetime
    closed_at: datetime | None


opportunities = Projection(
    "opportunity",
    version=2,
    row=OpportunityRow,
    key="opportunity_id",
    indexes=[
        Index(("dealer_id", "stage", "opened_at")),
        "opened_at",
        "customer_id",
        Index(("salesperson", "stage")),
    ],
)


@opportunities.on()
def _opened(row: OpportunityRow | None, e: OpportunityOpened, m: Meta) -> OpportunityRow:
    return OpportunityRow(
        opportunity_id=m.stream_id,
        customer_id=e.customer_id,
        model=e.model,
        stage="new",
        probability=e.probability,
        salesperson=e.salesperson,
        lead_id=e.lead_id,
        test_drives=(),
        quotes=(),
        quoted=Decimal("0.00"),
        currency=None,
        order_id=None,
        loss_reason=None,
        competitor=None,
        dealer_id=m.dealer_id,
        brand=m.brand,
        opened_at=m.time,
        closed_at=None,
    )


@opportunities.on()
def _assigned(row: OpportunityRow | None, e: OpportunityAssigned, m: Meta) -> OpportunityRow | None:
    return row and replace(row, salesperson=e.salesperson)


@opportunities.on()
def _advanced(row: OpportunityRow | None, e: StageAdvanced, m: Meta) -> OpportunityRow | None:
    return row and replace(row, stage=e.stage, probability=e.probability)


@opportunities.on()
def _scheduled(row: OpportunityRow | None, e: TestDriveScheduled, m: Meta) -> OpportunityRow | None:
    drive = DriveRow(e.test_drive_id, e.vin, e.starts_at, e.ends_at, "scheduled", "")
    return row and replace(row, test_drives=(*row.test_drives, drive))


@opportunities.on()
def _completed(row: OpportunityRow | None, e: TestDriveCompleted, m: Meta) -> OpportunityRow | None:
    return row and _with_drive(row, e.test_drive_id, "completed", e.impression)


@opportunities.on()
def _cancelled(row: OpportunityRow | None, e: TestDriveCancelled, m: Meta) -> OpportunityRow | None:
    return row and _with_drive(row, e.test_drive_id, "cancelled", "")


def _with_drive(row: OpportunityRow, drive_id: UUID, state: str, impression: str) -> OpportunityRow:
    drives = (
        replace(drive, state=state, impression=impression) if drive.test_drive_id == drive_id else drive
        for drive in row.test_drives
    )
    return replace(row, test_drives=tuple(drives))


@opportunities.on()
def _quoted(row: OpportunityRow | None, e: QuoteIssued, m: Meta) -> OpportunityRow | None:
    quote = QuoteRow(e.quote_version, e.lines, e.total, e.valid_until)
    return row and replace(row, quotes=(*row.quotes, quote), quoted=e.total.amount, currency=e.total.currency)


@opportunities.on()
def _won(row: OpportunityRow | None, e: OpportunityWon, m: Meta) -> OpportunityRow | None:
    return row and replace(
        row, stage="won", probability=PROBABILITIES["won"], order_id=e.order_id, closed_at=m.time
    )


@opportunities.on()
def _lost(row: OpportunityRow | None, e: OpportunityLost, m: Meta) -> OpportunityRow | None:
    return row and replace(
        row,
        stage="lost",
        probability=PROBABILITIES["lost"],
        loss_reason=e.reason,
        competitor=e.competitor,
        closed_at=m.time,
    )


@opportunities.on()
def _reopened(row: OpportunityRow | None, e: OpportunityReopened, m: Meta) -> OpportunityRow | None:
    return row and replace(
        row, stage=e.stage, probability=e.probability, loss_reason=None, competitor=None, closed_at=None
    )


@opportunities.on_all(PersonalDataShredded, "customer_id")
def _erased(row: OpportunityRow) -> OpportunityRow:
    drives = (replace(drive, impression=erased_text(drive.impression)) for drive in row.test_drives)
    return replace(row, test_drives=tuple(drives))
