"""Return visits as they stand."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from forecourt.events import Meta
from forecourt.projections.projection import Index, Projection
from service_desk.return_visit import (
    ReturnVisitAttempted,
    ReturnVisitBecameDue,
    ReturnVisitCompleted,
    ReturnVisitExpired,
    ReturnVisitScheduled,
)


class ReturnVisitRow(msgspec.Struct, frozen=True):
    """A return visit."""

    return_visit_id: UUID
    dealer_id: str
    brand: str
    customer_id: UUID
    vin: str | None
    trigger: str
    trigger_id: UUID
    status: str
    due_at: datetime
    attempts: int = 0
    csi: Decimal | None = None
    satisfied: bool | None = None
    form_version: int = 0
    ended_at: datetime | None = None


return_visits = Projection(
    "return_visit",
    version=1,
    row=ReturnVisitRow,
    key="return_visit_id",
    indexes=[Index(("dealer_id", "due_at")), "customer_id"],
)


@return_visits.on()
def _(row: ReturnVisitRow | None, e: ReturnVisitScheduled, m: Meta) -> ReturnVisitRow:
    return ReturnVisitRow(
        return_visit_id=m.stream_id,
        dealer_id=m.dealer_id,
        brand=m.brand,
        customer_id=e.customer_id,
        vin=e.vin,
        trigger=e.trigger,
        trigger_id=e.trigger_id,
        status="scheduled",
        due_at=e.due_at,
    )


@return_visits.on()
def _(row: ReturnVisitRow | None, e: ReturnVisitBecameDue, m: Meta) -> ReturnVisitRow | None:
    return row and msgspec.structs.replace(row, status="due")


@return_visits.on()
def _(row: ReturnVisitRow | None, e: ReturnVisitAttempted, m: Meta) -> ReturnVisitRow | None:
    return row and msgspec.structs.replace(row, attempts=e.attempt)


@return_visits.on()
def _(row: ReturnVisitRow | None, e: ReturnVisitCompleted, m: Meta) -> ReturnVisitRow | None:
    return row and msgspec.structs.replace(
        row,
        status="completed",
        csi=e.csi,
        satisfied=e.satisfied,
        form_version=e.form_version,
        ended_at=m.time,
    )


@return_visits.on()
def _(row: ReturnVisitRow | None, e: ReturnVisitExpired, m: Meta) -> ReturnVisitRow | None:
    return row and msgspec.structs.replace(row, status="expired", ended_at=m.time)
