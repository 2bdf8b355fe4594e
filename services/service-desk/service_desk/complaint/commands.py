"""What can be asked of a complaint, and the names of its refusals."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from forecourt.deciders import Command
from forecourt.errors import InvalidInput, Refused
from forecourt.values import PositiveMoney
from service_desk.complaint.events import Channel, Department, PauseReason, Result, Topic
from service_desk.fields import Code, LongText, OptionalText, ShortText
from service_desk.sla import TOP_LEVEL, Severity
from trade.vin import VinStr


class ReceiveComplaint(Command, creates=True):
    """Take a complaint in; its clock starts."""

    complaint_id: UUID | None = None
    customer_id: UUID
    channel: Channel
    severity: Severity
    subject: ShortText
    description: LongText
    vin: VinStr | None = None
    repair_order_id: UUID | None = None
    return_visit_id: UUID | None = None


class ComplaintCommand(Command):
    """Base of the commands on a complaint that exists."""

    complaint_id: UUID


class AcknowledgeComplaint(ComplaintCommand):
    """Note that the customer was told."""


class TriageComplaint(ComplaintCommand):
    """Say what it is about and how severe.

    Another severity counts the deadlines anew from the receipt, without the time for which the clock stood.
    """

    topic: Topic
    severity: Severity


class DispatchComplaint(ComplaintCommand):
    """Give it to a department and a person; again to another one while it is open."""

    department: Department
    owner_id: Code


class RecordComplaintAction(ComplaintCommand):
    """Note what was done."""

    action: LongText


class ProposeResolution(ComplaintCommand):
    """Reply to the customer with an offer; the clock stands until they answer."""

    resolution: LongText
    compensation: PositiveMoney | None = None


class RecordCustomerReply(ComplaintCommand):
    """Note what the customer says to the offer."""

    accepted: bool
    remarks: OptionalText = ""


class CompleteRevisit(ComplaintCommand):
    """Note how the customer feels after the resolution was carried out, or after declining the last offer."""

    satisfied: bool
    remarks: OptionalText = ""


class CloseComplaint(ComplaintCommand):
    """Close it."""

    result: Result


class ReopenComplaint(ComplaintCommand):
    """Open it again; a new round of the clock starts."""

    reason: ShortText


class EscalateComplaint(ComplaintCommand):
    """Let the next level know."""


class PauseComplaintSla(ComplaintCommand):
    """Let the clock stand while others are to move."""

    reason: PauseReason


class ResumeComplaintSla(ComplaintCommand):
    """Let the clock run again."""


class ClimbLadder(ComplaintCommand):
    """Climb a step of the ladder whose deadline has passed.

    For the timer: does nothing where it is not so.
    """

    round: Annotated[int, Field(ge=1)]
    level: Annotated[int, Field(ge=1, le=TOP_LEVEL)]


class ComplaintIsClosed(Refused):
    """The complaint is closed; reopen it first."""


class ComplaintNotClosed(Refused):
    """Only a closed complaint can be reopened."""


class NotAcknowledged(Refused):
    """The customer has not been told that the complaint is known."""


class NotTriaged(Refused):
    """It has not been said what the complaint is about."""


class NotDispatched(Refused):
    """Nobody owns the complaint."""


class NothingProposed(Refused):
    """The customer has no offer to reply to."""


class ProposalUnanswered(Refused):
    """The customer has not answered the offer yet."""


class NotReplied(Refused):
    """A complaint cannot be closed, nor revisited, before the customer replied to an offer."""


class ProposalAccepted(Refused):
    """The customer accepted the offer; what follows is the revisit."""


class NotRevisited(Refused):
    """A complaint cannot be closed before the revisit."""


class CustomerNotSatisfied(Refused):
    """A complaint is not resolved while the customer is not satisfied."""


class ClockIsRunning(Refused):
    """Only a standing clock can be resumed."""


class ClockIsStanding(Refused):
    """The clock stands already."""


class TopOfLadder(Refused):
    """The highest level knows of it."""


class ReturnVisitMissing(InvalidInput):
    """A complaint from a return visit must name it."""
