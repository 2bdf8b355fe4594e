"""Decisions about a vehicle: from state and command to events, or a refusal."""

from datetime import datetime, timedelta
from uuid import UUID

from forecourt.deciders import Context
from forecourt.events import Event
from sales.terms import require_between
from sales.vehicle.commands import (
    BookTestDriveSlot,
    BringForOrder,
    ExpireReservation,
    FailPdi,
    HoldForOrder,
    PassPdi,
    PurchaseVehicle,
    ReceiveIntoStock,
    RecordOdometer,
    RegisterVehicle,
    ReleaseHold,
    ReleaseReservation,
    ReleaseTestDriveSlot,
    ReleaseVehicle,
    ReserveVehicle,
    TakeBackVehicle,
    TransferVehicle,
)
from sales.vehicle.events import (
    OdometerRecorded,
    PdiFailed,
    PdiPassed,
    ReceivedIntoStock,
    ReleaseReason,
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
from sales.vehicle.refusals import (
    NoSuchReservation,
    OdometerRunsBackwards,
    ReservationIsForOrder,
    VehicleAlreadyInStock,
    VehicleAlreadyPurchased,
    VehicleDoubleBooked,
    VehicleIsHeldForOrder,
    VehicleIsReserved,
    VehicleNotAvailable,
    VehicleNotDelivered,
    VehicleNotInspected,
    VehicleNotInStock,
    WrongModel,
)
from sales.vehicle.state import Reservation, Vehicle, vehicle
from trade.vin import check_vin

DEFAULT_RESERVATION = timedelta(hours=72)
MAX_RESERVATION = timedelta(days=90)


@vehicle.decides
def register(state: Vehicle, c: RegisterVehicle, ctx: Context) -> list[Event]:
    """A new car."""
    return [
        VehicleRegistered(
            vin=c.vin,
            model=c.model,
            check_digit=check_vin(c.vin).check_digit,
            colour=c.colour,
            model_year=c.model_year,
        )
    ]


@vehicle.decides
def purchase(state: Vehicle, c: PurchaseVehicle, ctx: Context) -> list[Event]:
    """Raises `VehicleAlreadyPurchased`."""
    if state.place != "registered":
        raise VehicleAlreadyPurchased(f"the car is {state.place.replace('_', ' ')}")
    return [VehiclePurchased(vin=c.vin, supplier=c.supplier, price=c.price)]


@vehicle.decides
def receive(state: Vehicle, c: ReceiveIntoStock, ctx: Context) -> list[Event]:
    """Raises `VehicleAlreadyInStock`, `VehicleNotAvailable` for a delivered car, `OdometerRunsBackwards`."""
    store = c.store or ctx.dealer_id
    if state.place == "in_stock":
        if state.store == store:
            return []
        raise VehicleAlreadyInStock(
            f"store: the car stands in {state.store}", fields={"store": "is another one"}
        )
    if state.place == "delivered":
        raise VehicleNotAvailable("the car is delivered")
    require_odometer(state, c.odometer_km)
    order_id = state.reservation.order_id if state.reservation else None
    return [ReceivedIntoStock(vin=c.vin, store=store, odometer_km=c.odometer_km, order_id=order_id)]


@vehicle.decides
def pass_pdi(state: Vehicle, c: PassPdi, ctx: Context) -> list[Event]:
    """Raises `VehicleNotInStock`."""
    _require_in_stock(state)
    if state.pdi == "passed":
        return []
    return [PdiPassed(vin=c.vin, inspector=c.inspector or ctx.actor_id)]


@vehicle.decides
def fail_pdi(state: Vehicle, c: FailPdi, ctx: Context) -> list[Event]:
    """Raises `VehicleNotInStock`."""
    _require_in_stock(state)
    return [PdiFailed(vin=c.vin, inspector=c.inspector or ctx.actor_id, defects=c.defects)]


@vehicle.decides
def reserve(state: Vehicle, c: ReserveVehicle, ctx: Context) -> list[Event]:
    """Raises `VehicleIsReserved`, `VehicleNotAvailable`, `InvalidInput` for an impossible expiry."""
    expires_at = c.expires_at or ctx.now + DEFAULT_RESERVATION
    live = state.live_reservation(ctx.now)
    reservation_id = c.reservation_id or ctx.new_id("reservation")
    if live is not None and live.id == reservation_id:
        return []
    _require_available(state)
    if live is not None:
        raise VehicleIsReserved("the car is reserved already")
    require_between(expires_at, ctx.now + timedelta(minutes=1), ctx.now + MAX_RESERVATION, "expires_at")
    return [*_expired(state, ctx), _reserved(state, reservation_id, c.customer_id, None, expires_at)]


@vehicle.decides
def hold(state: Vehicle, c: HoldForOrder, ctx: Context) -> list[Event]:
    """Raises `VehicleIsReserved`, `VehicleNotAvailable`, `WrongModel`."""
    live = state.live_reservation(ctx.now)
    if live is not None and live.order_id == c.order_id:
        return []
    _require_available(state)
    if state.model.casefold() != c.model.casefold():
        reason = f"the car is a {state.model}, the order is for a {c.model}"
        raise WrongModel(f"vin: {reason}", fields={"vin": reason})
    if live is not None and (live.order_id is not None or live.customer_id != c.customer_id):
        raise VehicleIsReserved("the car is reserved for somebody else")
    if live is not None:
        return [
            ReservationConfirmed(
                vin=c.vin,
                reservation_id=live.id,
                customer_id=c.customer_id,
                order_id=c.order_id,
            )
        ]
    return [
        *_expired(state, ctx),
        _reserved(state, ctx.new_id("reservation"), c.customer_id, c.order_id, None),
    ]


@vehicle.decides
def release_reservation(state: Vehicle, c: ReleaseReservation, ctx: Context) -> list[Event]:
    """Raises `NoSuchReservation`, `ReservationIsForOrder`."""
    held = state.reservation
    if held is None or c.reservation_id not in (None, held.id):
        raise NoSuchReservation("the car has no such reservation", fields={"reservation_id": "not found"})
    if held.order_id is not None:
        raise ReservationIsForOrder("cancel the order to release its car")
    return [_released(state, held, "withdrawn" if held.is_live(ctx.now) else "expired")]


@vehicle.decides
def release_hold(state: Vehicle, c: ReleaseHold, ctx: Context) -> list[Event]:
    """Never refuses: the order has been decided already."""
    held = state.reservation
    if held is None or held.order_id != c.order_id:
        return []
    return [_released(state, held, c.reason)]


@vehicle.decides
def expire(state: Vehicle, c: ExpireReservation, ctx: Context) -> list[Event]:
    """Never refuses: whoever asks may have seen an old state."""
    held = state.reservation
    if held is None or held.id != c.reservation_id:
        return []
    return _expired(state, ctx)


@vehicle.decides
def transfer(state: Vehicle, c: TransferVehicle, ctx: Context) -> list[Event]:
    """Raises `VehicleNotInStock`, `VehicleIsHeldForOrder`."""
    return _moved(state, c.to_store, None)


@vehicle.decides
def bring(state: Vehicle, c: BringForOrder, ctx: Context) -> list[Event]:
    """Raises `VehicleNotInStock`, `VehicleIsHeldForOrder` where it is another one."""
    return _moved(state, c.to_store, c.order_id)


@vehicle.decides
def record_odometer(state: Vehicle, c: RecordOdometer, ctx: Context) -> list[Event]:
    """Raises `OdometerRunsBackwards`."""
    require_odometer(state, c.odometer_km)
    if c.odometer_km == state.odometer_km:
        return []
    return [OdometerRecorded(vin=c.vin, odometer_km=c.odometer_km)]


@vehicle.decides
def book_slot(state: Vehicle, c: BookTestDriveSlot, ctx: Context) -> list[Event]:
    """Raises `VehicleNotInStock`, `VehicleNotInspected`, `VehicleIsReserved`, `VehicleDoubleBooked`."""
    if any(slot.id == c.test_drive_id for slot in state.slots):
        return []
    _require_in_stock(state)
    require_inspected(state)
    if state.live_reservation(ctx.now) is not None:
        raise VehicleIsReserved("the car is reserved")
    if any(slot.starts_at < c.ends_at and c.starts_at < slot.ends_at for slot in state.slots):
        reason = "another test drive takes place in that time"
        raise VehicleDoubleBooked(f"starts_at: {reason}", fields={"starts_at": reason})
    return [
        TestDriveSlotBooked(
            vin=c.vin,
            test_drive_id=c.test_drive_id,
            opportunity_id=c.opportunity_id,
            starts_at=c.starts_at,
            ends_at=c.ends_at,
        )
    ]


@vehicle.decides
def release_slot(state: Vehicle, c: ReleaseTestDriveSlot, ctx: Context) -> list[Event]:
    """Never refuses."""
    if all(slot.id != c.test_drive_id for slot in state.slots):
        return []
    released = TestDriveSlotReleased(vin=c.vin, test_drive_id=c.test_drive_id)
    if c.odometer_km is None or c.odometer_km <= state.odometer_km:
        return [released]
    return [released, OdometerRecorded(vin=c.vin, odometer_km=c.odometer_km)]


@vehicle.decides
def release_vehicle(state: Vehicle, c: ReleaseVehicle, ctx: Context) -> list[Event]:
    """Raises `VehicleIsReserved` where the car is not held for that order."""
    if state.place == "delivered" and state.order_id == c.order_id:
        return []
    held = state.reservation
    if held is None or held.order_id != c.order_id:
        raise VehicleIsReserved("the car is not held for that order")
    return [
        VehicleReleased(
            vin=c.vin,
            order_id=c.order_id,
            customer_id=held.customer_id,
            odometer_km=max(c.odometer_km, state.odometer_km),
        )
    ]


@vehicle.decides
def take_back(state: Vehicle, c: TakeBackVehicle, ctx: Context) -> list[Event]:
    """Raises `VehicleNotDelivered`; nothing happens where it is back already."""
    if state.place == "in_stock" and state.order_id is None and state.store == c.store:
        return []
    if state.place != "delivered" or state.order_id != c.order_id:
        raise VehicleNotDelivered("the car was not delivered under that order")
    kilometres = max(c.odometer_km, state.odometer_km)
    return [VehicleTakenBack(vin=c.vin, order_id=c.order_id, store=c.store, odometer_km=kilometres)]


def require_inspected(state: Vehicle) -> None:
    """Raise `VehicleNotInspected` unless the pre-delivery inspection was passed."""
    if state.pdi != "passed":
        raise VehicleNotInspected(f"the car's pre-delivery inspection is {state.pdi}")


def require_odometer(state: Vehicle, odometer_km: int) -> None:
    """Raise `OdometerRunsBackwards` if the reading is less than an earlier one."""
    if odometer_km < state.odometer_km:
        reason = f"is less than the earlier reading of {state.odometer_km} km"
        raise OdometerRunsBackwards(f"odometer_km: {reason}", fields={"odometer_km": reason})


def _require_in_stock(state: Vehicle) -> None:
    if state.place != "in_stock":
        raise VehicleNotInStock(f"the car is {state.place.replace('_', ' ')}")


def _require_available(state: Vehicle) -> None:
    if state.place not in ("in_transit", "in_stock"):
        raise VehicleNotAvailable(f"the car is {state.place}")


def _moved(state: Vehicle, to_store: str, order_id: UUID | None) -> list[Event]:
    _require_in_stock(state)
    if state.store == to_store:
        return []
    held = state.reservation
    # The order counts on a car that has arrived for it.
    if held is not None and held.order_id not in (None, order_id):
        raise VehicleIsHeldForOrder("the car is held for an order")
    return [VehicleTransferred(vin=state.vin, from_store=state.store, to_store=to_store)]


def _expired(state: Vehicle, ctx: Context) -> list[Event]:
    """What frees a car whose reservation has run out, though nobody has said so yet."""
    held = state.reservation
    if held is None or held.is_live(ctx.now):
        return []
    return [_released(state, held, "expired")]


def _released(state: Vehicle, held: Reservation, reason: ReleaseReason) -> ReservationReleased:
    return ReservationReleased(
        vin=state.vin,
        reservation_id=held.id,
        customer_id=held.customer_id,
        order_id=held.order_id,
        reason=reason,
    )


def _reserved(
    state: Vehicle,
    reservation_id: UUID,
    customer_id: UUID,
    order_id: UUID | None,
    expires_at: datetime | None,
) -> VehicleReserved:
    return VehicleReserved(
        vin=state.vin,
        reservation_id=reservation_id,
        customer_id=customer_id,
        order_id=order_id,
        expires_at=expires_at,
    )
