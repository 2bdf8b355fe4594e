"""An opportunity: stages go forward, test drives and quotes move them, the end needs a reason."""

from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from forecourt.errors import InvalidInput
from forecourt.testing.given import CONTEXT, NOW, an_id, given, later
from sales.opportunity import commands as c
from sales.opportunity import events as e
from sales.opportunity import opportunity
from sales.opportunity import refusals as r
from sales.opportunity.decisions import require_sellable
from tests.unit.sales.samples import CUSTOMER, MODEL, OPPORTUNITY, ORDER, OTHER, VIN, a_line, a_vin, yuan

DRIVE = an_id("drive")
OPENED = e.OpportunityOpened(
    customer_id=CUSTOMER, model=MODEL, lead_id=None, salesperson="S1", probability=10
)
SCHEDULED = e.TestDriveScheduled(
    test_drive_id=DRIVE, customer_id=CUSTOMER, vin=VIN, starts_at=later(hours=1), ends_at=later(hours=1.5)
)
AT_TEST_DRIVE = e.StageAdvanced(previous="new", stage="test_drive", probability=40)
WON = e.OpportunityWon(customer_id=CUSTOMER, order_id=ORDER, previous="quote")
LOST = e.OpportunityLost(customer_id=CUSTOMER, reason="price", competitor=None, note="", previous="quote")


def test_open() -> None:
    command = c.OpenOpportunity(customer_id=CUSTOMER, model=MODEL, salesperson="S1")
    given(opportunity).when(command).then(OPENED)


def test_assign_names_who_had_it_before() -> None:
    opened = given(opportunity, OPENED)
    opened.when(c.AssignOpportunity(opportunity_id=OPPORTUNITY, salesperson="S2")).then(
        e.OpportunityAssigned(previous="S1", salesperson="S2")
    )
    opened.when(c.AssignOpportunity(opportunity_id=OPPORTUNITY, salesperson="S1")).then_nothing()


def test_stages_go_forward_with_their_probability() -> None:
    given(opportunity, OPENED).when(c.AdvanceStage(opportunity_id=OPPORTUNITY, stage="negotiation")).then(
        e.StageAdvanced(previous="new", stage="negotiation", probability=80)
    )


def test_stages_do_not_go_back() -> None:
    later_stage = given(opportunity, OPENED, AT_TEST_DRIVE)
    later_stage.when(c.AdvanceStage(opportunity_id=OPPORTUNITY, stage="needs")).then_raises(
        r.StageNotAhead, field="stage"
    )
    later_stage.when(c.AdvanceStage(opportunity_id=OPPORTUNITY, stage="test_drive")).then_nothing()


@pytest.mark.parametrize("stage", ["won", "lost", "later"])
def test_an_end_is_no_stage_to_advance_to(stage: Any) -> None:
    with pytest.raises(ValidationError):
        c.AdvanceStage(opportunity_id=OPPORTUNITY, stage=stage)


def schedule(**changed: Any) -> c.ScheduleTestDrive:
    given_fields = {
        "opportunity_id": OPPORTUNITY,
        "test_drive_id": DRIVE,
        "vin": VIN,
        "starts_at": later(hours=1),
    }
    return c.ScheduleTestDrive(**{**given_fields, **changed})


def test_a_test_drive_takes_half_an_hour_and_advances_the_stage() -> None:
    given(opportunity, OPENED).when(schedule()).then(SCHEDULED, AT_TEST_DRIVE)


def test_a_test_drive_gets_an_id_from_the_command() -> None:
    event, _ = (
        given(opportunity, OPENED)
        .when(schedule(test_drive_id=None))
        .then_types(e.TestDriveScheduled, e.StageAdvanced)
    )
    assert isinstance(event, e.TestDriveScheduled)
    assert event.test_drive_id == CONTEXT.new_id("test-drive")


def test_a_test_drive_is_arranged_once() -> None:
    given(opportunity, OPENED, SCHEDULED).when(schedule()).then_nothing()


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("starts_at", {"starts_at": later(hours=-1.1)}),
        ("starts_at", {"starts_at": later(days=91)}),
        ("ends_at", {"ends_at": later(hours=1)}),
        ("ends_at", {"ends_at": later(hours=5.1)}),
    ],
)
def test_a_test_drive_at_an_impossible_time(field: str, changed: dict[str, Any]) -> None:
    given(opportunity, OPENED).when(schedule(**changed)).then_raises(InvalidInput, field=field)


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00", "2200-01-01T00:00:00Z"]
)
def test_a_time_that_nobody_lives_at_is_refused(moment: str) -> None:
    with pytest.raises(ValidationError, match="between the years"):
        schedule(starts_at=moment)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        schedule(starts_at=NOW.replace(tzinfo=None))


def test_the_only_test_drive_to_come_need_not_be_named() -> None:
    completed = e.TestDriveCompleted(
        test_drive_id=DRIVE, customer_id=CUSTOMER, vin=VIN, odometer_km=12, impression="quiet"
    )
    command = c.CompleteTestDrive(opportunity_id=OPPORTUNITY, odometer_km=12, impression="quiet")
    given(opportunity, OPENED, SCHEDULED).when(command).then(completed)


def test_of_several_test_drives_one_must_be_named() -> None:
    second = SCHEDULED.model_copy(update={"test_drive_id": an_id("second"), "vin": a_vin(2)})
    several = given(opportunity, OPENED, SCHEDULED, second)
    several.when(c.CompleteTestDrive(opportunity_id=OPPORTUNITY)).then_raises(
        r.TestDriveUnclear, field="test_drive_id"
    )
    several.when(c.CancelTestDrive(opportunity_id=OPPORTUNITY, test_drive_id=DRIVE, reason="rain")).then(
        e.TestDriveCancelled(test_drive_id=DRIVE, customer_id=CUSTOMER, vin=VIN, reason="rain")
    )


