"""What happens between a dealer and a customer, told in commands: the end-to-end tests play each story once, the
tests of faults play them by the hundred while processes die.

``do("sales.PlaceOrder", ...)`` runs one command and answers its result.
"""

from datetime import timedelta
from itertools import count
from typing import Any, Protocol
from uuid import NAMESPACE_URL, uuid5

from stdnum.cn import ric

from trade.vin import expected_check_digit

MODEL = "Hongtong E5"
PRICE = {"amount": "189800.00", "currency": "CNY"}
REPAIR_LINES = [
    {
        "kind": "LINE_KIND_LABOUR",
        "description": "labour",
        "quantity": "1.5",
        "unit_price": {"amount": "180.00", "currency": "CNY"},
    },
    {
        "kind": "LINE_KIND_PART",
        "description": "oil filter",
        "part_number": "OF-17",
        "quantity": "1",
        "unit_price": {"amount": "68.50", "currency": "CNY"},
    },
]
REPAIR_TOTAL = {"amount": "338.50", "currency": "CNY"}
SALE_LINES = [{"kind": "LINE_KIND_VEHICLE", "description": MODEL, "quantity": 1, "unit_price": PRICE}]
SHEETS = ("HANDOVER_SHEET_INSPECTION", "HANDOVER_SHEET_CUSTOMER", "HANDOVER_SHEET_DELIVERY")


class Do(Protocol):
    """Runs a command."""

    async def __call__(self, rpc: str, /, **fields: Any) -> Any:
        """The command's result."""


def a_vin(number: int) -> str:
    """A Chinese VIN with a right check digit, another one for each number."""
    vin = f"LHTFC1AB0TA{number:06}"
    return vin[:8] + expected_check_digit(vin) + vin[9:]


VINS = map(a_vin, count(1))
"""VINs that no story has had."""

NUMBERS = count(1)


async def register(do: Do, *, mobile: bool = True, consents: bool = True, **fields: Any) -> str:
    """A customer who can be reached by SMS or else by mail: the id."""
    number = next(NUMBERS)
    point = {"kind": "CONTACT_KIND_MOBILE", "value": f"139{number:08}"}
    mail = {"kind": "CONTACT_KIND_EMAIL", "value": f"customer-{number}@example.com"}
    agreed = [{"purpose": "PURPOSE_SERVICE", "channel": f"CHANNEL_{name}"} for name in ("SMS", "EMAIL")]
    answer = await do(
        "customer.RegisterCustomer",
        kind="CUSTOMER_KIND_PROSPECT",
        name=f"王{number}",
        source="walk-in",
        contact_points=[point if mobile else mail],
        consents=agreed if consents else [],
        **fields,
    )
    return str(answer.id)


def a_card(number: int) -> str:
    """A number of a resident identity card with a right check digit, another one for each number."""
    first = f"310115198504{1 + number // 1_000 % 28:02}{number % 1_000:03}"
    return first + ric.calc_check_digit(f"{first}0")


CARDS = map(a_card, count(1))
"""Numbers of identity cards that nobody in a story has."""


async def identify(do: Do, customer_id: str) -> str:
    """Note a customer's identity card, and a passport that is taken back: the number of the card."""
    card = next(CARDS)
    await do(
        "customer.RecordIdentityDocument",
        customer_id=customer_id,
        kind="IDENTITY_DOCUMENT_KIND_RESIDENT_IDENTITY_CARD",
        number=card,
        expires_on="2040-12-31",
    )
    passport = {"customer_id": customer_id, "kind": "IDENTITY_DOCUMENT_KIND_PASSPORT"}
    await do("customer.RecordIdentityDocument", **passport, number=f"E{card[-9:-1]}", issuing_country="CN")
    await do("customer.RemoveIdentityDocument", **passport)
    return card


async def repair(
    do: Do, inspect: Do, customer_id: str, vin: str, *, kind: str = "WORK_KIND_REPAIR", km: int = 12_000
) -> str:
    """A vehicle through the workshop, from reception to return; ``inspect`` is another person: the order's id."""
    opened = await do(
        "service_desk.OpenRepairOrder",
        customer_id=customer_id,
        vin=vin,
        odometer_km=km,
        kind=kind,
        symptoms=["noise from the front axle"],
        adviser_id="A-01",
    )
    one = {"repair_order_id": opened.id}
    parts = {"parts": [{"part_number": "OF-17", "pieces": 1}]}
    await do("service_desk.QuoteRepair", **one, lines=REPAIR_LINES)
    await do("service_desk.ApproveQuote", **one, quote_version=1, agreement="AGREEMENT_SIGNATURE")
    await do("service_desk.DispatchTechnician", **one, technician_id="T-07", bay="B2")
    await do("service_desk.RequestParts", **one, **parts)
    await do("service_desk.IssueParts", **one, **parts)
    await do("service_desk.StartWork", **one)
    await do("service_desk.CompleteWork", **one)
    await inspect("service_desk.PassInspection", **one, inspector_id="T-01")
    share = {"payer": "PAYER_CUSTOMER", "amount": REPAIR_TOTAL}
    await do(
        "service_desk.InvoiceRepair",
        **one,
        invoice_number=f"R-{opened.id[:8]}",
        lines=REPAIR_LINES,
        shares=[share],
    )
    await do("service_desk.RecordRepairPayment", **one, **share, method="PAYMENT_METHOD_WECHAT")
    await do("service_desk.HandBackVehicle", **one, odometer_km=km + 1)
    return str(opened.id)


