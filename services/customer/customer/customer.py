"""The customer: one person or company, whatever store they deal with.

A customer keeps its id for life: a prospect that becomes a buyer is the same customer.
"""

from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from forecourt.deciders import Command, Context, Decider
from forecourt.errors import InvalidInput, Refused
from forecourt.events import Event, Personal
from trade.fields import MAX_LINE, Code, Line, OptionalLine, Paragraph, e164, email_address, one_line
from trade.identity import DocumentKind
from trade.vin import VinStr

Kind = Literal["prospect", "buyer", "repair", "vip", "company", "member"]
Language = Literal["zh", "en"]
ContactKind = Literal["mobile", "email"]
Purpose = Literal["contract", "safety", "service", "marketing"]
Channel = Literal["sms", "email"]
ProfileField = Literal["name", "language", "time_zone", "mobile", "email"]
Shared = Literal["mobile", "email", "vin", "name", "document"]

MAX_CONTACT_POINTS = 10

_ZONES = available_timezones()


def _time_zone(name: str) -> str:
    if name not in _ZONES:
        raise ValueError("is not an IANA time zone")
    return ZoneInfo(name).key


TimeZone = Annotated[str, AfterValidator(_time_zone)]

Typed = Annotated[str, Field(min_length=1, max_length=254), AfterValidator(one_line)]
"""A value of a profile as somebody typed it: a number, an address, a name."""


# Events


class ContactPoint(BaseModel):
    """A way to reach the customer: E.164 number or address, and what was typed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ContactKind
    value: Personal[str]
    typed: Personal[str]


class Consent(BaseModel):
    """Consent for one purpose on one channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    purpose: Purpose
    channel: Channel


class CustomerRegistered(Event, name="CustomerRegistered", version=1):
    """A customer was entered for the first time."""

    kind: Kind
    name: Personal[str]
    language: Language
    time_zone: str
    source: str
    contact_points: tuple[ContactPoint, ...]
    consents: tuple[Consent, ...]


class ContactPointAdded(Event, name="ContactPointAdded", version=1):
    """A number or address was added; it becomes the one to use for its kind."""

    kind: ContactKind
    value: Personal[str]
    typed: Personal[str]


class ProfileCorrected(Event, name="ProfileCorrected", version=1):
    """A field of the profile was wrong and was put right."""

    field: ProfileField
    value: Personal[str]
    reason: Personal[str]


class CategoryChanged(Event, name="CategoryChanged", version=1):
    """The customer became another kind of customer."""

    previous: Kind
    category: Kind


class CustomerAssigned(Event, name="CustomerAssigned", version=1):
    """A salesperson takes care of the customer from now on."""

    previous: str | None
    salesperson_id: str


class ConsentGranted(Event, name="ConsentGranted", version=1):
    """The customer agreed to be contacted for a purpose on a channel."""

    purpose: Purpose
    channel: Channel


class ConsentWithdrawn(Event, name="ConsentWithdrawn", version=1):
    """The customer no longer agrees."""

    purpose: Purpose
    channel: Channel


class VehicleOwnershipRecorded(Event, name="VehicleOwnershipRecorded", version=1):
    """The customer owns, or owned, a vehicle between two days."""

    vin: str
    since: date
    until: date | None


class InteractionLogged(Event, name="InteractionLogged", version=1):
    """A call, visit, mail or chat took place."""

    channel: Literal["call", "visit", "mail", "chat"]
    direction: Literal["inbound", "outbound"]
    subject: Personal[str]
    note: Personal[str]


class DuplicateSuspected(Event, name="DuplicateSuspected", version=2):
    """Another customer looks like the same one: ``score`` 0 to 100, and what they share."""

    other_id: UUID
    score: int
    shared: tuple[Shared, ...]


# State


@dataclass(frozen=True)
class Document:
    """An identity document: the number in its normal form, and until when it is valid."""

    number: str
    issuing_country: str | None
    expires_on: date | None


@dataclass(frozen=True)
class Customer:
    """What decisions about a customer need to know."""

    kind: Kind = "prospect"
    values: dict[str, str] = field(default_factory=dict)
    contact_points: frozenset[tuple[ContactKind, str]] = frozenset()
    salesperson_id: str | None = None
    consents: frozenset[tuple[Purpose, Channel]] = frozenset()
    withdrawn: frozenset[tuple[Purpose, Channel]] = frozenset()
    owned: frozenset[tuple[str, date, date | None]] = frozenset()
    suspected: dict[UUID, int] = field(default_factory=dict)
    documents: dict[DocumentKind, Document] = field(default_factory=dict)
    erasure: Literal["none", "requested", "approved", "done"] = "none"
    erasure_requested_by: str = ""


# Commands


