"""What several tests of sales on real servers do: bring cars into stock, sell them, tell the time."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg

from forecourt.platform import Platform
from tests.integration.sales_client import SalesClient
from tests.unit.sales.samples import MODEL, a_vin
from tests.unit.sales.test_adf import PROSPECT, adf

NOBODY = "7d3e0a52-61f1-4c3b-9d6c-6d2a6f0c9a11"
PRICE = {"amount": "128000.00", "currency": "CNY"}
LINE = {"kind": "LINE_KIND_VEHICLE", "description": "H5 1.5T", "quantity": 1, "unit_price": PRICE}
_serials = iter(range(1, 10_000))


def new_vin() -> str:
    """A VIN that no other test has."""
    return a_vin(next(_serials))


async def now(platform: Platform) -> datetime:
    """What the platform's clock shows."""
    connection = await asyncpg.connect(platform.environment["DATABASE_URL"])
    try:
        shown: datetime = await connection.fetchval(
            "SELECT virtual + (clock_timestamp() - real) * rate FROM events.clock_setting"
        )
    finally:
        await connection.close()
    return shown.astimezone(UTC)


async def car_in_stock(seller: SalesClient, vin: str, model: str = MODEL) -> None:
    """A car from the manufacturer to the yard."""
    await seller("RegisterVehicle", {"vin": vin, "model": model, "colour": "white", "model_year": 2026})
    price = {"amount": "100000.00", "currency": "CNY"}
    await seller("PurchaseVehicle", {"vin": vin, "supplier": "Hongtong", "price": price})
    await seller("ReceiveIntoStock", {"vin": vin, "odometer_km": 5})
    await seller("PassPdi", {"vin": vin})


async def sell(platform: Platform, seller: SalesClient, manager: SalesClient, vin: str) -> dict[str, Any]:
    """From an ADF lead to the handover; answers the order."""
    customer = str(uuid4())
    document = adf(PROSPECT.replace("Can I", f"About {vin}: can I"))
    lead = (await seller("CaptureAdfLead", {"xml": base64_of(document)}))["id"]
    await seller("QualifyLead", {"lead_id": lead, "customer_id": customer})
    opportunity = (await seller("ConvertLead", {"lead_id": lead, "salesperson": "seller"}))["id"]
    chosen = {"opportunity_id": opportunity}
    starts_at = (await now(platform) + timedelta(minutes=10)).isoformat()
    await seller("ScheduleTestDrive", {**chosen, "vin": vin, "starts_at": starts_at})
    await seller("CompleteTestDrive", {**chosen, "odometer_km": 17, "impression": "quiet"})
    valid_until = (await now(platform) + timedelta(days=14)).date().isoformat()
    await seller("IssueQuote", {**chosen, "lines": [LINE], "valid_until": valid_until})
    placed = {
        "customer_id": customer,
        "model": MODEL,
        "lines": [LINE],
        **chosen,
    }
    order = {"order_id": (await seller("PlaceOrder", placed))["id"]}
    await seller("AllocateVehicle", {**order, "vin": vin})
    deposit = {"amount": "8000.00", "currency": "CNY"}
    await seller("RecordDeposit", {**order, "amount": deposit, "method": "PAYMENT_METHOD_MOBILE"})
    rest = {"amount": "119999.50", "currency": "CNY"}
    await seller("RecordPayment", {**order, "amount": rest, "method": "PAYMENT_METHOD_BANK_TRANSFER"})
    await manager(
        "WriteOffBalance", {**order, "amount": {"amount": "0.50", "currency": "CNY"}, "reason": "rounding"}
    )
    await seller("IssueInvoice", {**order, "invoice_number": f"INV-{vin}"})
    await seller("NotifyOutbound", order)
    await manager("ApproveOutbound", order)
    for sheet in ("INSPECTION", "CUSTOMER", "DELIVERY"):
        checks = [{"item": "keys", "passed": True}, {"item": "lights", "passed": True}]
        await seller("CompleteHandoverSheet", {**order, "sheet": f"HANDOVER_SHEET_{sheet}", "checks": checks})
    await seller("DeliverVehicle", {**order, "odometer_km": 20, "insurance_until": "2199-12-31"})
    return await seller("GetOrder", order)


def base64_of(document: bytes) -> str:
    return base64.b64encode(document).decode()
