"""Sales on real servers: what the worker finishes for processes that died, and reservations that run out."""

import base64
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from forecourt.clock_store import ClockStore
from forecourt.command_handler import Outcome
from forecourt.deciders import Command, Decider
from forecourt.platform import Platform
from forecourt.runtime import Runtime
from forecourt.testing.given import CONTEXT
from forecourt.testing.probes import poll_async
from sales.lead import ConvertLead, lead
from sales.opportunity import opportunity
from sales.opportunity.commands import CompleteTestDrive
from sales.order import order
from sales.order.commands import ApproveOutbound, CancelOrder, DeliverVehicle, PlaceOrder, ReturnVehicle
from sales.service import service
from sales.vehicle import vehicle
from sales.vehicle.commands import BookTestDriveSlot, HoldForOrder, ReceiveIntoStock
from tests.integration.sales_client import Answered, SalesClient
from tests.integration.sales_platform import (
    LINE,
    NOBODY,
    PRICE,
    car_in_stock,
    new_vin,
    now,
)
from tests.unit.sales.samples import MODEL

pytest_plugins = ["tests.integration.sales_fixtures"]
pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]


async def test_a_car_that_a_dead_process_left_held_is_given_to_its_order_by_the_worker(
    platform: Platform, seller: SalesClient
) -> None:
    vin, customer = new_vin(), uuid4()
    await car_in_stock(seller, vin)
    placed = {"customer_id": str(customer), "model": MODEL, "lines": [LINE]}
    order_id = (await seller("PlaceOrder", placed))["id"]
    await hold(platform, vin, order_id, customer)
    found = await soon(seller, "GetOrder", {"order_id": order_id}, lambda row: row["arrived"])
    assert found["vin"] == vin


async def test_a_car_held_for_a_cancelled_order_is_freed_by_the_worker(
    platform: Platform, seller: SalesClient
) -> None:
    vin, customer = new_vin(), uuid4()
    await car_in_stock(seller, vin)
    placed = {"customer_id": str(customer), "model": MODEL, "lines": [LINE]}
    order_id = (await seller("PlaceOrder", placed))["id"]
    await seller("CancelOrder", {"order_id": order_id, "reason": "changed mind"})
    await hold(platform, vin, order_id, customer)
    await soon(seller, "GetVehicle", {"vin": vin}, lambda row: not row["reserved"])


async def hold(platform: Platform, vin: str, order_id: str, customer: UUID) -> None:
    """Hold a car for an order, and die before the order is told."""
    command = HoldForOrder(vin=vin, order_id=UUID(order_id), customer_id=customer, model=MODEL)
    await only_this(platform, vehicle, command)


async def only_this(platform: Platform, decider: Decider[Any], command: Command) -> Outcome:
    """Run one command as a process does that dies before it takes the next step."""
    runtime = await Runtime.open([service], platform.settings)
    try:
        (sales,) = runtime.services
        context = replace(CONTEXT, now=await now(platform), actor_id="manager", command_id=uuid4())
        return await sales.commands.execute(decider, command, context)
    finally:
        await runtime.close()


async def soon(seller: SalesClient, rpc: str, message: dict[str, Any], wanted: Any) -> dict[str, Any]:
    """What the query answers, once it is as wanted."""
    return await poll_async(lambda: _if(seller(rpc, message), wanted), 60, what=f"{rpc} as wanted")


