"""What can be asked about customers: the list, the vehicles they own, imports, and the customer 360."""

from collections.abc import Callable
from datetime import date, datetime
from typing import Any, get_args
from uuid import UUID

import msgspec
from msgspec.structs import replace

from customer import foreign
from customer.customer import (
    CategoryChanged,
    ConsentGranted,
    ConsentWithdrawn,
    ContactPointAdded,
    CustomerAssigned,
    CustomerRegistered,
    DuplicateSuspected,
    InteractionLogged,
    ProfileCorrected,
    VehicleOwnershipRecorded,
)
from customer.customer_import import ImportRowRefused, ImportRowsReported, ImportStarted, merged
from customer.documents import IdentityDocumentRecorded, IdentityDocumentRemoved
from customer.erasure import ErasureApproved, ErasureRejected, ErasureRequested, PersonalDataShredded
from customer.sharing import CustomerShared, CustomerTransferred, CustomerUnshared
from forecourt.events import AnyEvent, ForeignEvent, Meta
from forecourt.privacy.fields import ERASED
from forecourt.projections.projection import Index, OwnedThrough, Projection
from forecourt.values import Money
from trade.identity import DocumentKind, masked_number

# Customers


class CustomerRow(msgspec.Struct, frozen=True):
    """A customer as it is now."""

    customer_id: UUID
    kind: str
    name: str
    language: str
    time_zone: str
    source: str
    mobile: str | None
    email: str | None
    salesperson_id: str | None
    dealer_id: str
    brand: str
    consents: tuple[str, ...]
    registered_at: datetime
    version: int
    shared_with: tuple[str, ...] = ()


customers = Projection(
    "customer",
    version=3,
    row=CustomerRow,
    key="customer_id",
    indexes=[
        "mobile",
        "email",
        Index(("dealer_id", "name")),
        Index(("name",), trigram=True),
        Index(("shared_with",), kind="gin"),
    ],
)


def _first(e: CustomerRegistered, kind: str) -> str | None:
    for point in e.contact_points:
        if point.kind == kind:
            return point.value
    return None


@customers.on()
def _registered(row: CustomerRow | None, e: CustomerRegistered, m: Meta) -> CustomerRow:
    return CustomerRow(
        m.stream_id,
        e.kind,
        e.name,
        e.language,
        e.time_zone,
        e.source,
        _first(e, "mobile"),
        _first(e, "email"),
        None,
        m.dealer_id,
        m.brand,
        tuple(f"{consent.purpose}.{consent.channel}" for consent in e.consents),
        m.time,
        m.sequence,
    )


def _updates(*classes: type[AnyEvent]) -> Callable[[Callable[[Any, CustomerRow], dict[str, Any]]], None]:
    """Registers ``(event, row) -> changed columns`` for events of a customer that exists."""

    def register(changes: Callable[[Any, CustomerRow], dict[str, Any]]) -> None:
        @customers.on(*classes)
        def _(row: CustomerRow | None, e: AnyEvent, m: Meta) -> CustomerRow | None:
            return row and replace(row, version=m.sequence, **changes(e, row))

    return register


@_updates(ContactPointAdded)
def _contact_point(e: ContactPointAdded, row: CustomerRow) -> dict[str, Any]:
    return {e.kind: e.value}


@_updates(ProfileCorrected)
def _correction(e: ProfileCorrected, row: CustomerRow) -> dict[str, Any]:
    return {e.field: e.value}


@_updates(CategoryChanged)
def _category(e: CategoryChanged, row: CustomerRow) -> dict[str, Any]:
    return {"kind": e.category}


@_updates(CustomerAssigned)
def _assignment(e: CustomerAssigned, row: CustomerRow) -> dict[str, Any]:
    return {"salesperson_id": e.salesperson_id}


@_updates(CustomerShared)
def _shared(e: CustomerShared, row: CustomerRow) -> dict[str, Any]:
    return {"shared_with": (*_others(row, e.store), e.store) if e.store != row.dealer_id else row.shared_with}


@_updates(CustomerUnshared)
def _unshared(e: CustomerUnshared, row: CustomerRow) -> dict[str, Any]:
    return {"shared_with": _others(row, e.store)}


@_updates(CustomerTransferred)
def _transferred(e: CustomerTransferred, row: CustomerRow) -> dict[str, Any]:
    return {"dealer_id": e.to_store, "shared_with": _others(row, e.to_store), "salesperson_id": None}


def _others(row: CustomerRow, store: str) -> tuple[str, ...]:
    return tuple(other for other in row.shared_with if other != store)


@_updates(ConsentGranted)
def _granted(e: ConsentGranted, row: CustomerRow) -> dict[str, Any]:
    consent = f"{e.purpose}.{e.channel}"
    return {"consents": (*(c for c in row.consents if c != consent), consent)}


@_updates(ConsentWithdrawn)
def _withdrawn(e: ConsentWithdrawn, row: CustomerRow) -> dict[str, Any]:
    return {"consents": tuple(c for c in row.consents if c != f"{e.purpose}.{e.channel}")}


