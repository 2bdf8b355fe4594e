"""A reminder: something about a car falls due, by date or by mileage, whichever comes first.

``scheduled → due``, then fulfilled or withdrawn; both may also happen before it is due. A later odometer
reading moves the date of a reminder that has a mileage.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Annotated, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import Field

from forecourt.deciders import Command, Context, Decider
from forecourt.errors import Refused
from forecourt.events import Event
from service_desk.fields import Code, Kilometres
from service_desk.stores import store_of
from trade.vin import VinStr

Kind = Literal[
    "first_maintenance", "regular_maintenance", "insurance_renewal", "annual_inspection", "warranty_end"
]
Cause = Literal[
    "customer_asked",
    "vehicle_sold",
    "vehicle_scrapped",
    "done_elsewhere",
    "entered_in_error",
    "vehicle_returned",
]
Status = Literal["scheduled", "due", "fulfilled", "withdrawn"]

FALLS_DUE_AT = time(9)
"""Local time of the store on the day that a reminder is due."""


class ReminderScheduled(Event, name="ReminderScheduled", version=1):
    """It was planned by a version of the rules; ``due_km`` is the mileage that may bring it forward."""

    customer_id: UUID
    vin: str
    kind: Kind
    cycle: str
    due_on: date
    due_at: datetime
    due_km: int | None
    odometer_km: int
    read_on: date
    rule_version: int


class ReminderRescheduled(Event, name="ReminderRescheduled", version=1):
    """An odometer reading moved its date."""

    customer_id: UUID
    vin: str
    kind: Kind
    due_on: date
    due_at: datetime
    previous_due_on: date
    odometer_km: int
    read_on: date


class ReminderBecameDue(Event, name="ReminderBecameDue", version=1):
    """The customer should hear of it now."""

    customer_id: UUID
    vin: str
    kind: Kind
    due_on: date


class ReminderFulfilled(Event, name="ReminderFulfilled", version=1):
    """What it reminds of was done, by repair order ``repair_order_id``."""

    customer_id: UUID
    vin: str
    kind: Kind
    repair_order_id: UUID


class ReminderWithdrawn(Event, name="ReminderWithdrawn", version=1):
    """It does not apply any more."""

    customer_id: UUID
    vin: str
    kind: Kind
    cause: Cause


@dataclass(frozen=True)
class Reminder:
    """What decisions about a reminder need. ``latest_on`` is the date by the calendar alone."""

    status: Status = "scheduled"
    customer_id: UUID = UUID(int=0)
    vin: str = ""
    kind: Kind = "first_maintenance"
    due_on: date = date.min
    due_at: datetime | None = None
    latest_on: date = date.min
    due_km: int | None = None
    first_km: int = 0
    first_read_on: date = date.min
    read_on: date = date.min


class ReminderIsOver(Refused):
    """The reminder was fulfilled or withdrawn."""


class ScheduleReminder(Command, creates=True):
    """Plan a reminder. ``odometer_km`` is the reading on ``read_on``, from which mileage is reckoned.

    ``due_km`` may lie beyond any reading: it is one and a distance.
    """

    reminder_id: UUID
    customer_id: UUID
    vin: VinStr
    kind: Kind
    cycle: Code
    due_on: date
    due_km: Annotated[int, Field(ge=0)] | None = None
    odometer_km: Kilometres = 0
    read_on: date
    rule_version: Annotated[int, Field(ge=1)]


class NoteOdometer(Command):
    """Let a later reading move the reminder. Does nothing to one without a mileage, or that is over."""

    reminder_id: UUID
    odometer_km: Kilometres
    read_on: date


class MarkReminderDue(Command):
    """Say that its day has come. For the timer: does nothing where it is not so."""

    reminder_id: UUID


class FulfilReminder(Command):
    """Note that what it reminds of was done. Does nothing where it is over."""

    reminder_id: UUID
    repair_order_id: UUID


class WithdrawReminder(Command):
    """Take it back."""

    reminder_id: UUID
    cause: Cause


def reminder_id(vin: str, kind: Kind, cycle: str) -> UUID:
    """The id of a car's reminder of a kind in a cycle: there is one, however often it is planned."""
    return uuid5(NAMESPACE_URL, f"reminder:{vin}:{kind}:{cycle}")


reminder = Decider(service="service_desk", category="reminder", initial=Reminder(), key="reminder_id")


