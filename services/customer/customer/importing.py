"""Imports a customer file, a chunk of rows at a time.

Each good row registers a customer under ids derived from import id and row number, so that sending a row again
does nothing twice. A row that repeats a customer of its own store, or one that is shared with it (same mobile and
same name), is reported, not registered.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, TypeVar
from uuid import UUID, uuid5

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from customer.customer import (
    Consent,
    ContactKind,
    Kind,
    Language,
    RecordVehicleOwnership,
    RegisterCustomer,
    TypedContactPoint,
    customer,
)
from customer.customer_import import CHUNK_ROWS, ReportRows, RowReport, customer_import
from customer.read_models import customers
from forecourt.access.scope import Scope, single
from forecourt.command_handler import Outcome
from forecourt.deciders import Command, Context
from forecourt.errors import AlreadyExists, ForecourtError, InvalidInput
from forecourt.projections.queries import ReadModels, any_of
from forecourt.rpc.binding import Call
from forecourt.waiting import cancel_and_wait
from trade.fields import Line, OptionalLine
from trade.vin import VinStr

T = TypeVar("T")

CHUNKS_IN_HAND = 8
"""Chunks of one call that are written at the same time."""

REMEMBERED_ROWS = 50_000
"""Good rows of a call after which the ones before them are looked for in the read model instead of in memory; more
than are in hand."""

PATIENCE = 60.0
"""Seconds that an import waits for the read model to show what was there before, and what it wrote long ago."""

UNREADABLE = frozenset({"broken encoding", "wrong number of columns"})
"""What a sender may say of a row that it could not read, and the reasons with which such rows are refused."""

OTHERWISE_UNREADABLE = "cannot be read"
"""The reason in the place of all others: a sender's own words may quote the row."""

Same = tuple[str, str, str]
"""What makes two rows the same customer: dealer, mobile number, name."""


class ImportRow(BaseModel):
    """One row as it was sent; nothing is checked yet but sizes."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    row: int = Field(ge=1)
    name: str = ""
    mobile: str = ""
    email: str = ""
    kind: str = ""
    language: str = ""
    vin: str = ""
    dealer_id: str = ""
    consents: str = ""
    unreadable: OptionalLine = ""


class ImportChunk(BaseModel):
    """Rows of one file, in ascending order."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    import_id: UUID
    file_name: OptionalLine = ""
    rows: tuple[ImportRow, ...] = Field(min_length=1, max_length=CHUNK_ROWS)


@dataclass(frozen=True)
class CustomerOfRow:
    """A good row."""

    name: str
    mobile: TypedContactPoint | None
    email: TypedContactPoint | None
    kind: Kind
    language: Language
    vin: str | None
    consents: tuple[Consent, ...]


class CustomerRepeated(AlreadyExists):
    """A row is about a customer who is there already."""


_dealer: TypeAdapter[str] = TypeAdapter(Annotated[str, AfterValidator(single)])
_line: TypeAdapter[str] = TypeAdapter(Line)
_kind: TypeAdapter[Kind] = TypeAdapter(Kind)
_language: TypeAdapter[Language] = TypeAdapter(Language)
_vin: TypeAdapter[str] = TypeAdapter(VinStr)
_consent: TypeAdapter[tuple[Consent, ...]] = TypeAdapter(tuple[Consent, ...])
_contact_point = TypeAdapter(TypedContactPoint)


def read_row(row: ImportRow) -> CustomerOfRow:
    """The customer that a row describes. Raises `InvalidInput` naming the first bad field."""
    if row.unreadable:
        said = row.unreadable.lower()
        reason = said if said in UNREADABLE else OTHERWISE_UNREADABLE
        raise InvalidInput(f"row: {reason}", fields={"row": reason})
    if not row.name:
        raise InvalidInput("name: is missing", fields={"name": "is missing"})
    if not (row.mobile or row.email):
        raise InvalidInput(
            "mobile: missing", fields={"mobile": "a mobile number or an e-mail address is needed"}
        )
    return CustomerOfRow(
        name=_checked("name", _line, row.name),
        mobile=_contact("mobile", row.mobile) if row.mobile else None,
        email=_contact("email", row.email) if row.email else None,
        kind=_kind_of(row.kind or "prospect"),
        language=_language_of(row.language or "zh"),
        vin=_checked("vin", _vin, row.vin) if row.vin else None,
        consents=_consents(row.consents, bool(row.mobile), bool(row.email)),
    )


def _checked(field: str, adapter: TypeAdapter[T], value: object) -> T:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise InvalidInput(f"{field}: {reason}", fields={field: reason}) from error


def _contact(kind: ContactKind, typed: str) -> TypedContactPoint:
    return _checked(kind, _contact_point, {"kind": kind, "value": typed})


# What nearly all rows of a file have in common is checked once.
@lru_cache(maxsize=256)
def _dealer_of(text: str) -> str:
    return _checked("dealer_id", _dealer, text)


