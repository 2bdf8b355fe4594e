"""Vehicles: where each is, and for whom it is held."""

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec.structs import replace

from forecourt.events import Meta
from forecourt.projections.projection import Index, Owned, Projection
from sales.vehicle.events import (
    OdometerRecorded,
    PdiFailed,
    PdiPassed,
    ReceivedIntoStock,
    ReservationConfirmed,
    ReservationReleased,
    VehiclePurchased,
    VehicleRegistered,
    VehicleReleased,
    VehicleReserved,
    VehicleTakenBack,
    VehicleTransferred,
)


class VehicleRow(msgspec.Struct, frozen=True):
    """A car as it is now. ``store`` is the one that has it, or that registered it before it came."""

    vehicle_id: UUID
    vin: str
    check_digit: str
    model: str
    colour: str
    model_year: int | None
    place: str
    store: str
    pdi: str
    defects: tuple[str, ...]
    odometer_km: int
    reserved: bool
    reservation_id: UUID | None
    customer_id: UUID | None
    order_id: UUID | None
    reserved_until: datetime | None
    brand: str


vehicles = Projection(
    "vehicle",
    version=1,
    row=VehicleRow,
    key="vehicle_id",
    indexes=[
        Index(("vin",), unique=True),
        Index(("store", "place", "model")),
        Index(("place", "model")),
        Index(("reserved", "reserved_until")),
    ],
    owner=Owned(dealer="store"),
)


@vehicles.on()
def _registered(row: VehicleRow | None, e: VehicleRegistered, m: Meta) -> VehicleRow:
    return VehicleRow(
        vehicle_id=m.stream_id,
        vin=e.vin,
        check_digit=e.check_digit,
        model=e.model,
        colour=e.colour,
        model_year=e.model_year,
        place="registered",
        store=m.dealer_id,
        pdi="pending",
        defects=(),
        odometer_km=0,
        reserved=False,
        reservation_id=None,
        customer_id=None,
        order_id=None,
        reserved_until=None,
        brand=m.brand,
    )


@vehicles.on()
def _purchased(row: VehicleRow | None, e: VehiclePurchased, m: Meta) -> VehicleRow | None:
    return row and replace(row, place="in_transit")


@vehicles.on()
def _received(row: VehicleRow | None, e: ReceivedIntoStock, m: Meta) -> VehicleRow | None:
    return row and replace(row, place="in_stock", store=e.store, odometer_km=e.odometer_km)


@vehicles.on()
def _passed(row: VehicleRow | None, e: PdiPassed, m: Meta) -> VehicleRow | None:
    return row and replace(row, pdi="passed", defects=())


@vehicles.on()
def _failed(row: VehicleRow | None, e: PdiFailed, m: Meta) -> VehicleRow | None:
    return row and replace(row, pdi="failed", defects=e.defects)


@vehicles.on()
def _reserved(row: VehicleRow | None, e: VehicleReserved, m: Meta) -> VehicleRow | None:
    return row and replace(
        row,
        reserved=True,
        reservation_id=e.reservation_id,
        customer_id=e.customer_id,
        order_id=e.order_id,
        reserved_until=e.expires_at,
    )


@vehicles.on()
def _confirmed(row: VehicleRow | None, e: ReservationConfirmed, m: Meta) -> VehicleRow | None:
    return row and replace(row, order_id=e.order_id, reserved_until=None)


@vehicles.on()
def _free(row: VehicleRow | None, e: ReservationReleased, m: Meta) -> VehicleRow | None:
    return row and _unreserved(row)


def _unreserved(row: VehicleRow) -> VehicleRow:
    return replace(
        row, reserved=False, reservation_id=None, customer_id=None, order_id=None, reserved_until=None
    )


@vehicles.on()
def _transferred(row: VehicleRow | None, e: VehicleTransferred, m: Meta) -> VehicleRow | None:
    return row and replace(row, store=e.to_store)


@vehicles.on()
def _odometer(row: VehicleRow | None, e: OdometerRecorded, m: Meta) -> VehicleRow | None:
    return row and replace(row, odometer_km=e.odometer_km)


@vehicles.on()
def _released(row: VehicleRow | None, e: VehicleReleased, m: Meta) -> VehicleRow | None:
    return row and replace(
        _unreserved(row),
        place="delivered",
        odometer_km=e.odometer_km,
        customer_id=e.customer_id,
        order_id=e.order_id,
    )


@vehicles.on()
def _taken_back(row: VehicleRow | None, e: VehicleTakenBack, m: Meta) -> VehicleRow | None:
    return row and replace(
        _unreserved(row), place="in_stock", store=e.store, pdi="pending", odometer_km=e.odometer_km
    )
