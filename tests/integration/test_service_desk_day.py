"""A day at the service desk, through its gRPC API on real servers."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest

from crm.service_desk.v1 import appointment_pb2, complaint_pb2, repair_order_pb2
from forecourt.testing.given import an_id
from tests.integration.messaging_tools import eventually
from tests.integration.service_desk_tools import SECONDS, START, VINS, Desk, Refusal, cny, running_desk

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

VIN = VINS[0]


@pytest.fixture
async def desk(
    tmp_path: Path, database_url: str, amqp_uri: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Desk]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("AMQP_URI", amqp_uri)
    async with running_desk(tmp_path, database_url, amqp_uri) as running:
        yield running


LINES = [
    {"kind": "LINE_KIND_LABOUR", "description": "brakes", "quantity": "1.5", "unit_price": cny("200.00")},
    {
        "kind": "LINE_KIND_PART",
        "description": "pads",
        "part_number": "BP-7",
        "quantity": "2",
        "unit_price": cny("99.99"),
    },
]
PARTS = [{"part_number": "BP-7", "pieces": 2}]


async def repair(desk: Desk, number: int, *, rework: bool = False, kind: str = "REPAIR") -> str:
    """One car through the whole workshop; the order's id."""
    opened = await desk.call(
        "OpenRepairOrder",
        customer_id=str(an_id(f"customer {number}")),
        vin=VINS[number % 2],
        odometer_km=10_000 + number,
        kind=f"WORK_KIND_{kind}",
        symptoms=["squeals when braking"],
        adviser_id="A1",
    )
    order = {"repair_order_id": opened.id}
    await desk.call("QuoteRepair", **order, lines=LINES)
    await desk.call("ApproveQuote", **order, quote_version=1, agreement="AGREEMENT_SIGNATURE")
    await desk.call("DispatchTechnician", **order, technician_id="T1", bay="B1")
    await desk.call("RequestParts", **order, parts=PARTS)
    await desk.call("IssueParts", **order, parts=PARTS)
    await desk.call("StartWork", **order)
    await desk.call("CompleteWork", **order)
    if rework:
        await desk.call("FailInspection", **order, inspector_id="I1", findings=["still squeals"])
        await desk.call(
            "RecordRework",
            **order,
            responsibility="RESPONSIBILITY_TECHNICIAN",
            responsible_id="T1",
            technician_id="T2",
            instructions="clean and grease",
        )
        await desk.call("StartWork", **order)
        await desk.call("CompleteWork", **order)
    await desk.call("PassInspection", actor="inspector", **order, inspector_id="I1")
    await desk.call(
        "InvoiceRepair",
        **order,
        invoice_number=f"INV-{number}",
        lines=LINES,
        shares=[
            {"payer": "PAYER_CUSTOMER", "amount": cny("300.00")},
            {"payer": "PAYER_WARRANTY", "amount": cny("199.98")},
        ],
    )
    paid = {"payer": "PAYER_CUSTOMER", "amount": cny("300.00"), "method": "PAYMENT_METHOD_WECHAT"}
    await desk.call("RecordRepairPayment", **order, **paid)
    await desk.call("HandBackVehicle", **order, odometer_km=10_003 + number)
    return str(opened.id)


