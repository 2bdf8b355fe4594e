"""Decisions about an opportunity: from state and command to events, or a refusal."""

from datetime import datetime, timedelta
from uuid import UUID

from forecourt.deciders import Context
from forecourt.events import Event
from sales.opportunity.commands import (
    AdvanceStage,
    AssignOpportunity,
    CancelTestDrive,
    CompleteTestDrive,
    IssueQuote,
    LoseOpportunity,
    OpenOpportunity,
    ReopenOpportunity,
    ScheduleTestDrive,
    WinOpportunity,
)
from sales.opportunity.events import (
    OpportunityAssigned,
    OpportunityLost,
    OpportunityOpened,
    OpportunityReopened,
    OpportunityWon,
    QuoteIssued,
    Stage,
    StageAdvanced,
    TestDriveCancelled,
    TestDriveCompleted,
    TestDriveScheduled,
)
from sales.opportunity.refusals import (
    CompetitorRequired,
    CustomerDiffers,
    OpportunityClosed,
    OpportunityNotLost,
    StageNotAhead,
    TestDriveNotFound,
    TestDriveUnclear,
)
from sales.opportunity.state import PROBABILITIES, STAGES, Opportunity, TestDrive, opportunity
from sales.terms import (
    require_between,
    total_of,
)

MAX_TEST_DRIVE = timedelta(hours=4)
MAX_AHEAD = timedelta(days=90)
MAX_QUOTE_DAYS = 180


@opportunity.decides
def open_(state: Opportunity, c: OpenOpportunity, ctx: Context) -> list[Event]:
    """A new opportunity."""
    return [
        OpportunityOpened(
            customer_id=c.customer_id,
            model=c.model,
            lead_id=c.lead_id,
            salesperson=c.salesperson,
            probability=PROBABILITIES["new"],
        )
    ]


@opportunity.decides
def assign(state: Opportunity, c: AssignOpportunity, ctx: Context) -> list[Event]:
    """Raises `OpportunityClosed`."""
    require_open(state)
    if state.salesperson == c.salesperson:
        return []
    return [OpportunityAssigned(previous=state.salesperson, salesperson=c.salesperson)]


@opportunity.decides
def advance(state: Opportunity, c: AdvanceStage, ctx: Context) -> list[Event]:
    """Raises `OpportunityClosed`, `StageNotAhead`."""
    require_open(state)
    if STAGES.index(c.stage) < STAGES.index(state.stage):
        reason = f"is behind the present stage, {state.stage}"
        raise StageNotAhead(f"stage: {reason}", fields={"stage": reason})
    return _advanced_to(state, c.stage)


@opportunity.decides
def schedule_test_drive(state: Opportunity, c: ScheduleTestDrive, ctx: Context) -> list[Event]:
    """Raises `OpportunityClosed`, `InvalidInput` for an impossible time."""
    drive_id = c.test_drive_id or ctx.new_id("test-drive")
    if state.knows(drive_id):
        return []
    require_open(state)
    check_test_drive_time(c.starts_at, c.end, ctx.now)
    return [
        TestDriveScheduled(
            test_drive_id=drive_id,
            customer_id=state.customer,
            vin=c.vin,
            starts_at=c.starts_at,
            ends_at=c.end,
        ),
        *_advanced_to(state, "test_drive"),
    ]


def check_test_drive_time(starts_at: datetime, ends_at: datetime, now: datetime) -> None:
    """Raise `InvalidInput` unless the drive lies ahead and lasts between a minute and four hours."""
    # A drive noted at the counter as it begins is fine, hence the hour.
    require_between(starts_at, now - timedelta(hours=1), now + MAX_AHEAD, "starts_at")
    require_between(ends_at, starts_at + timedelta(minutes=1), starts_at + MAX_TEST_DRIVE, "ends_at")


@opportunity.decides
def complete_test_drive(state: Opportunity, c: CompleteTestDrive, ctx: Context) -> list[Event]:
    """Raises `TestDriveNotFound`, `TestDriveUnclear`."""
    if c.test_drive_id in state.finished:
        return []
    drive = _the_drive(state, c.test_drive_id)
    return [
        TestDriveCompleted(
            test_drive_id=drive.id,
            customer_id=state.customer,
            vin=drive.vin,
            odometer_km=c.odometer_km,
            impression=c.impression,
        )
    ]


