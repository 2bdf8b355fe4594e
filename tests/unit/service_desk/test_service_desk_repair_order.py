"""The repair order: its way, its guards, and its sums."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import ValidationError

from forecourt.access.duties import SelfApproval
from forecourt.deciders import Command
from forecourt.errors import ForecourtError, InvalidInput
from forecourt.events import Event
from forecourt.testing.given import NOW, Given, an_id, given, later
from forecourt.values import Money
from service_desk.repair_order import commands as c_
from service_desk.repair_order import events as e_
from service_desk.repair_order.decisions import repair_order
from service_desk.repair_order.state import total_of

VIN = "LVSHCAMEX1F123456"
ID = an_id("repair order")
TARGET: dict[str, Any] = {"repair_order_id": ID}


def cny(amount: str) -> Money:
    return Money(amount=Decimal(amount), currency="CNY")


def line(quantity: str = "1", price: str = "500.00", **more: Any) -> e_.Line:
    return e_.Line(
        kind="labour", description="brakes", quantity=Decimal(quantity), unit_price=cny(price), **more
    )


PADS = e_.PartLine(part_number="BP-7", pieces=2)
LINES = (line("1.5", "200.00"), line("2", "100.00"))
OPEN = c_.OpenRepairOrder(
    customer_id=an_id("customer"),
    vin=VIN,
    odometer_km=12_000,
    kind="repair",
    symptoms=("squeals when braking",),
    adviser_id="A1",
)
WAY: list[Command] = [
    OPEN,
    c_.QuoteRepair(**TARGET, lines=LINES),
    c_.ApproveQuote(**TARGET, quote_version=1, agreement="signature"),
    c_.DispatchTechnician(**TARGET, technician_id="T1", bay="B2"),
    c_.RequestParts(**TARGET, parts=(PADS,)),
    c_.IssueParts(**TARGET, parts=(PADS,)),
    c_.StartWork(**TARGET),
    c_.PauseWork(**TARGET, reason="parts"),
    c_.ResumeWork(**TARGET),
    c_.CompleteWork(**TARGET),
    c_.FailInspection(**TARGET, inspector_id="I1", findings=("still squeals",)),
    c_.RecordRework(
        **TARGET, responsibility="technician", responsible_id="T1", technician_id="T2", instructions="again"
    ),
    c_.StartWork(**TARGET),
    c_.CompleteWork(**TARGET),
    c_.PassInspection(**TARGET, inspector_id="I1"),
    c_.InvoiceRepair(
        **TARGET,
        invoice_number="INV-1",
        lines=LINES,
        shares=(
            e_.Share(payer="customer", amount=cny("300.00")),
            e_.Share(payer="warranty", amount=cny("200.00")),
        ),
    ),
    c_.RecordRepairPayment(**TARGET, payer="customer", amount=cny("300.00"), method="wechat"),
    c_.HandBackVehicle(**TARGET, odometer_km=12_003),
]


def after(steps: int) -> Given:
    """The order after so many steps of its way."""
    history: list[Event] = []
    for command in WAY[:steps]:
        then = given(repair_order, *history).when(command)
        assert then.error is None, f"{command!r}: {then.error!r}"
        history += then.events
    return given(repair_order, *history)


def step(command_type: type[Command], nth: int = 1) -> int:
    """How many steps of the way lead up to and include the nth command of this class."""
    places = [place for place, command in enumerate(WAY, start=1) if type(command) is command_type]
    return places[nth - 1]


def test_the_whole_way_leaves_the_expected_facts() -> None:
    names = [event.event_name for event in after(len(WAY)).events]
    assert names == [
        "RepairOrderOpened",
        "RepairQuoted",
        "QuoteApproved",
        "TechnicianDispatched",
        "PartsRequested",
        "PartsIssued",
        "WorkStarted",
        "WorkPaused",
        "WorkResumed",
        "WorkCompleted",
        "InspectionFailed",
        "ReworkRecorded",
        "WorkStarted",
        "WorkCompleted",
        "InspectionPassed",
        "RepairInvoiced",
        "RepairPaid",
        "VehicleHandedBack",
    ]


def test_the_return_of_the_car_tells_what_others_need() -> None:
    (back,) = after(len(WAY) - 1).when(WAY[-1]).events
    assert back == e_.VehicleHandedBack(
        customer_id=an_id("customer"), vin=VIN, odometer_km=12_003, handed_back_at=NOW, kind="repair"
    )


ILLEGAL: list[tuple[int, Command, type[ForecourtError]]] = [
    (1, WAY[2], c_.QuoteMissing),
    (1, WAY[3], c_.QuoteNotApproved),
    (2, WAY[3], c_.QuoteNotApproved),
    (2, c_.ApproveQuote(**TARGET, quote_version=2, agreement="phone"), c_.QuoteOutdated),
    (3, WAY[2], c_.QuoteAnswered),
    (3, WAY[1], c_.QuoteAlreadyApproved),
    (3, c_.StartWork(**TARGET), c_.TechnicianNotDispatched),
    (3, WAY[4], c_.TechnicianNotDispatched),
    (4, WAY[5], c_.PartsNotRequested),
    (4, c_.CompleteWork(**TARGET), c_.WorkNotStarted),
    (4, c_.PauseWork(**TARGET, reason="tools"), c_.WorkNotStarted),
    (4, c_.ResumeWork(**TARGET), c_.WorkNotStarted),
    (6, WAY[5], c_.PartsNotRequested),
    (7, c_.StartWork(**TARGET), c_.WorkAlreadyStarted),
    (7, c_.ResumeWork(**TARGET), c_.WorkNotPaused),
    (7, c_.CancelRepairOrder(**TARGET, reason="too dear"), c_.WorkAlreadyStarted),
    (7, WAY[14], c_.WorkNotCompleted),
    (8, c_.CompleteWork(**TARGET), c_.WorkIsPaused),
    (8, c_.PauseWork(**TARGET, reason="tools"), c_.WorkIsPaused),
    (10, c_.AddJob(**TARGET, description="more"), c_.WorkAlreadyCompleted),
    (10, WAY[3], c_.WorkAlreadyCompleted),
    (10, WAY[11], c_.InspectionNotFailed),
    (10, c_.PassInspection(**TARGET, inspector_id="T1"), c_.InspectorDidTheWork),
    (10, WAY[15], c_.InspectionNotPassed),
    (11, c_.StartWork(**TARGET), c_.ReworkNotRecorded),
    (11, c_.CompleteWork(**TARGET), c_.ReworkNotRecorded),
    (11, WAY[14], c_.ReworkNotRecorded),
    (14, c_.PassInspection(**TARGET, inspector_id="T2"), c_.InspectorDidTheWork),
    (15, WAY[14], c_.InspectionAlreadyPassed),
    (15, WAY[16], c_.NotInvoiced),
    (15, WAY[17], c_.NotInvoiced),
    (15, c_.SubmitClaim(**TARGET, claim_number="C1"), c_.NotInvoiced),
    (16, WAY[15], c_.AlreadyInvoiced),
    (16, WAY[17], c_.NotYetPaid),
    (17, WAY[16], c_.NothingOwed),
    (17, c_.HandBackVehicle(**TARGET, odometer_km=11_999), c_.OdometerRanBackwards),
    (17, c_.HandBackVehicle(**TARGET, odometer_km=12_003, handed_back_at=later(days=1)), c_.TimeOutOfRange),
    (18, WAY[17], c_.RepairOrderClosed),
    (18, c_.AddJob(**TARGET, description="more"), c_.RepairOrderClosed),
]


@pytest.mark.parametrize(
    ("steps", "command", "error"),
    [pytest.param(*case, id=f"{case[0]}-{type(case[1]).__name__}") for case in ILLEGAL],
)
def test_an_illegal_step_is_refused_by_name(
    steps: int, command: Command, error: type[ForecourtError]
) -> None:
    after(steps).when(command).then_raises(error)


def test_who_worked_in_between_may_not_inspect_the_work() -> None:
    history = after(step(c_.StartWork)).events
    for command in (
        c_.DispatchTechnician(**TARGET, technician_id="T7", bay="B2"),
        c_.DispatchTechnician(**TARGET, technician_id="T8", bay="B2"),
        c_.CompleteWork(**TARGET),
    ):
        history += given(repair_order, *history).when(command).events
    for worked in ("T1", "T7", "T8"):
        passes = c_.PassInspection(**TARGET, inspector_id=worked)
        given(repair_order, *history).when(passes).then_raises(c_.InspectorDidTheWork)
    given(repair_order, *history).when(WAY[14]).then_types(e_.InspectionPassed)


def test_who_was_dispatched_but_replaced_before_work_began_may_inspect_it() -> None:
    history = after(step(c_.DispatchTechnician)).events
    for command in (
        c_.DispatchTechnician(**TARGET, technician_id="T7", bay="B2"),
        c_.StartWork(**TARGET),
        c_.CompleteWork(**TARGET),
    ):
        history += given(repair_order, *history).when(command).events
    passes = c_.PassInspection(**TARGET, inspector_id="T1")
    given(repair_order, *history).when(passes).then_types(e_.InspectionPassed)


@settings(max_examples=200)
@for_all(st.lists(st.sampled_from([*WAY[1:], c_.AddJob(**TARGET, description="more")]), max_size=40))
def test_any_order_of_steps_leads_to_facts_or_a_named_refusal(commands: list[Command]) -> None:
    history: list[Event] = list(after(1).events)
    for command in commands:
        then = given(repair_order, *history).when(command)
        assert then.error is None or type(then.error).__module__ == c_.__name__, repr(then.error)
        history += then.events
    names = [event.event_name for event in history]
    if "VehicleHandedBack" in names:
        last_inspection = max(place for place, name in enumerate(names) if name.startswith("Inspection"))
        assert names[last_inspection] == "InspectionPassed"
        assert names.index("RepairInvoiced") < names.index("RepairPaid") < names.index("VehicleHandedBack")


def test_a_declined_quote_is_quoted_again() -> None:
    declined = after(2).when(c_.DeclineQuote(**TARGET, quote_version=1, reason="too dear"))
    declined.then(e_.QuoteDeclined(customer_id=an_id("customer"), quote_version=1, reason="too dear"))
    history = (*after(2).events, *declined.events)
    given(repair_order, *history).when(WAY[3]).then_raises(c_.QuoteNotApproved)
    (quoted,) = given(repair_order, *history).when(WAY[1]).then_types(e_.RepairQuoted)
    assert isinstance(quoted, e_.RepairQuoted)
    assert (quoted.quote_version, quoted.total) == (2, cny("500.00"))


def test_a_job_found_during_work_needs_agreement_before_completion() -> None:
    working = after(step(c_.StartWork))
    added = working.when(c_.AddJob(**TARGET, description="discs, too")).events
    history = (*working.events, *added)
    given(repair_order, *history).when(c_.CompleteWork(**TARGET)).then_raises(c_.QuoteNotApproved)
    history += given(repair_order, *history).when(c_.QuoteRepair(**TARGET, lines=(line(),))).events
    agreed = c_.ApproveQuote(**TARGET, quote_version=2, agreement="phone")
    history += given(repair_order, *history).when(agreed).events
    given(repair_order, *history).when(c_.CompleteWork(**TARGET)).then_types(e_.WorkCompleted)


def test_work_is_not_complete_while_parts_are_missing() -> None:
    dispatched = after(step(c_.RequestParts))
    short = c_.ReportPartsShort(**TARGET, part_number="BP-7", pieces=1)
    history = (*dispatched.events, *dispatched.when(short).then_types(e_.PartsShort))
    history += given(repair_order, *history).when(c_.StartWork(**TARGET)).events
    given(repair_order, *history).when(c_.CompleteWork(**TARGET)).then_raises(c_.PartsOutstanding)
    too_many = c_.ReportPartsShort(**TARGET, part_number="BP-7", pieces=3)
    given(repair_order, *history).when(too_many).then_raises(c_.PartsNotRequested, field="part_number")


def test_parts_named_twice_in_one_issue_are_counted_together() -> None:
    twice = c_.IssueParts(**TARGET, parts=(PADS, PADS))
    after(step(c_.RequestParts)).when(twice).then_raises(c_.PartsNotRequested, field="parts")


def test_cancelling_before_work_begins() -> None:
    cancel = c_.CancelRepairOrder(**TARGET, reason="changed their mind")
    gone = after(4).when(cancel)
    gone.then_types(e_.RepairOrderCancelled)
    history = (*after(4).events, *gone.events)
    given(repair_order, *history).when(cancel).then_nothing()
    given(repair_order, *history).when(c_.StartWork(**TARGET)).then_raises(c_.RepairOrderClosed)


def invoice(*shares: tuple[e_.Payer, Money], lines: tuple[e_.Line, ...] = LINES) -> c_.InvoiceRepair:
    return c_.InvoiceRepair(
        **TARGET,
        invoice_number="INV-1",
        lines=lines,
        shares=tuple(e_.Share(payer=payer, amount=amount) for payer, amount in shares),
    )


@pytest.mark.parametrize(
    ("command", "error", "field"),
    [
        (invoice(("customer", cny("499.99"))), c_.SharesDoNotAddUp, "shares"),
        (
            invoice(("customer", cny("600.00")), ("insurance", cny("-100.00"))),
            c_.SharesDoNotAddUp,
            "shares",
        ),
        (
            invoice(("customer", cny("250.00")), ("customer", cny("250.00"))),
            c_.PayerNamedTwice,
            "shares",
        ),
        (
            invoice(("customer", Money(amount=Decimal(500), currency="EUR"))),
            c_.CurrenciesDiffer,
            "shares",
        ),
        (
            invoice(("customer", cny("500.01")), lines=(line("1", "500.01"),)),
            c_.InvoiceExceedsQuote,
            "lines",
        ),
        (
            invoice(
                ("customer", Money(amount=Decimal(1), currency="EUR")),
                lines=(
                    e_.Line(
                        kind="part",
                        description="x",
                        quantity=Decimal(1),
                        unit_price=Money(amount=Decimal(1), currency="EUR"),
                    ),
                ),
            ),
            c_.CurrenciesDiffer,
            "lines",
        ),
    ],
)
def test_an_invoice_that_does_not_add_up_is_refused(
    command: c_.InvoiceRepair, error: type[ForecourtError], field: str
) -> None:
    after(step(c_.PassInspection)).when(command).then_raises(error, field=field)


def test_an_impossible_total_is_refused() -> None:
    huge = c_.QuoteRepair(**TARGET, lines=(line("10000", "1000000000000.00"),))
    after(1).when(huge).then_raises(InvalidInput, field="lines")


amounts = st.decimals(min_value=0, max_value=100_000, places=2)


@settings(max_examples=100)
@for_all(
    st.lists(
        st.tuples(
            st.decimals(min_value="0.01", max_value=100, places=2), amounts.filter(lambda a: a < 10_000)
        ),
        min_size=1,
        max_size=8,
    ),
    st.lists(st.integers(0, 100), min_size=3, max_size=3).filter(any),
)
def test_any_split_that_adds_up_is_paid_to_the_last_cent(
    priced: list[tuple[Decimal, Decimal]], parts: list[int]
) -> None:
    lines = tuple(line(str(quantity), str(price)) for quantity, price in priced)
    total = total_of(lines)
    first = (total * parts[0] / sum(parts)).quantize(Decimal("0.01"))
    second = min((total * parts[1] / sum(parts)).quantize(Decimal("0.01")), total - first)
    split: dict[e_.Payer, Decimal] = {
        "customer": first,
        "warranty": second,
        "insurance": total - first - second,
    }
    history: list[Event] = list(after(1).events)
    steps: list[Command] = [c_.QuoteRepair(**TARGET, lines=lines), *WAY[2:15]]
    steps.append(invoice(*((payer, cny(str(amount))) for payer, amount in split.items()), lines=lines))
    steps += [
        c_.RecordRepairPayment(**TARGET, payer=payer, amount=cny(str(amount)), method="card")
        for payer, amount in split.items()
        if amount
    ]
    for command in [*steps, WAY[-1]]:
        then = given(repair_order, *history).when(command)
        assert then.error is None, f"{command!r}: {then.error!r}"
        history += then.events
    paid = [event.amount.amount for event in history if isinstance(event, e_.RepairPaid)]
    assert sum(paid) == total
    assert not any(repair_order.fold(history).owed.values())


def test_payments_in_parts() -> None:
    invoiced = after(step(c_.InvoiceRepair))
    half = c_.RecordRepairPayment(**TARGET, payer="customer", amount=cny("150.00"), method="cash")
    (paid,) = invoiced.when(half).then_types(e_.RepairPaid)
    assert isinstance(paid, e_.RepairPaid)
    assert paid.remaining == cny("150.00")
    history = (*invoiced.events, paid)
    given(repair_order, *history).when(WAY[-1]).then_raises(c_.NotYetPaid)
    more = c_.RecordRepairPayment(**TARGET, payer="customer", amount=cny("150.01"), method="cash")
    given(repair_order, *history).when(more).then_raises(c_.PaidTooMuch, field="amount")
    nobody = c_.RecordRepairPayment(**TARGET, payer="insurance", amount=cny("1.00"), method="cash")
    given(repair_order, *history).when(nobody).then_raises(c_.NothingOwed, field="payer")


def test_the_warranty_share_is_claimed_and_paid_after_the_car_went_back() -> None:
    history = after(len(WAY)).events
    claim = c_.SubmitClaim(**TARGET, claim_number="C-9")
    (claimed,) = given(repair_order, *history).when(claim).events
    assert claimed == e_.ClaimSubmitted(claim_number="C-9", amount=cny("200.00"))
    history += (claimed,)
    given(repair_order, *history).when(claim).then_raises(c_.ClaimAlreadySubmitted)
    settle = c_.SettleClaim(**TARGET, claim_number="C-9", accepted=cny("180.00"))
    too_much = c_.SettleClaim(**TARGET, claim_number="C-9", accepted=cny("200.01"))
    given(repair_order, *history).when(too_much).then_raises(c_.ClaimExceeded, field="accepted")
    given(repair_order, *history).done_by("amy").by("amy").when(settle).then_raises(SelfApproval)
    history += given(repair_order, *history).when(settle).then_types(e_.ClaimSettled)
    given(repair_order, *history).when(settle).then_raises(c_.ClaimUnknown, field="claim_number")
    pays = c_.RecordRepairPayment(**TARGET, payer="warranty", amount=cny("180.00"), method="transfer")
    given(repair_order, *history).when(pays).then_types(e_.RepairPaid)


def test_an_order_without_a_warranty_share_has_nothing_to_claim() -> None:
    inspected = after(step(c_.PassInspection))
    history = (*inspected.events, *inspected.when(invoice(("customer", cny("500.00")))).events)
    given(repair_order, *history).when(c_.SubmitClaim(**TARGET, claim_number="C1")).then_raises(
        c_.NoWarrantyShare
    )


@pytest.mark.parametrize(
    ("model", "fields", "where"),
    [
        (c_.OpenRepairOrder, {"odometer_km": -1}, ("odometer_km",)),
        (c_.OpenRepairOrder, {"odometer_km": 3_000_001}, ("odometer_km",)),
        (c_.OpenRepairOrder, {"symptoms": ()}, ("symptoms",)),
        (c_.OpenRepairOrder, {"symptoms": ("x" * 201,)}, ("symptoms", 0)),
        (c_.OpenRepairOrder, {"vin": "LVSHCAME01F123456"}, ("vin",)),
        (c_.OpenRepairOrder, {"kind": "wash"}, ("kind",)),
        (c_.OpenRepairOrder, {"adviser_id": "with blanks"}, ("adviser_id",)),
    ],
)
def test_bad_input_is_named(model: type[Command], fields: dict[str, Any], where: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(OPEN.model_dump() | fields)
    assert caught.value.errors()[0]["loc"] == where


@pytest.mark.parametrize("quantity", ["0", "-1", "1.234", "10001", "NaN", "Infinity"])
def test_a_quantity_must_make_sense(quantity: str) -> None:
    with pytest.raises(ValidationError):
        line(quantity)
