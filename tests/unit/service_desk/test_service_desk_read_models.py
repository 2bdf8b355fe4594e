"""The read models fold what the aggregates say."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from forecourt.deciders import Decider
from forecourt.events import Event, Recorded
from forecourt.privacy.fields import ERASED
from forecourt.projections.columns import columns_of
from forecourt.testing.given import NOW, an_id, given, given_rows, later, recorded
from service_desk import foreign
from service_desk.appointment import AppointmentCheckedIn
from service_desk.complaint import commands as complaint_
from service_desk.complaint.decisions import complaint
from service_desk.read_models.appointments import appointments
from service_desk.read_models.complaints import ComplaintRow, complaints
from service_desk.read_models.due import DueRow, due
from service_desk.read_models.reminders import reminders
from service_desk.read_models.repair_orders import RepairOrderRow, repair_orders
from service_desk.read_models.return_visits import return_visits
from service_desk.read_models.vehicle_timeline import vehicle_timeline
from service_desk.reminder import ReminderBecameDue, ReminderRescheduled
from service_desk.repair_order.decisions import repair_order
from service_desk.return_visit import ReturnVisitCompleted
from service_desk.workshop_day import CapacityReleased, CapacityReserved
from tests.unit.service_desk.test_service_desk_appointment import BOOKED, held
from tests.unit.service_desk.test_service_desk_care import DUE, PLANNED, SCHEDULED, VIN
from tests.unit.service_desk.test_service_desk_complaint import MONDAY_9
from tests.unit.service_desk.test_service_desk_complaint import WAY as COMPLAINT_WAY
from tests.unit.service_desk.test_service_desk_repair_order import WAY as REPAIR_WAY
from tests.unit.service_desk.test_service_desk_repair_order import cny

ORDER, COMPLAINT = an_id("repair order"), an_id("complaint")


def history(decider: Decider[Any], commands: list[Any]) -> list[Event]:
    """The events that commands lead to, one after the other."""
    events: list[Event] = []
    for command in commands:
        then = given(decider, *events).at(MONDAY_9).when(command)
        assert then.error is None
        events += then.events
    return events


def told(events: list[Event], stream_id: Any, **envelope: Any) -> list[Recorded[Any]]:
    """Events as a reader gets them, a minute apart."""
    return [
        recorded(
            event,
            stream_id=stream_id,
            sequence=number,
            position=number,
            time=NOW + timedelta(minutes=number),
            **envelope,
        )
        for number, event in enumerate(events, start=1)
    ]


def order_after(steps: int) -> RepairOrderRow:
    rows = given_rows(repair_orders).when(*told(history(repair_order, REPAIR_WAY[:steps]), ORDER)).rows
    row = rows[ORDER,]
    assert isinstance(row, RepairOrderRow)
    return row


def test_a_repair_order_has_the_status_that_people_see() -> None:
    seen = [order_after(steps).status for steps in range(1, len(REPAIR_WAY) + 1)]
    assert seen == [
        "open",
        "quoted",
        "approved",
        "dispatched",
        "dispatched",
        "dispatched",
        "working",
        "paused",
        "working",
        "completed",
        "failed",
        "rework",
        "working",
        "completed",
        "inspected",
        "invoiced",
        "paid",
        "handed_back",
    ]


def test_a_finished_repair_order_shows_its_whole_story() -> None:
    row = order_after(len(REPAIR_WAY))
    assert (row.odometer_km, row.technician_id, row.bay, row.failed_inspections) == (12_003, "T2", "B2", 1)
    assert (row.quote_total, row.invoice_total) == (cny("500.00"), cny("500.00"))
    assert {share.payer: share.amount for share in row.balances} == {
        "customer": cny("0.00"),
        "warranty": cny("200.00"),
    }
    assert (row.parts_outstanding, row.handed_back_at) == (0, MONDAY_9)
    assert (row.opened_at, row.changed_at) == (later(minutes=1), later(minutes=18))


def complaint_after(steps: int) -> ComplaintRow:
    rows = given_rows(complaints).when(*told(history(complaint, COMPLAINT_WAY[:steps]), COMPLAINT)).rows
    row = rows[COMPLAINT,]
    assert isinstance(row, ComplaintRow)
    return row


def test_a_complaint_has_the_status_that_people_see() -> None:
    assert [complaint_after(steps).status for steps in range(1, len(COMPLAINT_WAY) + 1)] == [
        "received",
        "acknowledged",
        "triaged",
        "dispatched",
        "handling",
        "proposed",
        "replied",
        "revisited",
        "closed",
    ]
    assert [bool(complaint_after(steps).owner_id) for steps in (1, 3, 4, 9)] == [False, False, True, True]


def test_a_complaint_with_an_open_offer_shows_it_whatever_is_done_meanwhile() -> None:
    called = complaint_.RecordComplaintAction(complaint_id=COMPLAINT, action="called, no answer")
    events = told(history(complaint, [*COMPLAINT_WAY[:6], called]), COMPLAINT)
    row = given_rows(complaints).when(*events).rows[COMPLAINT,]
    assert (row.status, row.changed_at) == ("proposed", events[-1].time)


def test_a_complaint_shows_its_deadlines_while_its_clock_runs() -> None:
    received, offered, closed = complaint_after(1), complaint_after(6), complaint_after(9)
    assert received.acknowledge_by == datetime(2026, 1, 5, 6, 30, tzinfo=UTC)
    assert complaint_after(2).acknowledge_by is None
    assert (offered.clock_paused, offered.resolve_by) == (True, None)
    assert (closed.clock_paused, closed.resolve_by, closed.result) == (False, None, "resolved")


def test_a_reopened_complaint_is_in_its_next_round() -> None:
    reopen = complaint_.ReopenComplaint(complaint_id=COMPLAINT, reason="again")
    events = told(history(complaint, [*COMPLAINT_WAY, reopen]), COMPLAINT)
    row = given_rows(complaints).when(*events).rows[COMPLAINT,]
    assert (row.status, row.round, row.result, row.closed_at) == ("dispatched", 2, "", None)
    assert row.resolve_by is not None


def due_rows(*events: Recorded[Any]) -> dict[tuple[Any, str], DueRow]:
    rows = given_rows(due).when(*events).rows
    return {(row.subject_id, row.what): row for row in rows.values() if row is not None}


def test_a_return_visit_is_due_once_and_then_expires() -> None:
    visit = an_id("visit")
    planned, became_due = told([PLANNED, DUE], visit)
    assert {key[1]: row.due_at for key, row in due_rows(planned).items()} == {"return_visit": PLANNED.due_at}
    assert {key[1]: row.due_at for key, row in due_rows(planned, became_due).items()} == {
        "return_visit_expiry": DUE.expires_at
    }


def test_a_reminder_is_due_until_its_event() -> None:
    became_due = ReminderBecameDue(
        customer_id=SCHEDULED.customer_id, vin=VIN, kind="first_maintenance", due_on=SCHEDULED.due_on
    )
    first, second = told([SCHEDULED, became_due], an_id("reminder"))
    assert [row.due_at for row in due_rows(first).values()] == [SCHEDULED.due_at]
    assert due_rows(first, second) == {}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, {"step_1", "step_2", "step_3"}),
        (2, {"step_2", "step_3"}),
        (5, {"step_2", "step_3"}),
        (6, set()),
        (9, set()),
    ],
)
def test_the_ladder_of_a_complaint_is_due_while_its_clock_runs(steps: int, expected: set[str]) -> None:
    rows = due_rows(*told(history(complaint, COMPLAINT_WAY[:steps]), COMPLAINT))
    assert {what for _, what in rows} == expected


def test_a_climbed_step_is_not_due_again() -> None:
    events = history(complaint, COMPLAINT_WAY[:1])
    climb = complaint_.ClimbLadder(complaint_id=COMPLAINT, round=1, level=1)
    events += given(complaint, *events).at(MONDAY_9 + timedelta(days=1)).when(climb).events
    assert {what for _, what in due_rows(*told(events, COMPLAINT))} == {"step_2", "step_3"}


def test_a_hold_is_looked_after_until_an_appointment_stands_on_it() -> None:
    hold = held("one").model_copy(update={"hold_id": BOOKED.hold_id})
    assert isinstance(hold, CapacityReserved)
    (reserved,) = told([hold], an_id("day"))
    (row,) = due_rows(reserved).values()
    assert (row.subject_id, row.day_id, row.appointment_id) == (
        BOOKED.hold_id,
        an_id("day"),
        hold.appointment_id,
    )
    booked = recorded(BOOKED, stream_id=an_id("one"))
    assert due_rows(reserved, booked) == {}
    released = CapacityReleased(hold_id=hold.hold_id, appointment_id=hold.appointment_id)
    assert due_rows(reserved, recorded(released, stream_id=an_id("day"), sequence=2)) == {}


def test_an_appointment_row_follows_its_appointment() -> None:
    came = AppointmentCheckedIn(customer_id=BOOKED.customer_id, vin=BOOKED.vin)
    rows = given_rows(appointments).when(*told([BOOKED, came], an_id("appointment"))).rows
    row = rows[an_id("appointment"),]
    assert (row.status, row.starts_at, row.dealer_id) == ("checked_in", BOOKED.starts_at, "D001")


def test_care_rows_follow_their_events() -> None:
    done = ReturnVisitCompleted(
        customer_id=PLANNED.customer_id,
        vin=VIN,
        trigger="repair",
        trigger_id=PLANNED.trigger_id,
        form_version=1,
        answers=(),
        csi=Decimal("7.5"),
        satisfied=True,
        remarks="",
    )
    visit = given_rows(return_visits).when(*told([PLANNED, DUE, done], an_id("visit"))).rows
    row = visit[an_id("visit"),]
    assert (row.status, row.csi, row.satisfied, row.ended_at) == (
        "completed",
        Decimal("7.5"),
        True,
        later(minutes=3),
    )
    moved = ReminderRescheduled(
        customer_id=SCHEDULED.customer_id,
        vin=VIN,
        kind="first_maintenance",
        due_on=date(2026, 2, 24),
        due_at=later(days=50),
        previous_due_on=SCHEDULED.due_on,
        odometer_km=2_510,
        read_on=date(2026, 1, 30),
    )
    rows = given_rows(reminders).when(*told([SCHEDULED, moved], an_id("reminder"))).rows
    row = rows[an_id("reminder"),]
    assert (row.due_on, row.moved, row.due_km, row.planned_at) == (date(2026, 2, 24), 1, 5_000, 1)


def test_the_timeline_of_a_car_has_sales_and_service() -> None:
    delivered = foreign.VehicleDelivered(
        customer_id=an_id("customer"),
        vin=VIN,
        model="Arrizo 8",
        delivered_at=later(days=-2),
        odometer_km=12,
        insurance_until=None,
    )
    events = [
        recorded(foreign.PdiPassed(vin=VIN), stream_id=an_id("vehicle"), dealer_id="D002"),
        recorded(delivered, stream_id=an_id("order"), dealer_id="D002"),
        *told(history(repair_order, REPAIR_WAY), ORDER),
        *told(history(complaint, COMPLAINT_WAY), COMPLAINT),
    ]
    rows = list(given_rows(vehicle_timeline).when(*events).rows.values())
    assert [(row.event, row.store) for row in rows] == [
        ("PdiPassed", "D002"),
        ("VehicleDelivered", "D002"),
        ("RepairOrderOpened", "D001"),
        ("RepairInvoiced", "D001"),
        ("VehicleHandedBack", "D001"),
    ], "a complaint that is not about a car is in no car's timeline"
    assert (rows[1].at, rows[1].details) == (later(days=-2), {"model": "Arrizo 8", "odometer_km": "12"})
    assert rows[3].details == {"invoice_number": "INV-1", "total": "500.00 CNY"}


def test_a_row_survives_the_database() -> None:
    row = order_after(len(REPAIR_WAY))
    for column in columns_of(RepairOrderRow):
        value = getattr(row, column.name)
        stored = column.encode(value) if column.encode else value
        assert (column.decode(stored) if column.decode else stored) == value, column.name


def test_an_erased_customer_is_in_no_row_and_the_others_stay() -> None:
    mine = told(history(complaint, COMPLAINT_WAY[:1]), COMPLAINT)
    customer_id = mine[0].event.customer_id
    other = recorded(
        mine[0].event.model_copy(update={"customer_id": an_id("somebody else")}),
        stream_id=an_id("other"),
        sequence=1,
        position=50,
    )
    shredded = recorded(foreign.PersonalDataShredded(), stream_id=customer_id, sequence=9, position=99)
    rows = given_rows(complaints).when(*mine, other, shredded).rows
    assert (rows[COMPLAINT,].subject, rows[COMPLAINT,].description) == (ERASED, ERASED)
    assert rows[COMPLAINT,].status == "received"
    assert rows[an_id("other"),].subject == mine[0].event.subject


def test_the_symptoms_and_remarks_of_an_erased_customer_are_gone() -> None:
    opened = told(history(repair_order, REPAIR_WAY[:1]), ORDER)
    shredded = recorded(
        foreign.PersonalDataShredded(), stream_id=opened[0].event.customer_id, sequence=9, position=99
    )
    assert given_rows(repair_orders).when(*opened).rows[ORDER,].symptoms
    assert given_rows(repair_orders).when(*opened, shredded).rows[ORDER,].symptoms == ()
    booked = recorded(
        BOOKED.model_copy(update={"remarks": "Mr Wang waits"}), stream_id=ORDER, sequence=1, position=1
    )
    gone = recorded(foreign.PersonalDataShredded(), stream_id=BOOKED.customer_id, sequence=9, position=99)
    assert given_rows(appointments).when(booked, gone).rows[ORDER,].remarks == ERASED
