"""What the read models of sales show after which events, and that numbers reconcile with the events."""

from typing import Any
from uuid import UUID

from hypothesis import given, strategies

from forecourt.errors import ForecourtError
from forecourt.events import Event
from forecourt.privacy.fields import ERASED
from forecourt.testing.given import CONTEXT, NOW, an_id, given_rows, later, recorded
from sales.api import stock_lines
from sales.foreign import PersonalDataShredded
from sales.opportunity import commands as c
from sales.opportunity import events as o
from sales.opportunity import opportunity
from sales.order import events as e
from sales.read_models import leads, opportunities, orders, quarantined_leads, vehicles
from sales.vehicle import events as v
from tests.golden.test_sales_golden import SAMPLES
from tests.unit.sales.samples import (
    CUSTOMER,
    MODEL,
    OPPORTUNITY,
    ORDER,
    OTHER,
    RESERVATION,
    VIN,
    a_line,
    yuan,
)
from trade.vin import vehicle_id


def rows_after(projection: Any, stream_id: UUID, *events: Event) -> Any:
    """The row of an aggregate after its events."""
    batch = [recorded(event, stream_id=stream_id, sequence=i) for i, event in enumerate(events, start=1)]
    return given_rows(projection).when(*batch).rows.get((stream_id,))


def test_an_event_without_its_row_makes_none() -> None:
    makers = {"LeadCaptured", "LeadQuarantined", "OpportunityOpened", "VehicleRegistered", "OrderPlaced"}
    for projection in (leads, quarantined_leads, opportunities, vehicles, orders):
        for event in SAMPLES:
            if type(event) in projection.handlers and event.event_name not in makers:
                assert rows_after(projection, an_id("x"), event) is None


LEAD = an_id("lead")
OPENED = o.OpportunityOpened(
    customer_id=CUSTOMER, model=MODEL, lead_id=None, salesperson=None, probability=10
)


def test_an_opportunity_shows_its_drives_quotes_and_end() -> None:
    drive = an_id("drive")
    history: list[Event] = [
        OPENED,
        o.TestDriveScheduled(
            test_drive_id=drive, customer_id=CUSTOMER, vin=VIN, starts_at=NOW, ends_at=later(minutes=30)
        ),
        o.StageAdvanced(previous="new", stage="test_drive", probability=40),
        o.TestDriveCompleted(
            test_drive_id=drive, customer_id=CUSTOMER, vin=VIN, odometer_km=None, impression="quiet"
        ),
        o.QuoteIssued(
            customer_id=CUSTOMER,
            quote_version=1,
            lines=(a_line("128800.00"),),
            total=yuan("128800.00"),
            valid_until=NOW.date(),
        ),
        o.OpportunityLost(
            customer_id=CUSTOMER, reason="competitor", competitor="Other", note="", previous="quote"
        ),
    ]
    row = rows_after(opportunities, OPPORTUNITY, *history)
    assert [(d.state, d.impression) for d in row.test_drives] == [("completed", "quiet")]
    assert (row.quoted, row.currency, len(row.quotes)) == (yuan("128800.00").amount, "CNY", 1)
    assert (row.stage, row.probability, row.loss_reason, row.closed_at) == ("lost", 0, "competitor", NOW)
    back = o.OpportunityReopened(customer_id=CUSTOMER, reason="is back", stage="quote", probability=60)
    row = rows_after(opportunities, OPPORTUNITY, *history, back)
    assert (row.stage, row.probability, row.loss_reason, row.closed_at) == ("quote", 60, None, None)


def test_the_impressions_of_an_erased_customer_are_gone_and_those_of_others_stay() -> None:
    def told(stream_id: UUID, customer_id: UUID, impression: str) -> list[Any]:
        drive = an_id(impression)
        so: dict[str, Any] = {"customer_id": customer_id, "vin": VIN}
        return [
            recorded(event, stream_id=stream_id, sequence=i)
            for i, event in enumerate(
                [
                    OPENED.model_copy(update={"customer_id": customer_id}),
                    o.TestDriveScheduled(test_drive_id=drive, starts_at=NOW, ends_at=later(minutes=30), **so),
                    o.TestDriveCompleted(test_drive_id=drive, odometer_km=9, impression=impression, **so),
                ],
                start=1,
            )
        ]

    mine, other = told(OPPORTUNITY, CUSTOMER, "quiet"), told(OTHER, an_id("other customer"), "loud")
    gone = recorded(PersonalDataShredded(), stream_id=CUSTOMER, sequence=9)
    rows = given_rows(opportunities).when(*mine, *other, gone).rows
    assert [drive.impression for drive in rows[OPPORTUNITY,].test_drives] == [ERASED]
    assert [drive.impression for drive in rows[OTHER,].test_drives] == ["loud"]


def test_a_lead_is_unlinked_since_its_last_news_until_it_is_known_whose_it_is() -> None:
    named = {event.event_name: event for event in SAMPLES}
    captured = named["LeadCaptured"].model_copy(update={"customer_id": None})
    unlinked = rows_after(leads, LEAD, captured)
    assert unlinked.unlinked_since == unlinked.captured_at
    lost = recorded(named["LeadDisqualified"], stream_id=LEAD, sequence=2, time=later(days=3))
    found = given_rows(leads).when(recorded(captured, stream_id=LEAD, sequence=1), lost).rows
    assert found[LEAD,].unlinked_since == later(days=3)
    for known in ([named["LeadQualified"]], [named["LeadShredded"]]):
        assert rows_after(leads, LEAD, captured, *known).unlinked_since is None
    linked = captured.model_copy(update={"customer_id": CUSTOMER})
    assert rows_after(leads, LEAD, linked, named["LeadDisqualified"]).unlinked_since is None


