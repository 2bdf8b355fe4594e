"""Sales on real servers: the showroom over gRPC, its numbers, and what is refused."""

import asyncio
import json
from collections import Counter
from decimal import Decimal
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest

from forecourt.platform import Platform
from tests.integration.sales_client import Answered, SalesClient
from tests.integration.sales_platform import (
    LINE,
    NOBODY,
    PRICE,
    base64_of,
    car_in_stock,
    new_vin,
    sell,
)
from tests.unit.sales.samples import MODEL, a_vin

pytest_plugins = ["tests.integration.sales_fixtures"]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]


async def test_the_showroom_from_the_lead_to_the_handover(
    platform: Platform, seller: SalesClient, manager: SalesClient
) -> None:
    vin = new_vin()
    await car_in_stock(seller, vin)
    order = await sell(platform, seller, manager, vin)
    assert order["state"] == "ORDER_STATE_DELIVERED"
    assert order["balance"] == {"amount": "0.00", "currency": "CNY"}
    assert order["paid"] == {"amount": "127999.50", "currency": "CNY"}
    assert [payment["kind"] for payment in order["payments"]] == [
        "PAYMENT_KIND_DEPOSIT",
        "PAYMENT_KIND_PAYMENT",
        "PAYMENT_KIND_WRITE_OFF",
    ]
    assert (order["outbound_notified_by"], order["outbound_approved_by"]) == ("seller", "manager")
    assert order["lines"] == [LINE]
    car = await seller("GetVehicle", {"vin": vin.lower()})
    assert (car["place"], car["order_id"]) == ("VEHICLE_PLACE_DELIVERED", order["order_id"])
    assert (car["customer_id"], car["odometer_km"]) == (order["customer_id"], 20)
    opportunity = await seller("GetOpportunity", {"opportunity_id": order["opportunity_id"]})
    assert (opportunity["stage"], opportunity["order_id"]) == ("STAGE_WON", order["order_id"])
    assert opportunity["test_drives"][0]["state"] == "TEST_DRIVE_STATE_COMPLETED"
    assert opportunity["quotes"][0]["total"] == PRICE
    lead = await seller("GetLead", {"lead_id": opportunity["lead_id"]})
    assert (lead["state"], lead["phone"]) == ("LEAD_STATE_CONVERTED", "+8613800138000")
    listed = await seller("ListOrders", {"vin": vin, "state": "ORDER_STATE_DELIVERED", "store": "D001"})
    assert [found["order_id"] for found in listed["orders"]] == [order["order_id"]]


async def test_the_funnel_reconciles_with_the_events(
    platform: Platform, seller: SalesClient, manager: SalesClient
) -> None:
    vin = new_vin()
    await car_in_stock(seller, vin)
    await sell(platform, seller, manager, vin)
    for number, stage in enumerate(["STAGE_NEEDS", "STAGE_NEGOTIATION"]):
        opened = await seller("OpenOpportunity", {"customer_id": str(uuid4()), "model": f"Other {number}"})
        await seller("AdvanceStage", {"opportunity_id": opened["id"], "stage": stage})
    lost = {"opportunity_id": opened["id"], "reason": "LOSS_REASON_COMPETITOR"}
    with pytest.raises(Answered) as refusal:
        await seller("LoseOpportunity", lost)
    assert (refusal.value.slug, refusal.value.fields) == (
        "competitor-required",
        {"competitor": "is required"},
    )
    await seller("LoseOpportunity", {**lost, "competitor": "Other Motors"})
    await seller("CaptureAdfLead", {"xml": base64_of(b"<adf>" + uuid4().bytes)})
    funnel = await seller("GetFunnel")
    assert funnel["stages"] == await recounted_stages(platform)
    quarantined = await seller("ListQuarantinedLeads", {"page_size": 500})
    assert int(funnel["leads"]["quarantined"]) == len(quarantined["leads"]) > 0
    assert int(funnel["leads"]["total"]) == sum(
        int(funnel["leads"][state]) for state in ("captured", "qualified", "disqualified", "converted")
    )
    empty = await seller("GetFunnel", {"since": "2190-01-01T00:00:00Z"})
    assert (empty["opportunities"], empty["leads"]["total"], len(empty["stages"])) == ("0", "0", 7)