@lru_cache(maxsize=256)
def _kind_of(text: str) -> Kind:
    return _checked("kind", _kind, text)


@lru_cache(maxsize=256)
def _language_of(text: str) -> Language:
    return _checked("language", _language, text)


@lru_cache(maxsize=256)
def _consents(purposes: str, by_sms: bool, by_email: bool) -> tuple[Consent, ...]:
    channels = [channel for channel, wanted in (("sms", by_sms), ("email", by_email)) if wanted]
    pairs = [
        {"purpose": purpose, "channel": channel}
        for purpose in dict.fromkeys(purposes.split())
        for channel in channels
    ]
    return _checked("consents", _consent, pairs)


@dataclass(frozen=True, eq=False)
class NewCustomer:
    """A row that is to become a customer."""

    row: int
    customer_id: UUID
    good: CustomerOfRow
    context: Context


@dataclass(eq=False)
class Remembered:
    """The customers of some chunks, and the position of the last event about them so far."""

    customers: dict[Same, UUID] = field(default_factory=dict)
    position: int = 0


class Importer:
    """Takes the chunks of one call, in order: all of one import, and of one brand."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._recent = Remembered()
        self._earlier = Remembered()
        self._import_id: UUID | None = None
        self._reporting = asyncio.Lock()

    async def take(self, chunk: ImportChunk) -> Awaitable[dict[str, Any]]:
        """Check a chunk and tell duplicates from new customers.

        Answers what registers them and gives the report on every row and the position of the last event: it may
        go on while the next chunk is taken. Raises `InvalidInput` for a chunk of another import than the first one,
        and for rows out of order, `NotFound` for an import of another store.
        """
        rows = chunk.rows
        if any(later.row <= row.row for row, later in pairwise(rows)):
            raise InvalidInput("rows: must ascend", fields={"rows": "row numbers must ascend"})
        await self._catch_up(chunk.import_id)
        await self._forget()
        checked = [self._check(row) for row in rows]
        known = await self._known(zip(rows, checked, strict=True))
        decided = [
            self._decide(chunk.import_id, row, good, known) for row, good in zip(rows, checked, strict=True)
        ]
        return self._write(chunk, decided, self._recent)

    async def _write(
        self, chunk: ImportChunk, decided: list[RowReport | NewCustomer], remembered: Remembered
    ) -> dict[str, Any]:
        new = [one for one in decided if isinstance(one, NewCustomer)]
        registered = {one.row: result for one, result in zip(new, await self._register(new), strict=True)}
        reports = tuple(one if isinstance(one, RowReport) else registered[one.row][0] for one in decided)
        position = max((position for _, position in registered.values()), default=0)
        remembered.position = max(remembered.position, position)
        report = ReportRows(import_id=chunk.import_id, file_name=chunk.file_name, rows=reports)
        first, last = reports[0].row, reports[-1].row
        context = self._context(chunk.import_id, f"report:{first}:{last}", "")
        # One at a time: all reports of an import go to the same stream.
        async with self._reporting:
            outcome = await self._call.commands.execute_as(context, customer_import, report)
        return {"rows": reports, "position": max(position, outcome.position)}

    async def _catch_up(self, import_id: UUID) -> None:
        """Before the first chunk, wait until what was written before, by this import or others, can be seen.

        Raises `NotFound` for an import of another store, and `InvalidInput` for another import than the first chunk's:
        its customers would be written before its report is refused.
        """
        if self._import_id is None:
            await self._call.commands.require_reachable(customer_import, import_id)
            await self._call.read_models.wait_for(customers, await self._call.commands.head(), PATIENCE)
            self._import_id = import_id
        elif import_id != self._import_id:
            reason = "must be the one of the first chunk"
            raise InvalidInput(f"import_id: {reason}", fields={"import_id": reason})

    async def _forget(self) -> None:
        """Forget the customers of long ago once the read model shows them: memory does not grow with the file."""
        if len(self._recent.customers) >= REMEMBERED_ROWS:
            await self._call.read_models.wait_for(customers, self._earlier.position, PATIENCE)
            self._earlier, self._recent = self._recent, Remembered()

    def _check(self, row: ImportRow) -> CustomerOfRow | InvalidInput:
        try:
            if row.dealer_id:
                self._require_acting_for(_dealer_of(row.dealer_id))
            return read_row(row)
        except InvalidInput as error:
            return error

    def _require_acting_for(self, dealer_id: str) -> None:
        if not self._call.identity.acts_for(dealer_id):
            reason = "is not a dealer that the caller acts for"
            raise InvalidInput(f"dealer_id: {reason}", fields={"dealer_id": reason})

    async def _known(
        self, checked: Iterable[tuple[ImportRow, CustomerOfRow | InvalidInput]]
    ) -> dict[Same, UUID]:
        """Customers that the stores of the rows have already, and those shared with them: a query for each store."""
        mobiles: dict[str, set[str]] = defaultdict(set)
        for row, good in checked:
            if isinstance(good, CustomerOfRow) and good.mobile:
                mobiles[self._store_of(row)].add(good.mobile.normal)
        known: dict[Same, UUID] = {}
        for dealer_id, numbers in mobiles.items():
            found = await self._known_to(dealer_id).all(
                customers, where=[any_of("mobile", sorted(numbers))], limit=5_000
            )
            known |= {(dealer_id, one.mobile or "", one.name): one.customer_id for one in found}
        return known

    def _known_to(self, dealer_id: str) -> ReadModels:
        """What the store of a row may see: its manager reads the report, whoever imports."""
        scope = Scope(frozenset({dealer_id}), frozenset({self._call.context.brand}))
        known: ReadModels = self._call.read_models.within(scope)
        return known

    def _store_of(self, row: ImportRow) -> str:
        return row.dealer_id or self._call.context.dealer_id

    def _decide(
        self,
        import_id: UUID,
        row: ImportRow,
        good: CustomerOfRow | InvalidInput,
        known: dict[Same, UUID],
    ) -> RowReport | NewCustomer:
        if isinstance(good, InvalidInput):
            self._call.refuse(good, import_id)
            return _refused(row.row, good)
        context = self._context(import_id, f"row:{row.row}", row.dealer_id)
        customer_id = uuid5(context.command_id, "customer")
        other = customer_id
        if good.mobile is not None:
            same = (context.dealer_id, good.mobile.normal, good.name)
            there = known.get(same) or self._earlier.customers.get(same)
            other = there or self._recent.customers.setdefault(same, customer_id)
        if other != customer_id:
            reason = "the same name and mobile number are there already"
            self._call.refuse(CustomerRepeated(fields={"mobile": reason}), other)
            return RowReport(
                row=row.row, outcome="duplicate", customer_id=other, field="mobile", reason=reason
            )
        return NewCustomer(row.row, customer_id, good, context)

    async def _register(self, new: Sequence[NewCustomer]) -> list[tuple[RowReport, int]]:
        """Register new customers; for each the report on its row, and the position of the last event."""
        commands = [(_registration(one), one.context) for one in new]
        owners = {number: _ownership(one) for number, one in enumerate(new) if one.good.vin}
        outcomes = await self._call.commands.create_many(customer, commands, then=owners)
        return [_created(one, outcome) for one, outcome in zip(new, outcomes, strict=True)]

    def _context(self, import_id: UUID, label: str, dealer_id: str) -> Context:
        context = self._call.context
        return replace(
            context,
            command_id=uuid5(import_id, label),
            causation_id=import_id,
            dealer_id=dealer_id or context.dealer_id,
        )


def _registration(one: NewCustomer) -> Command:
    good = one.good
    return RegisterCustomer.model_construct(
        customer_id=one.customer_id,
        kind=good.kind,
        name=good.name,
        language=good.language,
        time_zone="Asia/Shanghai",
        source="import",
        contact_points=tuple(point for point in (good.mobile, good.email) if point),
        consents=good.consents,
    )


def _ownership(one: NewCustomer) -> tuple[Command, Context]:
    """The command that records that the car of a row is the customer's."""
    since = one.context.now.date()
    owns = RecordVehicleOwnership(customer_id=one.customer_id, vin=one.good.vin, since=since)
    return owns, one.context.derived("owns")


