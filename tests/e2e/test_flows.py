"""The core flows of the domain on a running platform, through its public gRPC APIs only, to the message that arrives.

Read-your-writes is part of it: every question is asked with the position of the last answer.
"""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from forecourt.testing.probes import poll_async
from tests.e2e import stories
from tests.e2e.client import Client
from tests.e2e.house import NOON, SECONDS, House

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest.fixture
def seller(house: House) -> Client:
    return house.client("seller")


@pytest.fixture
def manager(house: House) -> Client:
    return house.client("manager")


@pytest.fixture
def adviser(house: House) -> Client:
    return house.client("adviser")


async def messages_about(house: House, customer_id: str) -> dict[str, dict[str, Any]]:
    """The message of each rule that a customer got, once all of them went out."""
    await house.settled()
    rows = await house.sql(
        "SELECT notification_id, rule, state, why FROM notify.notification WHERE customer_id::text = $1",
        customer_id,
    )
    assert {row["state"] for row in rows} <= {"accepted", "delivered"}, [dict(row) for row in rows]
    arrived: dict[str, list[dict[str, Any]]] = {}
    for message in await house.arrived():
        arrived.setdefault(message["key"] or message["reference"].partition("@")[0], []).append(message)
    assert all(len(arrived[str(row["notification_id"])]) == 1 for row in rows)
    assert max(Counter(row["rule"] for row in rows).values(), default=0) <= 1
    return {row["rule"]: arrived[str(row["notification_id"])][0] for row in rows}


async def histories(client: Client, customer_id: str) -> list[tuple[str, str]]:
    """The customer's history: kind and event, in the order of time."""
    found = await client.ask("customer.GetCustomerHistory", customer_id=customer_id, page_size=200)
    kinds = found.DESCRIPTOR.file.enum_types_by_name["HistoryKind"].values_by_number
    assert [entry.position for entry in found.entries] == sorted(entry.position for entry in found.entries)
    return [
        (kinds[entry.kind].name.removeprefix("HISTORY_KIND_").lower(), entry.event_type)
        for entry in found.entries
    ]


async def test_from_the_showroom_to_the_delivery(house: House, seller: Client, manager: Client) -> None:
    """Lead, test drive, quote, order, payment, approval by another person, three sheets, delivery; and what follows."""
    vin = next(stories.VINS)
    customer_id = await stories.register(seller)
    await stories.receive_car(seller, vin)
    opportunity_id = await stories.court(seller, customer_id, vin, NOON + timedelta(hours=1))
    insured_until = (NOON + timedelta(days=365)).date().isoformat()
    order_id = await stories.sell(
        seller, manager, customer_id, vin, opportunity_id=opportunity_id, insured_until=insured_until
    )
    order = await seller.ask("sales.GetOrder", order_id=order_id)
    assert (order.vin, order.balance.amount, order.outbound_approved_by) == (vin, "0.00", "manager")
    assert (
        order.state
        == order.DESCRIPTOR.file.enum_types_by_name["OrderState"]
        .values_by_name["ORDER_STATE_DELIVERED"]
        .number
    )
    opportunity = await seller.ask("sales.GetOpportunity", opportunity_id=opportunity_id)
    assert (opportunity.order_id, opportunity.probability) == (order_id, 100)
    messages = await messages_about(house, customer_id)
    assert set(messages) == {"order_placed", "vehicle_arrived", "vehicle_delivered"}
    assert vin in messages["vehicle_arrived"]["text"]
    told = await histories(seller, customer_id)
    assert {kind for kind, _ in told} >= {
        "profile",
        "intention",
        "test_drive",
        "purchase",
        "return_visit",
        "reminder",
    }
    timeline = await seller.ask("service_desk.GetVehicleTimeline", vin=vin)
    assert [entry.event for entry in timeline.entries][:3] == [
        "VehicleRegistered",
        "VehiclePurchased",
        "ReceivedIntoStock",
    ]
    assert "VehicleDelivered" in [entry.event for entry in timeline.entries]
    planned = await seller.ask("service_desk.ListReminders", vin=vin)
    assert len({reminder.kind for reminder in planned.reminders}) == len(planned.reminders) == 4


async def test_a_car_does_not_leave_before_payment_approval_and_sheets(
    seller: Client, manager: Client
) -> None:
    vin = next(stories.VINS)
    customer_id = await stories.register(seller)
    await stories.receive_car(seller, vin)
    placed = await seller(
        "sales.PlaceOrder", customer_id=customer_id, model=stories.MODEL, lines=stories.SALE_LINES
    )
    one = {"order_id": placed.id}
    refused = [await seller.refused("sales.DeliverVehicle", **one, odometer_km=9)]
    await seller("sales.AllocateVehicle", **one, vin=vin)
    refused.append(await seller.refused("sales.DeliverVehicle", **one, odometer_km=9))
    await seller("sales.RecordPayment", **one, amount=stories.PRICE, method="PAYMENT_METHOD_CASH")
    await seller("sales.IssueInvoice", **one, invoice_number="INV-1")
    await seller("sales.NotifyOutbound", **one)
    own = await seller.refused("sales.ApproveOutbound", **one)
    await manager("sales.ApproveOutbound", **one)
    refused.append(await seller.refused("sales.DeliverVehicle", **one, odometer_km=9))
    assert {refusal.code.name for refusal in refused} == {"FAILED_PRECONDITION"}
    assert len({refusal.slug for refusal in refused}) > 1
    assert own.code.name == "PERMISSION_DENIED"
    assert (await seller.ask("sales.GetVehicle", vin=vin)).place == 3