def due_by_mileage(due_km: int, first: tuple[date, int], latest: tuple[date, int]) -> date | None:
    """The day a car reaches ``due_km`` if it is driven on as between two (day, reading) pairs.

    None where it did not move, or where that is more than ten years off.
    """
    days, driven = (latest[0] - first[0]).days, latest[1] - first[1]
    if latest[1] >= due_km:
        return latest[0]
    if days <= 0 or driven <= 0:
        return None
    ahead = -(-(due_km - latest[1]) * days // driven)
    return latest[0] + timedelta(days=ahead) if ahead < 3_660 else None


@reminder.decides
def schedule(state: Reminder, c: ScheduleReminder, ctx: Context) -> list[Event]:
    """Plan it for nine in the morning of its day."""
    return [
        ReminderScheduled(
            customer_id=c.customer_id,
            vin=c.vin,
            kind=c.kind,
            cycle=c.cycle,
            due_on=c.due_on,
            due_at=_falls_due(ctx, c.due_on),
            due_km=c.due_km,
            odometer_km=c.odometer_km,
            read_on=c.read_on,
            rule_version=c.rule_version,
        )
    ]


def _falls_due(ctx: Context, day: date) -> datetime:
    return store_of(ctx.dealer_id).moment(day, FALLS_DUE_AT)


@reminder.decides
def note_odometer(state: Reminder, c: NoteOdometer, ctx: Context) -> list[Event]:
    """Move it where the mileage says another day than it has; never past the date by the calendar."""
    if state.status != "scheduled" or state.due_km is None or c.read_on <= state.read_on:
        return []
    by_mileage = due_by_mileage(
        state.due_km, (state.first_read_on, state.first_km), (c.read_on, c.odometer_km)
    )
    due_on = state.latest_on if by_mileage is None else min(by_mileage, state.latest_on)
    if due_on == state.due_on:
        return []
    return [
        ReminderRescheduled(
            customer_id=state.customer_id,
            vin=state.vin,
            kind=state.kind,
            due_on=due_on,
            due_at=_falls_due(ctx, due_on),
            previous_due_on=state.due_on,
            odometer_km=c.odometer_km,
            read_on=c.read_on,
        )
    ]


@reminder.decides
def mark_due(state: Reminder, c: MarkReminderDue, ctx: Context) -> list[Event]:
    """Once, when its time has come."""
    if state.status != "scheduled" or state.due_at is None or ctx.now < state.due_at:
        return []
    return [
        ReminderBecameDue(customer_id=state.customer_id, vin=state.vin, kind=state.kind, due_on=state.due_on)
    ]


@reminder.decides
def fulfil(state: Reminder, c: FulfilReminder, ctx: Context) -> list[Event]:
    """Once, due or not."""
    if state.status in ("fulfilled", "withdrawn"):
        return []
    return [
        ReminderFulfilled(
            customer_id=state.customer_id,
            vin=state.vin,
            kind=state.kind,
            repair_order_id=c.repair_order_id,
        )
    ]


@reminder.decides
def withdraw(state: Reminder, c: WithdrawReminder, ctx: Context) -> list[Event]:
    """Due or not, but not after it was fulfilled."""
    if state.status == "withdrawn":
        return []
    if state.status == "fulfilled":
        raise ReminderIsOver("the reminder was fulfilled")
    return [ReminderWithdrawn(customer_id=state.customer_id, vin=state.vin, kind=state.kind, cause=c.cause)]


@reminder.evolves
def _(state: Reminder, e: ReminderScheduled) -> Reminder:
    return Reminder(
        customer_id=e.customer_id,
        vin=e.vin,
        kind=e.kind,
        due_on=e.due_on,
        due_at=e.due_at,
        latest_on=e.due_on,
        due_km=e.due_km,
        first_km=e.odometer_km,
        first_read_on=e.read_on,
        read_on=e.read_on,
    )


@reminder.evolves
def _(state: Reminder, e: ReminderRescheduled) -> Reminder:
    return replace(state, due_on=e.due_on, due_at=e.due_at, read_on=e.read_on)


@reminder.evolves
def _(state: Reminder, e: ReminderBecameDue) -> Reminder:
    return replace(state, status="due")


@reminder.evolves
def _(state: Reminder, e: ReminderFulfilled) -> Reminder:
    return replace(state, status="fulfilled")


@reminder.evolves
def _(state: Reminder, e: ReminderWithdrawn) -> Reminder:
    return replace(state, status="withdrawn")
