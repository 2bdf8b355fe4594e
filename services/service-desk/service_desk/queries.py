"""What can be asked of the service desk."""

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from forecourt.projections.queries import NotYetThere as BehindTheStore
from forecourt.projections.queries import Page, Where, eq, ge, lt, ne
from forecourt.rpc.binding import Call
from forecourt.rpc.queries import PagedQuery, Query
from service_desk.appointment import Status as AppointmentStatus
from service_desk.fields import Code, Moment
from service_desk.read_models.appointments import AppointmentRow, appointments
from service_desk.read_models.complaints import ComplaintRow, complaints
from service_desk.read_models.reminders import ReminderRow, reminders
from service_desk.read_models.repair_orders import FINISHED, RepairOrderRow, repair_orders
from service_desk.read_models.return_visits import ReturnVisitRow, return_visits
from service_desk.read_models.vehicle_timeline import TimelineRow, vehicle_timeline
from service_desk.reminder import Kind as ReminderKind
from service_desk.reminder import Status as ReminderStatus
from service_desk.return_visit import Status as ReturnVisitStatus
from service_desk.return_visit import Trigger
from service_desk.sla import Severity
from trade.vin import VinStr

BOARD_ORDERS = 200
BOARD_PATIENCE = 0.2
"""Seconds that a board waits for the latest events before it is shown as it is."""

RepairOrderStatus = Literal[
    "open",
    "quoted",
    "approved",
    "declined",
    "dispatched",
    "working",
    "paused",
    "completed",
    "failed",
    "rework",
    "inspected",
    "invoiced",
    "paid",
    "handed_back",
    "cancelled",
]


class _StoreList(PagedQuery):
    dealer_id: Code | None = None
    customer_id: UUID | None = None

    def where(self, call: Call, **columns: object) -> list[Where]:
        """The conditions of a list: its store, its customer, and the columns that are asked for."""
        dealer_id = self.dealer_id or call.context.dealer_id or None
        wanted = {"dealer_id": dealer_id, "customer_id": self.customer_id, **columns}
        return [eq(name, value) for name, value in wanted.items() if value is not None]


class GetRepairOrder(Query):
    """One repair order."""

    repair_order_id: UUID


class ListRepairOrders(_StoreList):
    """Repair orders, latest first."""

    status: RepairOrderStatus | None = None
    vin: VinStr | None = None
    open_only: bool = False


class GetWorkshopBoard(Query):
    """What is in a workshop now."""

    dealer_id: Code | None = None


class GetVehicleTimeline(PagedQuery):
    """What happened to a car."""

    vin: VinStr


class GetComplaint(Query):
    """One complaint."""

    complaint_id: UUID


class ListOpenComplaints(_StoreList):
    """Complaints that are not closed, oldest first."""

    without_owner: bool = False
    severity: Severity | None = None


class ListReturnVisits(_StoreList):
    """Return visits, earliest due first."""

    status: ReturnVisitStatus | None = None
    trigger: Trigger | None = None


class ListReminders(_StoreList):
    """Reminders, earliest due first."""

    status: ReminderStatus | None = None
    kind: ReminderKind | None = None
    vin: VinStr | None = None


class ListAppointments(_StoreList):
    """Appointments, earliest first."""

    starts_from: Moment | None = None
    starts_before: Moment | None = None
    status: AppointmentStatus | None = None


async def get_repair_order(q: GetRepairOrder, call: Call) -> RepairOrderRow | None:
    """The order, or None."""
    row: RepairOrderRow | None = await call.read_models.get(repair_orders, q.repair_order_id)
    return row


async def list_repair_orders(q: ListRepairOrders, call: Call) -> Page[RepairOrderRow]:
    """A page of orders."""
    where = q.where(call, status=q.status, vin=q.vin)
    if q.open_only:
        where += _unfinished()
    page: Page[RepairOrderRow] = await call.read_models.page(
        repair_orders, where=where, order=["-opened_at"], page=q.page
    )
    return page


def _unfinished() -> list[Where]:
    return [ne("status", status) for status in FINISHED]


async def get_workshop_board(q: GetWorkshopBoard, call: Call) -> dict[str, object]:
    """Counts and orders by status, and how old they are.

    Where the read model has everything that was in the store when the call came, its age is nothing. Where it is
    behind, its age is counted from the last event that it certainly has, so it never looks fresher than it is.
    """
    rm = call.read_models
    asked_at = call.clock.now()
    fresh = True
    try:
        await rm.wait_for(repair_orders, await call.commands.head(), timeout=BOARD_PATIENCE)
    except BehindTheStore:
        fresh = False
    dealer_id = q.dealer_id or call.context.dealer_id
    where = [eq("dealer_id", dealer_id), *_unfinished()]
    counts = await rm.count(repair_orders, by=["status"], where=where)
    orders = await rm.all(repair_orders, where=where, order=["opened_at"], limit=BOARD_ORDERS)
    as_of: datetime | None = asked_at
    if not fresh:
        latest = await rm.first(repair_orders, order=["-changed_at"])
        as_of = min(asked_at, latest.changed_at) if latest else None
    age = None if as_of is None else call.clock.now() - as_of
    return {
        "dealer_id": dealer_id,
        "counts": [{"status": group["status"], "orders": group["count"]} for group in counts],
        "orders": orders,
        "total": sum(group["count"] for group in counts),
        "as_of": as_of,
        "age_ms": None if age is None else age // timedelta(milliseconds=1),
    }


async def get_vehicle_timeline(q: GetVehicleTimeline, call: Call) -> Page[TimelineRow]:
    """A page of a car's life, in any store."""
    page: Page[TimelineRow] = await call.read_models.page(
        vehicle_timeline, where=[eq("vin", q.vin)], order=["at", "position"], page=q.page
    )
    return page


async def get_complaint(q: GetComplaint, call: Call) -> ComplaintRow | None:
    """The complaint, or None."""
    row: ComplaintRow | None = await call.read_models.get(complaints, q.complaint_id)
    return row


async def list_open_complaints(q: ListOpenComplaints, call: Call) -> Page[ComplaintRow]:
    """A page of open complaints."""
    where = [*q.where(call, severity=q.severity), ne("status", "closed")]
    if q.without_owner:
        where.append(eq("owner_id", ""))
    page: Page[ComplaintRow] = await call.read_models.page(
        complaints, where=where, order=["received_at"], page=q.page
    )
    return page


async def list_return_visits(q: ListReturnVisits, call: Call) -> Page[ReturnVisitRow]:
    """A page of return visits."""
    where = q.where(call, status=q.status, trigger=q.trigger)
    page: Page[ReturnVisitRow] = await call.read_models.page(
        return_visits, where=where, order=["due_at"], page=q.page
    )
    return page


async def list_reminders(q: ListReminders, call: Call) -> Page[ReminderRow]:
    """A page of reminders."""
    where = q.where(call, status=q.status, kind=q.kind, vin=q.vin)
    page: Page[ReminderRow] = await call.read_models.page(
        reminders, where=where, order=["due_on"], page=q.page
    )
    return page


async def list_appointments(q: ListAppointments, call: Call) -> Page[AppointmentRow]:
    """A page of appointments."""
    where = q.where(call, status=q.status)
    if q.starts_from is not None:
        where.append(ge("starts_at", q.starts_from))
    if q.starts_before is not None:
        where.append(lt("starts_at", q.starts_before))
    page: Page[AppointmentRow] = await call.read_models.page(
        appointments, where=where, order=["starts_at"], page=q.page
    )
    return page
