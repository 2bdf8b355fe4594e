"""Events of other services that the customer 360 shows, with the fields it needs."""

from datetime import datetime
from uuid import UUID

from forecourt.events import ForeignEvent
from forecourt.values import Money


class LeadCaptured(ForeignEvent, type="sales.LeadCaptured", category="lead"):
    """A lead came in; ``customer_id`` where the customer was known."""

    source: str
    model: str | None = None
    customer_id: UUID | None = None


class OpportunityOpened(ForeignEvent, type="sales.OpportunityOpened", category="opportunity"):
    """A customer wants to buy."""

    customer_id: UUID
    model: str


class TestDriveScheduled(ForeignEvent, type="sales.TestDriveScheduled", category="opportunity"):
    """A test drive was arranged."""

    __test__ = False

    customer_id: UUID
    vin: str
    starts_at: datetime


class TestDriveCompleted(ForeignEvent, type="sales.TestDriveCompleted", category="opportunity"):
    """A test drive took place."""

    __test__ = False

    customer_id: UUID
    vin: str


class QuoteIssued(ForeignEvent, type="sales.QuoteIssued", category="opportunity"):
    """A quote was handed out."""

    customer_id: UUID
    quote_version: int
    total: Money


class OpportunityWon(ForeignEvent, type="sales.OpportunityWon", category="opportunity"):
    """The customer decided to buy."""

    customer_id: UUID


class OpportunityLost(ForeignEvent, type="sales.OpportunityLost", category="opportunity"):
    """The customer bought elsewhere, or not at all."""

    customer_id: UUID
    reason: str


class OrderPlaced(ForeignEvent, type="sales.OrderPlaced", category="order"):
    """A vehicle was ordered."""

    customer_id: UUID
    model: str
    total: Money


class VehicleAllocated(ForeignEvent, type="sales.VehicleAllocated", category="order"):
    """A certain vehicle was set aside for the order."""

    customer_id: UUID
    vin: str


class PaymentReceived(ForeignEvent, type="sales.PaymentReceived", category="order"):
    """Money came in."""

    customer_id: UUID
    amount: Money


class AncillaryOrderAdded(ForeignEvent, type="sales.AncillaryOrderAdded", category="order"):
    """Insurance, accessories, plates or a loan with the vehicle."""

    customer_id: UUID
    kind: str
    amount: Money


class VehicleDelivered(ForeignEvent, type="sales.VehicleDelivered", category="order"):
    """The customer drove home in the new vehicle."""

    customer_id: UUID
    vin: str
    model: str
    delivered_at: datetime


class OrderCancelled(ForeignEvent, type="sales.OrderCancelled", category="order"):
    """Nothing came of the order; what was paid was given back."""

    customer_id: UUID
    vin: str | None
    refund: Money


class VehicleReturned(ForeignEvent, type="sales.VehicleReturned", category="order"):
    """The customer gave the delivered vehicle back."""

    customer_id: UUID
    vin: str


class RepairOrderOpened(ForeignEvent, type="service_desk.RepairOrderOpened", category="repair_order"):
    """A vehicle was taken in."""

    customer_id: UUID
    vin: str
    kind: str


class RepairInvoiced(ForeignEvent, type="service_desk.RepairInvoiced", category="repair_order"):
    """The repair was invoiced."""

    customer_id: UUID
    total: Money


class VehicleHandedBack(ForeignEvent, type="service_desk.VehicleHandedBack", category="repair_order"):
    """The vehicle went back to the customer."""

    customer_id: UUID
    vin: str
    kind: str


class ComplaintReceived(ForeignEvent, type="service_desk.ComplaintReceived", category="complaint"):
    """The customer complained."""

    customer_id: UUID
    severity: str
    vin: str | None = None


class ComplaintClosed(ForeignEvent, type="service_desk.ComplaintClosed", category="complaint"):
    """The complaint was dealt with."""

    customer_id: UUID


class ComplaintReopened(ForeignEvent, type="service_desk.ComplaintReopened", category="complaint"):
    """It was not."""

    customer_id: UUID


class ReturnVisitScheduled(ForeignEvent, type="service_desk.ReturnVisitScheduled", category="return_visit"):
    """The customer will be asked how it went."""

    customer_id: UUID
    vin: str | None = None
    trigger: str


class ReturnVisitCompleted(ForeignEvent, type="service_desk.ReturnVisitCompleted", category="return_visit"):
    """The customer was asked."""

    customer_id: UUID
    satisfied: bool


class ReminderScheduled(ForeignEvent, type="service_desk.ReminderScheduled", category="reminder"):
    """Something will fall due."""

    customer_id: UUID
    vin: str
    kind: str


class ReminderBecameDue(ForeignEvent, type="service_desk.ReminderBecameDue", category="reminder"):
    """Something fell due."""

    customer_id: UUID
    vin: str
    kind: str


class ReminderFulfilled(ForeignEvent, type="service_desk.ReminderFulfilled", category="reminder"):
    """What fell due was done."""

    customer_id: UUID
    kind: str


FOREIGN: tuple[type[ForeignEvent], ...] = (
    LeadCaptured,
    OpportunityOpened,
    TestDriveScheduled,
    TestDriveCompleted,
    QuoteIssued,
    OpportunityWon,
    OpportunityLost,
    OrderPlaced,
    VehicleAllocated,
    PaymentReceived,
    AncillaryOrderAdded,
    VehicleDelivered,
    OrderCancelled,
    VehicleReturned,
    RepairOrderOpened,
    RepairInvoiced,
    VehicleHandedBack,
    ComplaintReceived,
    ComplaintClosed,
    ComplaintReopened,
    ReturnVisitScheduled,
    ReturnVisitCompleted,
    ReminderScheduled,
    ReminderBecameDue,
    ReminderFulfilled,
)
