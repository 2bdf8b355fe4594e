"""A store that names another store's customer reads nothing of them, and they are not written to.

Commands take any customer's id: what must not happen is that a worker, which reaches everything, tells.
"""

from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson

from tests.e2e import stories
from tests.e2e.client import Client
from tests.e2e.house import NOON, House

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

RULES = {
    "order_placed",
    "vehicle_arrived",
    "vehicle_delivered",
    "appointment_booked",
    "repair_quoted",
    "vehicle_handed_back",
    "complaint_acknowledged",
    "complaint_closed",
    "return_visit_due",
}
"""The rules that the stories of `do_everything` give a reason for, a week later at the latest."""


async def book(do: Client, customer_id: str, hours: int) -> None:
    """An appointment in some hours."""
    starts_at = NOON + timedelta(hours=hours)
    await do(
        "service_desk.BookAppointment",
        customer_id=customer_id,
        vin=next(stories.VINS),
        kind="WORK_KIND_REPAIR",
        starts_at=starts_at,
    )


async def do_everything(do: Client, approve: Client, customer_id: str, store: str) -> None:
    """All that a store may do with a customer that leads to a message."""
    vin = next(stories.VINS)
    await stories.receive_car(do, vin, store)
    await stories.sell(do, approve, customer_id, vin)
    await book(do, customer_id, 1)
    await stories.repair(do, approve, customer_id, vin)
    await stories.complain(do, customer_id, vin)


async def told_about(do: Client, customer_id: str) -> tuple[list[Any], str]:
    """The messages about a customer that a store sees, and every word of theirs."""
    listed = await do.ask("notify.ListNotifications", customer_id=customer_id, page_size=200)
    told = MessageToJson(listed, ensure_ascii=False)
    for row in listed.notifications:
        one = await do.ask("notify.GetNotification", notification_id=row.notification_id)
        told += MessageToJson(one, ensure_ascii=False)
    return list(listed.notifications), told


async def profile(do: Client, customer_id: str) -> tuple[str, str]:
    """Name and number of a customer, as the customer's own store sees them."""
    contact = await do.ask("notify.GetContact", customer_id=customer_id)
    assert contact.name
    assert contact.mobile
    return contact.name, contact.mobile


async def test_another_stores_customer_is_neither_told_of_nor_written_to(house: House) -> None:
    owner, stranger, approver = (
        house.client("amy"),
        house.client("eve", "D002"),
        house.client("bob", "D002"),
    )
    customer_id = await stories.register(owner)
    name, mobile = await profile(owner, customer_id)
    await do_everything(stranger, approver, customer_id, "D002")
    await house.settled()
    await house.set_clock(NOON + timedelta(days=7))
    await house.settled()
    rows, told = await told_about(stranger, customer_id)
    assert {row.rule for row in rows} == RULES
    assert {row.why for row in rows} == {"out_of_scope"}
    assert name not in told
    assert mobile.removeprefix("+86") not in told
    assert mobile not in {message["to"] for message in await house.arrived()}
    assert (await stranger.refused("notify.GetContact", customer_id=customer_id)).code.name == "NOT_FOUND"
    assert (await told_about(owner, customer_id))[0] == []


async def test_a_shared_customer_is_written_to_until_sharing_ends(house: House) -> None:
    owner, other = house.client("amy"), house.client("eve", "D003")
    customer_id = await stories.register(owner)
    _, mobile = await profile(owner, customer_id)
    await owner("customer.ShareCustomer", customer_id=customer_id, store="D003")
    await book(other, customer_id, 24 * 8)
    await house.settled()
    assert [message["to"] for message in await house.arrived()].count(mobile) == 1
    await owner("customer.UnshareCustomer", customer_id=customer_id, store="D003")
    await book(other, customer_id, 24 * 9)
    await house.settled()
    rows, _ = await told_about(other, customer_id)
    assert sorted(row.why for row in rows) == ["", "out_of_scope"]
    assert [message["to"] for message in await house.arrived()].count(mobile) == 1