async def test_forty_repair_orders_go_through_the_workshop(desk: Desk) -> None:
    slots = asyncio.Semaphore(8)

    async def one(number: int) -> str:
        async with slots:
            return await repair(desk, number, rework=number == 7)

    orders = await asyncio.gather(*map(one, range(40)))
    await desk.until("ReturnVisitScheduled", 40)
    count = await desk.count()
    assert (count["RepairOrderOpened"], count["VehicleHandedBack"]) == (40, 40)
    assert (count["InspectionFailed"], count["ReworkRecorded"], count["InspectionPassed"]) == (1, 1, 40)
    assert count["ReturnVisitScheduled"] == 40

    open_one = await desk.call(
        "OpenRepairOrder",
        customer_id=str(an_id("customer")),
        vin=VIN,
        odometer_km=1,
        kind="WORK_KIND_WARRANTY",
        symptoms=["rattles"],
        adviser_id="A1",
    )
    fresh = {"after_position": open_one.position}
    board = await desk.call("GetWorkshopBoard", metadata=fresh)
    assert [(c.status, c.orders) for c in board.counts] == [(repair_order_pb2.REPAIR_ORDER_STATUS_OPEN, 1)]
    assert [order.repair_order_id for order in board.orders] == [open_one.id]
    assert board.as_of.ToDatetime(tzinfo=START.tzinfo) == START
    assert board.age_ms == 0

    reworked = await desk.call("GetRepairOrder", repair_order_id=orders[7])
    assert reworked.status == repair_order_pb2.REPAIR_ORDER_STATUS_HANDED_BACK
    assert (reworked.failed_inspections, reworked.technician_id) == (1, "T2")
    assert {(b.payer, b.amount.amount) for b in reworked.balances} == {
        (repair_order_pb2.PAYER_CUSTOMER, "0.00"),
        (repair_order_pb2.PAYER_WARRANTY, "199.98"),
    }
    assert await listed(desk, "ListRepairOrders", "repair_orders", page_size=15) == 41
    assert await listed(desk, "ListRepairOrders", "repair_orders", page_size=15, vin=VINS[1]) == 20
    assert await listed(desk, "ListRepairOrders", "repair_orders", open_only=True) == 1
    assert await listed(desk, "ListRepairOrders", "repair_orders", dealer_id="D002") == 0


async def listed(desk: Desk, rpc: str, field: str, **fields: Any) -> int:
    """How many rows a list has, counted page by page; none may come twice."""
    rows: list[str] = []
    token = ""
    while True:
        answer = await desk.call(rpc, **(fields | {"page_token": token}))
        rows += [str(row) for row in getattr(answer, field)]
        token = answer.next_page_token
        if not token:
            assert len(rows) == len(set(rows))
            return len(rows)


async def complain(desk: Desk, number: int) -> dict[str, str]:
    """Take a complaint in; how to name it."""
    received = await desk.call(
        "ReceiveComplaint",
        customer_id=str(an_id(f"customer {number}")),
        channel="COMPLAINT_CHANNEL_PHONE",
        severity="SEVERITY_NORMAL",
        subject="paint scratched",
        description="the door was scratched in the workshop",
        vin=VIN,
    )
    return {"complaint_id": received.id}


async def settle(desk: Desk, named: dict[str, str]) -> Any:
    """From an owned complaint to its close."""
    await desk.call("RecordComplaintAction", **named, action="looked at the door")
    await desk.call("ProposeResolution", **named, resolution="paint it again", compensation=cny("200.00"))
    await desk.call("RecordCustomerReply", **named, accepted=True)
    await desk.call("CompleteRevisit", **named, satisfied=True)
    return await desk.call("CloseComplaint", **named, result="COMPLAINT_RESULT_RESOLVED")


async def test_six_complaints_are_closed_and_one_of_them_is_reopened(desk: Desk) -> None:
    named = [await complain(desk, number) for number in range(6)]
    early = await desk.refusal("CloseComplaint", **named[0], result="COMPLAINT_RESULT_RESOLVED")
    assert (early.code, early.slug) == (grpc.StatusCode.FAILED_PRECONDITION, "not-replied")
    last: Any = None
    for one in named:
        await desk.call("AcknowledgeComplaint", **one)
        await desk.call(
            "TriageComplaint", **one, topic="COMPLAINT_TOPIC_WORKMANSHIP", severity="SEVERITY_HIGH"
        )
        last = await desk.call("DispatchComplaint", **one, department="DEPARTMENT_SERVICE", owner_id="M1")
    fresh = {"after_position": last.position}
    orphans = await desk.call("ListOpenComplaints", metadata=fresh, without_owner=True)
    assert len(orphans.complaints) == 0
    assert len((await desk.call("ListOpenComplaints")).complaints) == 6
    for one in named:
        await settle(desk, one)
    await desk.call("ReopenComplaint", **named[2], reason="the paint came off")
    last = await settle(desk, named[2])
    await desk.until("ReturnVisitScheduled", 7)
    count = await desk.count()
    assert (count["ComplaintReceived"], count["ComplaintClosed"], count["ComplaintReopened"]) == (6, 7, 1)
    fresh = {"after_position": last.position}
    assert len((await desk.call("ListOpenComplaints", metadata=fresh)).complaints) == 0
    reopened = await desk.call("GetComplaint", **named[2])
    assert (reopened.status, reopened.round) == (complaint_pb2.COMPLAINT_STATUS_CLOSED, 2)


