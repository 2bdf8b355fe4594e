"""Everything that happened to a car, in any store, from any service; one row per event."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from forecourt.events import AnyEvent, Meta
from forecourt.projections.projection import Index, Owned, OwnedThrough, Projection, row_id
from forecourt.values import Money
from service_desk import foreign
from service_desk.appointment import AppointmentBooked
from service_desk.complaint.events import ComplaintClosed, ComplaintReceived
from service_desk.read_models.cars_in_stock import cars_in_stock
from service_desk.reminder import ReminderBecameDue
from service_desk.repair_order.events import (
    RepairInvoiced,
    RepairOrderCancelled,
    RepairOrderOpened,
    VehicleHandedBack,
)

_HAPPENED = ("delivered_at", "handed_back_at")
"""Business times, which may differ from when the event was recorded."""

_SHOWN = (
    "model",
    "odometer_km",
    "kind",
    "store",
    "from_store",
    "to_store",
    "invoice_number",
    "total",
    "severity",
    "result",
    "due_on",
)
"""What of an event is shown; nothing that belongs to a person."""


class TimelineRow(msgspec.Struct, frozen=True):
    """An event of a car, in the store where it happened.

    ``stock_vin`` is the VIN once more for what happens to a car on its way to its first customer: whoever has it in
    stock sees that. What a workshop does, and earns, stays its own, also with a car that somebody else registers.
    """

    event_id: UUID
    vin: str
    at: datetime
    position: int
    service: str
    event: str
    store: str
    brand: str
    subject_id: UUID
    details: Mapping[str, str]
    stock_vin: str | None

    @property
    def dealer_id(self) -> str:
        """The store, by the name that the contract gives it."""
        return self.store


vehicle_timeline = Projection(
    "vehicle_timeline",
    version=3,
    row=TimelineRow,
    key="event_id",
    indexes=[Index(("vin", "at", "position", "event_id"))],
    owner=Owned(dealer="store", also=OwnedThrough(cars_in_stock, "stock_vin")),
)


def _spelled(value: Any) -> str:
    return f"{value.amount} {value.currency}" if isinstance(value, Money) else str(value)


@vehicle_timeline.on(
    foreign.VehicleRegistered,
    foreign.VehiclePurchased,
    foreign.ReceivedIntoStock,
    foreign.PdiPassed,
    foreign.PdiFailed,
    foreign.VehicleReserved,
    foreign.ReservationReleased,
    foreign.VehicleTransferred,
    foreign.VehicleAllocated,
    foreign.VehicleDelivered,
    foreign.VehicleReturned,
    AppointmentBooked,
    RepairOrderOpened,
    RepairInvoiced,
    VehicleHandedBack,
    RepairOrderCancelled,
    ComplaintReceived,
    ComplaintClosed,
    ReminderBecameDue,
    key=lambda e, m: row_id(m) if e.vin else None,
)
def _(row: TimelineRow | None, e: AnyEvent, m: Meta) -> TimelineRow:
    data = dict(e)
    service, _, event = m.type.partition(".")
    return TimelineRow(
        event_id=m.id,
        vin=data["vin"],
        at=next((data[name] for name in _HAPPENED if name in data), m.time),
        position=m.position,
        service=service,
        event=event,
        store=m.dealer_id,
        brand=m.brand,
        subject_id=m.stream_id,
        details={name: _spelled(data[name]) for name in _SHOWN if data.get(name) is not None},
        stock_vin=data["vin"] if service == "sales" else None,
    )
