"""A car: from registration to delivery and back; one live reservation, one test drive at a time."""

from datetime import timedelta
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import given as property_of
from hypothesis import strategies
from pydantic import ValidationError

from forecourt.errors import AlreadyExists, ForecourtError, InvalidInput, NotFound
from forecourt.events import Event
from forecourt.testing.given import CONTEXT, NOW, an_id, given, later
from sales.vehicle import commands as c
from sales.vehicle import events as e
from sales.vehicle import refusals as r
from sales.vehicle import vehicle
from tests.unit.sales.samples import CUSTOMER, MODEL, OPPORTUNITY, ORDER, OTHER, RESERVATION, VIN, yuan

DRIVE = an_id("drive")
REGISTERED = e.VehicleRegistered(vin=VIN, model=MODEL, check_digit="valid", colour="white", model_year=2026)
PURCHASED = e.VehiclePurchased(vin=VIN, supplier="Hongtong", price=yuan("100000.00"))
RECEIVED = e.ReceivedIntoStock(vin=VIN, store="D001", odometer_km=5, order_id=None)
PASSED = e.PdiPassed(vin=VIN, inspector="T1")
IN_STOCK = (REGISTERED, PURCHASED, RECEIVED, PASSED)
RESERVED = e.VehicleReserved(
    vin=VIN, reservation_id=RESERVATION, customer_id=CUSTOMER, order_id=None, expires_at=later(hours=72)
)
HELD = e.VehicleReserved(
    vin=VIN, reservation_id=RESERVATION, customer_id=CUSTOMER, order_id=ORDER, expires_at=None
)
DELIVERED = e.VehicleReleased(vin=VIN, order_id=ORDER, customer_id=CUSTOMER, odometer_km=9)


def released(reason: e.ReleaseReason, reserved: e.VehicleReserved = RESERVED) -> e.ReservationReleased:
    return e.ReservationReleased(
        vin=VIN, reservation_id=RESERVATION, customer_id=CUSTOMER, order_id=reserved.order_id, reason=reason
    )


def test_register() -> None:
    command = c.RegisterVehicle(vin=VIN.lower(), model=MODEL, colour="white", model_year=2026)
    given(vehicle).when(command).then(REGISTERED)
    given(vehicle, REGISTERED).when(command).then_raises(AlreadyExists)


def test_a_vin_without_check_digit_is_registered_as_such() -> None:
    command = c.RegisterVehicle(vin="WVWZZZ1KZ8W201030", model=MODEL)
    (event,) = given(vehicle).when(command).then_types(e.VehicleRegistered)
    assert isinstance(event, e.VehicleRegistered)
    assert event.check_digit == "not_applicable"


