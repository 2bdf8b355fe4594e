"""An order: the money balances to the cent, and the car leaves only when everything is done."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given as property_of
from hypothesis import strategies
from pydantic import ValidationError

from forecourt.access.duties import SelfApproval
from forecourt.errors import AlreadyExists, ForecourtError, InvalidInput, NotFound
from forecourt.events import Event
from forecourt.testing.given import CONTEXT, NOW, Given, an_id, given, later
from forecourt.values import Money
from sales.order import commands as c
from sales.order import events as e
from sales.order import order
from sales.order import refusals as r
from tests.unit.sales.samples import CUSTOMER, MODEL, OPPORTUNITY, ORDER, VIN, a_line, a_vin, yuan

LINES = (a_line("128800.00"), a_line("-800.00", kind="discount"))
PAYMENT = an_id("payment")
PLACED = e.OrderPlaced(
    customer_id=CUSTOMER, model=MODEL, lines=LINES, total=yuan("128000.00"), opportunity_id=OPPORTUNITY
)
ALLOCATED = e.VehicleAllocated(vin=VIN, customer_id=CUSTOMER)
ARRIVED = e.VehicleArrived(vin=VIN, customer_id=CUSTOMER)
PAID = e.PaymentReceived(
    customer_id=CUSTOMER,
    payment_id=PAYMENT,
    amount=yuan("128000.00"),
    method="bank_transfer",
    balance=yuan("0.00"),
)
INVOICED = e.InvoiceIssued(customer_id=CUSTOMER, invoice_number="INV-1", amount=yuan("128000.00"))
NOTIFIED = e.OutboundNotified(vin=VIN, notified_by="seller")
APPROVED = e.OutboundApproved(vin=VIN, approved_by="manager")
DELIVERED = e.VehicleDelivered(
    customer_id=CUSTOMER, vin=VIN, model=MODEL, delivered_at=NOW, odometer_km=9, insurance_until=None
)
CANCELLED = e.OrderCancelled(customer_id=CUSTOMER, vin=VIN, reason="no loan", refund=yuan("0.00"))


def sheet(which: e.Sheet) -> e.HandoverChecklistCompleted:
    return e.HandoverChecklistCompleted(vin=VIN, sheet=which, checks=("keys",), completed_by="seller")


SHEETS = (sheet("inspection"), sheet("customer"), sheet("delivery"))
READY = (PLACED, ALLOCATED, ARRIVED, PAID, INVOICED, NOTIFIED, APPROVED, *SHEETS)


def placed(*events: Event) -> Given:
    return given(order, PLACED, *events)


def deliver(**changed: Any) -> c.DeliverVehicle:
    return c.DeliverVehicle(**{"order_id": ORDER, "odometer_km": 9, **changed})


def test_place_sums_the_lines() -> None:
    command = c.PlaceOrder(customer_id=CUSTOMER, model=MODEL, lines=LINES, opportunity_id=OPPORTUNITY)
    given(order).when(command).then(PLACED)
    placed().when(command).then_raises(AlreadyExists)


@pytest.mark.parametrize(("field", "value"), [("customer_id", None), ("model", " "), ("lines", ())])
def test_place_names_the_field_that_is_wrong(field: str, value: Any) -> None:
    message = {"customer_id": CUSTOMER, "model": MODEL, "lines": LINES, field: value}
    with pytest.raises(ValidationError) as refusal:
        c.PlaceOrder.model_validate(message)
    assert [error["loc"][0] for error in refusal.value.errors()] == [field]


def test_an_order_has_one_car() -> None:
    command = c.AllocateVehicle(order_id=ORDER, vin=VIN)
    placed().when(command).then(ALLOCATED)
    placed(ALLOCATED).when(command).then_nothing()
    placed(ALLOCATED).when(command.model_copy(update={"vin": a_vin(2)})).then_raises(
        r.VehicleAlreadyAllocated, field="vin"
    )


def test_the_car_arrives_once_it_is_allocated() -> None:
    command = c.RecordVehicleArrival(order_id=ORDER)
    placed().when(command).then_raises(r.VehicleNotAllocated)
    placed(ALLOCATED).when(command).then(ARRIVED)
    placed(ALLOCATED, ARRIVED).when(command).then_nothing()


def pay(amount: str, **changed: Any) -> c.RecordPayment:
    fields = {"order_id": ORDER, "payment_id": PAYMENT, "amount": yuan(amount), "method": "bank_transfer"}
    return c.RecordPayment(**{**fields, **changed})


def test_a_payment_says_what_is_still_due() -> None:
    placed().when(pay("128000.00")).then(PAID)
    (event,) = placed().when(pay("127999.99")).then_types(e.PaymentReceived)
    assert isinstance(event, e.PaymentReceived)
    assert event.balance == yuan("0.01")


def test_a_payment_is_recorded_once() -> None:
    placed(PAID).when(pay("128000.00")).then_nothing()
    (event,) = placed().when(pay("1.00", payment_id=None)).then_types(e.PaymentReceived)
    assert isinstance(event, e.PaymentReceived)
    assert event.payment_id == CONTEXT.new_id("payment")


def test_a_payment_of_too_much_or_of_other_money_is_refused() -> None:
    placed().when(pay("128000.01")).then_raises(r.PaymentExceedsBalance, field="amount.amount")
    dollars = Money(amount=Decimal("1.00"), currency="USD")
    placed().when(pay("1.00").model_copy(update={"amount": dollars})).then_raises(
        InvalidInput, field="amount.currency"
    )


def test_a_deposit_counts_towards_the_total() -> None:
    deposit = c.RecordDeposit(order_id=ORDER, payment_id=PAYMENT, amount=yuan("5000.00"), method="mobile")
    received = e.DepositReceived(
        customer_id=CUSTOMER,
        payment_id=PAYMENT,
        amount=yuan("5000.00"),
        method="mobile",
        balance=yuan("123000.00"),
    )
    placed().when(deposit).then(received)
    placed(received).when(deposit).then_nothing()
    placed(received).when(pay("123000.01", payment_id=an_id("rest"))).then_raises(r.PaymentExceedsBalance)


def test_a_rest_is_written_off_with_the_reason() -> None:
    command = c.WriteOffBalance(order_id=ORDER, amount=yuan("0.50"), reason="rounding")
    placed().when(command).then(
        e.PaymentWrittenOff(
            customer_id=CUSTOMER, amount=yuan("0.50"), reason="rounding", balance=yuan("127999.50")
        )
    )
    placed(PAID).when(command).then_raises(r.PaymentExceedsBalance)


def test_what_is_sold_besides_adds_to_what_is_due_until_the_invoice() -> None:
    command = c.AddAncillaryOrder(
        order_id=ORDER,
        ancillary_id=an_id("mats"),
        kind="accessories",
        description="mats",
        amount=yuan("199.90"),
    )
    added = e.AncillaryOrderAdded(
        customer_id=CUSTOMER,
        ancillary_id=an_id("mats"),
        kind="accessories",
        description="mats",
        amount=yuan("199.90"),
        balance=yuan("128199.90"),
    )
    placed().when(command).then(added)
    placed(added).when(command).then_nothing()
    placed(ALLOCATED, INVOICED).when(command).then_raises(r.AlreadyInvoiced)
    placed(ALLOCATED, added).when(c.IssueInvoice(order_id=ORDER, invoice_number="INV-1")).then(
        INVOICED.model_copy(update={"amount": yuan("128199.90")})
    )


def test_one_invoice() -> None:
    command = c.IssueInvoice(order_id=ORDER, invoice_number="INV-1")
    placed().when(command).then_raises(r.VehicleNotAllocated)
    placed(ALLOCATED).when(command).then(INVOICED)
    placed(ALLOCATED, INVOICED).when(command).then_nothing()
    placed(ALLOCATED, INVOICED).when(command.model_copy(update={"invoice_number": "INV-2"})).then_raises(
        r.AlreadyInvoiced
    )


@pytest.mark.parametrize(
    ("history", "refusal"),
    [
        ((), r.VehicleNotAllocated),
        ((ALLOCATED, PAID, INVOICED), r.VehicleNotArrived),
        ((ALLOCATED, ARRIVED, INVOICED), r.NotPaidInFull),
        ((ALLOCATED, ARRIVED, PAID), r.NotInvoiced),
    ],
)
def test_nobody_can_ask_for_the_way_out_too_early(history: Any, refusal: type[ForecourtError]) -> None:
    placed(*history).when(c.NotifyOutbound(order_id=ORDER)).then_raises(refusal)


def test_one_cent_short_is_not_paid_in_full() -> None:
    short = PAID.model_copy(update={"amount": yuan("127999.99"), "balance": yuan("0.01")})
    placed(ALLOCATED, ARRIVED, short, INVOICED).when(c.NotifyOutbound(order_id=ORDER)).then_raises(
        r.NotPaidInFull
    )


def test_the_way_out_is_asked_for_once() -> None:
    ready = (ALLOCATED, ARRIVED, PAID, INVOICED)
    placed(*ready).by("seller").when(c.NotifyOutbound(order_id=ORDER)).then(NOTIFIED)
    placed(*ready, NOTIFIED).by("other").when(c.NotifyOutbound(order_id=ORDER)).then_nothing()


def test_somebody_else_approves() -> None:
    notified = placed(ALLOCATED, ARRIVED, PAID, INVOICED, NOTIFIED)
    command = c.ApproveOutbound(order_id=ORDER)
    notified.by("manager").when(command).then(APPROVED)
    notified.done_by("seller").by("seller").when(command).then_raises(SelfApproval)
    notified.by("").when(command).then_raises(SelfApproval)
    placed(ALLOCATED, ARRIVED, PAID, INVOICED).by("manager").when(command).then_raises(r.OutboundNotNotified)
    placed(ALLOCATED, ARRIVED, PAID, INVOICED, NOTIFIED, APPROVED).by("third").when(command).then_nothing()


@pytest.mark.parametrize("history", [(), (ALLOCATED, PAID.model_copy(update={"amount": yuan("1.00")}))])
def test_who_sold_or_took_money_writes_nothing_off(history: Any) -> None:
    command = c.WriteOffBalance(order_id=ORDER, amount=yuan("0.50"), reason="rounding")
    placed(*history).done_by("seller").by("seller").when(command).then_raises(SelfApproval)
    placed(*history).done_by("seller").by("manager").when(command).then_types(e.PaymentWrittenOff)


def complete(which: e.Sheet, **passed: bool) -> c.CompleteHandoverSheet:
    checks = tuple(c.HandoverCheck(item=item, passed=ok) for item, ok in passed.items())
    return c.CompleteHandoverSheet(order_id=ORDER, sheet=which, checks=checks)


def test_a_sheet_is_complete_when_every_check_passed() -> None:
    arrived = placed(ALLOCATED, ARRIVED).by("seller")
    arrived.when(complete("inspection", keys=True)).then(sheet("inspection"))
    arrived.when(complete("inspection", keys=True, lights=False)).then_raises(
        r.HandoverCheckFailed, field="checks.1.passed"
    )
    placed(ALLOCATED).when(complete("inspection", keys=True)).then_raises(r.VehicleNotArrived)
    placed(ALLOCATED, ARRIVED, sheet("inspection")).when(complete("inspection", keys=True)).then_nothing()
    with pytest.raises(ValidationError):
        complete("inspection")
    with pytest.raises(ValidationError):
        complete("fourth", keys=True)  # type: ignore[arg-type]  # no such sheet


def test_deliver() -> None:
    given(order, *READY).when(deliver()).then(DELIVERED)
    given(order, *READY).when(deliver(delivered_at=later(hours=-2), insurance_until=date(2027, 1, 4))).then(
        DELIVERED.model_copy(update={"delivered_at": later(hours=-2), "insurance_until": date(2027, 1, 4)})
    )


@pytest.mark.parametrize("missing", SHEETS)
def test_no_delivery_without_all_three_sheets(missing: e.HandoverChecklistCompleted) -> None:
    history = [event for event in READY if event is not missing]
    refused = given(order, *history).when(deliver())
    refused.then_raises(r.HandoverIncomplete, field="sheet")
    assert refused.error is not None
    assert refused.error.fields["sheet"] == missing.sheet


def test_no_delivery_without_approval() -> None:
    given(order, *(event for event in READY if event is not APPROVED)).when(deliver()).then_raises(
        r.OutboundNotApproved
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("delivered_at", later(minutes=6)),
        ("delivered_at", later(days=-32)),
        ("insurance_until", NOW.date() - timedelta(days=1)),
    ],
)
def test_a_delivery_at_an_impossible_time(field: str, value: Any) -> None:
    given(order, *READY).when(deliver(**{field: value})).then_raises(InvalidInput, field=field)


def test_cancel_names_car_and_refund() -> None:
    command = c.CancelOrder(order_id=ORDER, reason="no loan")
    placed().when(command).then(CANCELLED.model_copy(update={"vin": None}))
    placed(ALLOCATED, PAID).when(command).then(CANCELLED.model_copy(update={"refund": yuan("128000.00")}))
    placed(CANCELLED).when(command).then_nothing()
    given(order, *READY, DELIVERED).when(command).then_raises(r.OrderClosed)


def test_a_delivered_car_comes_back_once() -> None:
    command = c.ReturnVehicle(order_id=ORDER, reason="wrong colour", odometer_km=40)
    returned = e.VehicleReturned(
        customer_id=CUSTOMER, vin=VIN, reason="wrong colour", store="D001", odometer_km=40
    )
    given(order, *READY, DELIVERED).when(command).then(returned)
    given(order, *READY, DELIVERED, returned).when(command).then_nothing()
    given(order, *READY).when(command).then_raises(r.OrderNotDelivered)


EVERYTHING = [
    c.AllocateVehicle(order_id=ORDER, vin=a_vin(2)),
    pay("1.00", payment_id=an_id("late")),
    c.RecordDeposit(order_id=ORDER, amount=yuan("1.00"), method="cash"),
    c.WriteOffBalance(order_id=ORDER, amount=yuan("1.00"), reason="late"),
    c.AddAncillaryOrder(order_id=ORDER, kind="loan", description="late", amount=yuan("1.00")),
    c.IssueInvoice(order_id=ORDER, invoice_number="INV-9"),
    c.NotifyOutbound(order_id=ORDER),
    c.ApproveOutbound(order_id=ORDER),
    deliver(),
]


@pytest.mark.parametrize("command", EVERYTHING, ids=lambda command: type(command).__name__)
def test_nothing_is_done_about_a_closed_order(command: Any) -> None:
    placed(CANCELLED).when(command).then_raises(r.OrderClosed)
    given(order, *READY, DELIVERED).when(command).then_raises(r.OrderClosed)
    given(order).when(command).then_raises(NotFound)


cents = strategies.integers(1, 200_000_00).map(lambda amount: yuan(str(Decimal(amount) / 100)))
movements = strategies.lists(
    strategies.tuples(strategies.sampled_from(["pay", "deposit", "sell", "waive"]), cents)
)


@property_of(movements)
def test_what_is_due_is_what_was_sold_less_what_was_settled(asked: list[Any]) -> None:
    events: list[Event] = [PLACED]
    sold, settled = Decimal("128000.00"), Decimal(0)
    for number, (kind, amount) in enumerate(asked):
        command = {
            "pay": c.RecordPayment(
                order_id=ORDER, payment_id=an_id(str(number)), amount=amount, method="card"
            ),
            "deposit": c.RecordDeposit(
                order_id=ORDER, payment_id=an_id(str(number)), amount=amount, method="card"
            ),
            "sell": c.AddAncillaryOrder(
                order_id=ORDER, ancillary_id=an_id(str(number)), kind="loan", description="x", amount=amount
            ),
            "waive": c.WriteOffBalance(order_id=ORDER, amount=amount, reason="x"),
        }[kind]
        try:
            events += order.decide(order.fold(events), command, CONTEXT)
        except r.PaymentExceedsBalance:
            assert amount.amount > sold - settled
            continue
        sold, settled = (sold + amount.amount, settled) if kind == "sell" else (sold, settled + amount.amount)
        due = order.fold(events).due
        assert due == sold - settled
        assert due >= 0
        assert events[-1].balance.amount == due  # type: ignore[attr-defined]  # all four say it