class TypedContactPoint(BaseModel):
    """A contact point as somebody typed it; checked, with the normal form in ``normal``."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    kind: ContactKind
    value: Typed

    @model_validator(mode="after")
    def _check(self) -> "TypedContactPoint":
        if not self.normal:
            raise ValueError("is empty")
        return self

    @cached_property
    def normal(self) -> str:
        """E.164 number, or normalised address."""
        # Kept, because reading a phone number is the slowest part of registering a customer.
        return normal_value(self.kind, self.value)


class RegisterCustomer(Command, creates=True):
    """Enter a customer."""

    customer_id: UUID | None = None
    kind: Kind
    name: Line
    language: Language = "zh"
    time_zone: TimeZone = "Asia/Shanghai"
    source: Annotated[OptionalLine, Field(max_length=100)] = ""
    contact_points: tuple[TypedContactPoint, ...] = Field(default=(), max_length=MAX_CONTACT_POINTS)
    consents: tuple[Consent, ...] = Field(default=(), max_length=8)


class AddContactPoint(Command):
    """Add a number or address."""

    customer_id: UUID
    kind: ContactKind
    value: Typed


class CorrectProfile(Command):
    """Put one field of the profile right."""

    customer_id: UUID
    field: ProfileField
    value: Typed
    reason: Line


class ChangeCategory(Command):
    """Move the customer to another kind."""

    customer_id: UUID
    category: Kind


class AssignCustomer(Command):
    """Assign a salesperson."""

    customer_id: UUID
    salesperson_id: Code


class GrantConsent(Command):
    """Note the customer's consent."""

    customer_id: UUID
    purpose: Purpose
    channel: Channel


class WithdrawConsent(Command):
    """Note that the customer withdrew consent."""

    customer_id: UUID
    purpose: Purpose
    channel: Channel


class RecordVehicleOwnership(Command):
    """Note who owns a vehicle, and since when."""

    customer_id: UUID
    vin: VinStr
    since: date
    until: date | None = None


class LogInteraction(Command):
    """Note a contact."""

    customer_id: UUID
    channel: Literal["call", "visit", "mail", "chat"]
    direction: Literal["inbound", "outbound"]
    subject: Line
    note: Paragraph = ""


class SuspectDuplicate(Command):
    """Note that another customer looks like the same one."""

    customer_id: UUID
    other_id: UUID
    score: int = Field(ge=1, le=100)
    shared: tuple[Shared, ...] = Field(min_length=1)


# Refusals


class TooManyContactPoints(Refused):
    """A customer has at most `MAX_CONTACT_POINTS` numbers and addresses."""


class SafetyConsentIsImplied(Refused):
    """Messages that contract or safety need cannot be withdrawn from."""


class OwnershipEndsBeforeItBegins(InvalidInput):
    """``until`` lies before ``since``."""


class CustomerErased(Refused):
    """The customer's personal data is erased; nothing more is recorded of them."""


# Decisions

customer = Decider(
    service="customer",
    category="customer",
    initial=Customer(),
    key="customer_id",
    distinct_from=["lead"],
)


@customer.decides
def register(state: Customer, c: RegisterCustomer, ctx: Context) -> list[Event]:
    """A new customer, with what is known on the first day."""
    points = {(point.kind, point.normal): point for point in c.contact_points}
    return [
        CustomerRegistered(
            kind=c.kind,
            name=c.name,
            language=c.language,
            time_zone=c.time_zone,
            source=c.source,
            contact_points=tuple(
                ContactPoint(kind=kind, value=value, typed=point.value)
                for (kind, value), point in points.items()
            ),
            consents=tuple(dict.fromkeys(c.consents)),
        )
    ]


@customer.decides
def add_contact_point(state: Customer, c: AddContactPoint, ctx: Context) -> list[Event]:
    """One more way to reach the customer."""
    must_live(state)
    value = _checked("value", c.kind, c.value)
    if (c.kind, value) in state.contact_points:
        return []
    if len(state.contact_points) >= MAX_CONTACT_POINTS:
        raise TooManyContactPoints(f"a customer has at most {MAX_CONTACT_POINTS} contact points")
    return [ContactPointAdded(kind=c.kind, value=value, typed=c.value)]


@customer.decides
def correct_profile(state: Customer, c: CorrectProfile, ctx: Context) -> list[Event]:
    """The right value replaces the wrong one; the history keeps both."""
    must_live(state)
    value = _checked("value", c.field, c.value)
    if state.values.get(c.field) == value:
        return []
    return [ProfileCorrected(field=c.field, value=value, reason=c.reason)]


@customer.decides
def change_category(state: Customer, c: ChangeCategory, ctx: Context) -> list[Event]:
    """Prospect to buyer, buyer to VIP: the id stays."""
    must_live(state)
    if c.category == state.kind:
        return []
    return [CategoryChanged(previous=state.kind, category=c.category)]


@customer.decides
def assign(state: Customer, c: AssignCustomer, ctx: Context) -> list[Event]:
    """One salesperson at a time."""
    must_live(state)
    if c.salesperson_id == state.salesperson_id:
        return []
    return [CustomerAssigned(previous=state.salesperson_id, salesperson_id=c.salesperson_id)]


@customer.decides
def grant_consent(state: Customer, c: GrantConsent, ctx: Context) -> list[Event]:
    """Consent once given stays until it is withdrawn."""
    must_live(state)
    if (c.purpose, c.channel) in state.consents:
        return []
    return [ConsentGranted(purpose=c.purpose, channel=c.channel)]


