"""Appointments as they stand."""

from datetime import datetime
from uuid import UUID

import msgspec

from forecourt.events import Meta
from forecourt.privacy.fields import erased_text
from forecourt.projections.projection import Index, Projection
from service_desk.appointment import (
    AppointmentBooked,
    AppointmentCancelled,
    AppointmentCheckedIn,
    AppointmentCompleted,
    AppointmentRequested,
    AppointmentRescheduled,
    NoShowRecorded,
)
from service_desk.foreign import PersonalDataShredded


class AppointmentRow(msgspec.Struct, frozen=True):
    """An appointment. ``starts_at`` of a requested one is when the customer would like to come."""

    appointment_id: UUID
    dealer_id: str
    brand: str
    customer_id: UUID
    vin: str
    kind: str
    status: str
    starts_at: datetime
    minutes: int
    technicians: int
    remarks: str


appointments = Projection(
    "appointment",
    version=1,
    row=AppointmentRow,
    key="appointment_id",
    indexes=[Index(("dealer_id", "starts_at")), "customer_id"],
)


@appointments.on()
def _(row: AppointmentRow | None, e: AppointmentRequested, m: Meta) -> AppointmentRow:
    return AppointmentRow(
        appointment_id=m.stream_id,
        dealer_id=m.dealer_id,
        brand=m.brand,
        customer_id=e.customer_id,
        vin=e.vin,
        kind=e.kind,
        status="requested",
        starts_at=e.wished_for,
        minutes=0,
        technicians=0,
        remarks=e.remarks,
    )


@appointments.on()
def _(row: AppointmentRow | None, e: AppointmentBooked, m: Meta) -> AppointmentRow:
    return AppointmentRow(
        appointment_id=m.stream_id,
        dealer_id=row.dealer_id if row else m.dealer_id,
        brand=row.brand if row else m.brand,
        customer_id=e.customer_id,
        vin=e.vin,
        kind=e.kind,
        status="booked",
        starts_at=e.starts_at,
        minutes=e.minutes,
        technicians=e.technicians,
        remarks=e.remarks,
    )


@appointments.on()
def _(row: AppointmentRow | None, e: AppointmentRescheduled, m: Meta) -> AppointmentRow | None:
    return row and msgspec.structs.replace(
        row, starts_at=e.starts_at, minutes=e.minutes, technicians=e.technicians
    )


def _now(row: AppointmentRow | None, status: str) -> AppointmentRow | None:
    return row and msgspec.structs.replace(row, status=status)


@appointments.on()
def _(row: AppointmentRow | None, e: AppointmentCheckedIn, m: Meta) -> AppointmentRow | None:
    return _now(row, "checked_in")


@appointments.on()
def _(row: AppointmentRow | None, e: AppointmentCompleted, m: Meta) -> AppointmentRow | None:
    return _now(row, "completed")


@appointments.on()
def _(row: AppointmentRow | None, e: NoShowRecorded, m: Meta) -> AppointmentRow | None:
    return _now(row, "no_show")


@appointments.on()
def _(row: AppointmentRow | None, e: AppointmentCancelled, m: Meta) -> AppointmentRow | None:
    return _now(row, "cancelled")


@appointments.on_all(PersonalDataShredded, "customer_id")
def _erased(row: AppointmentRow) -> AppointmentRow:
    return msgspec.structs.replace(row, remarks=erased_text(row.remarks))
