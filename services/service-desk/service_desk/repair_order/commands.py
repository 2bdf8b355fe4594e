"""What can be asked of a repair order, and the names of its refusals."""

from datetime import date
from typing import Annotated
from uuid import UUID

from pydantic import Field

from forecourt.deciders import Command
from forecourt.errors import InvalidInput, Refused
from forecourt.values import Money, PositiveMoney
from service_desk.fields import Code, Kilometres, LongText, Moment, ShortText, Some
from service_desk.repair_order.events import (
    Agreement,
    Kind,
    Line,
    Method,
    PartLine,
    PauseReason,
    Payer,
    Responsibility,
    Share,
)
from trade.vin import VinStr

Lines = Annotated[Some[Line], Field(max_length=100)]
Parts = Annotated[Some[PartLine], Field(max_length=100)]
Texts = Annotated[Some[ShortText], Field(max_length=20)]


class OpenRepairOrder(Command, creates=True):
    """Take a car in."""

    repair_order_id: UUID | None = None
    customer_id: UUID
    vin: VinStr
    odometer_km: Kilometres
    kind: Kind
    symptoms: Texts
    appointment_id: UUID | None = None
    adviser_id: Code


class RepairOrderCommand(Command):
    """Base of the commands on an order that exists."""

    repair_order_id: UUID


class QuoteRepair(RepairOrderCommand):
    """Tell the customer the price of everything to be done."""

    lines: Lines


class ApproveQuote(RepairOrderCommand):
    """Note the customer's agreement to the quote with this version."""

    quote_version: Annotated[int, Field(ge=1)]
    agreement: Agreement


class DeclineQuote(RepairOrderCommand):
    """Note that the customer does not agree to the quote with this version."""

    quote_version: Annotated[int, Field(ge=1)]
    reason: ShortText


class AddJob(RepairOrderCommand):
    """Add something that was found to be done; it needs a new quote."""

    description: ShortText


class DispatchTechnician(RepairOrderCommand):
    """Give the work to a technician at a bay; again to another one while it has not been completed."""

    technician_id: Code
    bay: Code


class RequestParts(RepairOrderCommand):
    """Ask the parts store for parts."""

    parts: Parts


class IssueParts(RepairOrderCommand):
    """Hand out parts that were requested."""

    parts: Parts


class ReportPartsShort(RepairOrderCommand):
    """Say that a requested part is not in stock."""

    part_number: Code
    pieces: Annotated[int, Field(ge=1, le=1_000)]
    expected_on: date | None = None


class StartWork(RepairOrderCommand):
    """Begin, or begin rework."""


class PauseWork(RepairOrderCommand):
    """Let work stand still."""

    reason: PauseReason


class ResumeWork(RepairOrderCommand):
    """Go on with paused work."""


class CompleteWork(RepairOrderCommand):
    """Say that it is done."""


class PassInspection(RepairOrderCommand):
    """Find the work good."""

    inspector_id: Code


class FailInspection(RepairOrderCommand):
    """Find faults."""

    inspector_id: Code
    findings: Texts


class RecordRework(RepairOrderCommand):
    """Say who answers for the faults, and who mends them."""

    responsibility: Responsibility
    responsible_id: Code
    technician_id: Code
    instructions: LongText


class InvoiceRepair(RepairOrderCommand):
    """Settle: the lines, and each payer's share. The shares must add up to the total to the cent."""

    invoice_number: Code
    lines: Lines
    shares: Annotated[Some[Share], Field(max_length=3)]


class SubmitClaim(RepairOrderCommand):
    """Ask the manufacturer for the warranty share."""

    claim_number: Code


class SettleClaim(RepairOrderCommand):
    """Note what the manufacturer accepted of the claim."""

    claim_number: Code
    accepted: Money


class RecordRepairPayment(RepairOrderCommand):
    """Note that a payer paid."""

    payer: Payer
    amount: PositiveMoney
    method: Method


class HandBackVehicle(RepairOrderCommand):
    """Give the car back. ``handed_back_at`` is now where it is not given."""

    odometer_km: Kilometres
    handed_back_at: Moment | None = None


class CancelRepairOrder(RepairOrderCommand):
    """Call the order off."""

    reason: ShortText


class RepairOrderClosed(Refused):
    """The car was handed back or the order cancelled; nothing can be done on it any more."""


class QuoteMissing(Refused):
    """The step needs a quote that waits for the customer's answer."""


class QuoteAnswered(Refused):
    """The customer has answered the quote."""


class QuoteOutdated(Refused):
    """The quote that was answered is not the latest one."""


class QuoteNotApproved(Refused):
    """The step needs the customer's agreement to the latest quote."""


class QuoteAlreadyApproved(Refused):
    """Nothing was added since the customer agreed; there is nothing to quote."""


class CurrenciesDiffer(InvalidInput):
    """Sums of one order must be in one currency."""


class TechnicianNotDispatched(Refused):
    """The step needs a technician who was given the work."""


class WorkAlreadyStarted(Refused):
    """The step is for an order on which work has not begun."""


class WorkNotStarted(Refused):
    """The step needs work to have begun."""


class WorkIsPaused(Refused):
    """The step needs work to go on; it stands still."""


class WorkNotPaused(Refused):
    """Only paused work can be resumed."""


class WorkNotCompleted(Refused):
    """The step needs the work to be done."""


class WorkAlreadyCompleted(Refused):
    """The work is done."""


class PartsNotRequested(Refused):
    """More pieces of a part are issued or missed than were requested."""


class PartsOutstanding(Refused):
    """Requested parts have not been issued."""


class InspectionNotPassed(Refused):
    """The step needs a passed inspection."""


class InspectionNotFailed(Refused):
    """Rework follows a failed inspection only."""


class InspectionAlreadyPassed(Refused):
    """The inspection was passed."""


class ReworkNotRecorded(Refused):
    """Faults were found; who mends them must be said before work goes on."""


class InspectorDidTheWork(Refused):
    """Nobody inspects their own work."""


class SharesDoNotAddUp(Refused):
    """The payers' shares do not add up to the invoice's total."""


class PayerNamedTwice(InvalidInput):
    """An invoice has one share for each payer."""


class InvoiceExceedsQuote(Refused):
    """The invoice is higher than what the customer agreed to."""


class NotInvoiced(Refused):
    """The step needs an invoice."""


class AlreadyInvoiced(Refused):
    """The order was invoiced."""


class NothingOwed(Refused):
    """This payer has no share, or has paid it."""


class PaidTooMuch(Refused):
    """The payment is higher than what this payer owes."""


class NotYetPaid(Refused):
    """The car stays until the customer's share is paid."""


class NoWarrantyShare(Refused):
    """The invoice has no share that the manufacturer pays."""


class ClaimAlreadySubmitted(Refused):
    """The claim was submitted."""


class ClaimUnknown(Refused):
    """No claim with this number waits for an answer."""


class ClaimExceeded(Refused):
    """More was accepted than was claimed."""


class OdometerRanBackwards(Refused):
    """The reading is lower than the one at reception."""


class TimeOutOfRange(Refused):
    """The moment lies in the future, or further back than a month."""
