"""Commands that concern several aggregates, as the API gives them.

There is no transaction across aggregates. Each flow first does what can be refused, in the order in which it can
be undone, and then takes the steps (`sales.policies`) that follow; if the process dies in between, the worker takes
them. Which aggregate guards what: the vehicle that it is held for one order and driven by one customer at a time,
the order that it has one car.
"""

import contextlib
from dataclasses import replace
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field

from forecourt.access.scope import UNRESTRICTED
from forecourt.command_handler import Outcome
from forecourt.deciders import Command, Decider
from forecourt.errors import InvalidInput, NotFound, Refused, VersionConflict
from forecourt.rpc.calls import Call
from sales import policies
from sales.adf import AdfProspect, read_adf
from sales.lead import MAX_RAW, CaptureLead, ConvertLead, Lead, QuarantineLead, lead
from sales.opportunity import Opportunity, opportunity
from sales.opportunity.commands import CancelTestDrive, CompleteTestDrive, ScheduleTestDrive
from sales.opportunity.decisions import check_test_drive_time, require_open, require_sellable
from sales.order import Order, order
from sales.order.commands import (
    AllocateVehicle,
    CancelOrder,
    DeliverVehicle,
    NotifyOutbound,
    PlaceOrder,
    ReturnVehicle,
)
from sales.vehicle import Vehicle, vehicle
from sales.vehicle.commands import (
    BookTestDriveSlot,
    BringForOrder,
    HoldForOrder,
    ReceiveIntoStock,
    TransferVehicle,
)
from sales.vehicle.decisions import require_inspected, require_odometer
from trade.vin import vehicle_id

ADF_LEADS = UUID("0b6f4a52-61f1-5c3b-9d6c-6d2a6f0c9a11")
"""Namespace of the ids of leads that came as ADF documents."""

MAX_DOCUMENT = 262_144


