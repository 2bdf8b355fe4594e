"""Decisions about an order: from state and command to events, or a refusal."""

from datetime import timedelta

from forecourt.deciders import Context
from forecourt.errors import InvalidInput
from forecourt.events import Event
from forecourt.values import Money
from sales.order.commands import (
    AddAncillaryOrder,
    AllocateVehicle,
    ApproveOutbound,
    CancelOrder,
    CompleteHandoverSheet,
    DeliverVehicle,
    IssueInvoice,
    NotifyOutbound,
    PlaceOrder,
    RecordDeposit,
    RecordPayment,
    RecordVehicleArrival,
    ReturnVehicle,
    WriteOffBalance,
)
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
from sales.order.refusals import (
    AlreadyInvoiced,
    HandoverCheckFailed,
    HandoverIncomplete,
    NotInvoiced,
    NotPaidInFull,
    OrderClosed,
    OrderNotDelivered,
    OutboundNotApproved,
    OutboundNotNotified,
    PaymentExceedsBalance,
    VehicleAlreadyAllocated,
    VehicleNotAllocated,
    VehicleNotArrived,
)
from sales.order.state import Order, order
from sales.terms import CLOCK_TOLERANCE, require_between, require_currency, total_of

SHEETS: tuple[Sheet, ...] = ("inspection", "customer", "delivery")
MAX_BACKDATING = timedelta(days=31)


# --- decisions: the car -----------------------------------------------------------------------------------


@order.decides
def place(state: Order, c: PlaceOrder, ctx: Context) -> list[Event]:
    """A new order."""
    return [
        OrderPlaced(
            customer_id=c.customer_id,
            model=c.model,
            lines=c.lines,
            total=total_of(c.lines),
            opportunity_id=c.opportunity_id,
        )
    ]


@order.decides
def allocate(state: Order, c: AllocateVehicle, ctx: Context) -> list[Event]:
    """Raises `OrderClosed`, `VehicleAlreadyAllocated`."""
    if state.vin == c.vin and state.state in ("open", "delivered"):
        return []
    require_open(state)
    if state.vin is not None:
        reason = f"the order has the car {state.vin}"
        raise VehicleAlreadyAllocated(f"vin: {reason}", fields={"vin": reason})
    return [VehicleAllocated(vin=c.vin, customer_id=state.customer)]


@order.decides
def arrive(state: Order, c: RecordVehicleArrival, ctx: Context) -> list[Event]:
    """Raises `OrderClosed`, `VehicleNotAllocated`."""
    if state.arrived:
        return []
    require_open(state)
    return [VehicleArrived(vin=_vin(state), customer_id=state.customer)]


# --- decisions: the money ---------------------------------------------------------------------------------


@order.decides
def record_deposit(state: Order, c: RecordDeposit, ctx: Context) -> list[Event]:
    """Raises `OrderClosed`, `PaymentExceedsBalance`, `InvalidInput` for another currency."""
    payment_id = c.payment_id or ctx.new_id("payment")
    if payment_id in state.payments:
        return []
    balance = _balance_after(state, c.amount)
    return [
        DepositReceived(
            customer_id=state.customer,
            payment_id=payment_id,
            amount=c.amount,
            method=c.method,
            balance=balance,
        )
    ]


@order.decides
def record_payment(state: Order, c: RecordPayment, ctx: Context) -> list[Event]:
    """Raises `OrderClosed`, `PaymentExceedsBalance`, `InvalidInput` for another currency."""
    payment_id = c.payment_id or ctx.new_id("payment")
    if payment_id in state.payments:
        return []
    balance = _balance_after(state, c.amount)
    return [
        PaymentReceived(
            customer_id=state.customer,
            payment_id=payment_id,
            amount=c.amount,
            method=c.method,
            balance=balance,
        )
    ]


@order.decides
def write_off(state: Order, c: WriteOffBalance, ctx: Context) -> list[Event]:
    """Raises `OrderClosed`, `PaymentExceedsBalance`, `InvalidInput` for another currency."""
    balance = _balance_after(state, c.amount)
    return [PaymentWrittenOff(customer_id=state.customer, amount=c.amount, reason=c.reason, balance=balance)]


@order.decides
def add_ancillary(state: Order, c: AddAncillaryOrder, ctx: Context) -> list[Event]:
    """Raises `OrderClosed`, `AlreadyInvoiced`, `InvalidInput` for another currency."""
    ancillary_id = c.ancillary_id or ctx.new_id("ancillary")
    if ancillary_id in state.ancillaries:
        return []
    require_open(state)
    if state.invoice_number is not None:
        raise AlreadyInvoiced(f"invoice {state.invoice_number} is issued")
    require_currency(c.amount, state.currency, "amount")
    return [
        AncillaryOrderAdded(
            customer_id=state.customer,
            ancillary_id=ancillary_id,
            kind=c.kind,
            description=c.description,
            amount=c.amount,
            balance=state.money(state.due + c.amount.amount),
        )
    ]


@order.decides
def invoice(state: Order, c: IssueInvoice, ctx: Context) -> list[Event]:
    """Raises `OrderClosed`, `VehicleNotAllocated`, `AlreadyInvoiced`."""
    if state.invoice_number == c.invoice_number:
        return []
    require_open(state)
    _vin(state)
    if state.invoice_number is not None:
        raise AlreadyInvoiced(f"invoice {state.invoice_number} is issued")
    return [
        InvoiceIssued(
            customer_id=state.customer, invoice_number=c.invoice_number, amount=state.money(state.sold)
        )
    ]


