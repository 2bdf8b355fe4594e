"""Commands to a vehicle."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from forecourt.deciders import Command
from forecourt.values import PositiveMoney
from sales.terms import Model, Store
from sales.vehicle.events import ReleaseReason
from trade.fields import Kilometres, Line, Moment, OptionalLine
from trade.vin import VinStr


class RegisterVehicle(Command, creates=True):
    """Make a car known."""

    vin: VinStr
    model: Model
    colour: Annotated[OptionalLine, Field(max_length=80)] = ""
    model_year: int | None = Field(default=None, ge=1980, le=2100)


class PurchaseVehicle(Command):
    """Note that we bought the car."""

    vin: VinStr
    supplier: Line
    price: PositiveMoney


class ReceiveIntoStock(Command):
    """Note that the car stands in a store, that of the caller unless ``store`` is given."""

    vin: VinStr
    store: Store | None = None
    odometer_km: Kilometres = 0


class PassPdi(Command):
    """Note that the car passed its pre-delivery inspection; by the caller unless ``inspector`` is given."""

    vin: VinStr
    inspector: Line | None = None


class FailPdi(Command):
    """Note that the car failed its pre-delivery inspection, and why."""

    vin: VinStr
    inspector: Line | None = None
    defects: tuple[Line, ...] = Field(min_length=1, max_length=100)


class ReserveVehicle(Command):
    """Hold the car for a customer: until ``expires_at``, 72 hours from now if that is not given."""

    vin: VinStr
    reservation_id: UUID | None = None
    customer_id: UUID
    expires_at: Moment | None = None


class HoldForOrder(Command):
    """Hold the car for an order, without end. A reservation of the same customer becomes the order's."""

    vin: VinStr
    order_id: UUID
    customer_id: UUID
    model: Model


class ReleaseReservation(Command):
    """Free a car that is reserved without an order. ``reservation_id`` may be left out: the present one."""

    vin: VinStr
    reservation_id: UUID | None = None


class ReleaseHold(Command):
    """Free a car that is held for an order; nothing happens where it is not, or no more."""

    vin: VinStr
    order_id: UUID
    reason: ReleaseReason


class ExpireReservation(Command):
    """Free a car whose reservation has run out; nothing happens where it has not, or is another one."""

    vin: VinStr
    reservation_id: UUID


class TransferVehicle(Command):
    """Move the car to another store."""

    vin: VinStr
    to_store: Store


class BringForOrder(Command):
    """Move a car that is held for the order to the store whose order it is."""

    vin: VinStr
    order_id: UUID
    to_store: Store


class RecordOdometer(Command):
    """Note a reading of the odometer."""

    vin: VinStr
    odometer_km: Kilometres


class BookTestDriveSlot(Command):
    """Want the car for a test drive."""

    vin: VinStr
    test_drive_id: UUID
    opportunity_id: UUID
    starts_at: Moment
    ends_at: Moment


class ReleaseTestDriveSlot(Command):
    """Do not want the car for that test drive any more; nothing happens where it is not booked.

    ``odometer_km`` is the reading after the drive, which is noted unless it is less than an earlier one.
    """

    vin: VinStr
    test_drive_id: UUID
    odometer_km: Kilometres | None = None


class ReleaseVehicle(Command):
    """The car was delivered under the order it is held for."""

    vin: VinStr
    order_id: UUID
    odometer_km: Kilometres


class TakeBackVehicle(Command):
    """A car delivered under that order stands in a store again."""

    vin: VinStr
    order_id: UUID
    store: Store
    odometer_km: Kilometres
