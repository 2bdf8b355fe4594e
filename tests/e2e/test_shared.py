"""What is shared or handed on changes sides at once: for commands, and for every query that is fresh enough."""

from typing import Any

import grpc
import pytest

from tests.e2e.group import HEAD, NEIGHBOUR, STORE, Caller, Group
from tests.e2e.stories import VINS, receive_car, register

CALL: dict[str, Any] = {
    "channel": "INTERACTION_CHANNEL_CALL",
    "direction": "DIRECTION_INBOUND",
    "subject": "price",
}

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


async def customer_of(group: Group, caller: Caller) -> str:
    """A new customer of a store, with something in the history."""
    do = group.client(caller)
    customer_id = await register(do)
    await do("customer.LogInteraction", customer_id=customer_id, **CALL)
    return customer_id


async def command(group: Group, rpc: str, caller: Caller, **fields: Any) -> Any:
    """The result of a command."""
    return await group.client(caller)(rpc, **fields)


async def sees(group: Group, caller: Caller, customer_id: str, after: int) -> bool:
    """Whether a caller sees a customer once everything up to a position is there, the same in all queries."""
    client = group.client(caller)
    found = []
    for rpc in ("customer.GetCustomer", "customer.GetCustomerHistory", "notify.GetContact"):
        try:
            answer = await client.ask(rpc, after=after, customer_id=customer_id)
            found.append(bool(answer.ListFields()))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            found.append(False)
    page = await client.ask("customer.SearchCustomers", after=after, page_size=500)
    found.append(customer_id in {one.customer_id for one in page.customers})
    assert len(set(found)) == 1, found
    return found[0]


async def acts(group: Group, caller: Caller, customer_id: str) -> bool:
    """Whether a caller may do something with a customer."""
    client = group.client(caller)
    try:
        await client("customer.LogInteraction", customer_id=customer_id, **CALL)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return False
    return True


async def test_a_shared_customer_is_there_at_once_and_gone_at_once(group: Group) -> None:
    one: dict[str, Any] = {"customer_id": await customer_of(group, STORE)}
    assert not await sees(group, NEIGHBOUR, **one, after=await group.runtime.store.head())
    for _ in range(2):
        shared = await command(group, "customer.ShareCustomer", STORE, **one, store="D002")
        assert await sees(group, NEIGHBOUR, **one, after=shared.position)
        assert await acts(group, NEIGHBOUR, **one)
        ended = await command(group, "customer.UnshareCustomer", STORE, **one, store="D002")
        assert not await sees(group, NEIGHBOUR, **one, after=ended.position)
        assert not await acts(group, NEIGHBOUR, **one)
        assert await sees(group, STORE, **one, after=ended.position)


async def test_whoever_it_is_shared_with_does_not_pass_it_on(group: Group) -> None:
    one: dict[str, Any] = {"customer_id": await customer_of(group, STORE)}
    await command(group, "customer.ShareCustomer", STORE, **one, store="D002")
    client = group.client(NEIGHBOUR)
    refused = await client.refused("customer.TransferCustomer", **one, to_store="D002")
    assert (refused.code, refused.slug) == (grpc.StatusCode.PERMISSION_DENIED, "owned-by-another")


async def test_a_customer_handed_over_changes_sides_at_once(group: Group) -> None:
    one: dict[str, Any] = {"customer_id": await customer_of(group, STORE)}
    moved = await command(group, "customer.TransferCustomer", STORE, **one, to_store="D002")
    assert await sees(group, NEIGHBOUR, **one, after=moved.position)
    assert await acts(group, NEIGHBOUR, **one)
    assert not await sees(group, STORE, **one, after=moved.position)
    assert not await acts(group, STORE, **one)
    assert await sees(group, HEAD, **one, after=moved.position)


async def test_a_car_that_moves_is_its_new_stores_at_once(group: Group) -> None:
    vin = next(VINS)
    await receive_car(group.client(STORE), vin)
    there = group.client(NEIGHBOUR)
    here = group.client(STORE)
    assert (await there.refused("sales.RecordOdometer", vin=vin, odometer_km=9)).code.name == "NOT_FOUND"
    moved = await here("sales.TransferVehicle", vin=vin, to_store="D002")
    await there("sales.RecordOdometer", vin=vin, odometer_km=9)
    assert (await here.refused("sales.RecordOdometer", vin=vin, odometer_km=10)).code.name == "NOT_FOUND"
    assert (await there.ask("sales.GetVehicle", after=moved.position, vin=vin)).vin == vin
    timeline = await there.ask("service_desk.GetVehicleTimeline", after=moved.position, vin=vin)
    assert [entry.event for entry in timeline.entries][-1] == "VehicleTransferred"
    assert len(timeline.entries) == 5, "the car's whole life goes with it"
    gone = await here.refused("sales.GetVehicle", metadata={"after-position": str(moved.position)}, vin=vin)
    assert gone.code is grpc.StatusCode.NOT_FOUND


async def test_a_car_that_somebody_registers_does_not_open_what_other_workshops_do(group: Group) -> None:
    vin = next(VINS)
    workshop, curious = group.client(NEIGHBOUR), group.client(STORE)
    await workshop(
        "service_desk.OpenRepairOrder",
        customer_id=await customer_of(group, NEIGHBOUR),
        vin=vin,
        odometer_km=20_000,
        kind="WORK_KIND_REPAIR",
        symptoms=["noise"],
        adviser_id="A-01",
    )
    known = await curious("sales.RegisterVehicle", vin=vin, model="Arrizo 8", colour="white", model_year=2026)
    timeline = await curious.ask("service_desk.GetVehicleTimeline", after=known.position, vin=vin)
    assert [entry.event for entry in timeline.entries] == ["VehicleRegistered"]
    own = await workshop.ask("service_desk.GetVehicleTimeline", after=known.position, vin=vin)
    assert [entry.event for entry in own.entries] == ["RepairOrderOpened"]