@_updates(PersonalDataShredded)
def _shredded(e: PersonalDataShredded, row: CustomerRow) -> dict[str, Any]:
    # Also what a correction may have put into the profile: its value reads as erased when replayed.
    return {"name": ERASED, "language": "", "time_zone": "", "mobile": None, "email": None}


@_updates(
    VehicleOwnershipRecorded,
    InteractionLogged,
    DuplicateSuspected,
    IdentityDocumentRecorded,
    IdentityDocumentRemoved,
    ErasureRequested,
    ErasureRejected,
    ErasureApproved,
)
def _version_only(e: AnyEvent, row: CustomerRow) -> dict[str, Any]:
    return {}


# Vehicles owned


class OwnershipRow(msgspec.Struct, frozen=True):
    """A vehicle and the days between which it was a customer's."""

    customer_id: UUID
    vin: str
    since: date
    until: date | None
    dealer_id: str
    brand: str


ownerships = Projection(
    "ownership",
    version=2,
    row=OwnershipRow,
    key=("customer_id", "vin"),
    indexes=["vin"],
    owner=OwnedThrough(customers, "customer_id"),
)


@ownerships.on(key=lambda e, m: (m.stream_id, e.vin))
def _owned(row: OwnershipRow | None, e: VehicleOwnershipRecorded, m: Meta) -> OwnershipRow:
    return OwnershipRow(m.stream_id, e.vin, e.since, e.until, m.dealer_id, m.brand)


@ownerships.on(key=lambda e, m: (e.customer_id, e.vin))
def _delivered(row: OwnershipRow | None, e: foreign.VehicleDelivered, m: Meta) -> OwnershipRow:
    return OwnershipRow(e.customer_id, e.vin, e.delivered_at.date(), None, m.dealer_id, m.brand)


@ownerships.on(key=lambda e, m: (e.customer_id, e.vin))
def _returned(row: OwnershipRow | None, e: foreign.VehicleReturned, m: Meta) -> OwnershipRow | None:
    # An end that somebody recorded stays: sales may tell of the return later than it was.
    return row if row is None or row.until is not None else replace(row, until=m.time.date())


# Identity documents


class IdentityDocumentRow(msgspec.Struct, frozen=True):
    """A document, with the mask of its number; ``fingerprint`` tells whether another one is the same."""

    customer_id: UUID
    kind: str
    masked_number: str
    issuing_country: str | None
    expires_on: date | None
    fingerprint: str
    recorded_at: datetime


documents = Projection(
    "identity_document",
    version=1,
    row=IdentityDocumentRow,
    key=("customer_id", "kind"),
    indexes=["fingerprint"],
    owner=OwnedThrough(customers, "customer_id"),
)


@documents.on(key=lambda e, m: (m.stream_id, e.kind))
def _document(
    row: IdentityDocumentRow | None, e: IdentityDocumentRecorded, m: Meta
) -> IdentityDocumentRow | None:
    if e.number == ERASED:
        return None  # read again after the erasure
    return IdentityDocumentRow(
        m.stream_id, e.kind, masked_number(e.number), e.issuing_country, e.expires_on, e.fingerprint, m.time
    )


@documents.on(key=lambda e, m: (m.stream_id, e.kind))
def _document_removed(row: IdentityDocumentRow | None, e: IdentityDocumentRemoved, m: Meta) -> None:
    return None


@documents.on(key=lambda e, m: [(m.stream_id, kind) for kind in get_args(DocumentKind)])
def _documents_shredded(row: IdentityDocumentRow | None, e: PersonalDataShredded, m: Meta) -> None:
    return None


# Imports


class ImportRow(msgspec.Struct, frozen=True):
    """The state of an import; ``ranges`` are the reported rows as sorted, merged (first, last) pairs."""

    import_id: UUID
    file_name: str
    created: int
    refused: int
    duplicates: int
    ranges: list[tuple[int, int]]
    dealer_id: str
    brand: str


imports = Projection("customer_import", version=1, row=ImportRow, key="import_id")


@imports.on()
def _import_started(row: ImportRow | None, e: ImportStarted, m: Meta) -> ImportRow:
    return ImportRow(m.stream_id, e.file_name, 0, 0, 0, [], m.dealer_id, m.brand)


@imports.on()
def _import_reported(row: ImportRow | None, e: ImportRowsReported, m: Meta) -> ImportRow | None:
    if row is None:
        return None
    return replace(
        row,
        created=row.created + e.created,
        refused=row.refused + e.refused,
        duplicates=row.duplicates + e.duplicates,
        ranges=merged([*row.ranges, (e.first_row, e.last_row)]),
    )


class ImportProblemRow(msgspec.Struct, frozen=True):
    """A row that was not imported."""

    import_id: UUID
    row: int
    outcome: str
    customer_id: UUID | None
    field: str
    reason: str
    dealer_id: str
    brand: str