async def test_every_step_that_a_dead_process_left_undone_is_taken_by_the_worker(
    platform: Platform, seller: SalesClient
) -> None:
    vin, customer = new_vin(), uuid4()
    await seller("RegisterVehicle", {"vin": vin, "model": MODEL})
    await seller("PurchaseVehicle", {"vin": vin, "supplier": "Hongtong", "price": PRICE})
    captured = {"source": "LEAD_SOURCE_PHONE", "name": "Wang", "phone": "13800138000", "model": MODEL}
    lead_id = UUID((await seller("CaptureLead", captured))["id"])
    await seller("QualifyLead", {"lead_id": str(lead_id), "customer_id": str(customer)})
    car, drive = {"vin": vin}, uuid4()

    await only_this(platform, lead, ConvertLead(lead_id=lead_id))
    listed = await soon(
        seller, "ListOpportunities", {"customer_id": str(customer)}, lambda a: a["opportunities"]
    )
    opportunity_id = listed["opportunities"][0]["opportunity_id"]
    chosen = {"opportunity_id": opportunity_id}

    ordered = PlaceOrder.model_validate(
        {"customer_id": customer, "model": MODEL, "lines": [{**LINE, "kind": "vehicle"}], **chosen}
    )
    order_id = (await only_this(platform, order, ordered)).id
    mine = {"order_id": str(order_id)}
    won = await soon(seller, "GetOpportunity", chosen, lambda row: row["stage"] == "STAGE_WON")
    assert won["order_id"] == str(order_id)

    await hold(platform, vin, str(order_id), customer)
    await soon(seller, "GetOrder", mine, lambda row: row["vin"] == vin)
    await only_this(platform, vehicle, ReceiveIntoStock(vin=vin, store="D001"))
    await soon(seller, "GetOrder", mine, lambda row: row["arrived"])

    await seller("PassPdi", car)
    await seller("RecordPayment", {**mine, "amount": PRICE, "method": "PAYMENT_METHOD_LOAN"})
    await seller("IssueInvoice", {**mine, "invoice_number": f"INV-{vin}"})
    await seller("NotifyOutbound", mine)
    await only_this(platform, order, ApproveOutbound(order_id=order_id))
    for sheet in ("INSPECTION", "CUSTOMER", "DELIVERY"):
        checks = [{"item": "keys", "passed": True}]
        await seller("CompleteHandoverSheet", {**mine, "sheet": f"HANDOVER_SHEET_{sheet}", "checks": checks})
    await only_this(platform, order, DeliverVehicle(order_id=order_id, odometer_km=20))
    await soon(seller, "GetVehicle", car, lambda row: row["place"] == "VEHICLE_PLACE_DELIVERED")

    returned = ReturnVehicle(order_id=order_id, reason="wrong colour", store="D001", odometer_km=40)
    await only_this(platform, order, returned)
    back = await soon(seller, "GetVehicle", car, lambda row: row["place"] == "VEHICLE_PLACE_IN_STOCK")
    assert (back["store"], back["odometer_km"], back["pdi"]) == ("D001", 40, "PDI_STATE_PENDING")

    await seller("PassPdi", car)
    second = (await seller("OpenOpportunity", {"customer_id": str(customer), "model": MODEL}))["id"]
    starts_at = await now(platform) + timedelta(hours=1)
    booking = BookTestDriveSlot(
        vin=vin,
        test_drive_id=drive,
        opportunity_id=UUID(second),
        starts_at=starts_at,
        ends_at=starts_at + timedelta(hours=1),
    )
    await only_this(platform, vehicle, booking)
    await soon(seller, "GetOpportunity", {"opportunity_id": second}, lambda row: row["test_drives"])
    completed = CompleteTestDrive(opportunity_id=UUID(second), test_drive_id=drive, odometer_km=55)
    await only_this(platform, opportunity, completed)
    await soon(seller, "GetVehicle", car, lambda row: row["odometer_km"] == 55)


async def test_the_car_of_an_order_that_a_dead_process_cancelled_is_freed(
    platform: Platform, seller: SalesClient
) -> None:
    vin = new_vin()
    await car_in_stock(seller, vin)
    placed = {"customer_id": str(uuid4()), "model": MODEL, "lines": [LINE]}
    order_id = (await seller("PlaceOrder", placed))["id"]
    await seller("AllocateVehicle", {"order_id": order_id, "vin": vin})
    await only_this(platform, order, CancelOrder(order_id=UUID(order_id), reason="changed mind"))
    await soon(seller, "GetVehicle", {"vin": vin}, lambda row: not row["reserved"])


async def test_a_car_booked_for_a_customer_who_is_lost_is_freed(
    platform: Platform, seller: SalesClient
) -> None:
    vin = new_vin()
    await car_in_stock(seller, vin)
    opened = {
        "opportunity_id": (await seller("OpenOpportunity", {"customer_id": NOBODY, "model": MODEL}))["id"]
    }
    starts_at = (await now(platform) + timedelta(hours=1)).isoformat()
    await seller("ScheduleTestDrive", {**opened, "vin": vin, "starts_at": starts_at})
    await seller("LoseOpportunity", {**opened, "reason": "LOSS_REASON_PRICE"})
    other = {
        "opportunity_id": (await seller("OpenOpportunity", {"customer_id": NOBODY, "model": MODEL}))["id"]
    }

    async def try_to_book() -> bool:
        try:
            await seller("ScheduleTestDrive", {**other, "vin": vin, "starts_at": starts_at})
        except Answered as refusal:
            if refusal.slug != "vehicle-double-booked":
                raise
            return False
        return True

    await poll_async(try_to_book, 60, what="the slot to be free")


