"""What an event leads to, by the rules of care."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from forecourt.testing.given import NOW, an_id, given, later
from sales.order.commands import DeliverVehicle
from service_desk import policies
from service_desk.complaint.decisions import complaint
from service_desk.complaint.events import ComplaintReceived, SlaStarted
from service_desk.foreign import VehicleDelivered
from service_desk.read_models.due import DueRow
from service_desk.read_models.vehicle_timeline import TimelineRow
from service_desk.reminder import ReminderScheduled, ScheduleReminder, reminder, reminder_id
from service_desk.repair_order.events import Kind, VehicleHandedBack
from service_desk.return_visit import LowScoreFlagged, ReturnVisitScheduled, Trigger, return_visit

VIN = "LVSHCAMEX1F123456"
DELIVERED = VehicleDelivered(
    customer_id=an_id("customer"),
    vin=VIN,
    model="Arrizo 8",
    delivered_at=NOW,
    odometer_km=15,
    insurance_until=date(2027, 1, 4),
)


def after_delivery(e: VehicleDelivered, order: str = "order") -> list[ScheduleReminder]:
    return policies.reminders_after_delivery(e, an_id(order), date(2026, 1, 5))


def planned(e: VehicleDelivered) -> dict[str, tuple[date, int | None]]:
    return {c.kind: (c.due_on, c.due_km) for c in after_delivery(e)}


def test_a_delivery_plans_the_cars_reminders() -> None:
    assert planned(DELIVERED) == {
        "first_maintenance": (date(2026, 4, 5), 5_015),
        "insurance_renewal": (date(2026, 12, 5), None),
        "annual_inspection": (date(2027, 12, 6), None),
        "warranty_end": (date(2028, 11, 6), 100_015),
    }


def test_an_unknown_end_of_insurance_plans_no_renewal() -> None:
    unknown = DELIVERED.model_copy(update={"insurance_until": None})
    assert "insurance_renewal" not in planned(unknown)


def test_an_insurance_that_ends_soon_is_due_at_once() -> None:
    soon = DELIVERED.model_copy(update={"insurance_until": date(2026, 1, 20)})
    assert planned(soon)["insurance_renewal"] == (date(2026, 1, 5), None)


@pytest.mark.parametrize("odometer_km", [0, 3_000_000])
def test_a_car_of_any_mileage_has_reminders(odometer_km: int) -> None:
    """A delivery that sales takes is one that can be reacted to."""
    DeliverVehicle(order_id=an_id("order"), odometer_km=odometer_km)
    delivered = DELIVERED.model_copy(update={"odometer_km": odometer_km})
    for command in after_delivery(delivered):
        given(reminder).when(command).then_types(ReminderScheduled)


def test_planned_reminders_are_accepted_and_have_the_same_ids_however_often_they_are_planned() -> None:
    twice = [after_delivery(DELIVERED) for _ in range(2)]
    assert twice[0] == twice[1]
    for command in twice[0]:
        given(reminder).when(command).then_types(ReminderScheduled)
    first = reminder_id(VIN, "first_maintenance", str(an_id("order")))
    assert first in {command.reminder_id for command in twice[0]}


def test_a_car_that_is_sold_again_has_reminders_of_its_own_of_every_kind() -> None:
    """Those of the first sale are withdrawn when the car comes back, and nothing revives them."""
    first, second = after_delivery(DELIVERED), after_delivery(DELIVERED, "second order")
    assert [command.kind for command in first] == [command.kind for command in second]
    assert not {command.reminder_id for command in first} & {command.reminder_id for command in second}


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        (date(2026, 1, 31), 1, date(2026, 2, 28)),
        (date(2023, 11, 30), 3, date(2024, 2, 29)),
        (date(2026, 12, 15), 1, date(2027, 1, 15)),
        (date(2026, 1, 1), 24, date(2028, 1, 1)),
        (date(2026, 12, 1), 12, date(2027, 12, 1)),
    ],
)
def test_months_end_where_they_end(day: date, months: int, expected: date) -> None:
    assert policies.months_later(day, months) == expected


def handed_back(kind: Kind) -> VehicleHandedBack:
    return VehicleHandedBack(
        customer_id=an_id("customer"), vin=VIN, odometer_km=5_100, handed_back_at=NOW, kind=kind
    )


def test_only_a_maintenance_plans_the_next_one() -> None:
    following = policies.reminder_after_maintenance(
        handed_back("maintenance"), an_id("order"), date(2026, 4, 1)
    )
    assert following is not None
    assert (following.kind, following.due_on, following.due_km) == (
        "regular_maintenance",
        date(2026, 10, 1),
        15_100,
    )
    assert policies.reminder_after_maintenance(handed_back("repair"), an_id("order"), NOW.date()) is None


def happened(event: str, **details: str) -> TimelineRow:
    return TimelineRow(
        event_id=an_id(event),
        vin=VIN,
        at=NOW,
        position=9,
        service="service_desk",
        event=event,
        store="D001",
        brand="hongtong",
        subject_id=an_id("order"),
        details=details,
        stock_vin=None,
    )


@pytest.mark.parametrize(
    ("row", "kinds"),
    [
        (
            happened("VehicleReturned"),
            {"first_maintenance", "annual_inspection", "warranty_end", "insurance_renewal"},
        ),
        (happened("VehicleHandedBack", kind="maintenance"), {"first_maintenance"}),
        (happened("VehicleHandedBack", kind="repair"), set()),
        (happened("RepairOrderOpened", kind="maintenance"), set()),
    ],
)
def test_what_happened_since_may_leave_nothing_to_remind_of(row: TimelineRow, kinds: set[str]) -> None:
    all_kinds = [command.kind for command in after_delivery(DELIVERED)]
    assert {kind for kind in all_kinds if policies.overtaken(kind, [row])} == kinds
    assert not any(policies.overtaken(kind, []) for kind in all_kinds)


@pytest.mark.parametrize(("trigger", "days"), [("delivery", 3), ("repair", 3), ("complaint", 7)])
def test_return_visits_follow_after_some_days(trigger: Trigger, days: int) -> None:
    command = policies.return_visit_after(
        an_id("event"),
        trigger=trigger,
        trigger_id=an_id("order"),
        happened_at=NOW,
        customer_id=an_id("customer"),
        vin=None,
    )
    assert command.due_at == NOW + timedelta(days=days)
    given(return_visit).when(command).then_types(ReturnVisitScheduled)


@pytest.mark.parametrize("csi", [None, Decimal("3.4")])
def test_a_low_score_opens_a_complaint_that_names_the_return_visit(csi: Decimal | None) -> None:
    flagged = LowScoreFlagged(
        customer_id=an_id("customer"),
        vin=VIN,
        trigger="repair",
        trigger_id=an_id("order"),
        csi=csi,
        threshold=Decimal("6.0"),
    )
    command = policies.recovery_complaint(an_id("event"), an_id("visit"), flagged)
    received, _ = given(complaint).when(command).then_types(ComplaintReceived, SlaStarted)
    assert isinstance(received, ComplaintReceived)
    assert (received.channel, received.severity, received.return_visit_id) == (
        "return_visit",
        "high",
        an_id("visit"),
    )


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("return_visit", "MarkReturnVisitDue"),
        ("return_visit_expiry", "ExpireReturnVisit"),
        ("reminder", "MarkReminderDue"),
        ("step_2", "ClimbLadder"),
    ],
)
def test_the_timer_asks_the_aggregate_and_always_under_the_same_id(what: str, name: str) -> None:
    row = DueRow(an_id("subject"), what, NOW, "D001", "hongtong", round=1)
    decider, command = policies.command_due(row)
    assert type(command).__name__ == name
    assert type(command) in decider.commands
    assert policies.due_command_id(row) == policies.due_command_id(row)
    moved = DueRow(an_id("subject"), what, later(days=1), "D001", "hongtong", round=1)
    assert policies.due_command_id(row) != policies.due_command_id(moved)
