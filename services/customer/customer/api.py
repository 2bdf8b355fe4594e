"""The gRPC API of the customer service, as a table: RPC, command or query."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal
from uuid import UUID

from msgspec.structs import replace
from pydantic import Field

from customer.customer import (
    AddContactPoint,
    AssignCustomer,
    ChangeCategory,
    CorrectProfile,
    Customer,
    GrantConsent,
    Kind,
    LogInteraction,
    RecordVehicleOwnership,
    RegisterCustomer,
    WithdrawConsent,
    customer,
)
from customer.documents import (
    HASH,
    RecordIdentityDocument,
    RemoveIdentityDocument,
    TypedDocument,
    UnmaskPurpose,
    fingerprint_of,
)
from customer.erasure import ApproveErasure, RejectErasure, RequestErasure
from customer.importing import ImportChunk, import_customers
from customer.read_models import (
    CustomerRow,
    ImportProblemRow,
    customers,
    documents,
    history,
    import_problems,
    imports,
    ownerships,
)
from customer.sharing import ShareCustomer, TransferCustomer, UnshareCustomer
from forecourt.command_handler import Outcome
from forecourt.errors import InvalidInput, NotFound
from forecourt.privacy.export import as_csv, as_json
from forecourt.privacy.fields import ERASED
from forecourt.projections.queries import Condition, any_of, eq, ilike, is_null
from forecourt.rpc.binding import Api, Call
from forecourt.rpc.queries import PagedQuery, Query
from trade.fields import Code, OptionalLine, e164
from trade.identity import DocumentKind
from trade.vin import VinStr

HistoryKind = Literal[
    "intention",
    "test_drive",
    "purchase",
    "insurance",
    "accessories",
    "plate_registration",
    "loan",
    "maintenance",
    "repair",
    "return_visit",
    "complaint",
    "reminder",
    "profile",
]


CHUNK_BYTES = 65_536
"""Bytes of an export that one message holds at most."""


class GetCustomer(Query):
    """One customer."""

    customer_id: UUID


class SearchCustomers(PagedQuery):
    """Customers by any combination of conditions."""

    name: OptionalLine = ""
    phone: str = Field(default="", max_length=40)
    vin: VinStr | None = None
    kind: Kind | None = None
    dealer_id: Code | None = None


class GetCustomerHistory(PagedQuery):
    """A customer's history, all of it or some kinds."""

    customer_id: UUID
    kinds: tuple[HistoryKind, ...] = Field(default=(), max_length=13)


class ListIdentityDocuments(Query):
    """A customer's documents."""

    customer_id: UUID


class UnmaskIdentityDocument(Query):
    """The number of a document."""

    customer_id: UUID
    kind: DocumentKind
    purpose: UnmaskPurpose


class ExportCustomer(Query):
    """Everything about a customer."""

    customer_id: UUID
    format: Literal["json", "csv"] = "json"


class GetImport(PagedQuery):
    """The state of an import."""

    import_id: UUID


async def get_customer(query: GetCustomer, call: Call) -> dict[str, Any]:
    """The customer with the vehicles owned now. Raises `NotFound`."""
    row = await call.read_models.get(customers, query.customer_id)
    if row is None:
        raise NotFound("customer: not found")
    return (await _with_vehicles([row], call))[0]


async def search_customers(query: SearchCustomers, call: Call) -> dict[str, Any]:
    """A page of customers, by name."""
    where: list[Condition] = []
    if query.name:
        where.append(ilike("name", f"%{_escaped(query.name)}%"))
    if query.phone:
        where.append(eq("mobile", _phone(query.phone)))
    if query.kind:
        where.append(eq("kind", query.kind))
    if query.dealer_id:
        where.append(eq("dealer_id", query.dealer_id))
    if query.vin:
        owners = await call.read_models.all(
            ownerships, where=[eq("vin", query.vin), is_null("until")], limit=100
        )
        where.append(any_of("customer_id", [owner.customer_id for owner in owners]))
    page = await call.read_models.page(customers, where=where, order=["name", "customer_id"], page=query.page)
    found = await _with_vehicles(page.items, call)
    return {"customers": found, "next_page_token": page.next_page_token}


async def get_customer_history(query: GetCustomerHistory, call: Call) -> dict[str, Any]:
    """A page of a customer's history, oldest first. Raises `NotFound` where there is no such customer."""
    if await call.read_models.get(customers, query.customer_id) is None:
        raise NotFound("customer: not found")
    where = [eq("customer_id", query.customer_id)]
    if query.kinds:
        where.append(any_of("kind", query.kinds))
    page = await call.read_models.page(history, where=where, order=["position"], page=query.page)
    return {"entries": page.items, "next_page_token": page.next_page_token}


async def record_identity_document(message: TypedDocument, call: Call) -> Outcome:
    """Note a document. Raises `NotFound` and what the decision raises."""
    fingerprint = fingerprint_of(message, await call.hashes.keyed_hash(HASH))
    command = RecordIdentityDocument(**dict(message), fingerprint=fingerprint)
    return await call.commands.execute(customer, command, expected=call.expected)


async def list_identity_documents(query: ListIdentityDocuments, call: Call) -> dict[str, Any]:
    """A customer's documents, masked. Raises `NotFound` where there is no such customer."""
    if await call.read_models.get(customers, query.customer_id) is None:
        raise NotFound("customer: not found")
    where = [eq("customer_id", query.customer_id)]
    return {"documents": await call.read_models.all(documents, where=where, order=["kind"])}


