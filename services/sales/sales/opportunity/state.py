"""What decisions about an opportunity need, and how events change it."""

from dataclasses import dataclass, replace
from uuid import UUID

from forecourt.deciders import Decider
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

PROBABILITIES: dict[Stage, int] = {
    "new": 10,
    "needs": 20,
    "test_drive": 40,
    "quote": 60,
    "negotiation": 80,
    "won": 100,
    "lost": 0,
}
"""How likely a sale is, in per cent, by stage; the order is that of a sale."""

STAGES: tuple[Stage, ...] = tuple(PROBABILITIES)


@dataclass(frozen=True)
class TestDrive:
    """A test drive that has not taken place yet."""

    id: UUID
    vin: str


@dataclass(frozen=True)
class Opportunity:
    """What decisions about an opportunity need. ``finished`` are test drives that are over or cancelled."""

    customer_id: UUID | None = None
    model: str = ""
    stage: Stage = "new"
    stage_before: Stage = "new"
    salesperson: str | None = None
    quotes: int = 0
    order_id: UUID | None = None
    test_drives: tuple[TestDrive, ...] = ()
    finished: tuple[UUID, ...] = ()

    def knows(self, test_drive_id: UUID) -> bool:
        """Whether such a test drive was ever arranged."""
        return test_drive_id in self.finished or any(drive.id == test_drive_id for drive in self.test_drives)

    @property
    def is_open(self) -> bool:
        """Neither won nor lost."""
        return self.stage not in ("won", "lost")

    @property
    def customer(self) -> UUID:
        """The customer; every opportunity that was opened has one."""
        assert self.customer_id is not None
        return self.customer_id


opportunity = Decider(service="sales", category="opportunity", initial=Opportunity(), key="opportunity_id")


@opportunity.evolves
def _(state: Opportunity, e: OpportunityOpened) -> Opportunity:
    return replace(state, customer_id=e.customer_id, model=e.model, salesperson=e.salesperson)


@opportunity.evolves
def _(state: Opportunity, e: OpportunityAssigned) -> Opportunity:
    return replace(state, salesperson=e.salesperson)


@opportunity.evolves
def _(state: Opportunity, e: StageAdvanced) -> Opportunity:
    return replace(state, stage=e.stage)


@opportunity.evolves
def _(state: Opportunity, e: TestDriveScheduled) -> Opportunity:
    return replace(state, test_drives=(*state.test_drives, TestDrive(e.test_drive_id, e.vin)))


@opportunity.evolves
def _(state: Opportunity, e: TestDriveCompleted | TestDriveCancelled) -> Opportunity:
    return replace(
        state,
        test_drives=tuple(drive for drive in state.test_drives if drive.id != e.test_drive_id),
        finished=(*state.finished, e.test_drive_id),
    )


@opportunity.evolves
def _(state: Opportunity, e: QuoteIssued) -> Opportunity:
    return replace(state, quotes=e.quote_version)


@opportunity.evolves
def _(state: Opportunity, e: OpportunityWon) -> Opportunity:
    return replace(state, stage="won", stage_before=e.previous, order_id=e.order_id)


@opportunity.evolves
def _(state: Opportunity, e: OpportunityLost) -> Opportunity:
    return replace(state, stage="lost", stage_before=e.previous)


@opportunity.evolves
def _(state: Opportunity, e: OpportunityReopened) -> Opportunity:
    return replace(state, stage=e.stage)