@customer.decides
def withdraw_consent(state: Customer, c: WithdrawConsent, ctx: Context) -> list[Event]:
    """Withdrawing counts even where consent was never recorded: it is an opt-out then."""
    must_live(state)
    if c.purpose in ("contract", "safety"):
        raise SafetyConsentIsImplied("contract and safety messages need no consent and know no opt-out")
    if (c.purpose, c.channel) in state.withdrawn:
        return []
    return [ConsentWithdrawn(purpose=c.purpose, channel=c.channel)]


@customer.decides
def record_ownership(state: Customer, c: RecordVehicleOwnership, ctx: Context) -> list[Event]:
    """A vehicle and the days between which it was the customer's."""
    must_live(state)
    if c.until is not None and c.until < c.since:
        raise OwnershipEndsBeforeItBegins(fields={"until": "lies before since"})
    if (c.vin, c.since, c.until) in state.owned:
        return []
    return [VehicleOwnershipRecorded(vin=c.vin, since=c.since, until=c.until)]


@customer.decides
def log_interaction(state: Customer, c: LogInteraction, ctx: Context) -> list[Event]:
    """Every contact is an event with its channel."""
    must_live(state)
    return [InteractionLogged(channel=c.channel, direction=c.direction, subject=c.subject, note=c.note)]


@customer.decides
def suspect_duplicate(state: Customer, c: SuspectDuplicate, ctx: Context) -> list[Event]:
    """A suspicion is recorded once per pair, and again when it grows; people act on it."""
    if c.score <= state.suspected.get(c.other_id, 0) or state.erasure in ("approved", "done"):
        return []
    return [DuplicateSuspected(other_id=c.other_id, score=c.score, shared=c.shared)]


def must_live(state: Customer) -> None:
    """Raise `CustomerErased` where nothing more may be recorded."""
    if state.erasure in ("approved", "done"):
        raise CustomerErased("the customer is erased")


def normal_value(field: str, value: str) -> str:
    """The normal form of a profile value. Raises `ValueError` with the reason."""
    if field == "name" and len(value) > MAX_LINE:
        raise ValueError(f"must have at most {MAX_LINE} characters")
    if field == "mobile":
        return e164(value)
    if field == "email":
        return email_address(value)
    if field == "time_zone":
        return _time_zone(value)
    if field == "language" and value not in ("zh", "en"):
        raise ValueError("must be zh or en")
    return value


def _checked(path: str, field: str, value: str) -> str:
    try:
        return normal_value(field, value)
    except ValueError as error:
        raise InvalidInput(f"{path}: {error}", fields={path: str(error)}) from error


# Evolution


@customer.evolves
def _registered(state: Customer, e: CustomerRegistered) -> Customer:
    points = frozenset((point.kind, point.value) for point in e.contact_points)
    values = {"name": e.name, "language": e.language, "time_zone": e.time_zone}
    values.update({point.kind: point.value for point in reversed(e.contact_points)})
    consents = frozenset((consent.purpose, consent.channel) for consent in e.consents)
    return Customer(kind=e.kind, values=values, contact_points=points, consents=consents)


@customer.evolves
def _contact_point_added(state: Customer, e: ContactPointAdded) -> Customer:
    return replace(
        state,
        contact_points=state.contact_points | {(e.kind, e.value)},
        values={**state.values, e.kind: e.value},
    )


@customer.evolves
def _profile_corrected(state: Customer, e: ProfileCorrected) -> Customer:
    points = state.contact_points
    if e.field == "mobile" or e.field == "email":
        points = (points - {(e.field, state.values.get(e.field, ""))}) | {(e.field, e.value)}
    return replace(state, values={**state.values, e.field: e.value}, contact_points=points)


@customer.evolves
def _category_changed(state: Customer, e: CategoryChanged) -> Customer:
    return replace(state, kind=e.category)


@customer.evolves
def _assigned(state: Customer, e: CustomerAssigned) -> Customer:
    return replace(state, salesperson_id=e.salesperson_id)


@customer.evolves
def _consent_granted(state: Customer, e: ConsentGranted) -> Customer:
    one = {(e.purpose, e.channel)}
    return replace(state, consents=state.consents | one, withdrawn=state.withdrawn - one)


@customer.evolves
def _consent_withdrawn(state: Customer, e: ConsentWithdrawn) -> Customer:
    one = {(e.purpose, e.channel)}
    return replace(state, consents=state.consents - one, withdrawn=state.withdrawn | one)


@customer.evolves
def _ownership_recorded(state: Customer, e: VehicleOwnershipRecorded) -> Customer:
    return replace(state, owned=state.owned | {(e.vin, e.since, e.until)})


@customer.evolves
def _duplicate_suspected(state: Customer, e: DuplicateSuspected) -> Customer:
    return replace(state, suspected={**state.suspected, e.other_id: e.score})


customer.ignores(InteractionLogged)


@customer.upcasts("DuplicateSuspected", from_version=1)
def _without_documents(data: dict[str, Any]) -> dict[str, Any]:
    """Documents were not compared yet."""
    return data