async def recounted_stages(platform: Platform) -> list[dict[str, Any]]:
    """The funnel's stages counted anew, from nothing but the events."""
    connection = await asyncpg.connect(platform.environment["DATABASE_URL"])
    rows = await connection.fetch("SELECT * FROM events.event ORDER BY position")
    await connection.close()
    stage: dict[str, str] = {}
    quoted: dict[str, Any] = {}
    for row in rows:
        stream, kind = row["stream"], row["type"].removeprefix("sales.")
        data = _json(row["data"])
        if kind == "OpportunityOpened":
            stage[stream] = "new"
        elif kind in ("StageAdvanced", "OpportunityReopened"):
            stage[stream] = data["stage"]
        elif kind in ("OpportunityWon", "OpportunityLost"):
            stage[stream] = kind.removeprefix("Opportunity").lower()
        elif kind == "QuoteIssued":
            quoted[stream] = data["total"]
    counts = Counter(stage.values())
    order = {"new": 10, "needs": 20, "test_drive": 40, "quote": 60, "negotiation": 80, "won": 100, "lost": 0}
    return [
        {
            "stage": f"STAGE_{name.upper()}",
            "count": str(counts[name]),
            "quoted": _sum(
                [quoted[stream] for stream in stage if stage[stream] == name and stream in quoted]
            ),
            "probability": probability,
        }
        for name, probability in order.items()
    ]


def _json(text: str) -> Any:
    return json.loads(text)


def _sum(sums: list[dict[str, str]]) -> list[dict[str, str]]:
    if not sums:
        return []
    return [{"amount": str(sum(Decimal(each["amount"]) for each in sums)), "currency": "CNY"}]


async def test_the_numbers_of_the_stock_by_model_and_store(seller: SalesClient, both: SalesClient) -> None:
    model = "Hongtong H9"
    vins = sorted(new_vin() for _ in range(4))
    for vin in vins[:3]:
        await car_in_stock(seller, vin, model)
    await seller("RegisterVehicle", {"vin": vins[3], "model": model})
    await seller("PurchaseVehicle", {"vin": vins[3], "supplier": "Hongtong", "price": PRICE})
    await seller("ReserveVehicle", {"vin": vins[0], "customer_id": str(uuid4())})
    await seller("TransferVehicle", {"vin": vins[1], "to_store": "D002"})
    assert vins[1] not in str(await seller("QueryStock", {"model": model}))
    stock = await both("QueryStock", {"model": model})
    assert [car["vin"] for car in stock["vehicles"]] == vins
    numbers = {"in_transit": "0", "in_stock": "0", "reserved": "0", "available": "0", "model": model}
    first = {
        **numbers,
        "store": "D001",
        "in_transit": "1",
        "in_stock": "2",
        "reserved": "1",
        "available": "1",
    }
    second = {**numbers, "store": "D002", "in_stock": "1", "available": "1"}
    assert stock["lines"] == [first, second]
    available = await seller("QueryStock", {"model": model, "store": "D001", "available_only": True})
    assert [car["vin"] for car in available["vehicles"]] == [vins[2]]
    seen: list[str] = []
    token = ""
    while True:
        page = await both("QueryStock", {"model": model, "page_size": 1, "page_token": token})
        seen += [car["vin"] for car in page["vehicles"]]
        token = page["next_page_token"]
        if not token:
            break
    assert seen == vins