def test_a_test_drive_that_is_not_to_come() -> None:
    given(opportunity, OPENED).when(c.CompleteTestDrive(opportunity_id=OPPORTUNITY)).then_raises(
        r.TestDriveNotFound, field="test_drive_id"
    )


def test_a_finished_test_drive_is_not_finished_again() -> None:
    done = e.TestDriveCancelled(test_drive_id=DRIVE, customer_id=CUSTOMER, vin=VIN, reason="rain")
    over = given(opportunity, OPENED, SCHEDULED, done)
    over.when(c.CompleteTestDrive(opportunity_id=OPPORTUNITY, test_drive_id=DRIVE)).then_nothing()
    over.when(schedule()).then_nothing()


def quote(valid_until: date) -> c.IssueQuote:
    return c.IssueQuote(opportunity_id=OPPORTUNITY, lines=(a_line("128800.00"),), valid_until=valid_until)


def test_quotes_are_numbered_and_advance_the_stage() -> None:
    first = e.QuoteIssued(
        customer_id=CUSTOMER,
        quote_version=1,
        lines=(a_line("128800.00"),),
        total=yuan("128800.00"),
        valid_until=date(2026, 1, 31),
    )
    given(opportunity, OPENED).when(quote(date(2026, 1, 31))).then(
        first, e.StageAdvanced(previous="new", stage="quote", probability=60)
    )
    at_negotiation = e.StageAdvanced(previous="new", stage="negotiation", probability=80)
    given(opportunity, OPENED, first, at_negotiation).when(quote(date(2026, 1, 31))).then(
        first.model_copy(update={"quote_version": 2})
    )


def test_a_quote_is_valid_today_and_for_half_a_year_at_most() -> None:
    opened = given(opportunity, OPENED)
    opened.when(quote(NOW.date())).then_types(e.QuoteIssued, e.StageAdvanced)
    opened.when(quote(NOW.date() - timedelta(days=1))).then_raises(InvalidInput, field="valid_until")
    opened.when(quote(NOW.date() + timedelta(days=181))).then_raises(InvalidInput, field="valid_until")


def test_win_calls_off_what_was_to_come() -> None:
    given(opportunity, OPENED, SCHEDULED, AT_TEST_DRIVE).when(
        c.WinOpportunity(opportunity_id=OPPORTUNITY, order_id=ORDER)
    ).then(
        e.TestDriveCancelled(test_drive_id=DRIVE, customer_id=CUSTOMER, vin=VIN, reason="won"),
        WON.model_copy(update={"previous": "test_drive"}),
    )


def test_it_is_won_by_one_order() -> None:
    won = given(opportunity, OPENED, WON)
    won.when(c.WinOpportunity(opportunity_id=OPPORTUNITY, order_id=ORDER)).then_nothing()
    won.when(c.WinOpportunity(opportunity_id=OPPORTUNITY, order_id=OTHER)).then_raises(r.OpportunityClosed)


def test_lose_needs_a_reason_and_a_competitor_where_that_is_it() -> None:
    with pytest.raises(ValidationError, match="reason"):
        c.LoseOpportunity.model_validate({"opportunity_id": OPPORTUNITY})
    opened = given(opportunity, OPENED)
    opened.when(c.LoseOpportunity(opportunity_id=OPPORTUNITY, reason="competitor")).then_raises(
        r.CompetitorRequired, field="competitor"
    )
    opened.when(c.LoseOpportunity(opportunity_id=OPPORTUNITY, reason="price")).then(
        LOST.model_copy(update={"previous": "new"})
    )


def test_a_lost_customer_who_is_back_goes_on_at_the_same_stage() -> None:
    given(opportunity, OPENED, LOST).when(
        c.ReopenOpportunity(opportunity_id=OPPORTUNITY, reason="new budget")
    ).then(e.OpportunityReopened(customer_id=CUSTOMER, reason="new budget", stage="quote", probability=60))
    for history in ((OPENED,), (OPENED, WON)):
        given(opportunity, *history).when(c.ReopenOpportunity(opportunity_id=OPPORTUNITY)).then_raises(
            r.OpportunityNotLost
        )


@pytest.mark.parametrize("end", [WON, LOST])
@pytest.mark.parametrize(
    "command",
    [
        c.AssignOpportunity(opportunity_id=OPPORTUNITY, salesperson="S2"),
        c.AdvanceStage(opportunity_id=OPPORTUNITY, stage="needs"),
        schedule(),
        quote(date(2026, 1, 31)),
        c.WinOpportunity(opportunity_id=OPPORTUNITY, order_id=OTHER),
    ],
)
def test_the_end_is_the_end(end: Any, command: Any) -> None:
    given(opportunity, OPENED, end).when(command).then_raises(r.OpportunityClosed)


def test_an_order_may_come_of_an_open_opportunity_of_its_customer_or_the_one_it_won() -> None:
    opened, won = opportunity.fold([OPENED]), opportunity.fold([OPENED, WON])
    require_sellable(opened, CUSTOMER, ORDER)
    require_sellable(won, CUSTOMER, ORDER)
    with pytest.raises(r.CustomerDiffers):
        require_sellable(opened, OTHER, ORDER)
    with pytest.raises(r.OpportunityClosed):
        require_sellable(won, CUSTOMER, OTHER)