def _created(one: NewCustomer, outcome: Outcome | ForecourtError) -> tuple[RowReport, int]:
    if isinstance(outcome, ForecourtError):
        return _refused(one.row, outcome), 0
    return RowReport(row=one.row, outcome="created", customer_id=one.customer_id), outcome.position


def _refused(row: int, error: ForecourtError) -> RowReport:
    field, reason = next(iter(error.fields.items()), ("row", error.message))
    return RowReport(row=row, outcome="refused", field=field, reason=reason[:200])


async def import_customers(chunks: AsyncIterator[ImportChunk], call: Call) -> AsyncIterator[dict[str, Any]]:
    """Import chunk after chunk, answering each with its report.

    While chunks are written the next ones are checked; the reports keep the order. A report's position is after all
    that was reported so far: a later chunk may have been written before an earlier one.
    """
    importer = Importer(call)
    writing: deque[asyncio.Task[dict[str, Any]]] = deque()
    position = 0

    async def oldest() -> dict[str, Any]:
        nonlocal position
        report = await writing.popleft()
        position = max(position, report["position"])
        return {**report, "position": position}

    try:
        async for chunk in chunks:
            writing.append(asyncio.ensure_future(await importer.take(chunk)))
            if len(writing) == CHUNKS_IN_HAND:
                yield await oldest()
        while writing:
            yield await oldest()
    finally:
        await cancel_and_wait(*writing)