async def test_of_many_customers_at_once_one_gets_the_car(seller: SalesClient) -> None:
    vin = new_vin()
    await car_in_stock(seller, vin)
    orders = []
    for _ in range(8):
        placed = {"customer_id": str(uuid4()), "model": MODEL, "lines": [LINE]}
        orders.append((await seller("PlaceOrder", placed))["id"])
    wishes = [seller("AllocateVehicle", {"order_id": order, "vin": vin}) for order in orders]
    wishes += [seller("ReserveVehicle", {"vin": vin, "customer_id": str(uuid4())}) for _ in range(8)]
    answers = await asyncio.gather(*wishes, return_exceptions=True)
    refusals = [answer for answer in answers if isinstance(answer, Answered)]
    assert len(refusals) == 15
    assert {(refusal.code, refusal.slug) for refusal in refusals} == {
        (grpc.StatusCode.FAILED_PRECONDITION, "vehicle-is-reserved")
    }
    car = await seller("GetVehicle", {"vin": vin})
    listed = await seller("ListOrders", {"vin": vin})
    assert [order["order_id"] for order in listed["orders"]] == ([car["order_id"]] if car["order_id"] else [])


async def test_a_command_id_makes_a_command_repeatable(seller: SalesClient) -> None:
    repeated = {"command-id": str(uuid4())}
    wanted = {"customer_id": str(uuid4()), "model": MODEL, "lines": [LINE]}
    first = await seller("PlaceOrder", wanted, metadata=repeated)
    again = await seller("PlaceOrder", wanted, metadata=repeated)
    assert first == again
    payment = {
        "order_id": first["id"],
        "amount": {"amount": "1000.00", "currency": "CNY"},
        "method": "PAYMENT_METHOD_CASH",
    }
    paid = {"command-id": str(uuid4())}
    await seller("RecordPayment", payment, metadata=paid)
    await seller("RecordPayment", payment, metadata=paid)
    assert (await seller("GetOrder", {"order_id": first["id"]}))["balance"]["amount"] == "127000.00"
    with pytest.raises(Answered) as stale:
        await seller("RecordPayment", payment, metadata={"expected-version": "1"})
    assert stale.value.code == grpc.StatusCode.ABORTED


REFUSED_INPUT = [
    ("CaptureLead", {"source": "LEAD_SOURCE_PHONE", "phone": "13800138000"}, "name"),
    ("CaptureLead", {"source": "LEAD_SOURCE_PHONE", "name": "Wang", "phone": "12"}, "phone"),
    ("CaptureLead", {"name": "Wang", "phone": "13800138000"}, "source"),
    ("CaptureLead", {"source": 99, "name": "Wang", "phone": "13800138000"}, "source"),
    ("CaptureAdfLead", {}, "xml"),
    ("CaptureAdfLead", {"xml": base64_of(b"x" * 262_145)}, "xml"),
    ("QualifyLead", {"lead_id": "7"}, "lead_id"),
    ("OpenOpportunity", {"customer_id": NOBODY}, "model"),
    ("OpenOpportunity", {"customer_id": NOBODY, "model": "x" * 81}, "model"),
    ("AdvanceStage", {"opportunity_id": NOBODY, "stage": "STAGE_WON"}, "stage"),
    ("ScheduleTestDrive", {"opportunity_id": NOBODY, "vin": a_vin(1)}, "starts_at"),
    ("IssueQuote", {"opportunity_id": NOBODY, "lines": [LINE], "valid_until": "31.12.2026"}, "valid_until"),
    ("LoseOpportunity", {"opportunity_id": NOBODY}, "reason"),
    ("RegisterVehicle", {"vin": "LSVAA49J232047371", "model": MODEL}, "vin"),
    ("RegisterVehicle", {"vin": "x" * 41, "model": MODEL}, "vin"),
    ("PurchaseVehicle", {"vin": a_vin(1), "supplier": "H"}, "price"),
    (
        "PurchaseVehicle",
        {"vin": a_vin(1), "supplier": "H", "price": {"amount": "1.001", "currency": "CNY"}},
        "price.amount",
    ),
    (
        "PurchaseVehicle",
        {"vin": a_vin(1), "supplier": "H", "price": {"amount": "1", "currency": "yuan"}},
        "price.currency",
    ),
    ("ReceiveIntoStock", {"vin": a_vin(1), "odometer_km": -1}, "odometer_km"),
    ("FailPdi", {"vin": a_vin(1)}, "defects"),
    ("TransferVehicle", {"vin": a_vin(1), "to_store": "two words"}, "to_store"),
    ("PlaceOrder", {"customer_id": NOBODY, "model": MODEL}, "lines"),
    (
        "PlaceOrder",
        {"customer_id": NOBODY, "model": MODEL, "lines": [{**LINE, "quantity": 0}]},
        "lines.0.quantity",
    ),
    ("RecordPayment", {"order_id": NOBODY, "amount": PRICE}, "method"),
    (
        "RecordPayment",
        {"order_id": NOBODY, "amount": {"amount": "-1", "currency": "CNY"}, "method": "PAYMENT_METHOD_CASH"},
        "amount",
    ),
    ("CompleteHandoverSheet", {"order_id": NOBODY, "sheet": "HANDOVER_SHEET_DELIVERY"}, "checks"),
    ("DeliverVehicle", {"order_id": NOBODY, "insurance_until": "soon"}, "insurance_until"),
    ("CancelOrder", {"order_id": NOBODY}, "reason"),
    ("ListOrders", {"page_size": 501}, "page_size"),
    ("ListOrders", {"page_token": "forged"}, "page_token"),
    ("GetFunnel", {"store": "two words"}, "store"),
]


