"""An appointment at the workshop: requested, booked, moved, checked in, completed; or missed, or cancelled.

Capacity is decided before the appointment, on `service_desk.workshop_day`; a booking names the hold it
stands on.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from forecourt.deciders import Command, Context, Decider
from forecourt.errors import InvalidInput, Refused
from forecourt.events import Event, Personal
from service_desk.fields import Moment, OptionalText, ShortText
from service_desk.stores import Store
from service_desk.workshop_day import SLOT_MINUTES
from trade.vin import VinStr

Kind = Literal["maintenance", "repair", "warranty"]
Status = Literal["none", "requested", "booked", "checked_in", "completed", "no_show", "cancelled"]
Minutes = Annotated[int, Field(ge=SLOT_MINUTES, le=480, multiple_of=SLOT_MINUTES)]
"""How long the workshop needs, in whole half hours."""
Technicians = Annotated[int, Field(ge=1, le=4)]


class AppointmentRequested(Event, name="AppointmentRequested", version=1, person="customer_id"):
    """A customer asked for an appointment; nothing is held for it yet."""

    customer_id: UUID
    vin: str
    kind: Kind
    wished_for: datetime
    remarks: Personal[str]


class AppointmentBooked(Event, name="AppointmentBooked", version=1, person="customer_id"):
    """A bay and technicians are held from ``starts_at`` on."""

    customer_id: UUID
    vin: str
    kind: Kind
    starts_at: datetime
    minutes: int
    technicians: int
    remarks: Personal[str]
    hold_id: UUID
    day: date


class AppointmentRescheduled(Event, name="AppointmentRescheduled", version=1):
    """The appointment was moved; the previous hold is to be given up."""

    customer_id: UUID
    vin: str
    starts_at: datetime
    minutes: int
    technicians: int
    hold_id: UUID
    day: date
    previous_hold_id: UUID
    previous_day: date


class AppointmentCheckedIn(Event, name="AppointmentCheckedIn", version=1):
    """The customer has come with the car."""

    customer_id: UUID
    vin: str


class AppointmentCompleted(Event, name="AppointmentCompleted", version=1):
    """What the appointment was for has been done."""

    customer_id: UUID


class NoShowRecorded(Event, name="NoShowRecorded", version=1):
    """The customer did not come; the hold is to be given up."""

    customer_id: UUID
    hold_id: UUID
    day: date


class AppointmentCancelled(Event, name="AppointmentCancelled", version=1, person="customer_id"):
    """The appointment is off; a hold, if there is one, is to be given up."""

    customer_id: UUID
    reason: Personal[str]
    hold_id: UUID | None
    day: date | None


@dataclass(frozen=True)
class Appointment:
    """What decisions about an appointment need."""

    status: Status = "none"
    customer_id: UUID = UUID(int=0)
    vin: str = ""
    kind: Kind = "repair"
    remarks: str = ""
    starts_at: datetime | None = None
    minutes: int = 0
    technicians: int = 0
    hold_id: UUID | None = None
    day: date | None = None


class StartsInThePast(Refused):
    """The time asked for has passed."""


class OutsideOpeningHours(Refused):
    """The workshop is closed for some of the time asked for."""


class AppointmentNotBooked(Refused):
    """The step needs an appointment that is booked."""


class AppointmentNotCheckedIn(Refused):
    """The step needs the customer to have checked in."""


class AppointmentNotRequested(Refused):
    """Only a requested appointment can be confirmed."""


class AppointmentIsOver(Refused):
    """The appointment was completed, missed or cancelled."""


class NotYetMissed(Refused):
    """A customer cannot be a no-show before the appointment has begun."""


class RequestAppointment(Command, creates=True):
    """Note that a customer asks for an appointment."""

    appointment_id: UUID | None = None
    customer_id: UUID
    vin: VinStr
    kind: Kind
    wished_for: Moment
    remarks: OptionalText = ""


class BookAppointment(Command, creates=True):
    """Book an appointment on a hold."""

    appointment_id: UUID
    customer_id: UUID
    vin: VinStr
    kind: Kind
    starts_at: Moment
    minutes: Minutes = 60
    technicians: Technicians = 1
    remarks: OptionalText = ""
    hold_id: UUID
    day: date


class ConfirmAppointment(Command):
    """Book a requested appointment on a hold."""

    appointment_id: UUID
    starts_at: Moment
    minutes: Minutes = 60
    technicians: Technicians = 1
    hold_id: UUID
    day: date


class RescheduleAppointment(Command):
    """Move a booked appointment to another hold."""

    appointment_id: UUID
    starts_at: Moment
    minutes: Minutes = 60
    technicians: Technicians = 1
    hold_id: UUID
    day: date


class CheckInAppointment(Command):
    """Note that the customer has come."""

    appointment_id: UUID


class CompleteAppointment(Command):
    """Note that all is done."""

    appointment_id: UUID


class RecordNoShow(Command):
    """Note that the customer did not come."""

    appointment_id: UUID


class CancelAppointment(Command):
    """Call the appointment off."""

    appointment_id: UUID
    reason: ShortText


appointment = Decider(
    service="service_desk", category="appointment", initial=Appointment(), key="appointment_id"
)


def slots_of(store: Store, starts_at: datetime, minutes: int) -> tuple[date, int, int]:
    """(local day, first slot, number of slots) that an appointment takes in a store.

    It begins and ends while the workshop is open, on one day; over a break in between the car keeps its bay.
    Raises `OutsideOpeningHours`, and `InvalidInput` where it does not begin with a slot.
    """
    local = store.local(starts_at)
    if (local.minute % SLOT_MINUTES, local.second, local.microsecond) != (0, 0, 0):
        raise InvalidInput(
            "starts_at: must be a whole or half hour", fields={"starts_at": "must be a whole or half hour"}
        )
    ends = store.local(starts_at + timedelta(minutes=minutes))
    shifts = store.workshop.shifts_on(local.date())
    begins_open = any(opens <= local.time() < closes for opens, closes in shifts)
    ends_open = any(opens < ends.time() <= closes for opens, closes in shifts)
    if not (begins_open and ends_open and ends.date() == local.date()):
        raise OutsideOpeningHours(fields={"starts_at": "the workshop is closed for some of the time"})
    first_slot = (local.hour * 60 + local.minute) // SLOT_MINUTES
    return local.date(), first_slot, minutes // SLOT_MINUTES


def _to_come(starts_at: datetime, ctx: Context) -> None:
    if starts_at < ctx.now:
        raise StartsInThePast(fields={"starts_at": "has passed"})


def _not_over(state: Appointment) -> None:
    if state.status in ("completed", "no_show", "cancelled"):
        raise AppointmentIsOver(f"the appointment is over: {state.status.replace('_', ' ')}")


@appointment.decides
def request(state: Appointment, c: RequestAppointment, ctx: Context) -> list[Event]:
    """Note the wish, for a time to come."""
    if c.wished_for < ctx.now:
        raise StartsInThePast(fields={"wished_for": "has passed"})
    return [
        AppointmentRequested(
            customer_id=c.customer_id, vin=c.vin, kind=c.kind, wished_for=c.wished_for, remarks=c.remarks
        )
    ]


@appointment.decides
def book(state: Appointment, c: BookAppointment, ctx: Context) -> list[Event]:
    """Book it on its hold, for a time to come."""
    _to_come(c.starts_at, ctx)
    return [_booked(c, c.customer_id, c.vin, c.kind, c.remarks)]


@appointment.decides
def confirm(state: Appointment, c: ConfirmAppointment, ctx: Context) -> list[Event]:
    """Book what was requested."""
    _not_over(state)
    if state.status != "requested":
        raise AppointmentNotRequested()
    _to_come(c.starts_at, ctx)
    return [_booked(c, state.customer_id, state.vin, state.kind, state.remarks)]


def _booked(
    c: BookAppointment | ConfirmAppointment, customer_id: UUID, vin: str, kind: Kind, remarks: str
) -> AppointmentBooked:
    return AppointmentBooked(
        customer_id=customer_id,
        vin=vin,
        kind=kind,
        starts_at=c.starts_at,
        minutes=c.minutes,
        technicians=c.technicians,
        remarks=remarks,
        hold_id=c.hold_id,
        day=c.day,
    )


@appointment.decides
def reschedule(state: Appointment, c: RescheduleAppointment, ctx: Context) -> list[Event]:
    """Move it to its new hold."""
    _not_over(state)
    if state.status != "booked" or state.hold_id is None or state.day is None:
        raise AppointmentNotBooked()
    _to_come(c.starts_at, ctx)
    return [
        AppointmentRescheduled(
            customer_id=state.customer_id,
            vin=state.vin,
            starts_at=c.starts_at,
            minutes=c.minutes,
            technicians=c.technicians,
            hold_id=c.hold_id,
            day=c.day,
            previous_hold_id=state.hold_id,
            previous_day=state.day,
        )
    ]


@appointment.decides
def check_in(state: Appointment, c: CheckInAppointment, ctx: Context) -> list[Event]:
    """Check in, once."""
    _not_over(state)
    if state.status == "checked_in":
        return []
    if state.status != "booked":
        raise AppointmentNotBooked()
    return [AppointmentCheckedIn(customer_id=state.customer_id, vin=state.vin)]


@appointment.decides
def complete(state: Appointment, c: CompleteAppointment, ctx: Context) -> list[Event]:
    """Complete after the check-in."""
    if state.status == "completed":
        return []
    _not_over(state)
    if state.status != "checked_in":
        raise AppointmentNotCheckedIn()
    return [AppointmentCompleted(customer_id=state.customer_id)]


@appointment.decides
def no_show(state: Appointment, c: RecordNoShow, ctx: Context) -> list[Event]:
    """Only a booked one can be missed, and only after it should have begun."""
    if state.status == "no_show":
        return []
    _not_over(state)
    if state.status != "booked" or state.starts_at is None or state.hold_id is None or state.day is None:
        raise AppointmentNotBooked()
    if ctx.now < state.starts_at:
        raise NotYetMissed()
    return [NoShowRecorded(customer_id=state.customer_id, hold_id=state.hold_id, day=state.day)]


@appointment.decides
def cancel(state: Appointment, c: CancelAppointment, ctx: Context) -> list[Event]:
    """Cancel what has not begun."""
    if state.status == "cancelled":
        return []
    _not_over(state)
    if state.status == "checked_in":
        raise AppointmentNotBooked("the customer has checked in")
    return [
        AppointmentCancelled(
            customer_id=state.customer_id, reason=c.reason, hold_id=state.hold_id, day=state.day
        )
    ]


@appointment.evolves
def _(state: Appointment, e: AppointmentRequested) -> Appointment:
    return replace(
        state, status="requested", customer_id=e.customer_id, vin=e.vin, kind=e.kind, remarks=e.remarks
    )


@appointment.evolves
def _(state: Appointment, e: AppointmentBooked) -> Appointment:
    return Appointment(
        status="booked",
        customer_id=e.customer_id,
        vin=e.vin,
        kind=e.kind,
        remarks=e.remarks,
        starts_at=e.starts_at,
        minutes=e.minutes,
        technicians=e.technicians,
        hold_id=e.hold_id,
        day=e.day,
    )


@appointment.evolves
def _(state: Appointment, e: AppointmentRescheduled) -> Appointment:
    return replace(
        state,
        starts_at=e.starts_at,
        minutes=e.minutes,
        technicians=e.technicians,
        hold_id=e.hold_id,
        day=e.day,
    )


@appointment.evolves
def _(state: Appointment, e: AppointmentCheckedIn) -> Appointment:
    return replace(state, status="checked_in")


@appointment.evolves
def _(state: Appointment, e: AppointmentCompleted) -> Appointment:
    return replace(state, status="completed")


@appointment.evolves
def _(state: Appointment, e: NoShowRecorded) -> Appointment:
    return replace(state, status="no_show")


@appointment.evolves
def _(state: Appointment, e: AppointmentCancelled) -> Appointment:
    return replace(state, status="cancelled")
