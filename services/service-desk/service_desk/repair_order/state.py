"""A repair order as far as decisions need it, and how facts change it."""

from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal
from uuid import UUID

from forecourt.deciders import Decider
from forecourt.values import Money
from service_desk.repair_order.events import (
    ClaimSettled,
    ClaimSubmitted,
    InspectionFailed,
    InspectionPassed,
    JobAdded,
    Kind,
    Line,
    PartLine,
    PartsIssued,
    PartsRequested,
    PartsShort,
    Payer,
    QuoteApproved,
    QuoteDeclined,
    RepairInvoiced,
    RepairOrderCancelled,
    RepairOrderOpened,
    RepairPaid,
    RepairQuoted,
    ReworkRecorded,
    TechnicianDispatched,
    VehicleHandedBack,
    WorkCompleted,
    WorkPaused,
    WorkResumed,
    WorkStarted,
)

Status = Literal[
    "open",
    "dispatched",
    "working",
    "paused",
    "completed",
    "failed",
    "rework",
    "inspected",
    "invoiced",
    "handed_back",
    "cancelled",
]
"""Where the car is on its way; the quote has a status of its own."""

QuoteStatus = Literal["none", "offered", "approved", "declined", "outdated"]
"""``outdated``: a job was added that the quote does not include."""


@dataclass(frozen=True)
class RepairOrder:
    """What decisions about a repair order need. ``owed`` is the open balance of each payer."""

    status: Status = "open"
    customer_id: UUID = UUID(int=0)
    vin: str = ""
    kind: Kind = "repair"
    odometer_km: int = 0
    technician_id: str = ""
    worked_on_by: frozenset[str] = frozenset()
    quote: QuoteStatus = "none"
    quote_version: int = 0
    quote_total: Money | None = None
    agreed_total: Money | None = None
    parts_outstanding: dict[str, int] = field(default_factory=dict)
    owed: dict[Payer, Decimal] = field(default_factory=dict)
    currency: str = ""
    claim_number: str = ""
    claimed: Money | None = None
    claim_settled: bool = False


repair_order = Decider(
    service="service_desk", category="repair_order", initial=RepairOrder(), key="repair_order_id"
)


def total_of(lines: tuple[Line, ...]) -> Decimal:
    """The sum of the lines; each line is rounded to the cent, half up."""
    cent = Decimal("0.01")
    return sum(
        ((line.quantity * line.unit_price.amount).quantize(cent, ROUND_HALF_UP) for line in lines), Decimal(0)
    )


def _moved(outstanding: dict[str, int], parts: tuple[PartLine, ...], sign: int) -> dict[str, int]:
    changed = dict(outstanding)
    for part in parts:
        changed[part.part_number] = changed.get(part.part_number, 0) + sign * part.pieces
    return {number: pieces for number, pieces in changed.items() if pieces > 0}


@repair_order.evolves
def _(state: RepairOrder, e: RepairOrderOpened) -> RepairOrder:
    return RepairOrder(customer_id=e.customer_id, vin=e.vin, kind=e.kind, odometer_km=e.odometer_km)


@repair_order.evolves
def _(state: RepairOrder, e: RepairQuoted) -> RepairOrder:
    return replace(
        state,
        quote="offered",
        quote_version=e.quote_version,
        quote_total=e.total,
        currency=e.total.currency,
    )


@repair_order.evolves
def _(state: RepairOrder, e: QuoteApproved) -> RepairOrder:
    return replace(state, quote="approved", agreed_total=state.quote_total)


@repair_order.evolves
def _(state: RepairOrder, e: QuoteDeclined) -> RepairOrder:
    return replace(state, quote="declined")


@repair_order.evolves
def _(state: RepairOrder, e: JobAdded) -> RepairOrder:
    return replace(state, quote="outdated" if state.quote_version else "none")


@repair_order.evolves
def _(state: RepairOrder, e: TechnicianDispatched) -> RepairOrder:
    status: Status = "dispatched" if state.status == "open" else state.status
    # Whoever takes over work that goes on has a hand in it, also when another one completes it.
    took_over = {e.technician_id} if status in ("working", "paused", "rework") else set()
    return replace(
        state, status=status, technician_id=e.technician_id, worked_on_by=state.worked_on_by | took_over
    )


@repair_order.evolves
def _(state: RepairOrder, e: PartsRequested) -> RepairOrder:
    return replace(state, parts_outstanding=_moved(state.parts_outstanding, e.parts, 1))


@repair_order.evolves
def _(state: RepairOrder, e: PartsIssued) -> RepairOrder:
    return replace(state, parts_outstanding=_moved(state.parts_outstanding, e.parts, -1))


@repair_order.evolves
def _(state: RepairOrder, e: WorkStarted) -> RepairOrder:
    return replace(state, status="working", worked_on_by=state.worked_on_by | {e.technician_id})


@repair_order.evolves
def _(state: RepairOrder, e: WorkPaused) -> RepairOrder:
    return replace(state, status="paused")


@repair_order.evolves
def _(state: RepairOrder, e: WorkResumed) -> RepairOrder:
    return replace(state, status="working")


@repair_order.evolves
def _(state: RepairOrder, e: WorkCompleted) -> RepairOrder:
    return replace(state, status="completed", worked_on_by=state.worked_on_by | {e.technician_id})


@repair_order.evolves
def _(state: RepairOrder, e: InspectionPassed) -> RepairOrder:
    return replace(state, status="inspected")


@repair_order.evolves
def _(state: RepairOrder, e: InspectionFailed) -> RepairOrder:
    return replace(state, status="failed")


@repair_order.evolves
def _(state: RepairOrder, e: ReworkRecorded) -> RepairOrder:
    return replace(state, status="rework", technician_id=e.technician_id)


@repair_order.evolves
def _(state: RepairOrder, e: RepairInvoiced) -> RepairOrder:
    owed = {share.payer: share.amount.amount for share in e.shares if share.amount.amount > 0}
    return replace(state, status="invoiced", owed=owed, currency=e.total.currency)


@repair_order.evolves
def _(state: RepairOrder, e: ClaimSubmitted) -> RepairOrder:
    return replace(state, claim_number=e.claim_number, claimed=e.amount)


@repair_order.evolves
def _(state: RepairOrder, e: ClaimSettled) -> RepairOrder:
    return replace(state, claim_settled=True)


@repair_order.evolves
def _(state: RepairOrder, e: RepairPaid) -> RepairOrder:
    return replace(state, owed={**state.owed, e.payer: e.remaining.amount})


@repair_order.evolves
def _(state: RepairOrder, e: VehicleHandedBack) -> RepairOrder:
    return replace(state, status="handed_back")


@repair_order.evolves
def _(state: RepairOrder, e: RepairOrderCancelled) -> RepairOrder:
    return replace(state, status="cancelled")


repair_order.ignores(PartsShort)


@repair_order.upcasts("QuoteDeclined", from_version=1)
@repair_order.upcasts("JobAdded", from_version=1)
@repair_order.upcasts("InspectionFailed", from_version=1)
@repair_order.upcasts("ReworkRecorded", from_version=1)
def _name_nobody(data: dict[str, Any]) -> dict[str, Any]:
    """Before version 2 the event did not say whose the text is, and the text was stored as it is."""
    return {"customer_id": None, **data}
