"""Care by reaction and by the clock: planned once, due once, at any speed of time and after any restart."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from crm.service_desk.v1 import care_pb2, complaint_pb2
from forecourt.testing.given import an_id
from service_desk.return_visit import FORMS
from tests.integration.messaging_tools import eventually
from tests.integration.service_desk_tools import SECONDS, START, VINS, Desk, running_desk
from tests.integration.test_service_desk_day import complain, repair

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

VIN = VINS[0]
PLANNED_A_CAR = 4
"""Reminders of a car whose end of insurance is known."""


@pytest.fixture
async def desk(
    tmp_path: Path, database_url: str, amqp_uri: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Desk]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("AMQP_URI", amqp_uri)
    async with running_desk(tmp_path, database_url, amqp_uri) as running:
        yield running


async def visits(desk: Desk, status: str, at_least: int = 1) -> list[Any]:
    """The return visits with a status, once there are so many."""
    found: list[Any] = []

    async def there() -> bool:
        answer = await desk.call("ListReturnVisits", status=f"RETURN_VISIT_STATUS_{status}", page_size=500)
        found[:] = answer.return_visits
        return len(found) >= at_least

    await eventually(there, seconds=SECONDS)
    return found


async def reminders(desk: Desk, **fields: Any) -> dict[tuple[int, str], Any]:
    """Reminders by kind and cycle's day."""
    answer = await desk.call("ListReminders", page_size=500, **fields)
    return {(reminder.kind, reminder.due_on): reminder for reminder in answer.reminders}


async def test_a_delivery_is_followed_by_a_return_visit_and_reminders_each_due_once(desk: Desk) -> None:
    insured = (START + timedelta(days=365)).date()
    for label in ("one", "two", "three"):
        await desk.deliver(label, VIN if label == "one" else VINS[1], insurance_until=insured)
    await desk.until("ReturnVisitScheduled", 3)
    # Two of the cars are the same one, sold twice: each sale has its reminders once.
    await desk.until("ReminderScheduled", 3 * PLANNED_A_CAR)
    await desk.advance(days=2, hours=23)
    assert (await desk.count())["ReturnVisitBecameDue"] == 0
    await desk.advance(hours=1)
    due = await visits(desk, "DUE", 3)
    assert {visit.trigger for visit in due} == {care_pb2.RETURN_VISIT_TRIGGER_DELIVERY}

    # A worker that dies while things fall due leaves the rest to the next one, and nothing is told twice.
    await desk.advance(days=100)
    await desk.restart_worker()
    await desk.until("ReminderBecameDue", 3)
    await desk.until("ReturnVisitExpired", 3)
    await desk.advance(days=300)
    await desk.until("ReminderBecameDue", 6)
    count = await desk.count()
    assert (count["ReturnVisitBecameDue"], count["ReminderBecameDue"]) == (3, 6)
    assert await desk.twice("ReturnVisitBecameDue") == await desk.twice("ReminderBecameDue") == []

    async def shown() -> bool:
        due_now = await reminders(desk, status="REMINDER_STATUS_DUE", vin=VIN)
        return {kind for kind, _ in due_now} == {
            care_pb2.REMINDER_KIND_FIRST_MAINTENANCE,
            care_pb2.REMINDER_KIND_INSURANCE_RENEWAL,
        }

    await eventually(shown, seconds=SECONDS)


