"""The gRPC API of the audit: one query."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from forecourt.audit.read_model import EntryRow, Outcome, entries
from forecourt.projections.queries import Page, PageRequest, Where, contains, eq, ge, lt
from forecourt.rpc.binding import Api
from forecourt.rpc.calls import Call
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


Word = Annotated[str, Field(min_length=1, max_length=200)]


class Paging(BaseModel):
    """Which page."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    page_size: Annotated[int, Field(ge=0, le=500)] = 0
    page_token: Annotated[str, Field(max_length=2_000)] = ""


class ListEntries(BaseModel):
    """Entries, the newest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actor_id: Word | None = None
    subject: Annotated[str, Field(max_length=40), AfterValidator(_subject)] | None = None
    rpc: Word | None = None
    outcome: Outcome | None = None
    dealer_id: Word | None = None
    correlation_id: UUID | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    page: Paging = Paging()


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
        entries, where=where, order=["-position"], page=PageRequest(q.page.page_size, q.page.page_token)
    )
    return page


api = Api("crm.audit.v1.AuditService")
api.query("ListEntries", ListEntries, list_entries, reads=[entries])
