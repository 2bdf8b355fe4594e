"""What the sales service does by itself: the steps that follow from events, and reservations that run out."""

import contextlib
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

from forecourt.due import act_on_each
from forecourt.errors import InvalidInput, NotFound, Refused
from forecourt.events import Recorded
from forecourt.messaging.entrypoints import every, on_event
from forecourt.privacy.keys import Destroyed
from forecourt.projections.queries import ReadModels, contains, eq, gt, le
from forecourt.worker.dependencies import (
    ClockProvider,
    Commands,
    Keys,
    ReadModelsProvider,
    SettingsProvider,
)
from sales import policies
from sales.foreign import PersonalDataShredded
from sales.lead import LeadCaptured, LeadConverted, LeadQualified, lead
from sales.opportunity import Opportunity, opportunity
from sales.opportunity.events import TestDriveCancelled, TestDriveCompleted
from sales.order import Order, order
from sales.order.events import (
    OrderCancelled,
    OrderPlaced,
    VehicleAllocated,
    VehicleDelivered,
    VehicleReturned,
)
from sales.policies import Step
from sales.read_models import LeadRow, QuarantinedRow, VehicleRow, leads, quarantined_leads, vehicles
from sales.settings import SalesSettings
from sales.shredding import shred
from sales.vehicle import Vehicle, vehicle
from sales.vehicle.commands import ExpireReservation
from sales.vehicle.events import (
    ReceivedIntoStock,
    ReservationConfirmed,
    TestDriveSlotBooked,
    VehicleReserved,
)
from trade.vin import vehicle_id

SHREDDED_AT_ONCE = 200
"""Leads looked up at a time when a customer is erased."""

PAGES = 100
"""Pages of rows that one run of a timer takes: 5,000 rows."""

QUARANTINE_TIME = timedelta(days=90)
"""How long a document that cannot be read as a lead is kept. Nobody knows whose it is, so nobody else can erase it."""


