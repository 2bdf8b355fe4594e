"""Commands that concern several aggregates: all of it happens, or none; once, whoever else asks at the same time."""

import asyncio
from typing import Any
from uuid import uuid5

import pytest

from forecourt.access.scope import scope_of
from forecourt.errors import ForecourtError, NotFound, Refused, VersionConflict
from forecourt.testing.given import NAMESPACE, NOW, an_id, later
from sales import flows, policies
from sales.flows import CaptureAdfLead
from sales.lead import CaptureLead, ConvertLead, QualifyLead, lead
from sales.opportunity import commands as o
from sales.opportunity import events as oe
from sales.opportunity import opportunity
from sales.opportunity import refusals as opportunity_refusals
from sales.order import commands as c
from sales.order import events as e
from sales.order import order
from sales.order import refusals as order_refusals
from sales.vehicle import commands as v
from sales.vehicle import refusals as vehicle_refusals
from sales.vehicle import vehicle
from tests.unit.sales.calls import Showroom
from tests.unit.sales.samples import (
    CUSTOMER,
    LEAD,
    MODEL,
    OPPORTUNITY,
    ORDER,
    OTHER,
    VIN,
    a_line,
    a_vin,
    yuan,
)
from tests.unit.sales.test_adf import PROSPECT, adf
from trade.vin import vehicle_id

CAR = vehicle_id(VIN)


@pytest.fixture
def showroom() -> Showroom:
    return Showroom()