async def test_a_repair_through_the_workshop(house: House, adviser: Client) -> None:
    """With the appointment before it, and the messages for appointment, quote and return."""
    vin = next(stories.VINS)
    customer_id = await stories.register(adviser)
    booked = await adviser(
        "service_desk.BookAppointment",
        customer_id=customer_id,
        vin=vin,
        kind="WORK_KIND_REPAIR",
        starts_at=NOON + timedelta(hours=2),
        minutes=60,
        technicians=1,
    )
    await adviser("service_desk.CheckInAppointment", appointment_id=booked.id)
    order_id = await stories.repair(adviser, house.client("inspector"), customer_id, vin)
    await adviser("service_desk.CompleteAppointment", appointment_id=booked.id)
    order = await adviser.ask("service_desk.GetRepairOrder", repair_order_id=order_id)
    assert (order.invoice_total.amount, order.failed_inspections, order.handed_back_at.seconds > 0) == (
        "338.50",
        0,
        True,
    )
    messages = await messages_about(house, customer_id)
    assert set(messages) == {"appointment_booked", "repair_quoted", "vehicle_handed_back"}
    assert "338.5" in messages["repair_quoted"]["text"]
    refused = await adviser.refused("service_desk.StartWork", repair_order_id=order_id)
    assert refused.code.name == "FAILED_PRECONDITION"


async def test_a_complaint_from_intake_to_close_and_again(house: House, adviser: Client) -> None:
    vin = next(stories.VINS)
    customer_id = await stories.register(adviser, mobile=False)
    received = await adviser(
        "service_desk.ReceiveComplaint",
        customer_id=customer_id,
        channel="COMPLAINT_CHANNEL_PHONE",
        severity="SEVERITY_HIGH",
        subject="Noise",
        description="It rattles.",
        vin=vin,
    )
    early = await adviser.refused(
        "service_desk.CloseComplaint", complaint_id=received.id, result="COMPLAINT_RESULT_RESOLVED"
    )
    assert early.code.name == "FAILED_PRECONDITION"
    complaint_id = await stories.complain(adviser, customer_id, vin)
    await adviser("service_desk.ReopenComplaint", complaint_id=complaint_id, reason="It happened again.")
    still_open = await adviser.ask("service_desk.ListOpenComplaints")
    assert {one.complaint_id for one in still_open.complaints} >= {received.id, complaint_id}
    messages = await messages_about(house, customer_id)
    assert set(messages) == {"complaint_acknowledged", "complaint_closed"}
    assert {message["channel"] for message in messages.values()} == {"email"}
    told = [event for kind, event in await histories(adviser, customer_id) if kind == "complaint"]
    assert told.count("service_desk.ComplaintReceived") == 2
    assert "service_desk.ComplaintReopened" in told


async def test_what_falls_due_is_written_about_once_and_answered(
    house: House, seller: Client, manager: Client, adviser: Client
) -> None:
    """Delivery, then a week: the return visit, its message and the customer's answers. Then months: the reminders."""
    vin = next(stories.VINS)
    customer_id = await stories.register(seller)
    await stories.receive_car(seller, vin)
    insured_until = (NOON + timedelta(days=365)).date().isoformat()
    await stories.sell(seller, manager, customer_id, vin, insured_until=insured_until)
    await house.settled()
    await house.set_clock(NOON + timedelta(days=7))
    [visit] = await until_due(adviser, "service_desk.ListReturnVisits", customer_id)
    one = {"return_visit_id": visit.return_visit_id}
    await adviser(
        "service_desk.RecordReturnVisitAttempt",
        **one,
        channel="RETURN_VISIT_CHANNEL_PHONE",
        result="ATTEMPT_RESULT_REACHED",
    )
    answers = [{"question": name, "score": 2} for name in ("advice", "handover", "vehicle_condition")]
    await adviser("service_desk.CompleteReturnVisit", **one, form_version=1, answers=answers, satisfied=False)
    await poll_async(lambda: recovered(adviser, customer_id), SECONDS, what="a recovery complaint")
    # A jump of months would let a message expire that is still on its way.
    await house.settled()
    await house.set_clock(NOON + timedelta(days=360))
    due = await until_due(adviser, "service_desk.ListReminders", customer_id, at_least=2)
    assert len({reminder.kind for reminder in due}) == len(due)
    messages = await messages_about(house, customer_id)
    assert set(messages) >= {"return_visit_due", "reminder_first_maintenance", "reminder_insurance_renewal"}
    assert vin in messages["reminder_first_maintenance"]["text"]


async def until_due(client: Client, rpc: str, customer_id: str, at_least: int = 1) -> list[Any]:
    """What is due for a customer, as soon as so much is."""

    async def ask() -> list[Any]:
        found = await client(rpc, customer_id=customer_id)
        rows = getattr(found, "return_visits", None) or getattr(found, "reminders", None) or []
        due = [row for row in rows if row.status == 2]
        return due if len(due) >= at_least else []

    return await poll_async(ask, SECONDS, what=f"{at_least} due of {rpc}")


async def recovered(client: Client, customer_id: str) -> bool:
    """Whether a low score has opened a complaint."""
    found = await client("service_desk.ListOpenComplaints")
    return customer_id in [complaint.customer_id for complaint in found.complaints]