@pytest.mark.parametrize(
    ("field", "value"),
    [("vin", "LSVAA49J232047371"), ("vin", ""), ("model", ""), ("model_year", 1900), ("colour", "x" * 81)],
)
def test_registration_names_the_field_that_is_wrong(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refusal:
        c.RegisterVehicle.model_validate({"vin": VIN, "model": MODEL, field: value})
    assert [error["loc"][0] for error in refusal.value.errors()] == [field]


def test_purchase_once() -> None:
    command = c.PurchaseVehicle(vin=VIN, supplier="Hongtong", price=yuan("100000.00"))
    given(vehicle, REGISTERED).when(command).then(PURCHASED)
    given(vehicle, REGISTERED, PURCHASED).when(command).then_raises(r.VehicleAlreadyPurchased)


def test_receive_into_the_callers_store() -> None:
    purchased = given(vehicle, REGISTERED, PURCHASED)
    purchased.when(c.ReceiveIntoStock(vin=VIN, odometer_km=5)).then(RECEIVED)
    purchased.when(c.ReceiveIntoStock(vin=VIN, odometer_km=5, store="D002")).then(
        RECEIVED.model_copy(update={"store": "D002"})
    )


def test_a_car_that_is_held_for_an_order_comes_for_it() -> None:
    given(vehicle, REGISTERED, PURCHASED, HELD).when(c.ReceiveIntoStock(vin=VIN, odometer_km=5)).then(
        RECEIVED.model_copy(update={"order_id": ORDER})
    )


def test_a_car_in_stock_is_not_received_again() -> None:
    in_stock = given(vehicle, *IN_STOCK)
    in_stock.when(c.ReceiveIntoStock(vin=VIN)).then_nothing()
    in_stock.when(c.ReceiveIntoStock(vin=VIN, store="D002")).then_raises(
        r.VehicleAlreadyInStock, field="store"
    )
    given(vehicle, *IN_STOCK, HELD, DELIVERED).when(c.ReceiveIntoStock(vin=VIN)).then_raises(
        r.VehicleNotAvailable
    )


def test_inspection_passed_or_failed_with_defects() -> None:
    received = given(vehicle, REGISTERED, PURCHASED, RECEIVED)
    received.when(c.PassPdi(vin=VIN, inspector="T1")).then(PASSED)
    received.when(c.PassPdi(vin=VIN)).then(PASSED.model_copy(update={"inspector": "tester"}))
    received.when(c.FailPdi(vin=VIN, defects=("scratch",))).then(
        e.PdiFailed(vin=VIN, inspector="tester", defects=("scratch",))
    )
    given(vehicle, *IN_STOCK).when(c.PassPdi(vin=VIN)).then_nothing()
    given(vehicle, REGISTERED).when(c.PassPdi(vin=VIN)).then_raises(r.VehicleNotInStock)
    with pytest.raises(ValidationError):
        c.FailPdi(vin=VIN, defects=())


def reserve(**changed: Any) -> c.ReserveVehicle:
    return c.ReserveVehicle(**{"vin": VIN, "reservation_id": RESERVATION, "customer_id": CUSTOMER, **changed})


def test_reserve_for_three_days_unless_said_otherwise() -> None:
    in_stock = given(vehicle, *IN_STOCK)
    in_stock.when(reserve()).then(RESERVED)
    in_stock.when(reserve(expires_at=later(days=7))).then(
        RESERVED.model_copy(update={"expires_at": later(days=7)})
    )


@pytest.mark.parametrize("expires_at", [NOW, later(days=91)])
def test_a_reservation_ends_in_the_future(expires_at: Any) -> None:
    given(vehicle, *IN_STOCK).when(reserve(expires_at=expires_at)).then_raises(
        InvalidInput, field="expires_at"
    )


def test_one_live_reservation() -> None:
    reserved = given(vehicle, *IN_STOCK, RESERVED)
    reserved.when(reserve()).then_nothing()
    reserved.when(reserve(reservation_id=an_id("second"), customer_id=OTHER)).then_raises(r.VehicleIsReserved)


def test_a_reservation_that_has_run_out_makes_way() -> None:
    second = an_id("second")
    given(vehicle, *IN_STOCK, RESERVED).at(later(hours=72)).when(
        reserve(reservation_id=second, customer_id=OTHER)
    ).then(
        released("expired"),
        e.VehicleReserved(
            vin=VIN, reservation_id=second, customer_id=OTHER, order_id=None, expires_at=later(hours=144)
        ),
    )


@pytest.mark.parametrize("history", [(REGISTERED,), (*IN_STOCK, HELD, DELIVERED)])
def test_only_a_car_that_is_ours_can_be_reserved(history: Any) -> None:
    given(vehicle, *history).when(reserve(reservation_id=an_id("second"))).then_raises(r.VehicleNotAvailable)


def hold(**changed: Any) -> c.HoldForOrder:
    return c.HoldForOrder(
        **{"vin": VIN, "order_id": ORDER, "customer_id": CUSTOMER, "model": MODEL, **changed}
    )


def test_a_car_is_held_for_an_order_without_end() -> None:
    expected = HELD.model_copy(update={"reservation_id": CONTEXT.new_id("reservation")})
    given(vehicle, *IN_STOCK).when(hold()).then(expected)
    given(vehicle, REGISTERED, PURCHASED).when(hold()).then(expected)


def test_the_customers_reservation_becomes_the_orders() -> None:
    given(vehicle, *IN_STOCK, RESERVED).when(hold()).then(
        e.ReservationConfirmed(vin=VIN, reservation_id=RESERVATION, customer_id=CUSTOMER, order_id=ORDER)
    )


def test_a_car_is_held_for_one_order() -> None:
    held = given(vehicle, *IN_STOCK, HELD)
    held.when(hold()).then_nothing()
    held.when(hold(order_id=an_id("second"))).then_raises(r.VehicleIsReserved)
    given(vehicle, *IN_STOCK, RESERVED).when(hold(customer_id=OTHER)).then_raises(r.VehicleIsReserved)


def test_a_car_of_another_model_is_not_held() -> None:
    in_stock = given(vehicle, *IN_STOCK)
    in_stock.when(hold(model="Hongtong H9")).then_raises(r.WrongModel, field="vin")
    in_stock.when(hold(model=MODEL.upper())).then_types(e.VehicleReserved)


def test_a_reservation_is_released_by_hand() -> None:
    reserved = given(vehicle, *IN_STOCK, RESERVED)
    reserved.when(c.ReleaseReservation(vin=VIN)).then(released("withdrawn"))
    reserved.when(c.ReleaseReservation(vin=VIN, reservation_id=an_id("second"))).then_raises(
        r.NoSuchReservation, field="reservation_id"
    )
    given(vehicle, *IN_STOCK).when(c.ReleaseReservation(vin=VIN)).then_raises(r.NoSuchReservation)


def test_a_car_of_an_order_is_released_only_with_the_order() -> None:
    held = given(vehicle, *IN_STOCK, HELD)
    held.when(c.ReleaseReservation(vin=VIN)).then_raises(r.ReservationIsForOrder)
    held.when(c.ReleaseHold(vin=VIN, order_id=ORDER, reason="order_cancelled")).then(
        released("order_cancelled", HELD)
    )
    held.when(c.ReleaseHold(vin=VIN, order_id=OTHER, reason="order_cancelled")).then_nothing()


def test_a_reservation_expires_at_its_time_and_not_before() -> None:
    reserved = given(vehicle, *IN_STOCK, RESERVED)
    command = c.ExpireReservation(vin=VIN, reservation_id=RESERVATION)
    reserved.at(later(hours=72) - timedelta(seconds=1)).when(command).then_nothing()
    reserved.at(later(hours=72)).when(command).then(released("expired"))
    reserved.at(later(hours=72)).when(
        c.ExpireReservation(vin=VIN, reservation_id=an_id("older"))
    ).then_nothing()
    given(vehicle, *IN_STOCK, HELD).at(later(days=900)).when(command).then_nothing()


def test_transfer_between_stores() -> None:
    in_stock = given(vehicle, *IN_STOCK)
    in_stock.when(c.TransferVehicle(vin=VIN, to_store="D002")).then(
        e.VehicleTransferred(vin=VIN, from_store="D001", to_store="D002")
    )
    in_stock.when(c.TransferVehicle(vin=VIN, to_store="D001")).then_nothing()
    given(vehicle, REGISTERED).when(c.TransferVehicle(vin=VIN, to_store="D002")).then_raises(
        r.VehicleNotInStock
    )


def test_a_car_that_is_held_for_an_order_is_moved_for_that_order_only() -> None:
    moved = e.VehicleTransferred(vin=VIN, from_store="D001", to_store="D002")
    away = c.TransferVehicle(vin=VIN, to_store="D002")
    bring = c.BringForOrder(vin=VIN, order_id=ORDER, to_store="D002")
    held = given(vehicle, *IN_STOCK, HELD)
    held.when(away).then_raises(r.VehicleIsHeldForOrder)
    held.when(c.TransferVehicle(vin=VIN, to_store="D001")).then_nothing()
    held.when(bring).then(moved)
    held.when(bring.model_copy(update={"order_id": OTHER})).then_raises(r.VehicleIsHeldForOrder)
    held.when(bring.model_copy(update={"to_store": "D001"})).then_nothing()
    given(vehicle, *IN_STOCK, HELD, released("order_cancelled", HELD)).when(bring).then(moved)
    given(vehicle, REGISTERED, PURCHASED, HELD).when(bring).then_raises(r.VehicleNotInStock)
    given(vehicle, *IN_STOCK, RESERVED).when(away).then(moved)


def test_the_odometer_never_runs_backwards() -> None:
    in_stock = given(vehicle, *IN_STOCK)
    in_stock.when(c.RecordOdometer(vin=VIN, odometer_km=6)).then(e.OdometerRecorded(vin=VIN, odometer_km=6))
    in_stock.when(c.RecordOdometer(vin=VIN, odometer_km=5)).then_nothing()
    in_stock.when(c.RecordOdometer(vin=VIN, odometer_km=4)).then_raises(
        r.OdometerRunsBackwards, field="odometer_km"
    )
    with pytest.raises(ValidationError):
        c.RecordOdometer(vin=VIN, odometer_km=-1)
    with pytest.raises(ValidationError):
        c.RecordOdometer(vin=VIN, odometer_km=3_000_001)


def slot(start: float = 1, end: float = 2, drive: str = "drive") -> c.BookTestDriveSlot:
    return c.BookTestDriveSlot(
        vin=VIN,
        test_drive_id=an_id(drive),
        opportunity_id=OPPORTUNITY,
        starts_at=later(hours=start),
        ends_at=later(hours=end),
    )


def booked(command: c.BookTestDriveSlot) -> e.TestDriveSlotBooked:
    return e.TestDriveSlotBooked(**command.model_dump())


def test_a_car_is_booked_for_a_test_drive_once() -> None:
    given(vehicle, *IN_STOCK).when(slot()).then(booked(slot()))
    given(vehicle, *IN_STOCK, booked(slot())).when(slot()).then_nothing()


@pytest.mark.parametrize(
    ("start", "end", "free"),
    [(0, 1, True), (2, 3, True), (0, 1.01, False), (1.99, 3, False), (1.2, 1.5, False), (0, 9, False)],
)
def test_a_car_is_not_double_booked(start: float, end: float, free: bool) -> None:
    wanted = given(vehicle, *IN_STOCK, booked(slot())).when(slot(start, end, "second"))
    if free:
        wanted.then_types(e.TestDriveSlotBooked)
    else:
        wanted.then_raises(r.VehicleDoubleBooked, field="starts_at")


def test_a_test_drive_needs_an_inspected_free_car_in_stock() -> None:
    given(vehicle, REGISTERED, PURCHASED).when(slot()).then_raises(r.VehicleNotInStock)
    given(vehicle, REGISTERED, PURCHASED, RECEIVED).when(slot()).then_raises(r.VehicleNotInspected)
    given(vehicle, *IN_STOCK, RESERVED).when(slot()).then_raises(r.VehicleIsReserved)
    given(vehicle, *IN_STOCK, RESERVED).at(later(hours=73)).when(slot(74, 75)).then_types(
        e.TestDriveSlotBooked
    )


def test_a_slot_is_freed_with_the_reading_after_the_drive() -> None:
    waiting = given(vehicle, *IN_STOCK, booked(slot()))
    freed = e.TestDriveSlotReleased(vin=VIN, test_drive_id=DRIVE)
    command = c.ReleaseTestDriveSlot(vin=VIN, test_drive_id=DRIVE)
    waiting.when(command).then(freed)
    waiting.when(command.model_copy(update={"odometer_km": 17})).then(
        freed, e.OdometerRecorded(vin=VIN, odometer_km=17)
    )
    waiting.when(command.model_copy(update={"odometer_km": 4})).then(freed)
    given(vehicle, *IN_STOCK).when(command).then_nothing()


def test_a_delivered_car_leaves_the_stock() -> None:
    command = c.ReleaseVehicle(vin=VIN, order_id=ORDER, odometer_km=9)
    given(vehicle, *IN_STOCK, HELD).when(command).then(DELIVERED)
    given(vehicle, *IN_STOCK, HELD, DELIVERED).when(command).then_nothing()
    given(vehicle, *IN_STOCK).when(command).then_raises(r.VehicleIsReserved)
    given(vehicle, *IN_STOCK, RESERVED).when(command).then_raises(r.VehicleIsReserved)


def test_a_car_that_comes_back_needs_an_inspection_again() -> None:
    back = e.VehicleTakenBack(vin=VIN, order_id=ORDER, store="D002", odometer_km=40)
    command = c.TakeBackVehicle(vin=VIN, order_id=ORDER, store="D002", odometer_km=40)
    given(vehicle, *IN_STOCK, HELD, DELIVERED).when(command).then(back)
    given(vehicle, *IN_STOCK, HELD, DELIVERED, back).when(command).then_nothing()
    given(vehicle, *IN_STOCK, HELD, DELIVERED, back).when(slot()).then_raises(r.VehicleNotInspected)
    given(vehicle, *IN_STOCK).when(command).then_raises(r.VehicleNotDelivered)


def test_an_unknown_car_is_not_found() -> None:
    given(vehicle).when(c.PassPdi(vin=VIN)).then_raises(NotFound)


Action = tuple[Literal["reserve", "hold", "release", "cancel", "expire", "slot", "deliver"], int, int]
actions = strategies.tuples(
    strategies.sampled_from(["reserve", "hold", "release", "cancel", "expire", "slot", "deliver"]),
    strategies.integers(0, 3),
    strategies.integers(0, 5),
)


def _command(action: Action) -> Any:
    kind, who, _ = action
    customer, order_id = an_id(f"customer {who}"), an_id(f"order {who}")
    reservation = an_id(f"reservation {who}")
    return {
        "reserve": reserve(reservation_id=reservation, customer_id=customer),
        "hold": hold(order_id=order_id, customer_id=customer),
        "release": c.ReleaseReservation(vin=VIN),
        "cancel": c.ReleaseHold(vin=VIN, order_id=order_id, reason="order_cancelled"),
        "expire": c.ExpireReservation(vin=VIN, reservation_id=reservation),
        "slot": slot(200 + who / 2, 201 + who / 2, f"drive {who}"),
        "deliver": c.ReleaseVehicle(vin=VIN, order_id=order_id, odometer_km=9),
    }[kind]


@property_of(strategies.lists(actions, max_size=30))
def test_whatever_is_asked_one_customer_has_the_car_at_a_time(asked: list[Any]) -> None:
    events: list[Event] = list(IN_STOCK)
    holder, now = None, NOW
    for action in asked:
        now += timedelta(hours=24 * action[2])
        try:
            state = vehicle.fold(events)
            context = given(vehicle).at(now).context
            new = vehicle.decide(state, _command(action), context)
        except ForecourtError:
            continue
        for event in new:
            if isinstance(event, e.VehicleReserved):
                assert holder is None
                holder = event.customer_id
            elif isinstance(event, e.ReservationConfirmed | e.VehicleReleased):
                assert holder == event.customer_id
                holder = None if isinstance(event, e.VehicleReleased) else holder
            elif isinstance(event, e.ReservationReleased):
                assert holder == event.customer_id
                holder = None
        events += new
    slots = sorted((s.starts_at, s.ends_at) for s in vehicle.fold(events).slots)
    assert all(first[1] <= second[0] for first, second in pairwise(slots))
