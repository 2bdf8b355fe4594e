"""What decisions about a vehicle need, and how events change it."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from forecourt.deciders import Decider
from sales.vehicle.events import (
    OdometerRecorded,
    Pdi,
    PdiFailed,
    PdiPassed,
    Place,
    ReceivedIntoStock,
    ReservationConfirmed,
    ReservationReleased,
    TestDriveSlotBooked,
    TestDriveSlotReleased,
    VehiclePurchased,
    VehicleRegistered,
    VehicleReleased,
    VehicleReserved,
    VehicleTakenBack,
    VehicleTransferred,
)
from trade.vin import vehicle_id


@dataclass(frozen=True)
class Reservation:
    """Who the car is held for."""

    id: UUID
    customer_id: UUID
    order_id: UUID | None
    expires_at: datetime | None

    def is_live(self, now: datetime) -> bool:
        """Whether it still holds."""
        return self.expires_at is None or now < self.expires_at


@dataclass(frozen=True)
class Slot:
    """A time for which the car is wanted for a test drive."""

    id: UUID
    starts_at: datetime
    ends_at: datetime


@dataclass(frozen=True)
class Vehicle:
    """What decisions about a car need."""

    vin: str = ""
    model: str = ""
    place: Place = "registered"
    store: str = ""
    pdi: Pdi = "pending"
    odometer_km: int = 0
    reservation: Reservation | None = None
    slots: tuple[Slot, ...] = ()
    order_id: UUID | None = None

    def live_reservation(self, now: datetime) -> Reservation | None:
        """The reservation, unless it has expired."""
        return self.reservation if self.reservation and self.reservation.is_live(now) else None


vehicle = Decider(
    service="sales", category="vehicle", initial=Vehicle(), key=lambda command: vehicle_id(command.vin)
)


# A car is whose store has it; until it stands in one, whose store made it known.
vehicle.ownership.transfers(ReceivedIntoStock, to=lambda e: e.store)
vehicle.ownership.transfers(VehicleTransferred, to=lambda e: e.to_store)
vehicle.ownership.transfers(VehicleTakenBack, to=lambda e: e.store)


@vehicle.evolves
def _(state: Vehicle, e: VehicleRegistered) -> Vehicle:
    return replace(state, vin=e.vin, model=e.model)


@vehicle.evolves
def _(state: Vehicle, e: VehiclePurchased) -> Vehicle:
    return replace(state, place="in_transit")


@vehicle.evolves
def _(state: Vehicle, e: ReceivedIntoStock) -> Vehicle:
    return replace(state, place="in_stock", store=e.store, odometer_km=e.odometer_km)


@vehicle.evolves
def _(state: Vehicle, e: PdiPassed) -> Vehicle:
    return replace(state, pdi="passed")


@vehicle.evolves
def _(state: Vehicle, e: PdiFailed) -> Vehicle:
    return replace(state, pdi="failed")


@vehicle.evolves
def _(state: Vehicle, e: VehicleReserved) -> Vehicle:
    return replace(state, reservation=Reservation(e.reservation_id, e.customer_id, e.order_id, e.expires_at))


@vehicle.evolves
def _(state: Vehicle, e: ReservationConfirmed) -> Vehicle:
    return replace(state, reservation=Reservation(e.reservation_id, e.customer_id, e.order_id, None))


@vehicle.evolves
def _(state: Vehicle, e: ReservationReleased) -> Vehicle:
    return replace(state, reservation=None)


@vehicle.evolves
def _(state: Vehicle, e: VehicleTransferred) -> Vehicle:
    return replace(state, store=e.to_store)


@vehicle.evolves
def _(state: Vehicle, e: OdometerRecorded) -> Vehicle:
    return replace(state, odometer_km=e.odometer_km)


@vehicle.evolves
def _(state: Vehicle, e: TestDriveSlotBooked) -> Vehicle:
    return replace(state, slots=(*state.slots, Slot(e.test_drive_id, e.starts_at, e.ends_at)))


@vehicle.evolves
def _(state: Vehicle, e: TestDriveSlotReleased) -> Vehicle:
    return replace(state, slots=tuple(slot for slot in state.slots if slot.id != e.test_drive_id))


@vehicle.evolves
def _(state: Vehicle, e: VehicleReleased) -> Vehicle:
    return replace(
        state, place="delivered", odometer_km=e.odometer_km, reservation=None, slots=(), order_id=e.order_id
    )


@vehicle.evolves
def _(state: Vehicle, e: VehicleTakenBack) -> Vehicle:
    return replace(
        state, place="in_stock", store=e.store, odometer_km=e.odometer_km, pdi="pending", order_id=None
    )