import_problems = Projection(
    "import_problem",
    version=1,
    row=ImportProblemRow,
    key=("import_id", "row"),
    owner=OwnedThrough(imports, "import_id"),
)


@import_problems.on(key=lambda e, m: (m.stream_id, e.row))
def _import_problem(row: ImportProblemRow | None, e: ImportRowRefused, m: Meta) -> ImportProblemRow:
    return ImportProblemRow(
        m.stream_id, e.row, e.outcome, e.customer_id, e.field, e.reason, m.dealer_id, m.brand
    )


# The customer 360


class HistoryRow(msgspec.Struct, frozen=True):
    """One event in the life of a customer; ``kind`` is the history it belongs to."""

    event_id: UUID
    customer_id: UUID
    time: datetime
    position: int
    kind: str
    event_type: str
    stream: str
    dealer_id: str
    brand: str
    vin: str
    detail: str


history = Projection(
    "history",
    version=4,
    row=HistoryRow,
    key="event_id",
    indexes=[Index(("customer_id", "position"))],
    owner=OwnedThrough(customers, "customer_id"),
)

_ANCILLARY = {"insurance": "insurance", "loan": "loan", "plate_registration": "plate_registration"}
_REPAIR = {"maintenance": "maintenance"}


def _records(kind: str | Callable[[Any], str], *classes: type[AnyEvent], detail: str = "") -> None:
    """One line of history for each event of ``classes``; ``detail`` names the field that is shown."""

    @history.on(*classes, key=lambda e, m: m.id)
    def _(row: HistoryRow | None, e: Any, m: Meta) -> HistoryRow | None:
        customer_id = getattr(e, "customer_id", None) if isinstance(e, ForeignEvent) else m.stream_id
        if customer_id is None:
            return None
        return HistoryRow(
            m.id,
            customer_id,
            m.time,
            m.position,
            kind if isinstance(kind, str) else kind(e),
            m.type,
            m.stream,
            m.dealer_id,
            m.brand,
            getattr(e, "vin", None) or "",
            _shown(getattr(e, detail)) if detail else "",
        )


def _shown(value: Any) -> str:
    if isinstance(value, Money):
        return f"{value.amount} {value.currency}"
    return "" if value is None else str(value)


def _ancillary(e: foreign.AncillaryOrderAdded) -> str:
    return _ANCILLARY.get(e.kind, "accessories")


def _workshop(e: foreign.RepairOrderOpened | foreign.VehicleHandedBack) -> str:
    return _REPAIR.get(e.kind, "repair")


_records("profile", CustomerRegistered, detail="source")
_records("profile", ContactPointAdded, detail="kind")
_records("profile", ProfileCorrected, detail="field")
_records("profile", CategoryChanged, detail="category")
_records("profile", CustomerAssigned, detail="salesperson_id")
_records("profile", ConsentGranted, ConsentWithdrawn, detail="purpose")
_records("profile", VehicleOwnershipRecorded, DuplicateSuspected)
_records("profile", CustomerShared, CustomerUnshared, detail="store")
_records("profile", CustomerTransferred, detail="to_store")
_records("profile", IdentityDocumentRecorded, IdentityDocumentRemoved, detail="kind")
_records("profile", ErasureRequested, detail="reason")
_records("profile", ErasureRejected, ErasureApproved, PersonalDataShredded)
_records("return_visit", InteractionLogged, detail="channel")
_records("intention", foreign.LeadCaptured, foreign.OpportunityOpened, detail="model")
_records("intention", foreign.QuoteIssued, detail="total")
_records("intention", foreign.OpportunityWon)
_records("intention", foreign.OpportunityLost, detail="reason")
_records("test_drive", foreign.TestDriveScheduled, foreign.TestDriveCompleted)
_records("purchase", foreign.OrderPlaced, detail="model")
_records("purchase", foreign.VehicleAllocated, foreign.VehicleDelivered, detail="vin")
_records("purchase", foreign.VehicleReturned, detail="vin")
_records("purchase", foreign.OrderCancelled, detail="refund")
_records("purchase", foreign.PaymentReceived, detail="amount")
_records(_ancillary, foreign.AncillaryOrderAdded, detail="amount")
_records(_workshop, foreign.RepairOrderOpened, foreign.VehicleHandedBack, detail="kind")
_records("repair", foreign.RepairInvoiced, detail="total")
_records("complaint", foreign.ComplaintReceived, detail="severity")
_records("complaint", foreign.ComplaintClosed, foreign.ComplaintReopened)
_records("return_visit", foreign.ReturnVisitScheduled, detail="trigger")
_records("return_visit", foreign.ReturnVisitCompleted, detail="satisfied")
_records("reminder", foreign.ReminderScheduled, foreign.ReminderBecameDue, detail="kind")
_records("reminder", foreign.ReminderFulfilled, detail="kind")

PROJECTIONS: tuple[Projection[Any], ...] = (
    customers,
    ownerships,
    documents,
    imports,
    import_problems,
    history,
)
