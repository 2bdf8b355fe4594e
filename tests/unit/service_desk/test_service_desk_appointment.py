"""Appointments, and the capacity that they compete for."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import ValidationError

from forecourt.errors import ForecourtError, InvalidInput
from forecourt.testing.given import an_id, given
from service_desk.appointment import (
    AppointmentBooked,
    AppointmentCancelled,
    AppointmentCheckedIn,
    AppointmentCompleted,
    AppointmentIsOver,
    AppointmentNotBooked,
    AppointmentNotCheckedIn,
    AppointmentNotRequested,
    AppointmentRequested,
    AppointmentRescheduled,
    BookAppointment,
    CancelAppointment,
    CheckInAppointment,
    CompleteAppointment,
    ConfirmAppointment,
    NoShowRecorded,
    NotYetMissed,
    OutsideOpeningHours,
    RecordNoShow,
    RequestAppointment,
    RescheduleAppointment,
    StartsInThePast,
    appointment,
    slots_of,
)
from service_desk.stores import store_of
from service_desk.workshop_day import (
    CapacityReleased,
    CapacityReserved,
    ChangeWorkshopCapacity,
    NoBayFree,
    NoTechnicianFree,
    OpenWorkshopDay,
    ReleaseCapacity,
    ReserveCapacity,
    WorkshopCapacityChanged,
    WorkshopDayOpened,
    workshop_day,
    workshop_day_id,
)

VIN = "LVSHCAMEX1F123456"
DAY = date(2026, 1, 6)
STARTS = datetime(2026, 1, 6, 1, 0, tzinfo=UTC)
DAY_ID = workshop_day_id("D001", DAY)
OPENED = WorkshopDayOpened(day=DAY, bays=2, technicians=3)


def hold(label: str, first_slot: int = 18, slots: int = 2, technicians: int = 1) -> ReserveCapacity:
    return ReserveCapacity(
        workshop_day_id=DAY_ID,
        hold_id=an_id(f"hold {label}"),
        appointment_id=an_id(label),
        first_slot=first_slot,
        slots=slots,
        technicians=technicians,
    )


def held(label: str, **parts: int) -> CapacityReserved:
    return CapacityReserved.model_validate(hold(label, **parts).model_dump(exclude={"workshop_day_id"}))


def test_a_bay_can_be_held_until_all_are_taken() -> None:
    given(workshop_day, OPENED, held("one")).when(hold("two")).then(held("two"))
    given(workshop_day, OPENED, held("one"), held("two")).when(hold("three")).then_raises(
        NoBayFree, field="starts_at"
    )


def test_technicians_run_out_before_bays_do() -> None:
    given(workshop_day, OPENED, held("one", technicians=3)).when(hold("two")).then_raises(
        NoTechnicianFree, field="starts_at"
    )


def test_holds_in_other_slots_are_not_in_the_way() -> None:
    before, after = held("before", first_slot=16), held("after", first_slot=20)
    full = (before, after, held("before2", first_slot=16), held("after2", first_slot=20))
    given(workshop_day, OPENED, *full).when(hold("between")).then(held("between"))
    given(workshop_day, OPENED, *full).when(hold("too long", slots=3)).then_raises(NoBayFree)


def test_an_appointment_that_moves_does_not_stand_in_its_own_way() -> None:
    moved = hold("one", first_slot=19).model_copy(update={"hold_id": an_id("second hold")})
    given(workshop_day, OPENED, held("one"), held("two")).when(moved).then_types(CapacityReserved)


def test_a_hold_is_kept_and_given_up_once() -> None:
    one = held("one")
    given(workshop_day, OPENED, one).when(hold("one")).then_nothing()
    release = ReleaseCapacity(workshop_day_id=DAY_ID, hold_id=one.hold_id)
    released = CapacityReleased(hold_id=one.hold_id, appointment_id=one.appointment_id)
    given(workshop_day, OPENED, one).when(release).then(released)
    given(workshop_day, OPENED, one, released).when(release).then_nothing()
    given(workshop_day, OPENED, held("two"), one, released).when(hold("three")).then_types(CapacityReserved)


def test_capacity_of_a_day_can_change() -> None:
    given(workshop_day).when(OpenWorkshopDay(workshop_day_id=DAY_ID, day=DAY, bays=2, technicians=3)).then(
        OPENED
    )
    more = ChangeWorkshopCapacity(workshop_day_id=DAY_ID, bays=1, technicians=3)
    given(workshop_day, OPENED).when(more).then(WorkshopCapacityChanged(bays=1, technicians=3))
    changed = WorkshopCapacityChanged(bays=1, technicians=3)
    given(workshop_day, OPENED, changed).when(more).then_nothing()
    given(workshop_day, OPENED, held("one"), changed).when(hold("two")).then_raises(NoBayFree)


@settings(max_examples=60)
@for_all(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6), st.integers(1, 3), st.booleans()), max_size=30)
)
def test_no_slot_is_ever_overbooked(wishes: list[tuple[int, int, int, bool]]) -> None:
    history: list[Any] = [OPENED]
    for number, (first, slots, technicians, give_up) in enumerate(wishes):
        wish = hold(str(number), first_slot=first, slots=slots, technicians=technicians)
        history += given(workshop_day, *history).when(wish).events
        if give_up:
            release = ReleaseCapacity(workshop_day_id=DAY_ID, hold_id=wish.hold_id)
            history += given(workshop_day, *history).when(release).events
        state = workshop_day.fold(history)
        for slot in range(48):
            bays, people = state.taken(slot, except_for=an_id("nobody"))
            assert bays <= 2
            assert people <= 3


BOOKED = AppointmentBooked(
    customer_id=an_id("customer"),
    vin=VIN,
    kind="maintenance",
    starts_at=STARTS,
    minutes=60,
    technicians=1,
    remarks="",
    hold_id=an_id("hold"),
    day=DAY,
)
ID = an_id("appointment")


def test_booking_a_requested_appointment() -> None:
    wish = RequestAppointment(customer_id=an_id("customer"), vin=VIN, kind="maintenance", wished_for=STARTS)
    (requested,) = given(appointment).when(wish).then_types(AppointmentRequested)
    confirm = ConfirmAppointment(appointment_id=ID, starts_at=STARTS, hold_id=an_id("hold"), day=DAY)
    given(appointment, requested).when(confirm).then(BOOKED)
    given(appointment, requested, BOOKED).when(confirm).then_raises(AppointmentNotRequested)


def test_a_wish_must_lie_in_the_future() -> None:
    wish = RequestAppointment(customer_id=an_id("customer"), vin=VIN, kind="maintenance", wished_for=STARTS)
    given(appointment).at(STARTS + timedelta(hours=1)).when(wish).then_raises(
        StartsInThePast, field="wished_for"
    )


def test_booking_directly() -> None:
    command = BookAppointment(
        appointment_id=ID,
        customer_id=an_id("customer"),
        vin=VIN,
        kind="maintenance",
        starts_at=STARTS,
        hold_id=an_id("hold"),
        day=DAY,
    )
    given(appointment).when(command).then(BOOKED)


def test_nothing_is_booked_for_a_time_that_has_passed() -> None:
    late = given(appointment, BOOKED).at(STARTS + timedelta(minutes=1))
    move = RescheduleAppointment(appointment_id=ID, starts_at=STARTS, hold_id=an_id("new hold"), day=DAY)
    late.when(move).then_raises(StartsInThePast, field="starts_at")


def test_moving_names_the_hold_to_give_up() -> None:
    command = RescheduleAppointment(
        appointment_id=ID, starts_at=STARTS + timedelta(hours=2), hold_id=an_id("new hold"), day=DAY
    )
    (moved,) = given(appointment, BOOKED).when(command).then_types(AppointmentRescheduled)
    assert isinstance(moved, AppointmentRescheduled)
    assert (moved.previous_hold_id, moved.hold_id) == (an_id("hold"), an_id("new hold"))


def test_check_in_and_completion_follow_each_other() -> None:
    came = AppointmentCheckedIn(customer_id=an_id("customer"), vin=VIN)
    done = AppointmentCompleted(customer_id=an_id("customer"))
    check_in, complete = CheckInAppointment(appointment_id=ID), CompleteAppointment(appointment_id=ID)
    given(appointment, BOOKED).when(complete).then_raises(AppointmentNotCheckedIn)
    given(appointment, BOOKED).when(check_in).then(came)
    given(appointment, BOOKED, came).when(check_in).then_nothing()
    given(appointment, BOOKED, came).when(complete).then(done)
    given(appointment, BOOKED, came, done).when(complete).then_nothing()
    given(appointment, BOOKED, came, done).when(check_in).then_raises(AppointmentIsOver)


def test_a_customer_is_missed_only_after_the_begin() -> None:
    missed = NoShowRecorded(customer_id=an_id("customer"), hold_id=an_id("hold"), day=DAY)
    command = RecordNoShow(appointment_id=ID)
    given(appointment, BOOKED).at(STARTS - timedelta(minutes=1)).when(command).then_raises(NotYetMissed)
    given(appointment, BOOKED).at(STARTS).when(command).then(missed)
    given(appointment, BOOKED, missed).when(command).then_nothing()


def test_cancelling_frees_the_hold_that_there_is() -> None:
    command = CancelAppointment(appointment_id=ID, reason="customer is ill")
    given(appointment, BOOKED).when(command).then(
        AppointmentCancelled(
            customer_id=an_id("customer"), reason="customer is ill", hold_id=an_id("hold"), day=DAY
        )
    )
    came = AppointmentCheckedIn(customer_id=an_id("customer"), vin=VIN)
    given(appointment, BOOKED, came).when(command).then_raises(AppointmentNotBooked)


def test_slots_are_those_of_the_stores_wall_clock() -> None:
    assert slots_of(store_of("D001"), STARTS, 90) == (DAY, 18, 3)


@pytest.mark.parametrize(
    ("starts_at", "minutes", "error"),
    [
        (STARTS + timedelta(minutes=10), 60, InvalidInput),
        (datetime(2026, 1, 6, 0, 0, tzinfo=UTC), 60, OutsideOpeningHours),
        (datetime(2026, 1, 6, 9, 30, tzinfo=UTC), 60, OutsideOpeningHours),
        (datetime(2026, 1, 6, 15, 30, tzinfo=UTC), 60, OutsideOpeningHours),
    ],
)
def test_a_time_that_the_workshop_cannot_take_is_refused(
    starts_at: datetime, minutes: int, error: type[ForecourtError]
) -> None:
    with pytest.raises(error) as caught:
        slots_of(store_of("D001"), starts_at, minutes)
    assert "starts_at" in caught.value.fields


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vin", "LVSHCAME01F123456"),
        ("vin", "short"),
        ("minutes", 45),
        ("minutes", 510),
        ("technicians", 0),
        ("kind", "wash"),
        ("starts_at", "2026-01-06T09:00:00"),
        ("remarks", "x" * 4001),
        ("remarks", "a\x00b"),
    ],
)
def test_bad_input_is_named(field: str, value: object) -> None:
    fields: dict[str, object] = {
        "appointment_id": ID,
        "customer_id": an_id("customer"),
        "vin": VIN,
        "kind": "repair",
        "starts_at": STARTS,
        "hold_id": an_id("hold"),
        "day": DAY,
    }
    BookAppointment.model_validate(fields)
    with pytest.raises(ValidationError) as caught:
        BookAppointment.model_validate(fields | {field: value})
    assert caught.value.errors()[0]["loc"] == (field,)
