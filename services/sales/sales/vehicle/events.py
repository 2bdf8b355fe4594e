"""Events of a vehicle."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from forecourt.events import Event
from forecourt.values import Money
from trade.vin import CheckDigit

Place = Literal["registered", "in_transit", "in_stock", "delivered"]
Pdi = Literal["pending", "passed", "failed"]
ReleaseReason = Literal["expired", "withdrawn", "order_cancelled", "order_refused"]


class VehicleRegistered(Event, name="VehicleRegistered", version=1):
    """A car is known to us. ``check_digit`` says what the VIN's ninth character says."""

    vin: str
    model: str
    check_digit: CheckDigit
    colour: str
    model_year: int | None


class VehiclePurchased(Event, name="VehiclePurchased", version=1):
    """We bought the car; it is on its way to us."""

    vin: str
    supplier: str
    price: Money


class ReceivedIntoStock(Event, name="ReceivedIntoStock", version=1):
    """The car stands in a store. ``order_id`` is the order it is held for, if any."""

    vin: str
    store: str
    odometer_km: int
    order_id: UUID | None


class PdiPassed(Event, name="PdiPassed", version=1):
    """The car passed its pre-delivery inspection."""

    vin: str
    inspector: str


class PdiFailed(Event, name="PdiFailed", version=1):
    """The car failed its pre-delivery inspection."""

    vin: str
    inspector: str
    defects: tuple[str, ...]


class VehicleReserved(Event, name="VehicleReserved", version=1):
    """The car is held for a customer: until ``expires_at``, or for an order without end."""

    vin: str
    reservation_id: UUID
    customer_id: UUID
    order_id: UUID | None
    expires_at: datetime | None


class ReservationConfirmed(Event, name="ReservationConfirmed", version=1):
    """The customer who reserved the car has ordered it: the reservation does not expire any more."""

    vin: str
    reservation_id: UUID
    customer_id: UUID
    order_id: UUID


class ReservationReleased(Event, name="ReservationReleased", version=1):
    """The car is free again."""

    vin: str
    reservation_id: UUID
    customer_id: UUID
    order_id: UUID | None
    reason: ReleaseReason


class VehicleTransferred(Event, name="VehicleTransferred", version=1):
    """The car moved from one store to another."""

    vin: str
    from_store: str
    to_store: str


class OdometerRecorded(Event, name="OdometerRecorded", version=1):
    """Somebody read the odometer."""

    vin: str
    odometer_km: int


class TestDriveSlotBooked(Event, name="TestDriveSlotBooked", version=1):
    """The car is wanted for a test drive in that time."""

    vin: str
    test_drive_id: UUID
    opportunity_id: UUID
    starts_at: datetime
    ends_at: datetime


class TestDriveSlotReleased(Event, name="TestDriveSlotReleased", version=1):
    """The car is not wanted for that test drive any more."""

    vin: str
    test_drive_id: UUID


class VehicleReleased(Event, name="VehicleReleased", version=1):
    """The car left our stock for good: its customer has it."""

    vin: str
    order_id: UUID
    customer_id: UUID
    odometer_km: int


class VehicleTakenBack(Event, name="VehicleTakenBack", version=1):
    """A delivered car came back into a store's stock; it needs an inspection again."""

    vin: str
    order_id: UUID
    store: str
    odometer_km: int
