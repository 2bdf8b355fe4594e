"""Orders, with everything sold and paid."""

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec.structs import replace

from forecourt.events import Meta
from forecourt.privacy.fields import ERASED
from forecourt.projections.projection import Index, Projection
from forecourt.values import Money, zero
from sales.foreign import PersonalDataShredded
from sales.order.events import (
    AncillaryOrderAdded,
    DepositReceived,
    HandoverChecklistCompleted,
    InvoiceIssued,
    OrderCancelled,
    OrderPlaced,
    OutboundApproved,
    OutboundNotified,
    PaymentReceived,
    PaymentWrittenOff,
    VehicleAllocated,
    VehicleArrived,
    VehicleDelivered,
    VehicleReturned,
)
from sales.terms import SaleLine


class AncillaryRow(msgspec.Struct, frozen=True):
    """Something sold besides the car, in the row of its order."""

    ancillary_id: UUID
    kind: str
    description: str
    amount: Money


class PaymentRow(msgspec.Struct, frozen=True):
    """What settled a part of the order, in its row."""

    kind: str
    payment_id: UUID | None
    amount: Money
    method: str | None
    recorded_at: datetime


class OrderRow(msgspec.Struct, frozen=True):
    """An order as it is now."""

    order_id: UUID
    state: str
    customer_id: UUID
    model: str
    lines: tuple[SaleLine, ...]
    total: Money
    ancillaries: tuple[AncillaryRow, ...]
    payments: tuple[PaymentRow, ...]
    paid: Money
    balance: Money
    opportunity_id: UUID | None
    vin: str | None
    arrived: bool
    invoice_number: str | None
    outbound_notified_by: str | None
    outbound_approved_by: str | None
    sheets: tuple[str, ...]
    placed_at: datetime
    delivered_at: datetime | None
    reason: str | None
    dealer_id: str
    brand: str


orders = Projection(
    "order",
    version=1,
    row=OrderRow,
    key="order_id",
    indexes=[Index(("dealer_id", "state", "placed_at")), "placed_at", "customer_id", "vin"],
)


@orders.on()
def _placed(row: OrderRow | None, e: OrderPlaced, m: Meta) -> OrderRow:
    return OrderRow(
        order_id=m.stream_id,
        state="open",
        customer_id=e.customer_id,
        model=e.model,
        lines=e.lines,
        total=e.total,
        ancillaries=(),
        payments=(),
        paid=zero(e.total.currency),
        balance=e.total,
        opportunity_id=e.opportunity_id,
        vin=None,
        arrived=False,
        invoice_number=None,
        outbound_notified_by=None,
        outbound_approved_by=None,
        sheets=(),
        placed_at=m.time,
        delivered_at=None,
        reason=None,
        dealer_id=m.dealer_id,
        brand=m.brand,
    )


@orders.on()
def _allocated(row: OrderRow | None, e: VehicleAllocated, m: Meta) -> OrderRow | None:
    return row and replace(row, vin=e.vin)


@orders.on()
def _arrived(row: OrderRow | None, e: VehicleArrived, m: Meta) -> OrderRow | None:
    return row and replace(row, arrived=True)


@orders.on()
def _deposit(row: OrderRow | None, e: DepositReceived, m: Meta) -> OrderRow | None:
    return row and _with_payment(
        row, PaymentRow("deposit", e.payment_id, e.amount, e.method, m.time), e.balance
    )


@orders.on()
def _payment(row: OrderRow | None, e: PaymentReceived, m: Meta) -> OrderRow | None:
    return row and _with_payment(
        row, PaymentRow("payment", e.payment_id, e.amount, e.method, m.time), e.balance
    )


def _with_payment(row: OrderRow, payment: PaymentRow, balance: Money) -> OrderRow:
    return replace(row, payments=(*row.payments, payment), paid=row.paid + payment.amount, balance=balance)


@orders.on()
def _written_off(row: OrderRow | None, e: PaymentWrittenOff, m: Meta) -> OrderRow | None:
    payment = PaymentRow("write_off", None, e.amount, None, m.time)
    return row and replace(row, payments=(*row.payments, payment), balance=e.balance)


@orders.on()
def _ancillary(row: OrderRow | None, e: AncillaryOrderAdded, m: Meta) -> OrderRow | None:
    added = AncillaryRow(e.ancillary_id, e.kind, e.description, e.amount)
    return row and replace(row, ancillaries=(*row.ancillaries, added), balance=e.balance)


@orders.on()
def _invoiced(row: OrderRow | None, e: InvoiceIssued, m: Meta) -> OrderRow | None:
    return row and replace(row, invoice_number=e.invoice_number)


@orders.on()
def _notified(row: OrderRow | None, e: OutboundNotified, m: Meta) -> OrderRow | None:
    return row and replace(row, outbound_notified_by=e.notified_by)


@orders.on()
def _approved(row: OrderRow | None, e: OutboundApproved, m: Meta) -> OrderRow | None:
    return row and replace(row, outbound_approved_by=e.approved_by)


@orders.on()
def _sheet(row: OrderRow | None, e: HandoverChecklistCompleted, m: Meta) -> OrderRow | None:
    return row and replace(row, sheets=(*row.sheets, e.sheet))


@orders.on()
def _delivered(row: OrderRow | None, e: VehicleDelivered, m: Meta) -> OrderRow | None:
    return row and replace(row, state="delivered", delivered_at=e.delivered_at)


@orders.on()
def _cancelled(row: OrderRow | None, e: OrderCancelled, m: Meta) -> OrderRow | None:
    return row and replace(row, state="cancelled", reason=e.reason)


@orders.on()
def _returned(row: OrderRow | None, e: VehicleReturned, m: Meta) -> OrderRow | None:
    return row and replace(row, state="returned", reason=e.reason)


@orders.on_all(PersonalDataShredded, "customer_id")
def _erased(row: OrderRow) -> OrderRow:
    return replace(row, reason=row.reason and ERASED)
