"""What the service desk does by itself: plans care by reaction to events, and acts when something falls due."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import date, datetime
from typing import Any
from uuid import UUID

from forecourt.deciders import Command, Decider
from forecourt.due import act_on_each
from forecourt.errors import AlreadyExists, NotFound
from forecourt.events import Recorded
from forecourt.messaging.entrypoints import every, on_event
from forecourt.projections.queries import any_of, eq, gt, le, lt
from forecourt.worker.dependencies import ClockProvider, Commands, EventStoreProvider, ReadModelsProvider
from service_desk import metrics, policies
from service_desk.appointment import (
    AppointmentCancelled,
    AppointmentRescheduled,
    NoShowRecorded,
    appointment,
)
from service_desk.complaint.decisions import complaint
from service_desk.complaint.events import ComplaintClosed
from service_desk.foreign import VehicleDelivered, VehicleOwnershipRecorded, VehicleReturned
from service_desk.read_models.due import DueRow, due
from service_desk.read_models.reminders import OPEN, ReminderRow, reminders
from service_desk.read_models.vehicle_timeline import TimelineRow, vehicle_timeline
from service_desk.reminder import (
    Cause,
    FulfilReminder,
    NoteOdometer,
    ScheduleReminder,
    WithdrawReminder,
    reminder,
)
from service_desk.repair_order.events import RepairOrderOpened, VehicleHandedBack
from service_desk.return_visit import LowScoreFlagged, ReturnVisitCompleted, return_visit
from service_desk.stores import store_of
from service_desk.workshop_day import ReleaseCapacity, workshop_day, workshop_day_id

DUE_PAGE = 200
"""Rows of the timer's list that are worked on at once."""


