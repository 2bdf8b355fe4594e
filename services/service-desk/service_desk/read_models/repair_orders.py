"""Repair orders as they stand: for one order, for lists, and for the workshop's board."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from forecourt.events import Meta
from forecourt.projections.projection import Index, Projection
from forecourt.values import Money
from service_desk.foreign import PersonalDataShredded
from service_desk.repair_order.events import (
    ClaimSettled,
    ClaimSubmitted,
    InspectionFailed,
    InspectionPassed,
    JobAdded,
    PartLine,
    PartsIssued,
    PartsRequested,
    PartsShort,
    QuoteApproved,
    QuoteDeclined,
    RepairInvoiced,
    RepairOrderCancelled,
    RepairOrderOpened,
    RepairPaid,
    RepairQuoted,
    ReworkRecorded,
    Share,
    TechnicianDispatched,
    VehicleHandedBack,
    WorkCompleted,
    WorkPaused,
    WorkResumed,
    WorkStarted,
)

BEFORE_DISPATCH = ("open", "quoted", "approved", "declined")
FINISHED = ("handed_back", "cancelled")


class RepairOrderRow(msgspec.Struct, frozen=True):
    """A repair order. ``balances`` is what each payer still owes."""

    repair_order_id: UUID
    dealer_id: str
    brand: str
    customer_id: UUID
    vin: str
    kind: str
    status: str
    odometer_km: int
    symptoms: tuple[str, ...]
    adviser_id: str
    appointment_id: UUID | None
    opened_at: datetime
    changed_at: datetime
    technician_id: str = ""
    bay: str = ""
    quote_version: int = 0
    quote_total: Money | None = None
    invoice_number: str = ""
    invoice_total: Money | None = None
    balances: tuple[Share, ...] = ()
    failed_inspections: int = 0
    parts_outstanding: int = 0
    handed_back_at: datetime | None = None


repair_orders = Projection(
    "repair_order",
    version=1,
    row=RepairOrderRow,
    key="repair_order_id",
    indexes=[Index(("dealer_id", "opened_at")), Index(("dealer_id", "status")), "vin", "customer_id"],
)


def _changed(row: RepairOrderRow | None, m: Meta, **fields: Any) -> RepairOrderRow | None:
    return row and msgspec.structs.replace(row, changed_at=m.time, **fields)


@repair_orders.on()
def _(row: RepairOrderRow | None, e: RepairOrderOpened, m: Meta) -> RepairOrderRow:
    return RepairOrderRow(
        repair_order_id=m.stream_id,
        dealer_id=m.dealer_id,
        brand=m.brand,
        customer_id=e.customer_id,
        vin=e.vin,
        kind=e.kind,
        status="open",
        odometer_km=e.odometer_km,
        symptoms=e.symptoms,
        adviser_id=e.adviser_id,
        appointment_id=e.appointment_id,
        opened_at=m.time,
        changed_at=m.time,
    )


def _before_dispatch(row: RepairOrderRow | None, status: str) -> str:
    """A quote during work does not take the car out of the workshop."""
    return status if row is None or row.status in BEFORE_DISPATCH else row.status


@repair_orders.on()
def _(row: RepairOrderRow | None, e: RepairQuoted, m: Meta) -> RepairOrderRow | None:
    status = _before_dispatch(row, "quoted")
    return _changed(row, m, status=status, quote_version=e.quote_version, quote_total=e.total)


@repair_orders.on()
def _(row: RepairOrderRow | None, e: QuoteApproved, m: Meta) -> RepairOrderRow | None:
    return _changed(row, m, status=_before_dispatch(row, "approved"))


@repair_orders.on()
def _(row: RepairOrderRow | None, e: QuoteDeclined, m: Meta) -> RepairOrderRow | None:
    return _changed(row, m, status=_before_dispatch(row, "declined"))


@repair_orders.on()
def _(row: RepairOrderRow | None, e: JobAdded, m: Meta) -> RepairOrderRow | None:
    return _changed(row, m, status=_before_dispatch(row, "open"))


@repair_orders.on()
def _(row: RepairOrderRow | None, e: TechnicianDispatched, m: Meta) -> RepairOrderRow | None:
    status = _before_dispatch(row, "dispatched")
    return _changed(row, m, status=status, technician_id=e.technician_id, bay=e.bay)


def _pieces(parts: tuple[PartLine, ...]) -> int:
    return sum(part.pieces for part in parts)


@repair_orders.on()
def _(row: RepairOrderRow | None, e: PartsRequested, m: Meta) -> RepairOrderRow | None:
    return row and _changed(row, m, parts_outstanding=row.parts_outstanding + _pieces(e.parts))


@repair_orders.on()
def _(row: RepairOrderRow | None, e: PartsIssued, m: Meta) -> RepairOrderRow | None:
    return row and _changed(row, m, parts_outstanding=row.parts_outstanding - _pieces(e.parts))


@repair_orders.on()
def _(
    row: RepairOrderRow | None, e: PartsShort | ClaimSubmitted | ClaimSettled, m: Meta
) -> RepairOrderRow | None:
    return _changed(row, m)


@repair_orders.on()
def _(row: RepairOrderRow | None, e: WorkStarted | WorkResumed, m: Meta) -> RepairOrderRow | None:
    return _changed(row, m, status="working")


@repair_orders.on()
def _(row: RepairOrderRow | None, e: WorkPaused, m: Meta) -> RepairOrderRow | None:
    return _changed(row, m, status="paused")


@repair_orders.on()
def _(row: RepairOrderRow | None, e: WorkCompleted, m: Meta) -> RepairOrderRow | None:
    return _changed(row, m, status="completed")


@repair_orders.on()
def _(row: RepairOrderRow | None, e: InspectionPassed, m: Meta) -> RepairOrderRow | None:
    return _changed(row, m, status="inspected")


@repair_orders.on()
def _(row: RepairOrderRow | None, e: InspectionFailed, m: Meta) -> RepairOrderRow | None:
    return row and _changed(row, m, status="failed", failed_inspections=row.failed_inspections + 1)


@repair_orders.on()
def _(row: RepairOrderRow | None, e: ReworkRecorded, m: Meta) -> RepairOrderRow | None:
    return _changed(row, m, status="rework", technician_id=e.technician_id)


def _customer_owes(balances: tuple[Share, ...]) -> bool:
    return any(share.payer == "customer" and share.amount.amount > Decimal(0) for share in balances)


@repair_orders.on()
def _(row: RepairOrderRow | None, e: RepairInvoiced, m: Meta) -> RepairOrderRow | None:
    return _changed(
        row,
        m,
        status="invoiced" if _customer_owes(e.shares) else "paid",
        invoice_number=e.invoice_number,
        invoice_total=e.total,
        balances=e.shares,
    )


@repair_orders.on()
def _(row: RepairOrderRow | None, e: RepairPaid, m: Meta) -> RepairOrderRow | None:
    if row is None:
        return None
    balances = tuple(
        Share(payer=share.payer, amount=e.remaining) if share.payer == e.payer else share
        for share in row.balances
    )
    paid = row.status == "invoiced" and not _customer_owes(balances)
    return _changed(row, m, balances=balances, status="paid" if paid else row.status)


@repair_orders.on()
def _(row: RepairOrderRow | None, e: VehicleHandedBack, m: Meta) -> RepairOrderRow | None:
    return _changed(row, m, status="handed_back", odometer_km=e.odometer_km, handed_back_at=e.handed_back_at)


@repair_orders.on()
def _(row: RepairOrderRow | None, e: RepairOrderCancelled, m: Meta) -> RepairOrderRow | None:
    return _changed(row, m, status="cancelled")


@repair_orders.on_all(PersonalDataShredded, "customer_id")
def _erased(row: RepairOrderRow) -> RepairOrderRow:
    return msgspec.structs.replace(row, symptoms=())
