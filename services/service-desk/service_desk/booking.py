"""Booking an appointment: first the capacity of the day, then the appointment that stands on it.

The two are separate aggregates. A hold is made first and given back where the appointment is refused. Should the
process die in between, the timer finds the hold that no appointment stands on (`service_desk.read_models.due`).
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from forecourt.command_handler import Outcome
from forecourt.deciders import Command
from forecourt.errors import AlreadyExists, NotFound, Refused, Unavailable, VersionConflict
from forecourt.rpc.binding import Call
from service_desk.appointment import (
    Appointment,
    BookAppointment,
    CancelAppointment,
    ConfirmAppointment,
    Kind,
    Minutes,
    RecordNoShow,
    RescheduleAppointment,
    Technicians,
    appointment,
    slots_of,
)
from service_desk.fields import Moment, OptionalText
from service_desk.stores import store_of
from service_desk.workshop_day import (
    ChangeWorkshopCapacity,
    OpenWorkshopDay,
    Places,
    ReleaseCapacity,
    ReserveCapacity,
    WorkshopDay,
    workshop_day,
    workshop_day_id,
)
from trade.vin import VinStr

ATTEMPTS = 5
"""Holds that one call may make: each repetition of a call whose hold was given back needs a new one."""


class _Wish(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    starts_at: Moment
    minutes: Minutes = 60
    technicians: Technicians = 1


class Booking(_Wish):
    """The message of BookAppointment."""

    appointment_id: UUID | None = None
    customer_id: UUID
    vin: VinStr
    kind: Kind
    remarks: OptionalText = ""


class ExistingBooking(_Wish):
    """The message of ConfirmAppointment and RescheduleAppointment."""

    appointment_id: UUID


class Capacity(BaseModel):
    """The message of SetWorkshopCapacity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    day: date
    bays: Places
    technicians: Places


class TooManyRepetitions(Refused):
    """The call was repeated too often after its hold had been given back; send it with a new command id."""


@dataclass(frozen=True)
class _Held:
    day_id: UUID
    day: date
    hold_id: UUID


async def book(message: Booking, call: Call) -> Outcome:
    """Book a new appointment."""
    appointment_id = message.appointment_id or call.context.new_id("appointment")
    held = await _hold(message, appointment_id, call.context.dealer_id, call)
    fields = message.model_dump() | {"appointment_id": appointment_id}
    command = BookAppointment(**fields, hold_id=held.hold_id, day=held.day)
    return await _on(held, command, call)


async def confirm(message: ExistingBooking, call: Call) -> Outcome:
    """Book a requested appointment."""
    held = await _hold(message, message.appointment_id, await _store(message.appointment_id, call), call)
    return await _on(
        held, ConfirmAppointment(**message.model_dump(), hold_id=held.hold_id, day=held.day), call
    )


async def reschedule(message: ExistingBooking, call: Call) -> Outcome:
    """Move a booked appointment: hold the new place, move, and give the old place up."""
    before: Appointment = await call.commands.state(appointment, message.appointment_id)
    dealer_id = await _store(message.appointment_id, call)
    held = await _hold(message, message.appointment_id, dealer_id, call)
    command = RescheduleAppointment(**message.model_dump(), hold_id=held.hold_id, day=held.day)
    outcome = await _on(held, command, call)
    if before.hold_id != held.hold_id:
        await _give_up(before, dealer_id, call)
    return outcome


async def cancel(message: CancelAppointment, call: Call) -> Outcome:
    """Call an appointment off and free what it held."""
    return await _end(message, message.appointment_id, call)


async def no_show(message: RecordNoShow, call: Call) -> Outcome:
    """Note that a customer did not come and free what was held."""
    return await _end(message, message.appointment_id, call)


async def set_capacity(message: Capacity, call: Call) -> Outcome:
    """Set a day's bays and technicians, whether or not the day is open."""
    day_id = workshop_day_id(call.context.dealer_id, message.day)
    change = ChangeWorkshopCapacity(
        workshop_day_id=day_id, bays=message.bays, technicians=message.technicians
    )
    await _open_day(call.context.dealer_id, message.day, call)
    return await call.commands.execute(workshop_day, change, expected=call.expected)


async def _store(appointment_id: UUID, call: Call) -> str:
    """Whose workshop an appointment is at: that of its store, whoever asks."""
    dealer_id, _ = await call.commands.owner(appointment, appointment_id)
    return dealer_id or call.context.dealer_id


async def _hold(wish: _Wish, appointment_id: UUID, dealer_id: str, call: Call) -> _Held:
    day, first_slot, slots = slots_of(store_of(dealer_id), wish.starts_at, wish.minutes)
    day_id = workshop_day_id(dealer_id, day)
    await _open_day(dealer_id, day, call)
    for attempt in range(ATTEMPTS):
        hold_id = call.context.new_id(f"hold:{attempt}")
        reserve = ReserveCapacity(
            workshop_day_id=day_id,
            hold_id=hold_id,
            appointment_id=appointment_id,
            first_slot=first_slot,
            slots=slots,
            technicians=wish.technicians,
        )
        await call.commands.execute(workshop_day, reserve, label=f"hold:{attempt}")
        state: WorkshopDay = await call.commands.state(workshop_day, day_id)
        # A repeated call is answered with its first hold, which may have been given back meanwhile.
        if hold_id in state.holds:
            return _Held(day_id, day, hold_id)
    raise TooManyRepetitions()


async def _open_day(dealer_id: str, day: date, call: Call) -> None:
    store, day_id = store_of(dealer_id), workshop_day_id(dealer_id, day)
    state: WorkshopDay = await call.commands.state(workshop_day, day_id)
    if state == WorkshopDay():
        command = OpenWorkshopDay(
            workshop_day_id=day_id, day=day, bays=store.bays, technicians=store.technicians
        )
        with suppress(AlreadyExists):
            await call.commands.execute(workshop_day, command, label="open day")


async def _on(held: _Held, command: Command, call: Call) -> Outcome:
    """Run a booking that stands on a hold. Refused: the hold is given back. Outcome unknown: the timer looks."""
    try:
        return await call.commands.execute(appointment, command, expected=call.expected)
    except (Refused, NotFound, AlreadyExists, VersionConflict):
        await _release(held.day_id, held.hold_id, call)
        raise


async def _end(command: Command, appointment_id: UUID, call: Call) -> Outcome:
    outcome = await call.commands.execute(appointment, command, expected=call.expected)
    state: Appointment = await call.commands.state(appointment, appointment_id)
    await _give_up(state, await _store(appointment_id, call), call)
    return outcome


async def _give_up(state: Appointment, dealer_id: str, call: Call) -> None:
    # A convenience: the next caller may have the place at once. The worker gives it up in any case.
    if state.hold_id is not None and state.day is not None:
        with suppress(Unavailable, VersionConflict):
            await _release(workshop_day_id(dealer_id, state.day), state.hold_id, call)


async def _release(day_id: UUID, hold_id: UUID, call: Call) -> None:
    with suppress(NotFound):
        await call.commands.execute(
            workshop_day,
            ReleaseCapacity(workshop_day_id=day_id, hold_id=hold_id),
            label=f"release:{hold_id}",
        )