class SalesReactions:
    """Takes the steps that the API took already, unless its process died in between."""

    name = "sales"

    commands = Commands()
    read_models = ReadModelsProvider()
    clock = ClockProvider()
    keys = Keys()
    settings = SettingsProvider()

    @on_event(LeadConverted)
    async def pursue(self, event: Recorded[LeadConverted]) -> None:
        """Open the opportunity of a converted lead."""
        e = event.event
        await self._take(
            policies.open_opportunity(
                event.stream_id, e.opportunity_id, e.customer_id, e.model, e.salesperson
            )
        )

    @on_event(TestDriveSlotBooked)
    async def note_test_drive(self, event: Recorded[TestDriveSlotBooked]) -> None:
        """Note the test drive with the opportunity; where that is refused, free the car."""
        e = event.event
        car: Vehicle = await self._state(vehicle, event.stream_id)
        if all(slot.id != e.test_drive_id for slot in car.slots):
            return
        try:
            await self._take(policies.note_test_drive(e))
        except (Refused, NotFound, InvalidInput):
            # Closed in the meantime, or the time has passed: nobody will drive.
            state: Opportunity = await self._state(opportunity, e.opportunity_id)
            if not state.knows(e.test_drive_id):
                await self._take(policies.free_slot(e.vin, e.test_drive_id))

    @on_event(TestDriveCompleted, TestDriveCancelled)
    async def end_test_drive(self, event: Recorded[TestDriveCompleted | TestDriveCancelled]) -> None:
        """Free the car of a test drive that is over or called off."""
        e = event.event
        odometer_km = e.odometer_km if isinstance(e, TestDriveCompleted) else None
        await self._take(policies.free_slot(e.vin, e.test_drive_id, odometer_km))

    @on_event(OrderPlaced)
    async def win_opportunity(self, event: Recorded[OrderPlaced]) -> None:
        """Win the opportunity that an order came from."""
        if event.event.opportunity_id is None:
            return
        # Lost in the meantime, or won by another order: then it stays so, and the order stands.
        with contextlib.suppress(Refused):
            await self._take(policies.win_opportunity(event.event.opportunity_id, event.stream_id))

    @on_event(VehicleReserved, ReservationConfirmed)
    async def allocate(self, event: Recorded[VehicleReserved | ReservationConfirmed]) -> None:
        """Give a car that is held for an order to the order; where that is refused, free the car."""
        e = event.event
        if e.order_id is None:
            return
        try:
            await self._take(policies.allocate(e.vin, e.order_id, e.reservation_id))
        except (Refused, NotFound):
            state: Order = await self._state(order, e.order_id)
            if state.vin != e.vin or state.state == "cancelled":
                await self._take(policies.give_up_hold(e.vin, e.order_id, e.reservation_id))

    @on_event(VehicleAllocated)
    async def arrive_from_stock(self, event: Recorded[VehicleAllocated]) -> None:
        """A car that stands in stock when it is allocated has arrived."""
        state: Vehicle = await self._state(vehicle, vehicle_id(event.event.vin))
        if state.place == "in_stock":
            await self._arrive(event.event.vin, event.stream_id)

    @on_event(ReceivedIntoStock)
    async def arrive_from_transit(self, event: Recorded[ReceivedIntoStock]) -> None:
        """A car that comes into stock for an order has arrived."""
        if event.event.order_id is not None:
            await self._arrive(event.event.vin, event.event.order_id)

    async def _arrive(self, vin: str, order_id: UUID) -> None:
        # Held but not allocated yet, or cancelled since: the allocation looks for itself.
        with contextlib.suppress(Refused):
            await self._take(policies.arrive(vin, order_id))

    @on_event(VehicleDelivered)
    async def release_car(self, event: Recorded[VehicleDelivered]) -> None:
        """Take a delivered car out of stock."""
        e = event.event
        await self._take(policies.release_car(e.vin, event.stream_id, e.odometer_km))

    @on_event(OrderCancelled)
    async def free_car(self, event: Recorded[OrderCancelled]) -> None:
        """Free the car of a cancelled order."""
        if event.event.vin is not None:
            await self._take(policies.free_car(event.event.vin, event.stream_id))

    @on_event(VehicleReturned)
    async def take_back(self, event: Recorded[VehicleReturned]) -> None:
        """Put a car that was given back into stock."""
        e = event.event
        await self._take(policies.take_back(e.vin, event.stream_id, e.store, e.odometer_km))

    @on_event(PersonalDataShredded)
    async def shred_leads(self, event: Recorded[PersonalDataShredded]) -> None:
        """Destroy the keys of all leads that came, or seemed to come, from an erased customer."""
        read_models: ReadModels = self.read_models
        await read_models.wait_for(leads, event.meta.position)
        where = [contains("linked", str(event.stream_id))]
        while rows := await read_models.all(leads, where=where, order=["lead_id"], limit=SHREDDED_AT_ONCE):
            for row in rows:
                await self._shred(row.lead_id)
            where = [contains("linked", str(event.stream_id)), gt("lead_id", rows[-1].lead_id)]

    @on_event(LeadCaptured, LeadQualified)
    async def shred_late_lead(self, event: Recorded[LeadCaptured | LeadQualified]) -> None:
        """Destroy the key of a lead that was linked to a customer who was erased before."""
        person = str(event.event.customer_id)
        if isinstance((await self.keys.get([person])).get(person), Destroyed):
            await self._shred(event.stream_id)

    @every(seconds=5)
    async def expire_unlinked(self) -> None:
        """Destroy the keys of leads that nobody has linked to a customer for long. Raises as `act_on_each`."""
        settings: SalesSettings = self.settings
        where = [le("unlinked_since", self.clock.now() - settings.lead_retention)]
        await act_on_each(
            self.read_models, leads, self._expire_lead, where=where, order="unlinked_since", pages=PAGES
        )

    @every(seconds=5)
    async def expire_quarantined(self) -> None:
        """Destroy the keys of quarantined documents that are too old. Raises as `act_on_each`."""
        where = [le("received_at", self.clock.now() - QUARANTINE_TIME)]
        await act_on_each(
            self.read_models,
            quarantined_leads,
            self._expire_lead,
            where=where,
            order="received_at",
            pages=PAGES,
        )

    async def _expire_lead(self, row: LeadRow | QuarantinedRow) -> None:
        await self._shred(row.lead_id, command_id=uuid5(row.lead_id, "expire"))

    async def _shred(self, lead_id: UUID, **context: Any) -> None:
        record = await shred(lead_id, self.keys, self.commands.runtime.commands.exists, self.clock.now())
        if record is not None:
            await self.commands.execute(lead, record, **(context or {"label": str(lead_id)}))

    @every(seconds=5)
    async def expire_reservations(self) -> None:
        """Free the cars whose reservations have run out by the platform's clock. Raises as `act_on_each`."""
        where = [eq("reserved", True), le("reserved_until", self.clock.now())]
        await act_on_each(
            self.read_models,
            vehicles,
            self._expire_reservation,
            where=where,
            order="reserved_until",
            pages=PAGES,
        )

    async def _expire_reservation(self, row: VehicleRow) -> None:
        assert row.reservation_id is not None
        await self.commands.execute(
            vehicle,
            ExpireReservation(vin=row.vin, reservation_id=row.reservation_id),
            command_id=uuid5(row.reservation_id, "expire"),
            dealer_id=row.store,
            brand=row.brand,
        )

    async def _take(self, step: Step) -> None:
        await self.commands.execute(step.decider, step.command, command_id=step.command_id)

    async def _state(self, decider: Any, aggregate_id: UUID) -> Any:
        return (await self.commands.runtime.commands.load(decider, aggregate_id)).state
