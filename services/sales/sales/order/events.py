"""Events of an order."""

from datetime import date, datetime
from typing import Literal
from uuid import UUID

from forecourt.events import Event, Personal
from forecourt.values import Money
from sales.terms import SaleLine

PaymentMethod = Literal["cash", "card", "bank_transfer", "mobile", "loan", "trade_in"]
AncillaryKind = Literal["accessories", "insurance", "service_pack", "plate_registration", "loan"]
Sheet = Literal["inspection", "customer", "delivery"]


class OrderPlaced(Event, name="OrderPlaced", version=1):
    """A customer ordered a car of this model. ``total`` is the sum of the lines."""

    customer_id: UUID
    model: str
    lines: tuple[SaleLine, ...]
    total: Money
    opportunity_id: UUID | None


class VehicleAllocated(Event, name="VehicleAllocated", version=1):
    """This car is the customer's."""

    vin: str
    customer_id: UUID


class VehicleArrived(Event, name="VehicleArrived", version=1):
    """The customer's car is in the store."""

    vin: str
    customer_id: UUID


class DepositReceived(Event, name="DepositReceived", version=1):
    """The customer paid a deposit, which counts towards the total."""

    customer_id: UUID
    payment_id: UUID
    amount: Money
    method: PaymentMethod
    balance: Money


class PaymentReceived(Event, name="PaymentReceived", version=1):
    """The customer paid. ``balance`` is what is still due."""

    customer_id: UUID
    payment_id: UUID
    amount: Money
    method: PaymentMethod
    balance: Money


class PaymentWrittenOff(Event, name="PaymentWrittenOff", version=1, person="customer_id"):
    """We do not insist on a part of the price."""

    customer_id: UUID
    amount: Money
    reason: Personal[str]
    balance: Money


class AncillaryOrderAdded(Event, name="AncillaryOrderAdded", version=1):
    """Something besides the car is sold with it, and adds to what is due."""

    customer_id: UUID
    ancillary_id: UUID
    kind: AncillaryKind
    description: str
    amount: Money
    balance: Money


class InvoiceIssued(Event, name="InvoiceIssued", version=1):
    """The customer has the invoice over everything sold."""

    customer_id: UUID
    invoice_number: str
    amount: Money


class OutboundNotified(Event, name="OutboundNotified", version=1):
    """Somebody asked to let the car out."""

    vin: str
    notified_by: str


class OutboundApproved(Event, name="OutboundApproved", version=1):
    """Somebody else let the car out."""

    vin: str
    approved_by: str


class HandoverChecklistCompleted(Event, name="HandoverChecklistCompleted", version=1):
    """One of the three handover sheets is complete: every check on it passed."""

    vin: str
    sheet: Sheet
    checks: tuple[str, ...]
    completed_by: str


class VehicleDelivered(Event, name="VehicleDelivered", version=1):
    """The customer has the car. ``insurance_until`` is the last day of its insurance, where we know it."""

    customer_id: UUID
    vin: str
    model: str
    delivered_at: datetime
    odometer_km: int
    insurance_until: date | None


class OrderCancelled(Event, name="OrderCancelled", version=1, person="customer_id"):
    """Nothing comes of the order; ``refund`` is what the customer had paid."""

    customer_id: UUID
    vin: str | None
    reason: Personal[str]
    refund: Money


class VehicleReturned(Event, name="VehicleReturned", version=1, person="customer_id"):
    """The customer gave the delivered car back."""

    customer_id: UUID
    vin: str
    reason: Personal[str]
    store: str
    odometer_km: int