async def unmask_identity_document(query: UnmaskIdentityDocument, call: Call) -> dict[str, Any]:
    """A document with its number, which no read model has. Raises `NotFound`."""
    state: Customer = await call.commands.state(customer, query.customer_id)
    document = state.documents.get(query.kind)
    if document is None or document.number == ERASED:
        raise NotFound("identity document: not found")
    return {
        "customer_id": query.customer_id,
        "kind": query.kind,
        "number": document.number,
        "issuing_country": document.issuing_country,
        "expires_on": document.expires_on,
    }


async def export_customer(query: ExportCustomer, call: Call) -> AsyncIterator[dict[str, Any]]:
    """A header, then the file with everything about a customer. Raises `NotFound`."""
    if not await call.commands.version(customer, query.customer_id):
        raise NotFound("customer: not found")
    entries = await call.export.of(query.customer_id)
    text = as_csv(entries) if query.format == "csv" else as_json(query.customer_id, entries)
    file = text.encode()
    yield {
        "header": {
            "customer_id": query.customer_id,
            "format": query.format,
            "exported_at": call.context.now,
            "events": len(entries),
            "bytes": len(file),
            "erased_at": await call.export.erased_at(query.customer_id),
            "dealers": call.identity.dealers,
            "brands": call.identity.brands,
        }
    }
    for start in range(0, len(file), CHUNK_BYTES):
        yield {"chunk": file[start : start + CHUNK_BYTES]}


async def get_import(query: GetImport, call: Call) -> dict[str, Any]:
    """Counts, the row to resume after, and a page of the rows that were not imported. Raises `NotFound`.

    A row that repeats a customer whom the caller may not see, for it was another store's row, does not say whom.
    """
    row = await call.read_models.get(imports, query.import_id)
    if row is None:
        raise NotFound("import: not found")
    page = await call.read_models.page(
        import_problems, where=[eq("import_id", query.import_id)], order=["row"], page=query.page
    )
    return {
        "import_id": row.import_id,
        "file_name": row.file_name,
        "rows": row.created + row.refused + row.duplicates,
        "created": row.created,
        "refused": row.refused,
        "duplicates": row.duplicates,
        "done_through": row.ranges[0][1] if row.ranges and row.ranges[0][0] == 1 else 0,
        "problems": await _without_strangers(page.items, call),
        "next_page_token": page.next_page_token,
    }


async def _without_strangers(problems: Sequence[ImportProblemRow], call: Call) -> list[ImportProblemRow]:
    repeated = {problem.customer_id for problem in problems if problem.customer_id}
    seen = await call.read_models.get_many(customers, repeated)
    return [
        problem if problem.customer_id in seen else replace(problem, customer_id=None) for problem in problems
    ]


async def _with_vehicles(rows: list[CustomerRow], call: Call) -> list[dict[str, Any]]:
    ids = [row.customer_id for row in rows]
    owned = await call.read_models.all(
        ownerships, where=[any_of("customer_id", ids), is_null("until")], limit=5_000
    )
    vins: dict[UUID, list[str]] = {}
    for vehicle in owned:
        vins.setdefault(vehicle.customer_id, []).append(vehicle.vin)
    columns = CustomerRow.__struct_fields__
    return [
        {
            **{column: getattr(row, column) for column in columns},
            "vins": sorted(vins.get(row.customer_id, ())),
        }
        for row in rows
    ]


def _phone(typed: str) -> str:
    try:
        return e164(typed)
    except ValueError as error:
        raise InvalidInput(f"phone: {error}", fields={"phone": str(error)}) from error


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


api = Api("crm.customer.v1.CustomerService")
api.command("RegisterCustomer", customer, RegisterCustomer)
api.command("AddContactPoint", customer, AddContactPoint)
api.command("CorrectProfile", customer, CorrectProfile)
api.command("ChangeCategory", customer, ChangeCategory)
api.command("AssignCustomer", customer, AssignCustomer)
api.command("ShareCustomer", customer, ShareCustomer)
api.command("UnshareCustomer", customer, UnshareCustomer)
api.command("TransferCustomer", customer, TransferCustomer)
api.command("GrantConsent", customer, GrantConsent)
api.command("WithdrawConsent", customer, WithdrawConsent)
api.command("RecordVehicleOwnership", customer, RecordVehicleOwnership)
api.command("LogInteraction", customer, LogInteraction)
api.command("RecordIdentityDocument", handle=record_identity_document)
api.command("RemoveIdentityDocument", customer, RemoveIdentityDocument)
api.query(
    "ListIdentityDocuments", ListIdentityDocuments, list_identity_documents, reads=[customers, documents]
)
api.query("UnmaskIdentityDocument", UnmaskIdentityDocument, unmask_identity_document)
api.server_stream("ExportCustomer", ExportCustomer, export_customer)
api.command("RequestErasure", customer, RequestErasure)
api.command("RejectErasure", customer, RejectErasure)
api.command("ApproveErasure", customer, ApproveErasure)
api.bidi_stream("ImportCustomers", ImportChunk, import_customers)
api.query("GetImport", GetImport, get_import, reads=[imports, import_problems, customers])
api.query("GetCustomer", GetCustomer, get_customer, reads=[customers, ownerships])
api.query("SearchCustomers", SearchCustomers, search_customers, reads=[customers, ownerships])
api.query("GetCustomerHistory", GetCustomerHistory, get_customer_history, reads=[history])
