"""The workshop's capacity on one day of one store: bays and technicians per half-hour slot.

Bookings of a day meet here, so that two of them never get the last bay. A hold belongs to an appointment;
one that is moved holds its new place before it lets go of the old one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Annotated
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import Field

from forecourt.deciders import Command, Context, Decider
from forecourt.errors import Refused
from forecourt.events import Event

SLOT_MINUTES = 30
SLOTS_A_DAY = 24 * 60 // SLOT_MINUTES

Slot = Annotated[int, Field(ge=0, lt=SLOTS_A_DAY)]
"""A half hour of the local day; 0 begins at midnight."""
Places = Annotated[int, Field(ge=0, le=200)]


class WorkshopDayOpened(Event, name="WorkshopDayOpened", version=1):
    """A store's workshop takes bookings for a day."""

    day: date
    bays: int
    technicians: int


class WorkshopCapacityChanged(Event, name="WorkshopCapacityChanged", version=1):
    """More or fewer bays or technicians are there on the day. Bookings made before stay."""

    bays: int
    technicians: int


class CapacityReserved(Event, name="CapacityReserved", version=1):
    """An appointment holds a bay and technicians from slot ``first_slot`` on."""

    hold_id: UUID
    appointment_id: UUID
    first_slot: int
    slots: int
    technicians: int


class CapacityReleased(Event, name="CapacityReleased", version=1):
    """A hold was given up."""

    hold_id: UUID
    appointment_id: UUID


@dataclass(frozen=True)
class Hold:
    """A bay and ``technicians`` people, for ``slots`` slots from ``first_slot`` on."""

    appointment_id: UUID
    first_slot: int
    slots: int
    technicians: int

    def covers(self, slot: int) -> bool:
        """Whether the hold takes capacity in a slot."""
        return self.first_slot <= slot < self.first_slot + self.slots


@dataclass(frozen=True)
class WorkshopDay:
    """The day's capacity and who holds what of it."""

    bays: int = 0
    technicians: int = 0
    holds: dict[UUID, Hold] = field(default_factory=dict)

    def taken(self, slot: int, *, except_for: UUID) -> tuple[int, int]:
        """(bays, technicians) held in a slot by other appointments."""
        holds = [h for h in self.holds.values() if h.covers(slot) and h.appointment_id != except_for]
        return len(holds), sum(hold.technicians for hold in holds)


def workshop_day_id(dealer_id: str, day: date) -> UUID:
    """The id of a store's workshop on a local date."""
    return uuid5(NAMESPACE_URL, f"workshop-day:{dealer_id}:{day.isoformat()}")


class NoBayFree(Refused):
    """Every bay is taken in one of the slots asked for."""


class NoTechnicianFree(Refused):
    """Too few technicians are left in one of the slots asked for."""


class OpenWorkshopDay(Command, creates=True):
    """Take bookings for a day."""

    workshop_day_id: UUID
    day: date
    bays: Places
    technicians: Places


class ChangeWorkshopCapacity(Command):
    """Have more or fewer bays or technicians on a day that is open."""

    workshop_day_id: UUID
    bays: Places
    technicians: Places


class ReserveCapacity(Command):
    """Hold a bay and technicians for an appointment."""

    workshop_day_id: UUID
    hold_id: UUID
    appointment_id: UUID
    first_slot: Slot
    slots: Annotated[int, Field(ge=1, le=SLOTS_A_DAY)]
    technicians: Annotated[int, Field(ge=1, le=4)]


class ReleaseCapacity(Command):
    """Give a hold up. Already given up is fine."""

    workshop_day_id: UUID
    hold_id: UUID


workshop_day = Decider(
    service="service_desk",
    category="workshop_day",
    initial=WorkshopDay(),
    key="workshop_day_id",
    every_brand="bays and technicians of a store serve the cars of all its brands",
)


@workshop_day.decides
def open_day(state: WorkshopDay, c: OpenWorkshopDay, ctx: Context) -> list[Event]:
    """Open it with the capacity given."""
    return [WorkshopDayOpened(day=c.day, bays=c.bays, technicians=c.technicians)]


@workshop_day.decides
def change(state: WorkshopDay, c: ChangeWorkshopCapacity, ctx: Context) -> list[Event]:
    """Change it, unless it is so already."""
    if (state.bays, state.technicians) == (c.bays, c.technicians):
        return []
    return [WorkshopCapacityChanged(bays=c.bays, technicians=c.technicians)]


@workshop_day.decides
def reserve(state: WorkshopDay, c: ReserveCapacity, ctx: Context) -> list[Event]:
    """Hold it, where every slot has a bay and enough technicians left."""
    if c.hold_id in state.holds:
        return []
    for slot, bays, technicians in _left(state, c):
        if bays < 1:
            raise NoBayFree(f"every bay is taken at {_clock(slot)}", fields={"starts_at": "no bay is free"})
        if technicians < c.technicians:
            raise NoTechnicianFree(
                f"{technicians} technicians are left at {_clock(slot)}",
                fields={"starts_at": "too few technicians are free"},
            )
    return [
        CapacityReserved(
            hold_id=c.hold_id,
            appointment_id=c.appointment_id,
            first_slot=c.first_slot,
            slots=c.slots,
            technicians=c.technicians,
        )
    ]


@workshop_day.decides
def release(state: WorkshopDay, c: ReleaseCapacity, ctx: Context) -> list[Event]:
    """Give the hold up, if it is held."""
    hold = state.holds.get(c.hold_id)
    return [] if hold is None else [CapacityReleased(hold_id=c.hold_id, appointment_id=hold.appointment_id)]


def _left(state: WorkshopDay, c: ReserveCapacity) -> Iterator[tuple[int, int, int]]:
    """(slot, bays left, technicians left) of the slots asked for."""
    for slot in range(c.first_slot, c.first_slot + c.slots):
        bays, technicians = state.taken(slot, except_for=c.appointment_id)
        yield slot, state.bays - bays, state.technicians - technicians


def _clock(slot: int) -> str:
    hour, half = divmod(slot * SLOT_MINUTES, 60)
    return f"{hour:02}:{half:02}"


@workshop_day.evolves
def _(state: WorkshopDay, e: WorkshopDayOpened | WorkshopCapacityChanged) -> WorkshopDay:
    return replace(state, bays=e.bays, technicians=e.technicians)


@workshop_day.evolves
def _(state: WorkshopDay, e: CapacityReserved) -> WorkshopDay:
    hold = Hold(e.appointment_id, e.first_slot, e.slots, e.technicians)
    return replace(state, holds={**state.holds, e.hold_id: hold})


@workshop_day.evolves
def _(state: WorkshopDay, e: CapacityReleased) -> WorkshopDay:
    return replace(state, holds={key: hold for key, hold in state.holds.items() if key != e.hold_id})
