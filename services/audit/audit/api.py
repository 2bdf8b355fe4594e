"""The gRPC API of the audit: one query."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field

from forecourt.audit.read_model import EntryRow, Outcome, entries
from forecourt.projections.queries import Page, Where, contains, eq, ge, lt
from forecourt.rpc.binding import Api
from forecourt.rpc.calls import Call
from forecourt.rpc.queries import PagedQuery, Query
from trade.fields import Line
from trade.vin import check_vin, vehicle_id


def _subject(text: str) -> str:
    """The id of an object: as it is given, or a vehicle's, which follows from its VIN."""
    try:
        return str(UUID(text))
    except ValueError:
        pass
    try:
        return str(vehicle_id(check_vin(text).vin))
    except ValueError:
        raise ValueError("must be a UUID or a VIN") from None


class ListEntries(Query):
    """Entries, the newest first."""

    actor_id: Line | None = None
    subject: Annotated[str, Field(max_length=40), AfterValidator(_subject)] | None = None
    rpc: Line | None = None
    outcome: Outcome | None = None
    dealer_id: Line | None = None
    correlation_id: UUID | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    page: PagedQuery = PagedQuery()


async def list_entries(q: ListEntries, call: Call) -> Page[EntryRow]:
    """A page of entries, of the stores that the caller may see."""
    equal = {
        "actor_id": q.actor_id,
        "rpc": q.rpc,
        "outcome": q.outcome,
        "dealer_id": q.dealer_id,
        "correlation_id": q.correlation_id,
    }
    where: list[Where] = [eq(column, value) for column, value in equal.items() if value is not None]
    if q.subject is not None:
        where.append(contains("subjects", q.subject))
    if q.since is not None:
        where.append(ge("at", q.since))
    if q.until is not None:
        where.append(lt("at", q.until))
    page: Page[EntryRow] = await call.read_models.page(
        entries, where=where, order=["-position"], page=q.page.page
    )
    return page


api = Api("crm.audit.v1.AuditService")
api.query("ListEntries", ListEntries, list_entries, reads=[entries])
