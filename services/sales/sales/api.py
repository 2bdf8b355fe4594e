"""The gRPC API of the sales service, as a table, and its queries."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from forecourt.projections.queries import Page, Where, any_of, eq, ge, lt
from forecourt.rpc.binding import Api, Call
from forecourt.rpc.queries import PagedQuery, Query
from forecourt.values import Money
from sales import flows
from sales.lead import CaptureLead, DisqualifyLead, LeadSource, LeadState, QualifyLead, lead
from sales.opportunity import commands as opportunity_commands
from sales.opportunity import opportunity
from sales.opportunity.events import Stage
from sales.opportunity.state import PROBABILITIES
from sales.order import commands as order_commands
from sales.order import order
from sales.order.state import OrderState
from sales.read_models import (
    LeadRow,
    OpportunityRow,
    OrderRow,
    QuarantinedRow,
    VehicleRow,
    leads,
    opportunities,
    orders,
    quarantined_leads,
    vehicles,
)
from sales.terms import Model, Store
from sales.vehicle import commands as vehicle_commands
from sales.vehicle import vehicle
from sales.vehicle.events import Place
from trade.fields import Line, Moment
from trade.vin import VinStr, vehicle_id


class GetLead(Query):
    """One lead."""

    lead_id: UUID


class ListLeads(PagedQuery):
    """Leads by any combination of conditions."""

    state: LeadState | None = None
    source: LeadSource | None = None
    store: Store | None = None
    customer_id: UUID | None = None


class ListQuarantinedLeads(PagedQuery):
    """Documents that could not be read as leads."""

    store: Store | None = None


class GetOpportunity(Query):
    """One opportunity."""

    opportunity_id: UUID


class ListOpportunities(PagedQuery):
    """Opportunities by any combination of conditions."""

    stage: Stage | None = None
    model: Model | None = None
    store: Store | None = None
    salesperson: Line | None = None
    customer_id: UUID | None = None


class GetFunnel(Query):
    """How many leads and opportunities are how far."""

    store: Store | None = None
    model: Model | None = None
    salesperson: Line | None = None
    since: Moment | None = None
    until: Moment | None = None


class GetVehicle(Query):
    """One car."""

    vin: VinStr


class QueryStock(PagedQuery):
    """Cars by any combination of conditions."""

    model: Model | None = None
    store: Store | None = None
    place: Place | None = None
    available_only: bool = False


class GetOrder(Query):
    """One order."""

    order_id: UUID


class ListOrders(PagedQuery):
    """Orders by any combination of conditions."""

    state: OrderState | None = None
    customer_id: UUID | None = None
    store: Store | None = None
    model: Model | None = None
    vin: VinStr | None = None


COUNTED_PLACES: tuple[Place, ...] = ("in_transit", "in_stock")
"""Where a car counts as stock."""

STOCK_GROUPS = 20_000
"""Most groups of models, stores and places of one answer: a megabyte."""


def _where(**columns: Any) -> list[Where]:
    """A condition for each column that is asked for."""
    return [eq(column, value) for column, value in columns.items() if value is not None]


def _period(column: str, since: datetime | None, until: datetime | None) -> list[Where]:
    bounds: list[Where] = []
    if since is not None:
        bounds.append(ge(column, since))
    if until is not None:
        bounds.append(lt(column, until))
    return bounds


async def get_lead(q: GetLead, call: Call) -> LeadRow | None:
    """The lead."""
    row: LeadRow | None = await call.read_models.get(leads, q.lead_id)
    return row


async def list_leads(q: ListLeads, call: Call) -> Page[LeadRow]:
    """A page of leads, the newest first."""
    where = _where(state=q.state, source=q.source, dealer_id=q.store, customer_id=q.customer_id)
    page: Page[LeadRow] = await call.read_models.page(leads, where=where, order=["-captured_at"], page=q.page)
    return page


async def list_quarantined_leads(q: ListQuarantinedLeads, call: Call) -> dict[str, Any]:
    """A page of quarantined documents, the newest first."""
    page: Page[QuarantinedRow] = await call.read_models.page(
        quarantined_leads, where=_where(dealer_id=q.store), order=["-received_at"], page=q.page
    )
    return {"leads": page.items, "next_page_token": page.next_page_token}


async def get_opportunity(q: GetOpportunity, call: Call) -> OpportunityRow | None:
    """The opportunity."""
    row: OpportunityRow | None = await call.read_models.get(opportunities, q.opportunity_id)
    return row


async def list_opportunities(q: ListOpportunities, call: Call) -> Page[OpportunityRow]:
    """A page of opportunities, the newest first."""
    where = _where(
        stage=q.stage,
        model=q.model,
        dealer_id=q.store,
        salesperson=q.salesperson,
        customer_id=q.customer_id,
    )
    page: Page[OpportunityRow] = await call.read_models.page(
        opportunities, where=where, order=["-opened_at"], page=q.page
    )
    return page


async def get_funnel(q: GetFunnel, call: Call) -> dict[str, Any]:
    """Counts of leads by state and of opportunities by stage."""
    stages = await call.read_models.count(
        opportunities,
        by=["stage", "currency"],
        where=_where(dealer_id=q.store, model=q.model, salesperson=q.salesperson)
        + _period("opened_at", q.since, q.until),
        sum=["quoted"],
    )
    return {
        "leads": await _lead_counts(q, call),
        "stages": [_stage_count(stage, stages) for stage in PROBABILITIES],
        "opportunities": sum(group["count"] for group in stages),
    }


async def _lead_counts(q: GetFunnel, call: Call) -> dict[str, int]:
    groups = await call.read_models.count(
        leads,
        by=["state"],
        where=_where(dealer_id=q.store, model=q.model) + _period("captured_at", q.since, q.until),
    )
    counts = {group["state"]: group["count"] for group in groups}
    quarantined = 0
    if q.model is None:
        where = _where(dealer_id=q.store) + _period("received_at", q.since, q.until)
        quarantined = await call.read_models.total(quarantined_leads, where=where)
    return {"total": sum(counts.values()), **counts, "quarantined": quarantined}


def _stage_count(stage: Stage, groups: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [group for group in groups if group["stage"] == stage]
    return {
        "stage": stage,
        "count": sum(group["count"] for group in mine),
        "quoted": [
            Money(amount=Decimal(group["quoted"]), currency=group["currency"])
            for group in mine
            if group["currency"] is not None
        ],
        "probability": PROBABILITIES[stage],
    }


async def get_vehicle(q: GetVehicle, call: Call) -> VehicleRow | None:
    """The car."""
    row: VehicleRow | None = await call.read_models.get(vehicles, vehicle_id(q.vin))
    return row


async def query_stock(q: QueryStock, call: Call) -> dict[str, Any]:
    """A page of cars by VIN, and the numbers of all of them by model and store.

    Raises `TooManyGroups` where those are too many for one answer.
    """
    where = _where(model=q.model, store=q.store, place="in_stock" if q.available_only else q.place)
    if q.available_only:
        where.append(eq("reserved", False))
    page = await call.read_models.page(vehicles, where=where, order=["vin"], page=q.page)
    groups = await call.read_models.count(
        vehicles,
        by=["model", "store", "place", "reserved"],
        where=[*where, any_of("place", COUNTED_PLACES)],
        limit=STOCK_GROUPS,
    )
    return {
        "vehicles": page.items,
        "lines": stock_lines(groups),
        "next_page_token": page.next_page_token,
    }


def stock_lines(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Numbers by model and store, from counts by model, store, place and reservation.

    What can be sold is counted, not computed as a difference: so it cannot be less than none.
    """
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for group in groups:
        if group["place"] not in COUNTED_PLACES:
            continue
        line = lines.setdefault(
            (group["model"], group["store"]),
            {
                "model": group["model"],
                "store": group["store"],
                "in_transit": 0,
                "in_stock": 0,
                "reserved": 0,
                "available": 0,
            },
        )
        line[group["place"]] += group["count"]
        if group["place"] == "in_stock":
            line["reserved" if group["reserved"] else "available"] += group["count"]
    return [lines[key] for key in sorted(lines)]