async def _if(asked: Any, wanted: Any) -> Any:
    """What was answered, if it is so."""
    answer = await asked
    return answer if wanted(answer) else None


async def test_a_reservation_runs_out_by_the_virtual_clock(platform: Platform, seller: SalesClient) -> None:
    vin = new_vin()
    await car_in_stock(seller, vin)
    await seller("ReserveVehicle", {"vin": vin, "customer_id": str(uuid4())})
    pool = await asyncpg.create_pool(platform.environment["DATABASE_URL"], min_size=1, max_size=1)
    await ClockStore(pool).advance(timedelta(hours=73))
    await pool.close()
    await soon(seller, "GetVehicle", {"vin": vin}, lambda row: not row["reserved"])
    connection = await asyncpg.connect(platform.environment["DATABASE_URL"])
    reasons = await connection.fetch(
        "SELECT data->>'reason' AS reason FROM events.event WHERE type = 'sales.ReservationReleased'"
        " AND data->>'vin' = $1",
        vin,
    )
    await connection.close()
    assert [row["reason"] for row in reasons] == ["expired"]


async def test_a_document_in_quarantine_expires_with_its_key(platform: Platform, seller: SalesClient) -> None:
    document = base64.b64encode(b"<adf><name>Ouyang Expired</adf>").decode()
    lead_id = (await seller("CaptureAdfLead", {"xml": document}))["id"]
    mine = lambda answer: [one for one in answer["leads"] if one["lead_id"] == lead_id]  # noqa: E731
    await soon(seller, "ListQuarantinedLeads", {}, mine)
    pool = await asyncpg.create_pool(platform.environment["DATABASE_URL"], min_size=1, max_size=1)
    await ClockStore(pool).advance(timedelta(days=91))
    await soon(seller, "ListQuarantinedLeads", {}, lambda answer: not mine(answer))
    held = "SELECT count(*) FROM keys.person_key WHERE person_id = $1 AND wrapped IS NOT NULL"
    assert await pool.fetchval(held, UUID(lead_id)) == 0
    await pool.close()


def a_lead(name: str, **more: Any) -> dict[str, Any]:
    return {"source": "LEAD_SOURCE_PHONE", "name": name, "phone": "13800001111", "model": MODEL, **more}


async def _erased(pool: Any, lead_id: str) -> bool:
    held = "SELECT count(*) FROM keys.person_key WHERE person_id = $1 AND wrapped IS NOT NULL"
    shown = "SELECT count(*) FROM sales.lead WHERE lead_id = $1 AND name <> '[erased]'"
    return not (await pool.fetchval(held, UUID(lead_id)) or await pool.fetchval(shown, UUID(lead_id)))


async def test_a_lead_of_a_customer_who_was_erased_before_is_erased(
    platform: Platform, seller: SalesClient
) -> None:
    gone, living = str(uuid4()), str(uuid4())
    runtime = await Runtime.open([service], platform.settings)
    try:
        await runtime.keys.obtain([gone, living])
        await runtime.keys.destroy(gone, await now(platform))
        linked = (await seller("CaptureLead", a_lead("Ouyang Linked", customer_id=gone)))["id"]
        qualified = (await seller("CaptureLead", a_lead("Ouyang Qualified")))["id"]
        await seller("QualifyLead", {"lead_id": qualified, "customer_id": gone})
        kept = (await seller("CaptureLead", a_lead("Ouyang Kept", customer_id=living)))["id"]
        for lead_id in (linked, qualified):
            await poll_async(partial(_erased, runtime.pool, lead_id), 60, what="the lead to be erased")
        assert not await _erased(runtime.pool, kept)
    finally:
        await runtime.close()


async def test_a_lead_that_nobody_links_to_a_customer_is_erased_after_two_years(
    platform: Platform, seller: SalesClient
) -> None:
    lead_id = (await seller("CaptureLead", a_lead("Ouyang Unlinked")))["id"]
    kept = (await seller("CaptureLead", a_lead("Ouyang Somebody", customer_id=NOBODY)))["id"]
    await soon(seller, "GetLead", {"lead_id": kept}, lambda row: row)
    pool = await asyncpg.create_pool(platform.environment["DATABASE_URL"], min_size=1, max_size=1)
    await ClockStore(pool).advance(timedelta(days=731))
    await poll_async(lambda: _erased(pool, lead_id), 60, what="the lead to be erased")
    assert not await _erased(pool, kept)
    await pool.close()