def test_a_lead_remembers_all_customers_whose_it_was_taken_for() -> None:
    """The data may be that of the first one: whoever of them is erased takes it along."""
    named = {event.event_name: event for event in SAMPLES}
    first, second = an_id("first customer"), an_id("second customer")
    captured = named["LeadCaptured"].model_copy(update={"customer_id": first})
    corrected = named["LeadQualified"].model_copy(update={"customer_id": second})
    row = rows_after(leads, LEAD, captured, corrected)
    assert (row.customer_id, set(row.linked)) == (second, {str(first), str(second)})


def test_an_order_shows_what_is_sold_paid_and_due() -> None:
    row = rows_after(
        orders,
        ORDER,
        e.OrderPlaced(
            customer_id=CUSTOMER,
            model=MODEL,
            lines=(a_line("1000.00"),),
            total=yuan("1000.00"),
            opportunity_id=None,
        ),
        e.DepositReceived(
            customer_id=CUSTOMER,
            payment_id=an_id("1"),
            amount=yuan("100.00"),
            method="cash",
            balance=yuan("900.00"),
        ),
        e.AncillaryOrderAdded(
            customer_id=CUSTOMER,
            ancillary_id=an_id("2"),
            kind="loan",
            description="loan",
            amount=yuan("50.00"),
            balance=yuan("950.00"),
        ),
        e.PaymentReceived(
            customer_id=CUSTOMER,
            payment_id=an_id("3"),
            amount=yuan("949.99"),
            method="loan",
            balance=yuan("0.01"),
        ),
        e.PaymentWrittenOff(customer_id=CUSTOMER, amount=yuan("0.01"), reason="r", balance=yuan("0.00")),
    )
    assert (row.total, row.paid, row.balance) == (yuan("1000.00"), yuan("1049.99"), yuan("0.00"))
    assert [payment.kind for payment in row.payments] == ["deposit", "payment", "write_off"]


def test_a_delivered_car_shows_whose_it_is_and_a_returned_one_nobody() -> None:
    stream = vehicle_id(VIN)
    history: list[Event] = [
        v.VehicleRegistered(vin=VIN, model=MODEL, check_digit="valid", colour="", model_year=None),
        v.ReceivedIntoStock(vin=VIN, store="D002", odometer_km=5, order_id=None),
        v.PdiFailed(vin=VIN, inspector="T1", defects=("scratch",)),
        v.PdiPassed(vin=VIN, inspector="T1"),
        v.VehicleReserved(
            vin=VIN,
            reservation_id=RESERVATION,
            customer_id=CUSTOMER,
            order_id=None,
            expires_at=later(hours=1),
        ),
        v.ReservationConfirmed(vin=VIN, reservation_id=RESERVATION, customer_id=CUSTOMER, order_id=ORDER),
    ]
    held = rows_after(vehicles, stream, *history)
    assert (held.reserved, held.order_id, held.reserved_until, held.store) == (True, ORDER, None, "D002")
    history.append(v.VehicleReleased(vin=VIN, order_id=ORDER, customer_id=CUSTOMER, odometer_km=9))
    gone = rows_after(vehicles, stream, *history)
    assert (gone.place, gone.reserved, gone.customer_id, gone.defects) == ("delivered", False, CUSTOMER, ())
    history.append(v.VehicleTakenBack(vin=VIN, order_id=ORDER, store="D003", odometer_km=40))
    back = rows_after(vehicles, stream, *history)
    assert (back.place, back.store, back.pdi, back.customer_id) == ("in_stock", "D003", "pending", None)


groups = strategies.lists(
    strategies.fixed_dictionaries(
        {
            "model": strategies.sampled_from(["H5", "H9"]),
            "store": strategies.sampled_from(["D001", "D002"]),
            "place": strategies.sampled_from(["registered", "in_transit", "in_stock", "delivered"]),
            "reserved": strategies.booleans(),
            "count": strategies.integers(1, 1000),
        }
    )
)


@given(groups)
def test_what_is_available_to_sell_is_never_negative_and_the_lines_add_up(
    counted: list[dict[str, Any]],
) -> None:
    lines = stock_lines(counted)
    assert all(line["available"] >= 0 for line in lines)
    assert all(line["available"] + line["reserved"] == line["in_stock"] for line in lines)
    here = [group for group in counted if group["place"] == "in_stock"]
    assert sum(line["in_stock"] for line in lines) == sum(group["count"] for group in here)
    free = [group["count"] for group in here if not group["reserved"]]
    assert sum(line["available"] for line in lines) == sum(free)


steps = strategies.lists(
    strategies.sampled_from(
        [
            c.AdvanceStage(opportunity_id=OPPORTUNITY, stage="needs"),
            c.AdvanceStage(opportunity_id=OPPORTUNITY, stage="negotiation"),
            c.IssueQuote(opportunity_id=OPPORTUNITY, lines=(a_line("1.00"),), valid_until=NOW.date()),
            c.LoseOpportunity(opportunity_id=OPPORTUNITY, reason="price"),
            c.ReopenOpportunity(opportunity_id=OPPORTUNITY),
            c.WinOpportunity(opportunity_id=OPPORTUNITY, order_id=OTHER),
        ]
    )
)


@given(steps)
def test_the_funnel_shows_the_stage_that_the_decisions_are_made_on(asked: list[Any]) -> None:
    events: list[Event] = [OPENED]
    for command in asked:
        try:
            events += opportunity.decide(opportunity.fold(events), command, CONTEXT)
        except ForecourtError:
            continue
    row = rows_after(opportunities, OPPORTUNITY, *events)
    assert row.stage == opportunity.fold(events).stage
    assert (row.closed_at is not None) == (row.stage in ("won", "lost"))