async def test_a_month_in_a_few_seconds_loses_nothing_and_tells_nothing_twice(desk: Desk) -> None:
    cars = 30
    await asyncio.gather(*(desk.deliver(str(number), VINS[number % 2]) for number in range(cars)))
    await desk.until("ReturnVisitScheduled", cars)
    await desk.clock.accelerate(30 * 86_400 / 6)
    await desk.until("ReturnVisitBecameDue", cars // 2)
    await desk.restart_worker()
    await desk.until("ReturnVisitBecameDue", cars)
    await desk.until("ReturnVisitExpired", cars)
    await desk.clock.accelerate(0)
    count = await desk.count()
    assert (count["ReturnVisitBecameDue"], count["ReturnVisitExpired"]) == (cars, cars)
    assert await desk.twice("ReturnVisitBecameDue") == await desk.twice("ReturnVisitExpired") == []


async def test_a_low_score_opens_one_recovery_complaint(desk: Desk) -> None:
    await repair(desk, 0)
    await desk.until("ReturnVisitScheduled", 1)
    await desk.advance(days=3)
    (visit,) = await visits(desk, "DUE")
    named = {"return_visit_id": visit.return_visit_id}
    await desk.call(
        "RecordReturnVisitAttempt",
        **named,
        channel="RETURN_VISIT_CHANNEL_PHONE",
        result="ATTEMPT_RESULT_NO_ANSWER",
    )
    answers = [{"question": question, "score": 3} for question in FORMS["repair", 1]]
    done = await desk.call("CompleteReturnVisit", **named, answers=answers, satisfied=False)
    await desk.until("ComplaintReceived", 1)
    (row,) = await visits(desk, "COMPLETED")
    assert (row.csi, row.attempts, row.satisfied, row.form_version) == ("3.0", 1, False, 1)

    async def opened() -> Any:
        answer = await desk.call(
            "ListOpenComplaints", without_owner=True, metadata={"after_position": done.position}
        )
        return answer.complaints

    (complaint,) = await eventually(opened, seconds=SECONDS)
    assert complaint.channel == complaint_pb2.COMPLAINT_CHANNEL_RETURN_VISIT
    assert complaint.customer_id == str(an_id("customer 0"))
    assert (await desk.count())["ComplaintReceived"] == 1


async def test_a_maintenance_fulfils_its_reminder_plans_the_next_one_and_moves_the_others(desk: Desk) -> None:
    await desk.deliver("one", VIN)
    await desk.until("ReminderScheduled", PLANNED_A_CAR - 1)
    await desk.advance(days=60)
    order_id = await repair(desk, 0, kind="MAINTENANCE")
    await desk.until("ReminderScheduled", PLANNED_A_CAR)
    count = await desk.count()
    assert count["ReminderFulfilled"] == 1

    async def shown() -> bool:
        found = await reminders(desk, vin=VIN)
        status = {kind: reminder.status for (kind, _), reminder in found.items()}
        return (
            status[care_pb2.REMINDER_KIND_FIRST_MAINTENANCE] == care_pb2.REMINDER_STATUS_FULFILLED
            and status.get(care_pb2.REMINDER_KIND_REGULAR_MAINTENANCE) == care_pb2.REMINDER_STATUS_SCHEDULED
        )

    await eventually(shown, seconds=SECONDS)
    await desk.until("ReminderRescheduled", 1)
    moved = await desk.pool.fetch(
        "SELECT data::json ->> 'kind' AS kind FROM events.event"
        " WHERE type = 'service_desk.ReminderRescheduled'"
    )
    assert [row["kind"] for row in moved] == ["warranty_end"]
    assert UUID(order_id)


async def test_an_odometer_reading_at_reception_brings_the_reminder_forward(desk: Desk) -> None:
    await desk.deliver("one", VIN)
    await desk.until("ReminderScheduled", PLANNED_A_CAR - 1)
    await desk.advance(days=20)
    await desk.call(
        "OpenRepairOrder",
        customer_id=str(an_id("customer one")),
        vin=VIN,
        odometer_km=4_015,
        kind="WORK_KIND_REPAIR",
        symptoms=["rattles"],
        adviser_id="A1",
    )
    await desk.until("ReminderRescheduled", 1)
    # 4,000 km in 20 days: the last 1,000 take five more.
    await desk.advance(days=5)
    await desk.until("ReminderBecameDue", 1)
    due = await desk.pool.fetchval(
        "SELECT data::json ->> 'due_on' FROM events.event WHERE type = 'service_desk.ReminderBecameDue'"
    )
    assert due == "2026-01-30"


async def test_reminders_end_with_the_ownership(desk: Desk) -> None:
    await desk.deliver("one", VIN)
    await desk.until("ReminderScheduled", PLANNED_A_CAR - 1)
    await desk.tell(
        "customer.VehicleOwnershipRecorded",
        f"customer-{an_id('customer one')}",
        {"vin": VIN, "since": "2026-01-01", "until": "2026-01-04"},
    )
    await desk.until("ReminderWithdrawn", PLANNED_A_CAR - 1)
    await desk.advance(days=800)
    await desk.until("ReturnVisitBecameDue", 1)
    assert (await desk.count())["ReminderBecameDue"] == 0


async def test_a_car_that_came_back_and_was_sold_again_has_the_second_buyers_reminders(desk: Desk) -> None:
    insured = (START + timedelta(days=365)).date()
    order_id = await desk.deliver("one", VIN, insurance_until=insured)
    await desk.until("ReminderScheduled", PLANNED_A_CAR)
    came_back = {"customer_id": an_id("customer one"), "vin": VIN}
    await desk.tell("sales.VehicleReturned", f"order-{order_id}", came_back)
    await desk.until("ReminderWithdrawn", PLANNED_A_CAR)
    await desk.deliver("two", VIN, insurance_until=insured)
    await desk.until("ReminderScheduled", 2 * PLANNED_A_CAR)
    await desk.advance(days=100)
    await desk.until("ReminderBecameDue", 1)
    assert (await desk.count())["ReminderScheduled"] == 2 * PLANNED_A_CAR
    due = await desk.pool.fetchval(
        "SELECT data::json ->> 'customer_id' FROM events.event WHERE type = 'service_desk.ReminderBecameDue'"
    )
    assert UUID(due) == an_id("customer two")


async def test_a_delivery_that_is_handled_late_plans_only_what_is_still_to_come(desk: Desk) -> None:
    maintained = await desk.record_delivery("0", VINS[0])
    returned = await desk.record_delivery("1", VINS[1])
    came_back = {"customer_id": an_id("customer 1"), "vin": VINS[1]}
    await desk.tell("sales.VehicleReturned", f"order-{an_id('order 1')}", came_back)
    await repair(desk, 0, kind="MAINTENANCE")
    await desk.until("ReminderScheduled", 1)
    await desk.publish(returned)
    await desk.publish(maintained)
    await desk.until("ReturnVisitScheduled", 3)
    await desk.until("ReminderScheduled", 3)
    planned = await desk.pool.fetch(
        "SELECT data::json ->> 'vin' AS vin, data::json ->> 'kind' AS kind FROM events.event"
        " WHERE type = 'service_desk.ReminderScheduled'"
    )
    assert {row["vin"] for row in planned} == {VINS[0]}
    assert {row["kind"] for row in planned} == {"regular_maintenance", "annual_inspection", "warranty_end"}


async def test_a_complaint_climbs_each_step_once_also_after_a_restart(desk: Desk) -> None:
    named = await complain(desk, 0)
    await complain(desk, 1)
    await desk.advance(hours=5, minutes=29)
    assert (await desk.count())["ComplaintEscalated"] == 0
    await desk.advance(minutes=1)
    await desk.until("ComplaintEscalated", 2)
    await desk.restart_worker()
    await desk.call("AcknowledgeComplaint", **named)
    await desk.call("PauseComplaintSla", **named, reason="SLA_PAUSE_REASON_CUSTOMER")
    await desk.advance(days=30)
    await desk.restart_worker()
    await desk.until("ComplaintEscalated", 4)

    async def shown() -> bool:
        answer = await desk.call("ListOpenComplaints")
        return sorted((c.escalation_level, c.breaches) for c in answer.complaints) == [(1, 1), (3, 3)]

    await eventually(shown, seconds=SECONDS)
    rows = await desk.pool.fetch(
        "SELECT stream, data::json ->> 'level' AS level FROM events.event"
        " WHERE type = 'service_desk.ComplaintEscalated'"
    )
    assert len(rows) == len({(row["stream"], row["level"]) for row in rows}) == 4