class CaptureAdfLead(BaseModel):
    """Note the leads of an ADF document of at most 256 KiB."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    xml: bytes = Field(min_length=1, max_length=MAX_DOCUMENT)


class LeadMalformed(InvalidInput):
    """A prospect of a document cannot become a lead; it is kept in quarantine."""


async def capture_adf_lead(c: CaptureAdfLead, call: Call) -> dict[str, Any]:
    """Note each prospect of the document as a lead, or quarantine it. The same document is noted once."""
    outcomes: list[Outcome] = []
    prospects = read_adf(c.xml)
    for prospect in prospects:
        digest = sha256(prospect.xml).hexdigest()
        lead_id = uuid5(ADF_LEADS, f"{call.context.dealer_id}:{digest}")
        context = replace(call.context, command_id=uuid5(lead_id, "capture"))
        command = _captured(lead_id, prospect, digest)
        if prospect.lead is None:
            call.refuse(LeadMalformed(), lead_id)
        outcomes.append(await call.commands.execute_as(context, lead, command))
    return {
        "id": outcomes[0].id,
        "version": outcomes[0].version,
        "position": max(outcome.position for outcome in outcomes),
        "quarantined": any(prospect.lead is None for prospect in prospects),
        "reason": next((prospect.reason for prospect in prospects if prospect.lead is None), ""),
        "prospects": [
            {"lead_id": outcome.id, "quarantined": prospect.lead is None, "reason": prospect.reason}
            for outcome, prospect in zip(outcomes, prospects, strict=True)
        ],
    }


def _captured(lead_id: UUID, prospect: AdfProspect, digest: str) -> Command:
    found = prospect.lead
    if found is not None:
        return CaptureLead(
            lead_id=lead_id,
            source="portal",
            provider=found.provider,
            model=found.model,
            vin=found.vin,
            name=found.name,
            phone=found.phone,
            email=found.email,
            comments=found.comments,
            requested_at=found.requested_at,
        )
    # PostgreSQL cannot store NUL, and what is not UTF-8 cannot be shown.
    raw = prospect.xml.decode("utf-8", "replace").replace("\0", "\ufffd")[:MAX_RAW]
    return QuarantineLead(
        lead_id=lead_id,
        source="portal",
        reason=prospect.reason,
        sha256=digest,
        size=len(prospect.xml),
        raw=raw,
    )


async def convert_lead(c: ConvertLead, call: Call) -> Outcome:
    """Convert the lead and open the opportunity, which is answered."""
    converted = await call.commands.execute(lead, c, expected=call.expected)
    state: Lead = await call.commands.state(lead, c.lead_id)
    assert state.opportunity_id is not None
    assert state.customer_id is not None
    assert state.model is not None
    step = policies.open_opportunity(
        c.lead_id, state.opportunity_id, state.customer_id, state.model, state.salesperson
    )
    return _later(await _take(step, call), converted)


async def schedule_test_drive(c: ScheduleTestDrive, call: Call) -> Outcome:
    """Book the car, then note the test drive; if that is refused, the car is free again."""
    state: Opportunity = await _existing(opportunity, c.opportunity_id, call)
    drive_id = c.test_drive_id or call.context.new_id("test-drive")
    wanted = c.model_copy(update={"test_drive_id": drive_id, "ends_at": c.end})
    if state.knows(drive_id):
        return await call.commands.execute(opportunity, wanted, expected=call.expected)
    await _require_expected(opportunity, c.opportunity_id, call)
    require_open(state)
    check_test_drive_time(c.starts_at, c.end, call.context.now)
    slot = BookTestDriveSlot(
        vin=c.vin,
        test_drive_id=drive_id,
        opportunity_id=c.opportunity_id,
        starts_at=c.starts_at,
        ends_at=c.end,
    )
    await call.commands.execute(vehicle, slot, label="slot")
    try:
        return await call.commands.execute(opportunity, wanted)
    except Refused:
        await _take(policies.free_slot(c.vin, drive_id), call)
        raise


async def complete_test_drive(c: CompleteTestDrive, call: Call) -> Outcome:
    """Note that the customer drove; the car is free again."""
    return await _end_test_drive(c, c.odometer_km, call)


async def cancel_test_drive(c: CancelTestDrive, call: Call) -> Outcome:
    """Call the test drive off; the car is free again."""
    return await _end_test_drive(c, None, call)


async def _end_test_drive(
    c: CompleteTestDrive | CancelTestDrive, odometer_km: int | None, call: Call
) -> Outcome:
    state: Opportunity = await _existing(opportunity, c.opportunity_id, call)
    drives = [drive for drive in state.test_drives if c.test_drive_id in (None, drive.id)]
    if len(drives) != 1:
        return await call.commands.execute(opportunity, c, expected=call.expected)
    drive = drives[0]
    if odometer_km is not None:
        require_odometer(await call.commands.state(vehicle, vehicle_id(drive.vin)), odometer_km)
    # Named, so that the drive that ends is the one whose car is freed, whatever is arranged meanwhile.
    named = c.model_copy(update={"test_drive_id": drive.id})
    outcome = await call.commands.execute(opportunity, named, expected=call.expected)
    ended: Opportunity = await call.commands.state(opportunity, c.opportunity_id)
    if drive.id not in ended.finished:
        # The call is repeated, and answered for the drive that it ended before: this one is still to come.
        return outcome
    return _later(outcome, await _take(policies.free_slot(drive.vin, drive.id, odometer_km), call))


async def receive_into_stock(c: ReceiveIntoStock, call: Call) -> Outcome:
    """Note that the car stands in a store; for an order that has it, it has arrived."""
    outcome = await call.commands.execute(vehicle, c, expected=call.expected)
    state: Vehicle = await call.commands.state(vehicle, vehicle_id(c.vin))
    if state.reservation is None or state.reservation.order_id is None:
        return outcome
    return await _arrived(c.vin, state.reservation.order_id, outcome, call)


async def _arrived(vin: str, order_id: UUID, outcome: Outcome, call: Call) -> Outcome:
    # Between hold and allocation the order does not have the car yet; the allocation looks for itself then.
    with contextlib.suppress(Refused):
        return _later(outcome, await _take(policies.arrive(vin, order_id), call))
    return outcome


async def transfer_vehicle(c: TransferVehicle, call: Call) -> Outcome:
    """Move the car to another store; one that is held for an order goes to the store whose order it is."""
    car: Vehicle = await call.commands.state(vehicle, vehicle_id(c.vin))
    order_id = car.reservation.order_id if car.reservation else None
    if order_id is None:
        return await call.commands.execute(vehicle, c, expected=call.expected)
    # Whoever does not see the order does not learn whose it is, and is refused.
    store, _ = await call.commands.owner(order, order_id)
    if store != c.to_store:
        return await call.commands.execute(vehicle, c, expected=call.expected)
    bring = BringForOrder(vin=c.vin, order_id=order_id, to_store=c.to_store)
    return await call.commands.execute(vehicle, bring, expected=call.expected)


async def place_order(c: PlaceOrder, call: Call) -> Outcome:
    """Place the order; the opportunity that it came from is won."""
    order_id = order.id_of(c, call.context)
    if c.opportunity_id is not None:
        source: Opportunity = await _existing(opportunity, c.opportunity_id, call)
        require_sellable(source, c.customer_id, order_id)
    outcome = await call.commands.execute(order, c, expected=call.expected)
    if c.opportunity_id is None:
        return outcome
    return _later(outcome, await _take(policies.win_opportunity(c.opportunity_id, order_id), call))


async def allocate_vehicle(c: AllocateVehicle, call: Call) -> Outcome:
    """Hold the car for the order, then give it to the order; if that is refused, the car is free again."""
    state: Order = await _existing(order, c.order_id, call)
    if state.state != "open" or state.vin is not None:
        outcome = await call.commands.execute(order, c, expected=call.expected)
    else:
        outcome = await _hold_and_allocate(state, c, call)
    # Also when the command comes again: the process may have died before this step, and the caller goes on now.
    held: Vehicle = await call.commands.state(vehicle, vehicle_id(c.vin))
    return await _arrived(c.vin, c.order_id, outcome, call) if held.place == "in_stock" else outcome


async def _hold_and_allocate(state: Order, c: AllocateVehicle, call: Call) -> Outcome:
    await _require_expected(order, c.order_id, call)
    hold = HoldForOrder(vin=c.vin, order_id=c.order_id, customer_id=state.customer, model=state.model)
    await call.commands.execute(vehicle, hold, label="hold")
    try:
        # Refused means for ever, closed or with another car: so nobody gives the car to the order after that.
        return await call.commands.execute(order, c)
    except Refused:
        held: Vehicle = await call.commands.state(vehicle, vehicle_id(c.vin))
        if held.reservation is not None and held.reservation.order_id == c.order_id:
            await _take(policies.give_up_hold(c.vin, c.order_id, held.reservation.id), call)
        raise


async def notify_outbound(c: NotifyOutbound, call: Call) -> Outcome:
    """Ask to let the car out; it must have passed its inspection."""
    state: Order = await _existing(order, c.order_id, call)
    if state.vin is not None and state.state == "open":
        require_inspected(await call.commands.state(vehicle, vehicle_id(state.vin)))
    return await call.commands.execute(order, c, expected=call.expected)


async def deliver_vehicle(c: DeliverVehicle, call: Call) -> Outcome:
    """Hand the car over; it leaves the stock. It must have passed its inspection, also since it was let out."""
    state: Order = await _existing(order, c.order_id, call)
    if state.vin is not None and state.state == "open":
        car: Vehicle = await call.commands.state(vehicle, vehicle_id(state.vin))
        require_inspected(car)
        require_odometer(car, c.odometer_km)
    outcome = await call.commands.execute(order, c, expected=call.expected)
    assert state.vin is not None
    return _later(outcome, await _take(policies.release_car(state.vin, c.order_id, c.odometer_km), call))


async def cancel_order(c: CancelOrder, call: Call) -> Outcome:
    """Give the order up; its car is free again."""
    outcome = await call.commands.execute(order, c, expected=call.expected)
    state: Order = await call.commands.state(order, c.order_id)
    if state.vin is None:
        return outcome
    return _later(outcome, await _take(policies.free_car(state.vin, c.order_id), call))


async def return_vehicle(c: ReturnVehicle, call: Call) -> Outcome:
    """Take a delivered car back into stock."""
    state: Order = await _existing(order, c.order_id, call)
    if state.vin is not None and state.state == "delivered":
        require_odometer(await call.commands.state(vehicle, vehicle_id(state.vin)), c.odometer_km)
    store = c.store or call.context.dealer_id
    outcome = await call.commands.execute(order, c, expected=call.expected)
    assert state.vin is not None
    step = policies.take_back(state.vin, c.order_id, store, c.odometer_km)
    return _later(outcome, await _take(step, call))


async def _take(step: policies.Step, call: Call) -> Outcome:
    # What follows from a fact does not depend on who stated it: the worker takes the same step, and the car may stand
    # in another store by now.
    context = replace(call.context.derived("step"), command_id=step.command_id, scope=UNRESTRICTED)
    return await call.commands.execute_as(context, step.decider, step.command)


async def _existing(decider: Decider[Any], aggregate_id: UUID, call: Call) -> Any:
    """The state of an aggregate that must be there. Raises `NotFound`."""
    if await call.commands.version(decider, aggregate_id) == 0:
        raise NotFound(f"{decider.category}: not found")
    return await call.commands.state(decider, aggregate_id)


async def _require_expected(decider: Decider[Any], aggregate_id: UUID, call: Call) -> None:
    """Raise `VersionConflict` unless the caller has seen the present version.

    Asked before another aggregate is changed, because a conflict afterwards could not be told from a refusal
    that lasts.
    """
    version = await call.commands.version(decider, aggregate_id)
    if call.expected is not None and call.expected != version:
        reason = f"the object is at version {version}"
        raise VersionConflict(
            f"version: {reason}, expected {call.expected}", fields={"expected-version": reason}
        )


def _later(outcome: Outcome, step: Outcome) -> Outcome:
    """The outcome, fresh enough to read what the step wrote."""
    return replace(outcome, position=max(outcome.position, step.position))