async def get_order(q: GetOrder, call: Call) -> OrderRow | None:
    """The order."""
    row: OrderRow | None = await call.read_models.get(orders, q.order_id)
    return row


async def list_orders(q: ListOrders, call: Call) -> Page[OrderRow]:
    """A page of orders, the newest first."""
    where = _where(state=q.state, customer_id=q.customer_id, dealer_id=q.store, model=q.model, vin=q.vin)
    page: Page[OrderRow] = await call.read_models.page(orders, where=where, order=["-placed_at"], page=q.page)
    return page


api = Api("crm.sales.v1.SalesService")

api.command("CaptureLead", lead, CaptureLead)
api.command("CaptureAdfLead", handle=flows.capture_adf_lead)
api.command("QualifyLead", lead, QualifyLead)
api.command("DisqualifyLead", lead, DisqualifyLead)
api.command("ConvertLead", handle=flows.convert_lead)
api.query("GetLead", GetLead, get_lead, reads=[leads])
api.query("ListLeads", ListLeads, list_leads, reads=[leads])
api.query("ListQuarantinedLeads", ListQuarantinedLeads, list_quarantined_leads, reads=[quarantined_leads])

api.command("OpenOpportunity", opportunity, opportunity_commands.OpenOpportunity)
api.command("AssignOpportunity", opportunity, opportunity_commands.AssignOpportunity)
api.command("AdvanceStage", opportunity, opportunity_commands.AdvanceStage)
api.command("ScheduleTestDrive", handle=flows.schedule_test_drive)
api.command("CompleteTestDrive", handle=flows.complete_test_drive)
api.command("CancelTestDrive", handle=flows.cancel_test_drive)
api.command("IssueQuote", opportunity, opportunity_commands.IssueQuote)
api.command("WinOpportunity", opportunity, opportunity_commands.WinOpportunity)
api.command("LoseOpportunity", opportunity, opportunity_commands.LoseOpportunity)
api.command("ReopenOpportunity", opportunity, opportunity_commands.ReopenOpportunity)
api.query("GetOpportunity", GetOpportunity, get_opportunity, reads=[opportunities])
api.query("ListOpportunities", ListOpportunities, list_opportunities, reads=[opportunities])
api.query("GetFunnel", GetFunnel, get_funnel, reads=[leads, quarantined_leads, opportunities])

