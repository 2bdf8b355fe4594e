"""What a repair order allows: every illegal step is refused by name."""

from datetime import timedelta
from decimal import Decimal

from forecourt.deciders import Context
from forecourt.errors import InvalidInput, Refused
from forecourt.events import Event
from forecourt.values import Money
from service_desk.repair_order import commands as c_
from service_desk.repair_order.events import (
    ClaimSettled,
    ClaimSubmitted,
    InspectionFailed,
    InspectionPassed,
    JobAdded,
    Line,
    PartLine,
    PartsIssued,
    PartsRequested,
    PartsShort,
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
from service_desk.repair_order.state import RepairOrder, Status, repair_order, total_of

__all__ = ["repair_order"]

BACKDATED_AT_MOST = timedelta(days=31)
HIGHEST_TOTAL = Decimal(100_000_000)
"""Of one quote or invoice, in major units: more is a slip of the keyboard."""

_WAY: tuple[Status, ...] = (
    "open",
    "dispatched",
    "rework",
    "working",
    "paused",
    "completed",
    "failed",
    "inspected",
    "invoiced",
    "handed_back",
)


def _between(
    state: RepairOrder, first: Status, last: Status, *, early: type[Refused], late: type[Refused]
) -> None:
    """Refuse unless the order is between two points of its way; a closed order is always refused as such."""
    if state.status in ("handed_back", "cancelled"):
        raise c_.RepairOrderClosed(f"the repair order is {state.status.replace('_', ' ')}")
    place = _WAY.index(state.status)
    if place < _WAY.index(first):
        raise early()
    if place > _WAY.index(last):
        raise late()


@repair_order.decides
def open_order(state: RepairOrder, c: c_.OpenRepairOrder, ctx: Context) -> list[Event]:
    """Take the car in."""
    return [
        RepairOrderOpened(
            customer_id=c.customer_id,
            vin=c.vin,
            odometer_km=c.odometer_km,
            kind=c.kind,
            symptoms=c.symptoms,
            appointment_id=c.appointment_id,
            adviser_id=c.adviser_id,
        )
    ]


@repair_order.decides
def quote(state: RepairOrder, c: c_.QuoteRepair, ctx: Context) -> list[Event]:
    """Quote until work is done, unless the customer agreed and nothing was added since."""
    _between(state, "open", "paused", early=c_.QuoteMissing, late=c_.WorkAlreadyCompleted)
    if state.quote == "approved":
        raise c_.QuoteAlreadyApproved()
    return [
        RepairQuoted(
            customer_id=state.customer_id,
            quote_version=state.quote_version + 1,
            lines=c.lines,
            total=_total(c.lines),
        )
    ]


def _total(lines: tuple[Line, ...]) -> Money:
    currencies = {line.unit_price.currency for line in lines}
    if len(currencies) > 1:
        raise c_.CurrenciesDiffer(fields={"lines": "must all be in one currency"})
    total = total_of(lines)
    if not 0 <= total <= HIGHEST_TOTAL:
        raise InvalidInput(
            "lines: add up to an impossible sum", fields={"lines": f"must add up to 0 to {HIGHEST_TOTAL}"}
        )
    return Money(amount=total, currency=currencies.pop())


@repair_order.decides
def approve(state: RepairOrder, c: c_.ApproveQuote, ctx: Context) -> list[Event]:
    """Only the latest quote can be approved, once."""
    _quote_waits(state, c.quote_version)
    return [QuoteApproved(quote_version=c.quote_version, agreement=c.agreement)]


@repair_order.decides
def decline(state: RepairOrder, c: c_.DeclineQuote, ctx: Context) -> list[Event]:
    """Only the latest quote can be declined, once."""
    _quote_waits(state, c.quote_version)
    return [QuoteDeclined(customer_id=state.customer_id, quote_version=c.quote_version, reason=c.reason)]


def _quote_waits(state: RepairOrder, quote_version: int) -> None:
    _between(state, "open", "paused", early=c_.QuoteMissing, late=c_.WorkAlreadyCompleted)
    if state.quote == "none":
        raise c_.QuoteMissing()
    if quote_version != state.quote_version or state.quote == "outdated":
        raise c_.QuoteOutdated(
            fields={"quote_version": f"the latest quote has version {state.quote_version}"}
        )
    if state.quote != "offered":
        raise c_.QuoteAnswered(f"the quote was {state.quote}")


@repair_order.decides
def add_job(state: RepairOrder, c: c_.AddJob, ctx: Context) -> list[Event]:
    """Add it until work is done."""
    _between(state, "open", "paused", early=c_.QuoteMissing, late=c_.WorkAlreadyCompleted)
    return [JobAdded(customer_id=state.customer_id, job_id=ctx.new_id("job"), description=c.description)]


@repair_order.decides
def dispatch(state: RepairOrder, c: c_.DispatchTechnician, ctx: Context) -> list[Event]:
    """Dispatch what the customer agreed to; again until work is done."""
    _between(state, "open", "paused", early=c_.QuoteNotApproved, late=c_.WorkAlreadyCompleted)
    if state.status == "open" and state.quote != "approved":
        raise c_.QuoteNotApproved()
    return [TechnicianDispatched(technician_id=c.technician_id, bay=c.bay)]


@repair_order.decides
def request_parts(state: RepairOrder, c: c_.RequestParts, ctx: Context) -> list[Event]:
    """Parts are for work that was given to somebody."""
    _parts_step(state)
    return [PartsRequested(parts=c.parts)]


@repair_order.decides
def issue_parts(state: RepairOrder, c: c_.IssueParts, ctx: Context) -> list[Event]:
    """Never more pieces of a part than were requested."""
    _parts_step(state)
    _requested(state, c.parts, "parts")
    return [PartsIssued(parts=c.parts)]


@repair_order.decides
def parts_short(state: RepairOrder, c: c_.ReportPartsShort, ctx: Context) -> list[Event]:
    """Only a part that was requested can be missed."""
    _parts_step(state)
    _requested(state, (PartLine(part_number=c.part_number, pieces=c.pieces),), "part_number")
    return [PartsShort(part_number=c.part_number, pieces=c.pieces, expected_on=c.expected_on)]


def _parts_step(state: RepairOrder) -> None:
    _between(state, "dispatched", "paused", early=c_.TechnicianNotDispatched, late=c_.WorkAlreadyCompleted)


def _requested(state: RepairOrder, parts: tuple[PartLine, ...], field: str) -> None:
    pieces: dict[str, int] = {}
    for part in parts:
        pieces[part.part_number] = pieces.get(part.part_number, 0) + part.pieces
        outstanding = state.parts_outstanding.get(part.part_number, 0)
        if pieces[part.part_number] > outstanding:
            raise c_.PartsNotRequested(
                f"{outstanding} pieces of {part.part_number} are outstanding",
                fields={field: f"{outstanding} pieces of {part.part_number} are outstanding"},
            )


@repair_order.decides
def start(state: RepairOrder, c: c_.StartWork, ctx: Context) -> list[Event]:
    """Begin what was dispatched, or rework that was recorded."""
    if state.status == "failed":
        raise c_.ReworkNotRecorded()
    _between(state, "dispatched", "rework", early=c_.TechnicianNotDispatched, late=c_.WorkAlreadyStarted)
    return [WorkStarted(technician_id=state.technician_id)]


@repair_order.decides
def pause(state: RepairOrder, c: c_.PauseWork, ctx: Context) -> list[Event]:
    """Pause work that goes on."""
    _working(state)
    return [WorkPaused(reason=c.reason)]


@repair_order.decides
def resume(state: RepairOrder, c: c_.ResumeWork, ctx: Context) -> list[Event]:
    """Resume paused work."""
    _between(state, "working", "paused", early=c_.WorkNotStarted, late=c_.WorkAlreadyCompleted)
    if state.status != "paused":
        raise c_.WorkNotPaused()
    return [WorkResumed()]


@repair_order.decides
def complete(state: RepairOrder, c: c_.CompleteWork, ctx: Context) -> list[Event]:
    """Done when everything is agreed to and every requested part was issued."""
    _working(state)
    if state.quote != "approved":
        raise c_.QuoteNotApproved()
    if state.parts_outstanding:
        raise c_.PartsOutstanding(f"not issued yet: {', '.join(sorted(state.parts_outstanding))}")
    return [WorkCompleted(technician_id=state.technician_id)]


def _working(state: RepairOrder) -> None:
    if state.status == "failed":
        raise c_.ReworkNotRecorded()
    _between(state, "working", "paused", early=c_.WorkNotStarted, late=c_.WorkAlreadyCompleted)
    if state.status == "paused":
        raise c_.WorkIsPaused()


@repair_order.decides
def pass_inspection(state: RepairOrder, c: c_.PassInspection, ctx: Context) -> list[Event]:
    """Completed work, inspected by somebody else."""
    _inspect(state, c.inspector_id)
    return [InspectionPassed(inspector_id=c.inspector_id)]


@repair_order.decides
def fail_inspection(state: RepairOrder, c: c_.FailInspection, ctx: Context) -> list[Event]:
    """Completed work, inspected by somebody else."""
    _inspect(state, c.inspector_id)
    return [InspectionFailed(customer_id=state.customer_id, inspector_id=c.inspector_id, findings=c.findings)]


def _inspect(state: RepairOrder, inspector_id: str) -> None:
    if state.status == "failed":
        raise c_.ReworkNotRecorded()
    _between(state, "completed", "completed", early=c_.WorkNotCompleted, late=c_.InspectionAlreadyPassed)
    if inspector_id in state.worked_on_by:
        raise c_.InspectorDidTheWork(fields={"inspector_id": "did the work"})


@repair_order.decides
def rework(state: RepairOrder, c: c_.RecordRework, ctx: Context) -> list[Event]:
    """After a failed inspection only."""
    _between(state, "failed", "failed", early=c_.InspectionNotFailed, late=c_.InspectionAlreadyPassed)
    return [
        ReworkRecorded(
            customer_id=state.customer_id,
            responsibility=c.responsibility,
            responsible_id=c.responsible_id,
            technician_id=c.technician_id,
            instructions=c.instructions,
        )
    ]


@repair_order.decides
def invoice(state: RepairOrder, c: c_.InvoiceRepair, ctx: Context) -> list[Event]:
    """Inspected work; shares that add up; no more than the customer agreed to."""
    _between(state, "inspected", "inspected", early=c_.InspectionNotPassed, late=c_.AlreadyInvoiced)
    total = _total(c.lines)
    _shares_add_up(c, total)
    if state.agreed_total is not None:
        if total.currency != state.agreed_total.currency:
            raise c_.CurrenciesDiffer(fields={"lines": f"the quote is in {state.agreed_total.currency}"})
        if total.amount > state.agreed_total.amount:
            raise c_.InvoiceExceedsQuote(
                f"{total.amount} is more than the {state.agreed_total.amount} agreed to",
                fields={"lines": "add up to more than the customer agreed to"},
            )
    return [
        RepairInvoiced(
            customer_id=state.customer_id,
            vin=state.vin,
            invoice_number=c.invoice_number,
            lines=c.lines,
            total=total,
            shares=c.shares,
        )
    ]


def _shares_add_up(c: c_.InvoiceRepair, total: Money) -> None:
    if len({share.payer for share in c.shares}) != len(c.shares):
        raise c_.PayerNamedTwice(fields={"shares": "name a payer twice"})
    if any(share.amount.currency != total.currency for share in c.shares):
        raise c_.CurrenciesDiffer(fields={"shares": f"the invoice is in {total.currency}"})
    together = sum((share.amount.amount for share in c.shares), Decimal(0))
    if together != total.amount or any(share.amount.amount < 0 for share in c.shares):
        raise c_.SharesDoNotAddUp(
            f"the shares make {together}, the lines {total.amount}",
            fields={"shares": f"make {together}, must make {total.amount} and none be negative"},
        )


@repair_order.decides
def submit_claim(state: RepairOrder, c: c_.SubmitClaim, ctx: Context) -> list[Event]:
    """Once, for the warranty share of the invoice; also after the car went back."""
    if state.claim_number:
        raise c_.ClaimAlreadySubmitted()
    _invoiced(state)
    amount = state.owed.get("warranty")
    if not amount:
        raise c_.NoWarrantyShare()
    return [ClaimSubmitted(claim_number=c.claim_number, amount=Money(amount=amount, currency=state.currency))]


@repair_order.decides
def settle_claim(state: RepairOrder, c: c_.SettleClaim, ctx: Context) -> list[Event]:
    """Once, with at most what was claimed."""
    if state.claimed is None or c.claim_number != state.claim_number or state.claim_settled:
        raise c_.ClaimUnknown(fields={"claim_number": "no claim with this number waits"})
    if c.accepted.currency != state.currency:
        raise c_.CurrenciesDiffer(fields={"accepted": f"the claim is in {state.currency}"})
    if not 0 <= c.accepted.amount <= state.claimed.amount:
        raise c_.ClaimExceeded(fields={"accepted": f"must be from 0 to {state.claimed.amount}"})
    return [ClaimSettled(claim_number=c.claim_number, accepted=c.accepted)]


@repair_order.decides
def pay(state: RepairOrder, c: c_.RecordRepairPayment, ctx: Context) -> list[Event]:
    """What the payer owes, in parts or at once.

    Insurers and the manufacturer may pay after the car went back.
    """
    _invoiced(state)
    owed = state.owed.get(c.payer, Decimal(0))
    if c.amount.currency != state.currency:
        raise c_.CurrenciesDiffer(fields={"amount": f"the invoice is in {state.currency}"})
    if owed <= 0:
        raise c_.NothingOwed(fields={"payer": "owes nothing"})
    if c.amount.amount > owed:
        raise c_.PaidTooMuch(fields={"amount": f"must be at most {owed}"})
    return [
        RepairPaid(
            customer_id=state.customer_id,
            payer=c.payer,
            amount=c.amount,
            method=c.method,
            remaining=Money(amount=owed - c.amount.amount, currency=state.currency),
        )
    ]


def _invoiced(state: RepairOrder) -> None:
    if state.status == "cancelled":
        raise c_.RepairOrderClosed("the repair order is cancelled")
    if state.status not in ("invoiced", "handed_back"):
        raise c_.NotInvoiced()


@repair_order.decides
def hand_back(state: RepairOrder, c: c_.HandBackVehicle, ctx: Context) -> list[Event]:
    """After the customer's share is paid, with a reading that did not run backwards."""
    _between(state, "invoiced", "invoiced", early=c_.NotInvoiced, late=c_.RepairOrderClosed)
    owed = state.owed.get("customer", Decimal(0))
    if owed > 0:
        raise c_.NotYetPaid(f"the customer still owes {owed} {state.currency}")
    if c.odometer_km < state.odometer_km:
        raise c_.OdometerRanBackwards(fields={"odometer_km": f"was {state.odometer_km} at reception"})
    handed_back_at = c.handed_back_at or ctx.now
    if not ctx.now - BACKDATED_AT_MOST <= handed_back_at <= ctx.now:
        raise c_.TimeOutOfRange(fields={"handed_back_at": "must lie in the last 31 days"})
    return [
        VehicleHandedBack(
            customer_id=state.customer_id,
            vin=state.vin,
            odometer_km=c.odometer_km,
            handed_back_at=handed_back_at,
            kind=state.kind,
        )
    ]


@repair_order.decides
def cancel(state: RepairOrder, c: c_.CancelRepairOrder, ctx: Context) -> list[Event]:
    """Before work begins."""
    if state.status == "cancelled":
        return []
    _between(state, "open", "dispatched", early=c_.WorkAlreadyStarted, late=c_.WorkAlreadyStarted)
    return [RepairOrderCancelled(customer_id=state.customer_id, vin=state.vin, reason=c.reason)]


# The names of technician and inspector are what the caller says; who says so is not.
repair_order.duties.four_eyes(c_.PassInspection, WorkCompleted, ever=True)
# Who submits a claim does not say what was paid for it.
repair_order.duties.four_eyes(c_.SettleClaim, ClaimSubmitted)