async def all_of(*calls: Any) -> list[Any]:
    """The answers of calls made at once, refusals among them."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, ForecourtError):
            raise answer
    return list(answers)


def refused(answers: list[Any]) -> list[type[Any]]:
    return [type(answer) for answer in answers if isinstance(answer, ForecourtError)]


# Leads


async def test_a_document_becomes_a_lead_once_however_often_it_is_sent(showroom: Showroom) -> None:
    document = CaptureAdfLead(xml=adf(PROSPECT))
    first = await flows.capture_adf_lead(document, showroom.call())
    again = await flows.capture_adf_lead(document, showroom.call())
    assert first == again
    assert (first["quarantined"], first["reason"], first["version"]) == (False, "", 1)
    (event,) = await showroom.events(lead, first["id"])
    assert event.event_name == "LeadCaptured"


async def test_a_malformed_document_is_kept_with_the_reason(showroom: Showroom) -> None:
    document = b"<adf>\x00\xff" + adf(PROSPECT)
    answer = await flows.capture_adf_lead(CaptureAdfLead(xml=document), showroom.call())
    assert answer["quarantined"] is True
    (event,) = await showroom.events(lead, answer["id"])
    assert event.model_dump()["size"] == len(document)
    assert event.model_dump()["reason"] == answer["reason"]
    assert "王" in event.model_dump()["raw"]
    assert "\0" not in event.model_dump()["raw"]


async def test_of_several_prospects_each_is_a_lead_of_its_own(showroom: Showroom) -> None:
    bad = PROSPECT.replace("<make>Hongtong</make><model>H5</model>", "")
    answer = await flows.capture_adf_lead(CaptureAdfLead(xml=adf(PROSPECT, bad)), showroom.call())
    assert [prospect["quarantined"] for prospect in answer["prospects"]] == [False, True]
    assert answer["reason"] == answer["prospects"][1]["reason"]
    for prospect in answer["prospects"]:
        assert len(await showroom.events(lead, prospect["lead_id"])) == 1


async def test_a_converted_lead_is_one_opportunity_whoever_opens_it(showroom: Showroom) -> None:
    await showroom.run(
        lead,
        CaptureLead(lead_id=LEAD, source="phone", name="Wang", phone="13800138000"),
        QualifyLead(lead_id=LEAD, customer_id=CUSTOMER, model=MODEL),
    )
    convert = ConvertLead(lead_id=LEAD, salesperson="S1")
    answers = await asyncio.gather(
        *(flows.convert_lead(convert, showroom.call(handler=showroom.another_process())) for _ in range(5))
    )
    assert len({answer.id for answer in answers}) == 1
    (opened,) = await showroom.events(opportunity, answers[0].id)
    assert isinstance(opened, oe.OpportunityOpened)
    assert (opened.lead_id, opened.customer_id, opened.salesperson) == (LEAD, CUSTOMER, "S1")


# Test drives


@pytest.fixture
async def open_opportunity(showroom: Showroom) -> None:
    await showroom.run(
        opportunity,
        o.OpenOpportunity(opportunity_id=OPPORTUNITY, customer_id=CUSTOMER, model=MODEL),
        o.OpenOpportunity(opportunity_id=OTHER, customer_id=OTHER, model=MODEL),
    )


def drive(opportunity_id: Any = OPPORTUNITY, hours: float = 1, **changed: Any) -> o.ScheduleTestDrive:
    fields = {"opportunity_id": opportunity_id, "vin": VIN, "starts_at": later(hours=hours)}
    return o.ScheduleTestDrive(**{**fields, **changed})


@pytest.mark.usefixtures("open_opportunity")
async def test_a_car_is_driven_by_one_customer_at_a_time(showroom: Showroom) -> None:
    await showroom.car()
    answers = await all_of(
        *(
            flows.schedule_test_drive(
                drive(OPPORTUNITY if number % 2 else OTHER, 1 + number / 100),
                showroom.call(handler=showroom.another_process()),
            )
            for number in range(12)
        )
    )
    assert refused(answers) == [vehicle_refusals.VehicleDoubleBooked] * 11
    both = [await showroom.state(opportunity, each) for each in (OPPORTUNITY, OTHER)]
    drives = [found.id for state in both for found in state.test_drives]
    assert drives == [slot.id for slot in (await showroom.state(vehicle, CAR)).slots]


@pytest.mark.usefixtures("open_opportunity")
async def test_a_repeated_call_arranges_one_test_drive(showroom: Showroom) -> None:
    await showroom.car()
    same = uuid5(NAMESPACE, "same call")
    first = await flows.schedule_test_drive(drive(), showroom.call(same))
    again = await flows.schedule_test_drive(drive(), showroom.call(same))
    assert first == again
    assert len((await showroom.state(opportunity, OPPORTUNITY)).test_drives) == 1


@pytest.mark.usefixtures("open_opportunity")
async def test_a_test_drive_that_the_opportunity_refuses_leaves_the_car_free(showroom: Showroom) -> None:
    await showroom.car()
    with pytest.raises(VersionConflict):
        await flows.schedule_test_drive(drive(), showroom.call(expected=7))
    assert (await showroom.state(vehicle, CAR)).slots == ()
    with pytest.raises(NotFound):
        await flows.schedule_test_drive(drive(an_id("nobody")), showroom.call())


@pytest.mark.usefixtures("open_opportunity")
async def test_a_test_drive_that_is_over_frees_the_car_and_reads_its_odometer(showroom: Showroom) -> None:
    await showroom.car()
    await flows.schedule_test_drive(drive(), showroom.call())
    with pytest.raises(vehicle_refusals.OdometerRunsBackwards):
        await flows.complete_test_drive(
            o.CompleteTestDrive(opportunity_id=OPPORTUNITY, odometer_km=4), showroom.call()
        )
    await flows.complete_test_drive(
        o.CompleteTestDrive(opportunity_id=OPPORTUNITY, odometer_km=17), showroom.call()
    )
    state = await showroom.state(vehicle, CAR)
    assert (state.slots, state.odometer_km) == ((), 17)


@pytest.mark.usefixtures("open_opportunity")
async def test_a_test_drive_that_is_called_off_frees_the_car(showroom: Showroom) -> None:
    await showroom.car()
    await flows.schedule_test_drive(drive(), showroom.call())
    await flows.cancel_test_drive(
        o.CancelTestDrive(opportunity_id=OPPORTUNITY, reason="rain"), showroom.call()
    )
    assert (await showroom.state(vehicle, CAR)).slots == ()


@pytest.mark.parametrize(
    ("flow", "command"),
    [
        (flows.complete_test_drive, o.CompleteTestDrive(opportunity_id=OPPORTUNITY, odometer_km=17)),
        (flows.cancel_test_drive, o.CancelTestDrive(opportunity_id=OPPORTUNITY, reason="rain")),
    ],
)
@pytest.mark.parametrize("second", [VIN, a_vin(2)])
@pytest.mark.usefixtures("open_opportunity")
async def test_a_repeated_end_of_a_test_drive_leaves_the_next_ones_car_booked(
    showroom: Showroom, flow: Any, command: Any, second: str
) -> None:
    await showroom.car()
    await showroom.car(a_vin(2))
    same = uuid5(NAMESPACE, "end")
    await flows.schedule_test_drive(drive(), showroom.call())
    first = await flow(command, showroom.call(same))
    await flows.schedule_test_drive(drive(hours=3, vin=second), showroom.call())
    before = await showroom.state(vehicle, vehicle_id(second))
    again = await flow(command, showroom.call(same))
    assert (again.id, again.version) == (first.id, first.version)
    (coming,) = (await showroom.state(opportunity, OPPORTUNITY)).test_drives
    after = await showroom.state(vehicle, vehicle_id(second))
    assert [slot.id for slot in after.slots] == [coming.id]
    assert after.odometer_km == before.odometer_km
    with pytest.raises(vehicle_refusals.VehicleDoubleBooked):
        await flows.schedule_test_drive(drive(OTHER, 3, vin=second), showroom.call())


# Orders


@pytest.mark.usefixtures("open_opportunity")
async def test_an_order_wins_its_opportunity(showroom: Showroom) -> None:
    place = c.PlaceOrder(
        order_id=ORDER,
        customer_id=CUSTOMER,
        model=MODEL,
        lines=(a_line("1.00"),),
        opportunity_id=OPPORTUNITY,
    )
    await flows.place_order(place, showroom.call())
    state = await showroom.state(opportunity, OPPORTUNITY)
    assert (state.stage, state.order_id) == ("won", ORDER)
    with pytest.raises(opportunity_refusals.OpportunityClosed):
        await flows.place_order(place.model_copy(update={"order_id": an_id("second")}), showroom.call())
    with pytest.raises(opportunity_refusals.CustomerDiffers):
        await flows.place_order(place.model_copy(update={"opportunity_id": OTHER}), showroom.call())
    assert await showroom.events(order, an_id("second")) == []


async def test_many_orders_and_one_car(showroom: Showroom) -> None:
    await showroom.car()
    orders = [an_id(f"order {number}") for number in range(10)]
    for number, order_id in enumerate(orders):
        await showroom.order(order_id, an_id(f"customer {number}"))
    answers = await all_of(
        *(
            flows.allocate_vehicle(
                c.AllocateVehicle(order_id=order_id, vin=VIN),
                showroom.call(handler=showroom.another_process()),
            )
            for order_id in orders
        )
    )
    assert refused(answers) == [vehicle_refusals.VehicleIsReserved] * 9
    owners = [each for each in orders if (await showroom.state(order, each)).vin == VIN]
    assert owners == [(await showroom.state(vehicle, CAR)).reservation.order_id]


async def test_one_order_and_many_cars(showroom: Showroom) -> None:
    await showroom.order()
    vins = [a_vin(number) for number in range(6)]
    for vin in vins:
        await showroom.car(vin)
    answers = await all_of(
        *(
            flows.allocate_vehicle(
                c.AllocateVehicle(order_id=ORDER, vin=vin), showroom.call(handler=showroom.another_process())
            )
            for vin in vins
        )
    )
    assert refused(answers) == [order_refusals.VehicleAlreadyAllocated] * 5
    held = [vin for vin in vins if (await showroom.state(vehicle, vehicle_id(vin))).reservation is not None]
    assert held == [(await showroom.state(order, ORDER)).vin]


async def test_a_car_in_stock_has_arrived_when_it_is_allocated(showroom: Showroom) -> None:
    await showroom.car()
    await showroom.order()
    await flows.allocate_vehicle(c.AllocateVehicle(order_id=ORDER, vin=VIN), showroom.call())
    assert (await showroom.state(order, ORDER)).arrived


async def test_a_repeated_allocation_does_what_a_dead_process_left_undone(showroom: Showroom) -> None:
    """The caller goes on with the order at once, and does not wait for the worker to notice."""
    await showroom.car()
    await showroom.order()
    command, same = c.AllocateVehicle(order_id=ORDER, vin=VIN), uuid5(NAMESPACE, "allocation")
    hold = v.HoldForOrder(vin=VIN, order_id=ORDER, customer_id=CUSTOMER, model=MODEL)
    await showroom.run(vehicle, hold)
    died = showroom.call(same)
    await died.commands.execute(order, command)
    assert not (await showroom.state(order, ORDER)).arrived
    first = await flows.allocate_vehicle(command, showroom.call(same))
    assert (await showroom.state(order, ORDER)).arrived
    assert await flows.allocate_vehicle(command, showroom.call(same)) == first


async def test_a_car_in_transit_arrives_when_it_is_received(showroom: Showroom) -> None:
    await showroom.car(arrived=False)
    await showroom.order()
    await flows.allocate_vehicle(c.AllocateVehicle(order_id=ORDER, vin=VIN), showroom.call())
    assert not (await showroom.state(order, ORDER)).arrived
    await flows.receive_into_stock(v.ReceiveIntoStock(vin=VIN), showroom.call())
    assert (await showroom.state(order, ORDER)).arrived


async def test_a_car_that_is_held_but_not_allocated_yet_can_be_received(showroom: Showroom) -> None:
    await showroom.car(arrived=False)
    await showroom.order()
    hold = v.HoldForOrder(vin=VIN, order_id=ORDER, customer_id=CUSTOMER, model=MODEL)
    await showroom.run(vehicle, hold)
    await flows.receive_into_stock(v.ReceiveIntoStock(vin=VIN), showroom.call())
    await flows.allocate_vehicle(c.AllocateVehicle(order_id=ORDER, vin=VIN), showroom.call())
    assert (await showroom.state(order, ORDER)).arrived


async def test_a_stale_caller_changes_nothing(showroom: Showroom) -> None:
    await showroom.car()
    await showroom.order()
    command = c.AllocateVehicle(order_id=ORDER, vin=VIN)
    same = uuid5(NAMESPACE, "allocation")
    with pytest.raises(VersionConflict):
        await flows.allocate_vehicle(command, showroom.call(same, expected=7))
    assert (await showroom.state(vehicle, CAR)).reservation is None
    first = await flows.allocate_vehicle(command, showroom.call(same, expected=1))
    again = await flows.allocate_vehicle(command, showroom.call(same, expected=1))
    assert first.version == again.version == 2
    assert (await showroom.state(order, ORDER)).vin == VIN


async def test_cancelling_while_allocating_never_leaves_a_car_held(showroom: Showroom) -> None:
    await showroom.car()
    for number in range(20):
        order_id = an_id(f"order {number}")
        await showroom.order(order_id)
        await all_of(
            flows.allocate_vehicle(
                c.AllocateVehicle(order_id=order_id, vin=VIN),
                showroom.call(handler=showroom.another_process()),
            ),
            flows.cancel_order(
                c.CancelOrder(order_id=order_id, reason="changed mind"),
                showroom.call(handler=showroom.another_process()),
            ),
        )
        assert (await showroom.state(vehicle, CAR)).reservation is None


async def test_the_step_that_a_dead_process_left_undone_is_done_once(showroom: Showroom) -> None:
    await showroom.car()
    await showroom.order()
    hold = v.HoldForOrder(vin=VIN, order_id=ORDER, customer_id=CUSTOMER, model=MODEL)
    await showroom.run(vehicle, hold)
    reservation = (await showroom.state(vehicle, CAR)).reservation
    step = policies.allocate(VIN, ORDER, reservation.id)
    for _ in range(3):
        context = showroom.call(step.command_id).context
        await showroom.another_process().execute(step.decider, step.command, context)
    await flows.allocate_vehicle(c.AllocateVehicle(order_id=ORDER, vin=VIN), showroom.call())
    allocated = [
        event for event in await showroom.events(order, ORDER) if isinstance(event, e.VehicleAllocated)
    ]
    assert len(allocated) == 1


async def pay_and_invoice(showroom: Showroom) -> None:
    await showroom.car()
    await showroom.order()
    await flows.allocate_vehicle(c.AllocateVehicle(order_id=ORDER, vin=VIN), showroom.call())
    await showroom.run(
        order,
        c.RecordPayment(order_id=ORDER, amount=yuan("128000.00"), method="card"),
        c.IssueInvoice(order_id=ORDER, invoice_number="INV-1"),
    )


async def make_ready(showroom: Showroom) -> None:
    await pay_and_invoice(showroom)
    await flows.notify_outbound(c.NotifyOutbound(order_id=ORDER), showroom.call())
    manager = showroom.call(actor="manager")
    await manager.commands.execute(order, c.ApproveOutbound(order_id=ORDER))
    checks = (c.HandoverCheck(item="keys", passed=True),)
    for sheet in ("inspection", "customer", "delivery"):
        command = c.CompleteHandoverSheet.model_validate(
            {"order_id": ORDER, "sheet": sheet, "checks": checks}
        )
        await showroom.run(order, command)


async def test_a_car_that_failed_its_inspection_does_not_get_out(showroom: Showroom) -> None:
    await pay_and_invoice(showroom)
    await showroom.run(vehicle, v.FailPdi(vin=VIN, defects=("scratch",)))
    with pytest.raises(vehicle_refusals.VehicleNotInspected):
        await flows.notify_outbound(c.NotifyOutbound(order_id=ORDER), showroom.call())
    await showroom.run(vehicle, v.PassPdi(vin=VIN))
    await flows.notify_outbound(c.NotifyOutbound(order_id=ORDER), showroom.call())


async def test_a_delivered_car_is_out_of_stock_and_comes_back(showroom: Showroom) -> None:
    await make_ready(showroom)
    with pytest.raises(vehicle_refusals.OdometerRunsBackwards):
        await flows.deliver_vehicle(c.DeliverVehicle(order_id=ORDER, odometer_km=4), showroom.call())
    same = uuid5(NAMESPACE, "delivery")
    deliver = c.DeliverVehicle(order_id=ORDER, odometer_km=9)
    first = await flows.deliver_vehicle(deliver, showroom.call(same))
    assert first == await flows.deliver_vehicle(deliver, showroom.call(same))
    assert (await showroom.state(vehicle, CAR)).place == "delivered"
    await flows.return_vehicle(
        c.ReturnVehicle(order_id=ORDER, reason="wrong colour", store="D002", odometer_km=40), showroom.call()
    )
    state = await showroom.state(vehicle, CAR)
    assert (state.place, state.store, state.pdi, state.odometer_km) == ("in_stock", "D002", "pending", 40)


async def test_a_car_that_fails_its_inspection_after_it_was_let_out_is_not_delivered(
    showroom: Showroom,
) -> None:
    await make_ready(showroom)
    await showroom.run(vehicle, v.FailPdi(vin=VIN, defects=("scratch",)))
    deliver, same = c.DeliverVehicle(order_id=ORDER, odometer_km=9), uuid5(NAMESPACE, "delivery")
    with pytest.raises(vehicle_refusals.VehicleNotInspected):
        await flows.deliver_vehicle(deliver, showroom.call(same))
    assert (await showroom.state(order, ORDER)).state == "open"
    await showroom.run(vehicle, v.PassPdi(vin=VIN))
    first = await flows.deliver_vehicle(deliver, showroom.call(same))
    assert first == await flows.deliver_vehicle(deliver, showroom.call(same))


async def test_a_car_is_not_moved_away_from_its_order(showroom: Showroom) -> None:
    await make_ready(showroom)
    away = v.TransferVehicle(vin=VIN, to_store="D002")
    with pytest.raises(vehicle_refusals.VehicleIsHeldForOrder):
        await flows.transfer_vehicle(away, showroom.call())
    assert (await showroom.state(vehicle, CAR)).store == "D001"
    await flows.cancel_order(c.CancelOrder(order_id=ORDER, reason="no loan"), showroom.call())
    same = uuid5(NAMESPACE, "transfer")
    first = await flows.transfer_vehicle(away, showroom.call(same))
    assert (await showroom.state(vehicle, CAR)).store == "D002"
    assert first == await flows.transfer_vehicle(away, showroom.call(same))


async def test_a_car_of_another_store_is_moved_to_the_store_whose_order_it_is(showroom: Showroom) -> None:
    await showroom.car()
    await flows.transfer_vehicle(v.TransferVehicle(vin=VIN, to_store="D002"), showroom.call())
    await showroom.order()
    await flows.allocate_vehicle(c.AllocateVehicle(order_id=ORDER, vin=VIN), showroom.call())
    home, same = v.TransferVehicle(vin=VIN, to_store="D001"), uuid5(NAMESPACE, "transfer")
    with pytest.raises(vehicle_refusals.VehicleIsHeldForOrder):
        await flows.transfer_vehicle(v.TransferVehicle(vin=VIN, to_store="D003"), showroom.call())
    first = await flows.transfer_vehicle(home, showroom.call(same))
    assert (await showroom.state(vehicle, CAR)).store == "D001"
    assert first == await flows.transfer_vehicle(home, showroom.call(same))


async def test_a_car_is_not_moved_for_an_order_that_the_caller_does_not_see(showroom: Showroom) -> None:
    await showroom.car()
    await flows.transfer_vehicle(v.TransferVehicle(vin=VIN, to_store="D002"), showroom.call())
    await showroom.order()
    await flows.allocate_vehicle(c.AllocateVehicle(order_id=ORDER, vin=VIN), showroom.call())
    home = v.TransferVehicle(vin=VIN, to_store="D001")
    with pytest.raises(vehicle_refusals.VehicleIsHeldForOrder):
        await flows.transfer_vehicle(home, showroom.call(scope=scope_of(("D002",), ("*",))))
    await flows.transfer_vehicle(home, showroom.call(scope=scope_of(("D001", "D002"), ("*",))))


async def test_a_cancelled_order_frees_its_car(showroom: Showroom) -> None:
    await make_ready(showroom)
    await flows.cancel_order(c.CancelOrder(order_id=ORDER, reason="no loan"), showroom.call())
    assert (await showroom.state(vehicle, CAR)).reservation is None
    with pytest.raises(order_refusals.OrderClosed):
        await flows.deliver_vehicle(c.DeliverVehicle(order_id=ORDER, odometer_km=9), showroom.call())
    assert (await showroom.state(vehicle, CAR)).place == "in_stock"


async def test_of_many_reservations_at_once_one_lives(showroom: Showroom) -> None:
    await showroom.car()
    answers = await all_of(
        *(
            showroom.call(handler=showroom.another_process()).commands.execute(
                vehicle, v.ReserveVehicle(vin=VIN, customer_id=an_id(f"customer {number}"))
            )
            for number in range(12)
        )
    )
    assert refused(answers) == [vehicle_refusals.VehicleIsReserved] * 11
    showroom.at(later(hours=73))
    assert showroom.clock.now() > NOW
    await showroom.run(vehicle, v.ReserveVehicle(vin=VIN, customer_id=OTHER))
    assert (await showroom.state(vehicle, CAR)).reservation.customer_id == OTHER


@pytest.mark.parametrize(
    "flow",
    [
        lambda call: flows.allocate_vehicle(c.AllocateVehicle(order_id=ORDER, vin=VIN), call),
        lambda call: flows.notify_outbound(c.NotifyOutbound(order_id=ORDER), call),
        lambda call: flows.deliver_vehicle(c.DeliverVehicle(order_id=ORDER, odometer_km=1), call),
        lambda call: flows.cancel_order(c.CancelOrder(order_id=ORDER, reason="x"), call),
        lambda call: flows.return_vehicle(c.ReturnVehicle(order_id=ORDER, reason="x", odometer_km=1), call),
        lambda call: flows.receive_into_stock(v.ReceiveIntoStock(vin=VIN), call),
        lambda call: flows.transfer_vehicle(v.TransferVehicle(vin=VIN, to_store="D002"), call),
        lambda call: flows.schedule_test_drive(drive(), call),
        lambda call: flows.cancel_test_drive(o.CancelTestDrive(opportunity_id=OPPORTUNITY, reason="x"), call),
        lambda call: flows.convert_lead(ConvertLead(lead_id=LEAD), call),
    ],
)
async def test_what_is_not_there_is_not_found(showroom: Showroom, flow: Any) -> None:
    with pytest.raises(NotFound):
        await flow(showroom.call())


async def test_a_car_that_is_not_there_is_not_found_and_the_order_stays_as_it_is(showroom: Showroom) -> None:
    await showroom.order()
    with pytest.raises(NotFound):
        await flows.allocate_vehicle(c.AllocateVehicle(order_id=ORDER, vin=VIN), showroom.call())
    with pytest.raises(Refused):
        await flows.notify_outbound(c.NotifyOutbound(order_id=ORDER), showroom.call())
    assert (await showroom.state(order, ORDER)).vin is None