async def complain(do: Do, customer_id: str, vin: str = "") -> str:
    """A complaint from intake to close: its id."""
    received = await do(
        "service_desk.ReceiveComplaint",
        customer_id=customer_id,
        channel="COMPLAINT_CHANNEL_PHONE",
        severity="SEVERITY_NORMAL",
        subject="Waited too long",
        description="The vehicle was promised for noon and was ready in the evening.",
        vin=vin,
    )
    one = {"complaint_id": received.id}
    await do("service_desk.AcknowledgeComplaint", **one)
    await do(
        "service_desk.TriageComplaint", **one, topic="COMPLAINT_TOPIC_WAITING", severity="SEVERITY_NORMAL"
    )
    await do("service_desk.DispatchComplaint", **one, department="DEPARTMENT_SERVICE", owner_id="S-03")
    await do("service_desk.RecordComplaintAction", **one, action="Spoke to the workshop.")
    await do("service_desk.ProposeResolution", **one, resolution="A free car wash.")
    await do("service_desk.RecordCustomerReply", **one, accepted=True)
    await do("service_desk.CompleteRevisit", **one, satisfied=True)
    await do("service_desk.CloseComplaint", **one, result="COMPLAINT_RESULT_RESOLVED")
    return str(received.id)


async def receive_car(do: Do, vin: str, store: str = "D001") -> None:
    """A car from the factory into stock, inspected."""
    await do("sales.RegisterVehicle", vin=vin, model=MODEL, colour="white", model_year=2026)
    await do("sales.PurchaseVehicle", vin=vin, supplier="Hongtong Motor", price=PRICE)
    await do("sales.ReceiveIntoStock", vin=vin, store=store, odometer_km=8)
    await do("sales.PassPdi", vin=vin, inspector="T-01")


async def sell(
    do: Do, approve: Do, customer_id: str, vin: str, *, opportunity_id: str = "", insured_until: str = ""
) -> str:
    """An order for a car in stock, to its delivery; ``approve`` is another person: the order's id."""
    placed = await do(
        "sales.PlaceOrder",
        customer_id=customer_id,
        model=MODEL,
        lines=SALE_LINES,
        opportunity_id=opportunity_id,
    )
    one = {"order_id": placed.id}
    await do("sales.AllocateVehicle", **one, vin=vin)
    await do("sales.RecordPayment", **one, amount=PRICE, method="PAYMENT_METHOD_BANK_TRANSFER")
    await do("sales.IssueInvoice", **one, invoice_number=f"INV-{vin[-6:]}")
    await do("sales.NotifyOutbound", **one)
    await approve("sales.ApproveOutbound", **one)
    for sheet in SHEETS:
        checks = [{"item": "paint", "passed": True}, {"item": "keys", "passed": True}]
        await do("sales.CompleteHandoverSheet", **one, sheet=sheet, checks=checks)
    await do("sales.DeliverVehicle", **one, odometer_km=25, insurance_until=insured_until)
    return str(placed.id)


async def court(do: Do, customer_id: str, vin: str, starts_at: Any) -> str:
    """From a lead over a test drive to a quote: the opportunity's id."""
    lead = await do(
        "sales.CaptureLead", source="LEAD_SOURCE_WALK_IN", model=MODEL, name="王五", phone="13912345678"
    )
    await do("sales.QualifyLead", lead_id=lead.id, customer_id=customer_id, model=MODEL)
    opportunity = await do("sales.ConvertLead", lead_id=lead.id, salesperson="S-01")
    one = {"opportunity_id": opportunity.id}
    drive = {**one, "test_drive_id": str(uuid5(NAMESPACE_URL, f"drive:{vin}"))}
    await do(
        "sales.ScheduleTestDrive",
        **drive,
        vin=vin,
        starts_at=starts_at,
        ends_at=starts_at + timedelta(minutes=45),
    )
    await do("sales.CompleteTestDrive", **drive, odometer_km=12, impression="quiet, good brakes")
    valid_until = (starts_at + timedelta(days=14)).date().isoformat()
    await do("sales.IssueQuote", **one, lines=SALE_LINES, valid_until=valid_until)
    return str(opportunity.id)
