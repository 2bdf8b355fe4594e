"""The events of other services that messages are made of, as far as they are read here."""

from datetime import date, datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from forecourt.events import ForeignEvent, Personal
from forecourt.values import Money

# customer: whom to write to, how, and whether


class ContactPoint(BaseModel):
    """A way to reach somebody."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    value: Personal[str]


class ConsentGiven(BaseModel):
    """A purpose and a channel that a customer agreed to."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    purpose: str
    channel: str


class CustomerRegistered(ForeignEvent, type="customer.CustomerRegistered", category="customer"):
    """A customer is known."""

    name: Personal[str]
    language: str
    time_zone: str
    contact_points: tuple[ContactPoint, ...] = ()
    consents: tuple[ConsentGiven, ...] = ()


class ContactPointAdded(ForeignEvent, type="customer.ContactPointAdded", category="customer"):
    """A customer can be reached in one more way."""

    kind: str
    value: Personal[str]


class ProfileCorrected(ForeignEvent, type="customer.ProfileCorrected", category="customer"):
    """A field of a customer's profile was wrong."""

    field: str
    value: Personal[str]


class ConsentGranted(ForeignEvent, type="customer.ConsentGranted", category="customer"):
    """A customer agreed to messages of a purpose on a channel."""

    purpose: str
    channel: str


class ConsentWithdrawn(ForeignEvent, type="customer.ConsentWithdrawn", category="customer"):
    """A customer no longer wants messages of a purpose on a channel."""

    purpose: str
    channel: str


class PersonalDataShredded(
    ForeignEvent, type="customer.PersonalDataShredded", category="customer", erases=True
):
    """A customer's personal data is erased."""


class CustomerShared(ForeignEvent, type="customer.CustomerShared", category="customer"):
    """Another store may see a customer, too."""

    store: str


class CustomerUnshared(ForeignEvent, type="customer.CustomerUnshared", category="customer"):
    """The other store may not any more."""

    store: str


class CustomerTransferred(ForeignEvent, type="customer.CustomerTransferred", category="customer"):
    """A customer belongs to another store."""

    to_store: str


# sales


class OrderPlaced(ForeignEvent, type="sales.OrderPlaced", category="order"):
    """A car was ordered."""

    customer_id: UUID
    model: str
    total: Money


class VehicleArrived(ForeignEvent, type="sales.VehicleArrived", category="order"):
    """The ordered car is at the store."""

    customer_id: UUID
    vin: str


class VehicleDelivered(ForeignEvent, type="sales.VehicleDelivered", category="order"):
    """The car was handed to its buyer."""

    customer_id: UUID
    vin: str
    model: str
    delivered_at: datetime


# service desk


class AppointmentBooked(ForeignEvent, type="service_desk.AppointmentBooked", category="appointment"):
    """The workshop expects the customer."""

    customer_id: UUID
    vin: str
    starts_at: datetime


class RepairQuoted(ForeignEvent, type="service_desk.RepairQuoted", category="repair_order"):
    """The workshop asks the customer to approve a price."""

    customer_id: UUID
    total: Money


class VehicleHandedBack(ForeignEvent, type="service_desk.VehicleHandedBack", category="repair_order"):
    """The customer has the car back from the workshop."""

    customer_id: UUID
    vin: str
    odometer_km: int
    handed_back_at: datetime


class ComplaintAcknowledged(ForeignEvent, type="service_desk.ComplaintAcknowledged", category="complaint"):
    """Somebody looks after a complaint."""

    customer_id: UUID


class ComplaintClosed(ForeignEvent, type="service_desk.ComplaintClosed", category="complaint"):
    """A complaint was settled."""

    customer_id: UUID


class ReturnVisitBecameDue(ForeignEvent, type="service_desk.ReturnVisitBecameDue", category="return_visit"):
    """It is time to ask the customer how it went."""

    customer_id: UUID
    trigger: Literal["delivery", "repair", "complaint"]


class ReminderBecameDue(ForeignEvent, type="service_desk.ReminderBecameDue", category="reminder"):
    """Something falls due for a customer's car."""

    customer_id: UUID
    vin: str
    kind: Literal[
        "first_maintenance", "regular_maintenance", "insurance_renewal", "annual_inspection", "warranty_end"
    ]
    due_on: date


CUSTOMER_EVENTS: tuple[type[ForeignEvent], ...] = (
    CustomerRegistered,
    ContactPointAdded,
    ProfileCorrected,
    ConsentGranted,
    ConsentWithdrawn,
    CustomerShared,
    CustomerUnshared,
    CustomerTransferred,
    PersonalDataShredded,
)

REASONS: tuple[type[ForeignEvent], ...] = (
    OrderPlaced,
    VehicleArrived,
    VehicleDelivered,
    AppointmentBooked,
    RepairQuoted,
    VehicleHandedBack,
    ComplaintAcknowledged,
    ComplaintClosed,
    ReturnVisitBecameDue,
    ReminderBecameDue,
)