@opportunity.decides
def cancel_test_drive(state: Opportunity, c: CancelTestDrive, ctx: Context) -> list[Event]:
    """Raises `TestDriveNotFound`, `TestDriveUnclear`."""
    if c.test_drive_id in state.finished:
        return []
    return [_cancelled(state, _the_drive(state, c.test_drive_id), c.reason)]


@opportunity.decides
def issue_quote(state: Opportunity, c: IssueQuote, ctx: Context) -> list[Event]:
    """Raises `OpportunityClosed`, `InvalidInput` for a day that has passed or is too far ahead."""
    require_open(state)
    end_of_day = datetime.combine(c.valid_until, datetime.max.time(), tzinfo=ctx.now.tzinfo)
    require_between(end_of_day, ctx.now, ctx.now + timedelta(days=MAX_QUOTE_DAYS), "valid_until")
    return [
        QuoteIssued(
            customer_id=state.customer,
            quote_version=state.quotes + 1,
            lines=c.lines,
            total=total_of(c.lines),
            valid_until=c.valid_until,
        ),
        *_advanced_to(state, "quote"),
    ]


@opportunity.decides
def win(state: Opportunity, c: WinOpportunity, ctx: Context) -> list[Event]:
    """Raises `OpportunityClosed`. Test drives still to come are called off."""
    if state.stage == "won" and state.order_id == c.order_id:
        return []
    require_open(state)
    return [
        *(_cancelled(state, drive, "won") for drive in state.test_drives),
        OpportunityWon(customer_id=state.customer, order_id=c.order_id, previous=state.stage),
    ]


@opportunity.decides
def lose(state: Opportunity, c: LoseOpportunity, ctx: Context) -> list[Event]:
    """Raises `OpportunityClosed`, `CompetitorRequired`. Test drives still to come are called off."""
    if state.stage == "lost":
        return []
    require_open(state)
    if c.reason == "competitor" and c.competitor is None:
        raise CompetitorRequired(
            "competitor: is required for this reason", fields={"competitor": "is required"}
        )
    return [
        *(_cancelled(state, drive, "lost") for drive in state.test_drives),
        OpportunityLost(
            customer_id=state.customer,
            reason=c.reason,
            competitor=c.competitor,
            note=c.note,
            previous=state.stage,
        ),
    ]


@opportunity.decides
def reopen(state: Opportunity, c: ReopenOpportunity, ctx: Context) -> list[Event]:
    """Raises `OpportunityNotLost`. The sale goes on where it was."""
    if state.stage != "lost":
        raise OpportunityNotLost(f"the opportunity is at stage {state.stage}")
    return [
        OpportunityReopened(
            customer_id=state.customer,
            reason=c.reason,
            stage=state.stage_before,
            probability=PROBABILITIES[state.stage_before],
        )
    ]


def require_open(state: Opportunity) -> None:
    """Raise `OpportunityClosed` for one that is won or lost."""
    if not state.is_open:
        raise OpportunityClosed(f"the opportunity is {state.stage}")


def require_sellable(state: Opportunity, customer_id: UUID, order_id: UUID | None) -> None:
    """Raise unless an order of this customer may come of it: open, or won by this very order."""
    if state.customer_id != customer_id:
        reason = "is not the customer of the opportunity"
        raise CustomerDiffers(f"customer_id: {reason}", fields={"customer_id": reason})
    if state.stage != "won" or state.order_id != order_id:
        require_open(state)


def _advanced_to(state: Opportunity, stage: Stage) -> list[Event]:
    if STAGES.index(stage) <= STAGES.index(state.stage):
        return []
    return [StageAdvanced(previous=state.stage, stage=stage, probability=PROBABILITIES[stage])]


def _cancelled(state: Opportunity, drive: TestDrive, reason: str) -> TestDriveCancelled:
    return TestDriveCancelled(
        test_drive_id=drive.id, customer_id=state.customer, vin=drive.vin, reason=reason
    )


def _the_drive(state: Opportunity, drive_id: UUID | None) -> TestDrive:
    found = [drive for drive in state.test_drives if drive_id in (None, drive.id)]
    if not found:
        raise TestDriveNotFound(
            "test_drive_id: no such test drive to come", fields={"test_drive_id": "not found"}
        )
    if len(found) > 1:
        raise TestDriveUnclear(
            "test_drive_id: several are to come, name one", fields={"test_drive_id": "is required"}
        )
    return found[0]