api.command("RegisterVehicle", vehicle, vehicle_commands.RegisterVehicle)
api.command("PurchaseVehicle", vehicle, vehicle_commands.PurchaseVehicle)
api.command("ReceiveIntoStock", handle=flows.receive_into_stock)
api.command("PassPdi", vehicle, vehicle_commands.PassPdi)
api.command("FailPdi", vehicle, vehicle_commands.FailPdi)
api.command("ReserveVehicle", vehicle, vehicle_commands.ReserveVehicle)
api.command("ReleaseReservation", vehicle, vehicle_commands.ReleaseReservation)
api.command("TransferVehicle", handle=flows.transfer_vehicle)
api.command("RecordOdometer", vehicle, vehicle_commands.RecordOdometer)
api.query("GetVehicle", GetVehicle, get_vehicle, reads=[vehicles])
api.query("QueryStock", QueryStock, query_stock, reads=[vehicles])

api.command("PlaceOrder", handle=flows.place_order)
api.command("AllocateVehicle", handle=flows.allocate_vehicle)
api.command("RecordVehicleArrival", order, order_commands.RecordVehicleArrival)
api.command("RecordDeposit", order, order_commands.RecordDeposit)
api.command("RecordPayment", order, order_commands.RecordPayment)
api.command("WriteOffBalance", order, order_commands.WriteOffBalance)
api.command("AddAncillaryOrder", order, order_commands.AddAncillaryOrder)
api.command("IssueInvoice", order, order_commands.IssueInvoice)
api.command("NotifyOutbound", handle=flows.notify_outbound)
api.command("ApproveOutbound", order, order_commands.ApproveOutbound)
api.command("CompleteHandoverSheet", order, order_commands.CompleteHandoverSheet)
api.command("DeliverVehicle", handle=flows.deliver_vehicle)
api.command("CancelOrder", handle=flows.cancel_order)
api.command("ReturnVehicle", handle=flows.return_vehicle)
api.query("GetOrder", GetOrder, get_order, reads=[orders])
api.query("ListOrders", ListOrders, list_orders, reads=[orders])
