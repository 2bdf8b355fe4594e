"""What decisions about an order need, and how events change it."""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal
from uuid import UUID

from forecourt.deciders import Decider
from forecourt.values import Money
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
    Sheet,
    VehicleAllocated,
    VehicleArrived,
    VehicleDelivered,
    VehicleReturned,
)

OrderState = Literal["open", "delivered", "cancelled", "returned"]


@dataclass(frozen=True)
class Order:
    """What decisions about an order need. Sums are in ``currency``; ``due`` never falls below zero."""

    state: OrderState = "open"
    customer_id: UUID | None = None
    model: str = ""
    currency: str = ""
    sold: Decimal = Decimal("0.00")
    due: Decimal = Decimal("0.00")
    paid: Decimal = Decimal("0.00")
    opportunity_id: UUID | None = None
    vin: str | None = None
    arrived: bool = False
    invoice_number: str | None = None
    notified_by: str | None = None
    approved_by: str | None = None
    sheets: tuple[Sheet, ...] = ()
    payments: tuple[UUID, ...] = ()
    ancillaries: tuple[UUID, ...] = ()

    @property
    def customer(self) -> UUID:
        """The customer; every order that was placed has one."""
        assert self.customer_id is not None
        return self.customer_id

    def money(self, amount: Decimal) -> Money:
        """A sum in the order's currency."""
        return Money(amount=amount, currency=self.currency)


order = Decider(service="sales", category="order", initial=Order(), key="order_id")


@order.evolves
def _(state: Order, e: OrderPlaced) -> Order:
    return replace(
        state,
        customer_id=e.customer_id,
        model=e.model,
        currency=e.total.currency,
        sold=e.total.amount,
        due=e.total.amount,
        opportunity_id=e.opportunity_id,
    )


@order.evolves
def _(state: Order, e: VehicleAllocated) -> Order:
    return replace(state, vin=e.vin, arrived=False)


@order.evolves
def _(state: Order, e: VehicleArrived) -> Order:
    return replace(state, arrived=True)


@order.evolves
def _(state: Order, e: DepositReceived | PaymentReceived) -> Order:
    return replace(
        state,
        due=state.due - e.amount.amount,
        paid=state.paid + e.amount.amount,
        payments=(*state.payments, e.payment_id),
    )


@order.evolves
def _(state: Order, e: PaymentWrittenOff) -> Order:
    return replace(state, due=state.due - e.amount.amount)


@order.evolves
def _(state: Order, e: AncillaryOrderAdded) -> Order:
    return replace(
        state,
        sold=state.sold + e.amount.amount,
        due=state.due + e.amount.amount,
        ancillaries=(*state.ancillaries, e.ancillary_id),
    )


@order.evolves
def _(state: Order, e: InvoiceIssued) -> Order:
    return replace(state, invoice_number=e.invoice_number)


@order.evolves
def _(state: Order, e: OutboundNotified) -> Order:
    return replace(state, notified_by=e.notified_by)


@order.evolves
def _(state: Order, e: OutboundApproved) -> Order:
    return replace(state, approved_by=e.approved_by)


@order.evolves
def _(state: Order, e: HandoverChecklistCompleted) -> Order:
    return replace(state, sheets=(*state.sheets, e.sheet))


@order.evolves
def _(state: Order, e: VehicleDelivered) -> Order:
    return replace(state, state="delivered")


@order.evolves
def _(state: Order, e: OrderCancelled) -> Order:
    return replace(state, state="cancelled")


@order.evolves
def _(state: Order, e: VehicleReturned) -> Order:
    return replace(state, state="returned")
