"""Facts in the life of a repair order."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from forecourt.events import Event, Personal
from forecourt.values import Money
from service_desk.fields import Code, ShortText

Kind = Literal["maintenance", "repair", "warranty"]
Payer = Literal["customer", "warranty", "insurance"]
Method = Literal["cash", "card", "transfer", "wechat", "alipay"]
Responsibility = Literal["technician", "adviser", "parts", "supplier", "diagnosis"]
Agreement = Literal["signature", "phone", "message"]
PauseReason = Literal["parts", "customer", "tools", "end_of_shift"]

Quantity = Annotated[Decimal, Field(gt=0, le=10_000, max_digits=8, decimal_places=2)]
"""Hours of labour, or pieces, with at most two places."""


class Line(BaseModel):
    """One line of a quote or invoice: labour in hours or a part in pieces, at a price for one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["labour", "part"]
    description: ShortText
    part_number: Code | None = None
    quantity: Quantity
    unit_price: Money


class PartLine(BaseModel):
    """A number of pieces of one part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    part_number: Code
    pieces: Annotated[int, Field(ge=1, le=1_000)]


class Share(BaseModel):
    """What one payer pays of an invoice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    payer: Payer
    amount: Money


class RepairOrderOpened(Event, name="RepairOrderOpened", version=1, person="customer_id"):
    """A car was taken in."""

    customer_id: UUID
    vin: str
    odometer_km: int
    kind: Kind
    symptoms: Personal[tuple[str, ...]]
    appointment_id: UUID | None
    adviser_id: str


class RepairQuoted(Event, name="RepairQuoted", version=1):
    """The customer was told what it will cost. A later quote replaces an earlier one as a whole."""

    customer_id: UUID
    quote_version: int
    lines: tuple[Line, ...]
    total: Money


class QuoteApproved(Event, name="QuoteApproved", version=1):
    """The customer agreed to a quote."""

    quote_version: int
    agreement: Agreement


class QuoteDeclined(Event, name="QuoteDeclined", version=2, person="customer_id"):
    """The customer did not agree to a quote."""

    customer_id: UUID | None
    quote_version: int
    reason: Personal[str]


class JobAdded(Event, name="JobAdded", version=2, person="customer_id"):
    """More was found to be done; it waits for a quote that includes it."""

    customer_id: UUID | None
    job_id: UUID
    description: Personal[str]


class TechnicianDispatched(Event, name="TechnicianDispatched", version=1):
    """The work was given to a technician, at a bay."""

    technician_id: str
    bay: str


class PartsRequested(Event, name="PartsRequested", version=1):
    """The workshop asked the parts store for parts."""

    parts: tuple[PartLine, ...]


class PartsIssued(Event, name="PartsIssued", version=1):
    """The parts store handed parts out."""

    parts: tuple[PartLine, ...]


class PartsShort(Event, name="PartsShort", version=1):
    """A part is not in stock."""

    part_number: str
    pieces: int
    expected_on: date | None


class WorkStarted(Event, name="WorkStarted", version=1):
    """The technician began."""

    technician_id: str


class WorkPaused(Event, name="WorkPaused", version=1):
    """Work stands still."""

    reason: PauseReason


class WorkResumed(Event, name="WorkResumed", version=1):
    """Work goes on."""


class WorkCompleted(Event, name="WorkCompleted", version=1):
    """The technician says it is done."""

    technician_id: str


class InspectionPassed(Event, name="InspectionPassed", version=1):
    """Somebody else than the technician found the work good."""

    inspector_id: str


class InspectionFailed(Event, name="InspectionFailed", version=2, person="customer_id"):
    """The inspector found faults."""

    customer_id: UUID | None
    inspector_id: str
    findings: Personal[tuple[str, ...]]


class ReworkRecorded(Event, name="ReworkRecorded", version=2, person="customer_id"):
    """Who answers for the faults and who mends them."""

    customer_id: UUID | None
    responsibility: Responsibility
    responsible_id: str
    technician_id: str
    instructions: Personal[str]


class RepairInvoiced(Event, name="RepairInvoiced", version=1):
    """The order was settled: what it cost and who pays which share. The shares add up to the total."""

    customer_id: UUID
    vin: str
    invoice_number: str
    lines: tuple[Line, ...]
    total: Money
    shares: tuple[Share, ...]


class ClaimSubmitted(Event, name="ClaimSubmitted", version=1):
    """The manufacturer was asked to pay the warranty share."""

    claim_number: str
    amount: Money


class ClaimSettled(Event, name="ClaimSettled", version=1):
    """The manufacturer decided on the claim."""

    claim_number: str
    accepted: Money


class RepairPaid(Event, name="RepairPaid", version=1):
    """A payer paid; ``remaining`` is what this payer still owes."""

    customer_id: UUID
    payer: Payer
    amount: Money
    method: Method
    remaining: Money


class VehicleHandedBack(Event, name="VehicleHandedBack", version=1):
    """The customer has the car back."""

    customer_id: UUID
    vin: str
    odometer_km: int
    handed_back_at: datetime
    kind: Kind


class RepairOrderCancelled(Event, name="RepairOrderCancelled", version=1, person="customer_id"):
    """The order was called off before work began."""

    customer_id: UUID
    vin: str
    reason: Personal[str]
