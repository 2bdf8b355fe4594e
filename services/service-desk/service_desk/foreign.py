"""Events of other services that the service desk reads."""

from datetime import date, datetime
from uuid import UUID

from forecourt.events import ForeignEvent


class VehicleRegistered(ForeignEvent, type="sales.VehicleRegistered", category="vehicle"):
    """A car is known to sales."""

    vin: str
    model: str


class VehiclePurchased(ForeignEvent, type="sales.VehiclePurchased", category="vehicle"):
    """The group bought a car."""

    vin: str


class ReceivedIntoStock(ForeignEvent, type="sales.ReceivedIntoStock", category="vehicle"):
    """A car stands in a store."""

    vin: str
    store: str


class PdiPassed(ForeignEvent, type="sales.PdiPassed", category="vehicle"):
    """A car passed its pre-delivery inspection."""

    vin: str


class PdiFailed(ForeignEvent, type="sales.PdiFailed", category="vehicle"):
    """A car failed its pre-delivery inspection."""

    vin: str


class VehicleReserved(ForeignEvent, type="sales.VehicleReserved", category="vehicle"):
    """A car is held for a customer."""

    vin: str


class ReservationReleased(ForeignEvent, type="sales.ReservationReleased", category="vehicle"):
    """A car is free again."""

    vin: str


class VehicleTransferred(ForeignEvent, type="sales.VehicleTransferred", category="vehicle"):
    """A car moved from one store to another."""

    vin: str
    from_store: str
    to_store: str


class VehicleAllocated(ForeignEvent, type="sales.VehicleAllocated", category="order"):
    """A car is a certain customer's."""

    vin: str


class VehicleDelivered(ForeignEvent, type="sales.VehicleDelivered", category="order"):
    """A customer has the car. ``insurance_until`` is the last day of its insurance, where it is known."""

    customer_id: UUID
    vin: str
    model: str
    delivered_at: datetime
    odometer_km: int
    insurance_until: date | None


class VehicleReturned(ForeignEvent, type="sales.VehicleReturned", category="order"):
    """A customer gave the delivered car back."""

    customer_id: UUID
    vin: str


class VehicleOwnershipRecorded(ForeignEvent, type="customer.VehicleOwnershipRecorded", category="customer"):
    """A customer owns, or owned, a car."""

    vin: str
    since: date
    until: date | None


class PersonalDataShredded(
    ForeignEvent, type="customer.PersonalDataShredded", category="customer", erases=True
):
    """A customer's personal data is erased."""


FOREIGN: tuple[type[ForeignEvent], ...] = (
    VehicleRegistered,
    VehiclePurchased,
    ReceivedIntoStock,
    PdiPassed,
    PdiFailed,
    VehicleReserved,
    ReservationReleased,
    VehicleTransferred,
    VehicleAllocated,
    VehicleDelivered,
    VehicleReturned,
    VehicleOwnershipRecorded,
    PersonalDataShredded,
)