async def test_the_last_bay_goes_to_one_of_many(desk: Desk) -> None:
    starts_at = START + timedelta(days=1, hours=1)
    await desk.call("SetWorkshopCapacity", day="2026-01-06", bays=3, technicians=20)

    async def book(number: int) -> str:
        booked = await desk.call(
            "BookAppointment",
            customer_id=str(an_id(f"customer {number}")),
            vin=VIN,
            kind="WORK_KIND_MAINTENANCE",
            starts_at=starts_at,
            minutes=60,
        )
        return str(booked.id)

    answers = await asyncio.gather(*map(book, range(12)), return_exceptions=True)
    booked = [answer for answer in answers if isinstance(answer, str)]
    refused = Counter((answer.code, answer.slug) for answer in answers if isinstance(answer, Refusal))
    assert len(booked) == 3
    assert refused == {(grpc.StatusCode.FAILED_PRECONDITION, "no-bay-free"): 9}

    await desk.call("CancelAppointment", appointment_id=booked[0], reason="customer is ill")
    again = await book(99)
    moved = await desk.call(
        "RescheduleAppointment", appointment_id=again, starts_at=starts_at + timedelta(hours=2)
    )
    await book(100)
    full = await desk.refusal(
        "RescheduleAppointment",
        appointment_id=again,
        starts_at=starts_at,
        metadata={"command_id": an_id("x")},
    )
    assert (full.slug, full.fields) == ("no-bay-free", {"starts_at"})

    await desk.call("CheckInAppointment", appointment_id=again)
    done = await desk.call("CompleteAppointment", appointment_id=again)
    rows = await desk.call("ListAppointments", metadata={"after_position": done.position})
    status = Counter(row.status for row in rows.appointments)
    assert status == {
        appointment_pb2.APPOINTMENT_STATUS_BOOKED: 3,
        appointment_pb2.APPOINTMENT_STATUS_COMPLETED: 1,
        appointment_pb2.APPOINTMENT_STATUS_CANCELLED: 1,
    }
    assert moved.version == 2
    count = await desk.count()
    assert count["CapacityReserved"] - count["CapacityReleased"] == 4


async def test_a_repeated_booking_is_answered_with_the_first_one(desk: Desk) -> None:
    fields = {
        "customer_id": str(an_id("customer")),
        "vin": VIN,
        "kind": "WORK_KIND_REPAIR",
        "starts_at": START + timedelta(days=1),
    }
    command = {"command_id": an_id("the command")}
    first = await desk.call("BookAppointment", metadata=command, **fields)
    again = await desk.call("BookAppointment", metadata=command, **fields)
    assert first == again
    assert (await desk.count())["CapacityReserved"] == 1


async def test_a_hold_whose_booking_died_is_given_up(desk: Desk) -> None:
    fields = {"vin": VIN, "kind": "WORK_KIND_REPAIR", "starts_at": START + timedelta(days=9)}
    for name in ("kept", "lost"):
        await desk.call("BookAppointment", customer_id=str(an_id(name)), **fields)
    # As if the process had died between the two appends: the hold is there, its appointment never was.
    await desk.hold_without_appointment((START + timedelta(days=9)).date())
    await desk.advance(days=1, minutes=1)
    await desk.until("CapacityReleased", 1)
    count = await desk.count()
    assert (count["CapacityReserved"], count["CapacityReleased"]) == (3, 1)


async def test_a_cars_timeline_shows_sales_and_service_in_every_store(desk: Desk) -> None:
    vehicle = an_id("vehicle")
    await desk.append("sales.PdiPassed", f"vehicle-{vehicle}", f'{{"vin":"{VIN}"}}', dealer_id="D002")
    await desk.deliver("one", VIN)
    await repair(desk, 0)

    async def complete() -> bool:
        answer = await desk.call("GetVehicleTimeline", vin=VIN)
        return {entry.event for entry in answer.entries} >= {
            "PdiPassed",
            "VehicleDelivered",
            "RepairOrderOpened",
            "RepairInvoiced",
            "VehicleHandedBack",
        }

    await eventually(complete, seconds=SECONDS)
    answer = await desk.call("GetVehicleTimeline", vin=VIN)
    assert {entry.dealer_id for entry in answer.entries} == {"D001", "D002"}
    assert {entry.service for entry in answer.entries} == {"sales", "service_desk"}
    assert all(UUID(entry.event_id) for entry in answer.entries)