@pytest.mark.parametrize(("rpc", "message", "field"), REFUSED_INPUT)
async def test_bad_input_is_answered_with_the_field(
    seller: SalesClient, rpc: str, message: dict[str, Any], field: str
) -> None:
    with pytest.raises(Answered) as refusal:
        await seller(rpc, message)
    assert refusal.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert next(iter(refusal.value.fields)) == field


@pytest.mark.parametrize(
    ("rpc", "message"),
    [
        ("GetLead", {"lead_id": NOBODY}),
        ("GetOpportunity", {"opportunity_id": NOBODY}),
        ("GetVehicle", {"vin": a_vin(99_999)}),
        ("GetOrder", {"order_id": NOBODY}),
        ("PassPdi", {"vin": a_vin(99_999)}),
        ("NotifyOutbound", {"order_id": NOBODY}),
        ("AssignOpportunity", {"opportunity_id": NOBODY, "salesperson": "S1"}),
    ],
)
async def test_what_is_not_there_is_not_found(seller: SalesClient, rpc: str, message: dict[str, Any]) -> None:
    with pytest.raises(Answered) as refusal:
        await seller(rpc, message)
    assert refusal.value.code == grpc.StatusCode.NOT_FOUND


async def test_nobody_approves_what_they_asked_for(
    platform: Platform, seller: SalesClient, manager: SalesClient
) -> None:
    vin = new_vin()
    await car_in_stock(seller, vin)
    placed = {"customer_id": str(uuid4()), "model": MODEL, "lines": [LINE]}
    order = {"order_id": (await seller("PlaceOrder", placed))["id"]}
    await seller("AllocateVehicle", {**order, "vin": vin})
    await seller("IssueInvoice", {**order, "invoice_number": "INV-2"})
    with pytest.raises(Answered) as unpaid:
        await seller("NotifyOutbound", order)
    assert unpaid.value.slug == "not-paid-in-full"
    await seller("RecordPayment", {**order, "amount": PRICE, "method": "PAYMENT_METHOD_LOAN"})
    await seller("NotifyOutbound", order)
    with pytest.raises(Answered) as own:
        await seller("ApproveOutbound", order)
    assert (own.value.code, own.value.slug) == (grpc.StatusCode.PERMISSION_DENIED, "self-approval")
    with pytest.raises(Answered) as early:
        await seller("DeliverVehicle", {**order, "odometer_km": 9})
    assert early.value.slug == "outbound-not-approved"
    await manager("ApproveOutbound", order)
    with pytest.raises(Answered) as incomplete:
        await seller("DeliverVehicle", {**order, "odometer_km": 9})
    assert (incomplete.value.slug, incomplete.value.fields) == (
        "handover-incomplete",
        {"sheet": "inspection, customer, delivery"},
    )