# --- decisions: the way out -------------------------------------------------------------------------------


@order.decides
def notify_outbound(state: Order, c: NotifyOutbound, ctx: Context) -> list[Event]:
    """Raises `OrderClosed`, `VehicleNotAllocated`, `VehicleNotArrived`, `NotPaidInFull`, `NotInvoiced`."""
    require_open(state)
    vin = _vin(state)
    if not state.arrived:
        raise VehicleNotArrived("the car is not in the store yet")
    if state.due > 0:
        raise NotPaidInFull(f"{state.due} {state.currency} is still due")
    if state.invoice_number is None:
        raise NotInvoiced("issue the invoice first")
    if state.notified_by is not None:
        return []
    return [OutboundNotified(vin=vin, notified_by=ctx.actor_id)]


@order.decides
def approve_outbound(state: Order, c: ApproveOutbound, ctx: Context) -> list[Event]:
    """Raises `OrderClosed`, `OutboundNotNotified`."""
    require_open(state)
    if state.notified_by is None:
        raise OutboundNotNotified("nobody has asked yet to let the car out")
    if state.approved_by is not None:
        return []
    return [OutboundApproved(vin=_vin(state), approved_by=ctx.actor_id)]


@order.decides
def complete_sheet(state: Order, c: CompleteHandoverSheet, ctx: Context) -> list[Event]:
    """Raises `OrderClosed`, `VehicleNotAllocated`, `VehicleNotArrived`, `HandoverCheckFailed`."""
    if c.sheet in state.sheets:
        return []
    require_open(state)
    vin = _vin(state)
    if not state.arrived:
        raise VehicleNotArrived("the car is not in the store yet")
    failed = {f"checks.{i}.passed": "did not pass" for i, check in enumerate(c.checks) if not check.passed}
    if failed:
        raise HandoverCheckFailed(f"{len(failed)} of {len(c.checks)} checks did not pass", fields=failed)
    items = tuple(check.item for check in c.checks)
    return [HandoverChecklistCompleted(vin=vin, sheet=c.sheet, checks=items, completed_by=ctx.actor_id)]


@order.decides
def deliver(state: Order, c: DeliverVehicle, ctx: Context) -> list[Event]:
    """Raises `OrderClosed`, `VehicleNotAllocated`, `OutboundNotApproved`, `HandoverIncomplete`."""
    require_open(state)
    vin = _vin(state)
    if state.approved_by is None:
        raise OutboundNotApproved("the car is not approved out")
    missing = [sheet for sheet in SHEETS if sheet not in state.sheets]
    if missing:
        raise HandoverIncomplete(f"not complete: {', '.join(missing)}", fields={"sheet": ", ".join(missing)})
    delivered_at = c.delivered_at or ctx.now
    require_between(delivered_at, ctx.now - MAX_BACKDATING, ctx.now + CLOCK_TOLERANCE, "delivered_at")
    if c.insurance_until is not None and c.insurance_until < delivered_at.date():
        reason = "is before the delivery"
        raise InvalidInput(f"insurance_until: {reason}", fields={"insurance_until": reason})
    return [
        VehicleDelivered(
            customer_id=state.customer,
            vin=vin,
            model=state.model,
            delivered_at=delivered_at,
            odometer_km=c.odometer_km,
            insurance_until=c.insurance_until,
        )
    ]


@order.decides
def cancel(state: Order, c: CancelOrder, ctx: Context) -> list[Event]:
    """Raises `OrderClosed` once the car is delivered."""
    if state.state == "cancelled":
        return []
    require_open(state)
    return [
        OrderCancelled(
            customer_id=state.customer, vin=state.vin, reason=c.reason, refund=state.money(state.paid)
        )
    ]


@order.decides
def return_vehicle(state: Order, c: ReturnVehicle, ctx: Context) -> list[Event]:
    """Raises `OrderNotDelivered`."""
    if state.state == "returned":
        return []
    if state.state != "delivered":
        raise OrderNotDelivered(f"the order is {state.state}")
    return [
        VehicleReturned(
            customer_id=state.customer,
            vin=_vin(state),
            reason=c.reason,
            store=c.store or ctx.dealer_id,
            odometer_km=c.odometer_km,
        )
    ]


# --- duties -----------------------------------------------------------------------------------------------

order.duties.four_eyes(ApproveOutbound, OutboundNotified)
order.duties.four_eyes(WriteOffBalance, OrderPlaced, DepositReceived, PaymentReceived, ever=True)


def require_open(state: Order) -> None:
    """Raise `OrderClosed` unless something can still be done about the order."""
    if state.state != "open":
        raise OrderClosed(f"the order is {state.state}")


def _vin(state: Order) -> str:
    if state.vin is None:
        raise VehicleNotAllocated("allocate a car first")
    return state.vin


def _balance_after(state: Order, amount: Money) -> Money:
    require_open(state)
    require_currency(amount, state.currency, "amount")
    if amount.amount > state.due:
        reason = f"is more than the {state.due} {state.currency} still due"
        raise PaymentExceedsBalance(f"amount: {reason}", fields={"amount.amount": reason})
    return state.money(state.due - amount.amount)
