"""What follows for one aggregate from what happened to another: pure rules that answer the next command.

Whoever caused the event takes the step at once, and so does the worker when the event reaches it: the first one
does it, for the other it is done. That is why a step's command id follows from what the step is about.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from forecourt.deciders import Command, Decider
from sales.opportunity import opportunity
from sales.opportunity.commands import OpenOpportunity, ScheduleTestDrive, WinOpportunity
from sales.order import order
from sales.order.commands import AllocateVehicle, RecordVehicleArrival
from sales.vehicle import vehicle
from sales.vehicle.commands import ReleaseHold, ReleaseTestDriveSlot, ReleaseVehicle, TakeBackVehicle
from sales.vehicle.events import TestDriveSlotBooked


@dataclass(frozen=True)
class Step:
    """A command to another aggregate, and the id under which it is given however often it is given."""

    decider: Decider[Any]
    command: Command
    command_id: UUID


def open_opportunity(
    lead_id: UUID, opportunity_id: UUID, customer_id: UUID, model: str, salesperson: str | None
) -> Step:
    """A converted lead is pursued as an opportunity."""
    command = OpenOpportunity(
        opportunity_id=opportunity_id,
        customer_id=customer_id,
        model=model,
        lead_id=lead_id,
        salesperson=salesperson,
    )
    return Step(opportunity, command, uuid5(opportunity_id, "open"))


def win_opportunity(opportunity_id: UUID, order_id: UUID) -> Step:
    """An order wins the opportunity that it came from."""
    command = WinOpportunity(opportunity_id=opportunity_id, order_id=order_id)
    return Step(opportunity, command, uuid5(order_id, "win"))


def note_test_drive(e: TestDriveSlotBooked) -> Step:
    """A car is booked for a test drive: the opportunity has one to come."""
    command = ScheduleTestDrive(
        opportunity_id=e.opportunity_id,
        test_drive_id=e.test_drive_id,
        vin=e.vin,
        starts_at=e.starts_at,
        ends_at=e.ends_at,
    )
    return Step(opportunity, command, uuid5(e.test_drive_id, "schedule"))


def free_slot(vin: str, test_drive_id: UUID, odometer_km: int | None = None) -> Step:
    """A test drive that is over, or does not take place, does not want the car any more."""
    command = ReleaseTestDriveSlot(vin=vin, test_drive_id=test_drive_id, odometer_km=odometer_km)
    return Step(vehicle, command, uuid5(test_drive_id, "free"))


def allocate(vin: str, order_id: UUID, reservation_id: UUID) -> Step:
    """A car that is held for an order is the order's."""
    command = AllocateVehicle(order_id=order_id, vin=vin)
    return Step(order, command, uuid5(reservation_id, f"allocate:{order_id}"))


def give_up_hold(vin: str, order_id: UUID, reservation_id: UUID) -> Step:
    """A car that is held for an order, which did not take it, is free again."""
    command = ReleaseHold(vin=vin, order_id=order_id, reason="order_refused")
    return Step(vehicle, command, uuid5(reservation_id, f"give-up:{order_id}"))


def arrive(vin: str, order_id: UUID) -> Step:
    """A car that is in stock and an order's has arrived for it."""
    return Step(order, RecordVehicleArrival(order_id=order_id), uuid5(order_id, f"arrive:{vin}"))


def release_car(vin: str, order_id: UUID, odometer_km: int) -> Step:
    """A delivered car leaves the stock."""
    command = ReleaseVehicle(vin=vin, order_id=order_id, odometer_km=odometer_km)
    return Step(vehicle, command, uuid5(order_id, "release"))


def free_car(vin: str, order_id: UUID) -> Step:
    """The car of a cancelled order is free again."""
    command = ReleaseHold(vin=vin, order_id=order_id, reason="order_cancelled")
    return Step(vehicle, command, uuid5(order_id, "cancel"))


def take_back(vin: str, order_id: UUID, store: str, odometer_km: int) -> Step:
    """A car that its customer gave back comes into stock again."""
    command = TakeBackVehicle(vin=vin, order_id=order_id, store=store, odometer_km=odometer_km)
    return Step(vehicle, command, uuid5(order_id, "take-back"))
