"""Separation of duties over the API: who submitted is refused, another person is not. Every rule has a story."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from forecourt.discovery import find_services
from tests.e2e.client import Client
from tests.e2e.group import STORE, Group
from tests.e2e.stories import (
    MODEL,
    PRICE,
    REPAIR_LINES,
    REPAIR_TOTAL,
    SALE_LINES,
    VINS,
    receive_car,
    register,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


async def ask_for_erasure(amy: Client, _ben: Client) -> dict[str, Any]:
    """A customer whom Amy wants erased."""
    customer_id = await register(amy)
    await amy("customer.RequestErasure", customer_id=customer_id, reason="ERASURE_REASON_CUSTOMER_REQUEST")
    return {"customer_id": customer_id}


async def ask_to_let_out(amy: Client, ben: Client) -> dict[str, Any]:
    """A car that Amy wants to let out; the rest of the order was Ben's."""
    vin = next(VINS)
    await receive_car(ben, vin)
    placed = await ben("sales.PlaceOrder", customer_id=await register(ben), model=MODEL, lines=SALE_LINES)
    one = {"order_id": placed.id}
    await ben("sales.AllocateVehicle", **one, vin=vin)
    await ben("sales.RecordPayment", **one, amount=PRICE, method="PAYMENT_METHOD_BANK_TRANSFER")
    await ben("sales.IssueInvoice", **one, invoice_number=f"INV-{vin[-6:]}")
    await amy("sales.NotifyOutbound", **one)
    return one


async def owe(amy: Client, ben: Client) -> dict[str, Any]:
    """An order that Amy placed, on which Ben took all but a little."""
    placed = await amy("sales.PlaceOrder", customer_id=await register(ben), model=MODEL, lines=SALE_LINES)
    one = {"order_id": placed.id}
    paid = {"amount": "189799.50", "currency": "CNY"}
    await ben("sales.RecordPayment", **one, amount=paid, method="PAYMENT_METHOD_BANK_TRANSFER")
    return one | {"amount": {"amount": "0.50", "currency": "CNY"}, "reason": "rounding"}


async def dispatched(ben: Client) -> dict[str, Any]:
    """A repair order that Ben opened, up to where work may start."""
    opened = await ben(
        "service_desk.OpenRepairOrder",
        customer_id=await register(ben),
        vin=next(VINS),
        odometer_km=12_000,
        kind="WORK_KIND_REPAIR",
        symptoms=["noise from the front axle"],
        adviser_id="A-01",
    )
    one = {"repair_order_id": opened.id}
    await ben("service_desk.QuoteRepair", **one, lines=REPAIR_LINES)
    await ben("service_desk.ApproveQuote", **one, quote_version=1, agreement="AGREEMENT_SIGNATURE")
    await ben("service_desk.DispatchTechnician", **one, technician_id="T-07", bay="B2")
    return one


async def claim(amy: Client, ben: Client) -> dict[str, Any]:
    """A repair under warranty that Amy claims from the manufacturer."""
    one = await dispatched(ben)
    await ben("service_desk.StartWork", **one)
    await ben("service_desk.CompleteWork", **one)
    await amy("service_desk.PassInspection", **one, inspector_id="T-01")
    share = {"payer": "PAYER_WARRANTY", "amount": REPAIR_TOTAL}
    await ben(
        "service_desk.InvoiceRepair",
        **one,
        invoice_number=f"R-{one['repair_order_id'][:8]}",
        lines=REPAIR_LINES,
        shares=[share],
    )
    await amy("service_desk.SubmitClaim", **one, claim_number="C-9")
    return one | {"claim_number": "C-9", "accepted": REPAIR_TOTAL}


async def work(amy: Client, ben: Client) -> dict[str, Any]:
    """A repair that Amy completed, and after faults were found, Ben; neither says that it was them."""
    one = await dispatched(ben)
    await amy("service_desk.StartWork", **one)
    await amy("service_desk.CompleteWork", **one)
    await ben("service_desk.FailInspection", **one, inspector_id="T-01", findings=["it still rattles"])
    await ben(
        "service_desk.RecordRework",
        **one,
        responsibility="RESPONSIBILITY_TECHNICIAN",
        responsible_id="T-07",
        technician_id="T-08",
        instructions="fit a new gasket",
    )
    await ben("service_desk.StartWork", **one)
    await ben("service_desk.CompleteWork", **one)
    return one | {"inspector_id": "T-01"}


STORIES: dict[str, Callable[[Client, Client], Awaitable[dict[str, Any]]]] = {
    "customer.ApproveErasure": ask_for_erasure,
    "sales.ApproveOutbound": ask_to_let_out,
    "sales.WriteOffBalance": owe,
    "service_desk.PassInspection": work,
    "service_desk.SettleClaim": claim,
}
"""For each rule what leads up to it. The first person is the one who may not."""

EVER = {"sales.WriteOffBalance", "service_desk.PassInspection"}
"""Rules by which the second person of the story may not, either."""


async def test_every_rule_has_a_story() -> None:
    rules = {
        f"{service.name}.{command.__name__}"
        for service in find_services()
        for decider in service.deciders
        for command in decider.duties.rules
    }
    assert rules == STORIES.keys()


@pytest.mark.parametrize("rpc", STORIES)
async def test_who_submitted_is_refused_and_another_person_is_not(group: Group, rpc: str) -> None:
    amy, ben, carol = (group.client(STORE, actor) for actor in ("amy", "ben", "carol"))
    request = await STORIES[rpc](amy, ben)
    for submitter in (amy, ben) if rpc in EVER else (amy,):
        refused = await submitter.refused(rpc, **request)
        assert (refused.code, refused.slug) == (grpc.StatusCode.PERMISSION_DENIED, "self-approval")
    await (carol if rpc in EVER else ben)(rpc, **request)