class CareReactions:
    """Return visits, reminders, recovery complaints, freed capacity, and the timer."""

    name = "service_desk"

    commands = Commands()
    read_models = ReadModelsProvider()
    clock = ClockProvider()
    store = EventStoreProvider()

    @on_event(VehicleDelivered)
    async def care_after_delivery(self, event: Recorded[VehicleDelivered]) -> None:
        """Plan a return visit and the car's reminders."""
        e = event.event
        visit = policies.return_visit_after(
            event.meta.id,
            trigger="delivery",
            trigger_id=event.stream_id,
            happened_at=e.delivered_at,
            customer_id=e.customer_id,
            vin=e.vin,
        )
        await self._once(return_visit, visit, label="return visit")
        delivered_on = _day(event, e.delivered_at)
        planned = policies.reminders_after_delivery(e, event.stream_id, delivered_on)
        await self._plan(event, e.vin, planned)

    @on_event(VehicleHandedBack)
    async def care_after_repair(self, event: Recorded[VehicleHandedBack]) -> None:
        """Plan a return visit and let the reading move the car's reminders.

        After a maintenance, fulfil its reminders first, and plan the next one.
        """
        e = event.event
        visit = policies.return_visit_after(
            event.meta.id,
            trigger="repair",
            trigger_id=event.stream_id,
            happened_at=e.handed_back_at,
            customer_id=e.customer_id,
            vin=e.vin,
        )
        await self._once(return_visit, visit, label="return visit")
        handed_back_on = _day(event, e.handed_back_at)
        following = policies.reminder_after_maintenance(e, event.stream_id, handed_back_on)
        if following is not None:
            await self._fulfil_maintenance(event, e.vin)
        # Those fulfilled take no reading any more.
        await self._note_odometer(event, e.vin, e.odometer_km, handed_back_on)
        if following is not None:
            await self._plan(event, e.vin, [following])

    @on_event(RepairOrderOpened)
    async def note_odometer(self, event: Recorded[RepairOrderOpened]) -> None:
        """Let the reading at reception move the car's reminders; before a maintenance, that at its end does."""
        e = event.event
        if e.kind != "maintenance":
            await self._note_odometer(event, e.vin, e.odometer_km, _day(event, event.time))

    @on_event(ComplaintClosed)
    async def care_after_complaint(self, event: Recorded[ComplaintClosed]) -> None:
        """Plan a return visit."""
        visit = policies.return_visit_after(
            event.meta.id,
            trigger="complaint",
            trigger_id=event.stream_id,
            happened_at=event.time,
            customer_id=event.event.customer_id,
            vin=event.event.vin,
        )
        await self._once(return_visit, visit, label="return visit")

    @on_event(LowScoreFlagged)
    async def recover(self, event: Recorded[LowScoreFlagged]) -> None:
        """Open a complaint, so that somebody wins the customer back."""
        command = policies.recovery_complaint(event.meta.id, event.stream_id, event.event)
        await self._once(complaint, command, label="recovery")

    @on_event(ReturnVisitCompleted)
    async def note_satisfaction(self, event: Recorded[ReturnVisitCompleted]) -> None:
        """Let the metrics follow what customers say."""
        if event.event.csi is not None:
            metrics.CSI.labels(event.event.trigger).observe(float(event.event.csi))

    @on_event(VehicleReturned)
    async def forget_returned_vehicle(self, event: Recorded[VehicleReturned]) -> None:
        """Withdraw the reminders of a car that its customer gave back."""
        await self._withdraw(event, event.event.vin, event.event.customer_id, "vehicle_returned")

    @on_event(VehicleOwnershipRecorded)
    async def forget_sold_vehicle(self, event: Recorded[VehicleOwnershipRecorded]) -> None:
        """Withdraw the reminders of a car that its customer does not own any more."""
        if event.event.until is not None and event.event.until <= _day(event, self.clock.now()):
            await self._withdraw(event, event.event.vin, event.stream_id, "vehicle_sold")

    @on_event(AppointmentRescheduled, AppointmentCancelled, NoShowRecorded)
    async def free_capacity(
        self, event: Recorded[AppointmentRescheduled | AppointmentCancelled | NoShowRecorded]
    ) -> None:
        """Give up the hold of an appointment that moved or does not take place."""
        e = event.event
        if isinstance(e, AppointmentRescheduled):
            day, hold_id = e.previous_day, e.previous_hold_id
        elif e.day is not None and e.hold_id is not None:
            day, hold_id = e.day, e.hold_id
        else:
            return
        # Head office may have moved it: the workshop is that of the appointment's store.
        owner = await self.commands.runtime.commands.load(appointment, event.stream_id)
        day_id = workshop_day_id(owner.ownership.dealer_id, day)
        release = ReleaseCapacity(workshop_day_id=day_id, hold_id=hold_id)
        with suppress(NotFound):
            await self.commands.execute(workshop_day, release, label=str(hold_id))

    @every(seconds=1)
    async def act_on_due(self) -> None:
        """Ask everything that is due by the clock. Each is asked until it has been answered by its event.

        Raises an ``ExceptionGroup`` of what failed, after all the rest was asked.
        """
        where = [le("due_at", self.clock.now())]
        await act_on_each(self.read_models, due, self._ask, where=where, order="due_at", rows=DUE_PAGE)

    async def _ask(self, row: DueRow) -> None:
        if row.what == "hold":
            await self._look_after_hold(row)
            return
        decider, command = policies.command_due(row)
        await self._timed(row, decider, command)

    async def _look_after_hold(self, row: DueRow) -> None:
        """Give up a hold that no appointment stands on: its booking died half-way."""
        if row.day_id is None or row.appointment_id is None:
            return
        booked = await self.commands.runtime.commands.load(appointment, row.appointment_id)
        if booked.state.hold_id != row.subject_id:
            release = ReleaseCapacity(workshop_day_id=row.day_id, hold_id=row.subject_id)
            await self._timed(row, workshop_day, release)

    async def _timed(self, row: DueRow, decider: Decider[Any], command: Command) -> None:
        command_id = policies.due_command_id(row)
        await self.commands.execute(
            decider, command, command_id=command_id, dealer_id=row.dealer_id, brand=row.brand
        )

    async def _once(self, decider: Decider[Any], command: Command, *, label: str) -> None:
        """Create an aggregate whose id says what it is for; that it is there already is fine."""
        with suppress(AlreadyExists):
            await self.commands.execute(decider, command, label=label)

    async def _plan(self, event: Recorded[Any], vin: str, planned: Iterable[ScheduleReminder]) -> None:
        """Schedule the car's reminders that nothing has overtaken."""
        since = await self._since(event, vin)
        for one in planned:
            if not policies.overtaken(one.kind, since):
                await self._once(reminder, one, label=str(one.reminder_id))

    async def _since(self, event: Recorded[Any], vin: str) -> list[TimelineRow]:
        """What has happened to the car after the event until now."""
        await self.read_models.wait_for(vehicle_timeline, await self.store.head())
        where = [eq("vin", vin), gt("position", event.meta.position)]
        rows: list[TimelineRow] = await self.read_models.all(vehicle_timeline, where=where)
        return rows

    async def _open_reminders(self, event: Recorded[Any], vin: str) -> list[ReminderRow]:
        """The car's reminders that were planned before the event and are not over."""
        await self.read_models.wait_for(reminders, event.meta.position)
        where = [eq("vin", vin), any_of("status", OPEN), lt("planned_at", event.meta.position)]
        rows: list[ReminderRow] = await self.read_models.all(reminders, where=where)
        return rows

    async def _fulfil_maintenance(self, event: Recorded[VehicleHandedBack], vin: str) -> None:
        for row in await self._open_reminders(event, vin):
            if row.kind in policies.MAINTENANCE:
                done = FulfilReminder(reminder_id=row.reminder_id, repair_order_id=event.stream_id)
                await self.commands.execute(reminder, done, label=f"fulfil {row.reminder_id}")

    async def _note_odometer(self, event: Recorded[Any], vin: str, odometer_km: int, day: date) -> None:
        for row in await self._open_reminders(event, vin):
            if row.due_km is not None:
                reading = NoteOdometer(reminder_id=row.reminder_id, odometer_km=odometer_km, read_on=day)
                await self.commands.execute(reminder, reading, label=str(row.reminder_id))

    async def _withdraw(self, event: Recorded[Any], vin: str, customer_id: UUID, cause: Cause) -> None:
        for row in await self._open_reminders(event, vin):
            if row.customer_id == customer_id:
                withdrawal = WithdrawReminder(reminder_id=row.reminder_id, cause=cause)
                await self.commands.execute(reminder, withdrawal, label=str(row.reminder_id))


def _day(event: Recorded[Any], moment: datetime) -> date:
    """The local day of a moment at the store of an event."""
    return store_of(event.meta.dealer_id).local(moment).date()
