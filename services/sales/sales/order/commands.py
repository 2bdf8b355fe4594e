"""Commands to an order."""

from datetime import date
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from forecourt.deciders import Command
from forecourt.values import PositiveMoney
from sales.order.events import AncillaryKind, PaymentMethod, Sheet
from sales.terms import Model, SaleLines, Store
from trade.fields import Code, Kilometres, Line, Moment
from trade.vin import VinStr


class PlaceOrder(Command, creates=True):
    """A customer orders a car; the opportunity that it came from, if any, is won by it."""

    order_id: UUID | None = None
    customer_id: UUID
    model: Model
    lines: SaleLines
    opportunity_id: UUID | None = None


class AllocateVehicle(Command):
    """Give the order this car. Over the API, the car is held for the order first."""

    order_id: UUID
    vin: VinStr


class RecordVehicleArrival(Command):
    """The order's car is in the store."""

    order_id: UUID


class RecordDeposit(Command):
    """Note a deposit; it counts towards the total."""

    order_id: UUID
    payment_id: UUID | None = None
    amount: PositiveMoney
    method: PaymentMethod


class RecordPayment(Command):
    """Note a payment of at most what is still due."""

    order_id: UUID
    payment_id: UUID | None = None
    amount: PositiveMoney
    method: PaymentMethod


class WriteOffBalance(Command):
    """Do not insist on a part of what is still due."""

    order_id: UUID
    amount: PositiveMoney
    reason: Line


class AddAncillaryOrder(Command):
    """Sell something besides the car; only before the invoice."""

    order_id: UUID
    ancillary_id: UUID | None = None
    kind: AncillaryKind
    description: Line
    amount: PositiveMoney


class IssueInvoice(Command):
    """Issue the invoice over everything sold, under its number."""

    order_id: UUID
    invoice_number: Code


class NotifyOutbound(Command):
    """Ask to let the car out: it must be there, inspected, paid in full and invoiced."""

    order_id: UUID


class ApproveOutbound(Command):
    """Let the car out; not by whoever asked for it."""

    order_id: UUID


class HandoverCheck(BaseModel):
    """One check on a handover sheet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item: Line
    passed: bool


class CompleteHandoverSheet(Command):
    """Hand in one of the three sheets; all its checks must have passed."""

    order_id: UUID
    sheet: Sheet
    checks: tuple[HandoverCheck, ...] = Field(min_length=1, max_length=100)


class DeliverVehicle(Command):
    """Hand the car over, now unless ``delivered_at`` is given."""

    order_id: UUID
    delivered_at: Moment | None = None
    odometer_km: Kilometres
    insurance_until: date | None = None


class CancelOrder(Command):
    """Give the order up; its car is free again. The reason is required."""

    order_id: UUID
    reason: Line


class ReturnVehicle(Command):
    """Take a delivered car back, into the caller's store unless ``store`` is given."""

    order_id: UUID
    reason: Line
    store: Store | None = None
    odometer_km: Kilometres
