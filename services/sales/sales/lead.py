"""A lead: somebody's interest in a car, before it is known whether it can become a sale.

captured → qualified → converted, or disqualified. A document that cannot be read is quarantined: kept whole,
with the reason, so that somebody can look at it.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from forecourt.deciders import Command, Context, Decider
from forecourt.errors import Refused
from forecourt.events import Event, Personal
from sales.terms import Model
from trade.fields import Email, Line, Moment, OptionalLine, Paragraph, TypedPhone, e164
from trade.vin import VinStr

LeadSource = Literal["walk_in", "phone", "website", "portal", "referral", "campaign", "other"]
LeadState = Literal["none", "captured", "qualified", "disqualified", "converted", "quarantined"]

MAX_RAW = 300_000
"""Longest text, in characters, that is kept of a quarantined document."""

# --- events -----------------------------------------------------------------------------------------------


class LeadCaptured(Event, name="LeadCaptured", version=1):
    """Somebody showed interest. ``phone`` is E.164, ``phone_typed`` what was typed."""

    source: LeadSource
    provider: str
    model: str | None
    vin: str | None
    customer_id: UUID | None
    name: Personal[str]
    phone: Personal[str | None]
    phone_typed: Personal[str | None]
    email: Personal[str | None]
    comments: Personal[str]
    requested_at: datetime | None


class LeadQuarantined(Event, name="LeadQuarantined", version=1):
    """A document that should be a lead cannot be read as one. ``raw`` is its text, ``size`` its bytes."""

    source: LeadSource
    reason: str
    sha256: str
    size: int
    raw: Personal[str]


class LeadQualified(Event, name="LeadQualified", version=1):
    """The interest is real; the person is known as a customer."""

    customer_id: UUID
    model: str


class LeadDisqualified(Event, name="LeadDisqualified", version=1):
    """Nothing will come of it."""

    reason: Personal[str]


class LeadConverted(Event, name="LeadConverted", version=1):
    """The lead is pursued as an opportunity from now on."""

    opportunity_id: UUID
    customer_id: UUID
    model: str
    salesperson: str | None


class LeadShredded(Event, name="LeadShredded", version=1, erases=True):
    """The customer whom the lead is from is erased, or it was kept long enough: the lead's key is destroyed.

    ``fingerprint`` is the SHA-256 of the wrapped key as it was, ``proof`` that of key id, time and fingerprint.
    """

    key_id: UUID
    destroyed_at: datetime
    fingerprint: str
    proof: str


# --- state ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lead:
    """What decisions about a lead need."""

    state: LeadState = "none"
    model: str | None = None
    customer_id: UUID | None = None
    opportunity_id: UUID | None = None
    salesperson: str | None = None
    shredded: bool = False


lead = Decider(service="sales", category="lead", initial=Lead(), key="lead_id", distinct_from=["customer"])


@lead.evolves
def _(state: Lead, e: LeadCaptured) -> Lead:
    return replace(state, state="captured", model=e.model, customer_id=e.customer_id)


@lead.evolves
def _(state: Lead, e: LeadQuarantined) -> Lead:
    return replace(state, state="quarantined")


@lead.evolves
def _(state: Lead, e: LeadQualified) -> Lead:
    return replace(state, state="qualified", model=e.model, customer_id=e.customer_id)


@lead.evolves
def _(state: Lead, e: LeadDisqualified) -> Lead:
    return replace(state, state="disqualified")


@lead.evolves
def _(state: Lead, e: LeadConverted) -> Lead:
    return replace(state, state="converted", opportunity_id=e.opportunity_id, salesperson=e.salesperson)


@lead.evolves
def _(state: Lead, e: LeadShredded) -> Lead:
    return replace(state, shredded=True)


# --- refusals ---------------------------------------------------------------------------------------------


class LeadClosed(Refused):
    """The lead is disqualified, converted or quarantined; nothing more can be done with it."""


class CustomerUnknown(Refused):
    """Nobody has said yet which customer the lead is from."""


class ModelUnknown(Refused):
    """Nobody has said yet which model the lead is about."""


class LeadNotQualified(Refused):
    """Only a qualified lead becomes an opportunity."""


# --- commands and decisions -------------------------------------------------------------------------------


class CaptureLead(Command, creates=True):
    """Note an interest. A phone number or a mail address is needed, unless the customer is known."""

    lead_id: UUID | None = None
    source: LeadSource
    provider: OptionalLine = ""
    model: Model | None = None
    vin: VinStr | None = None
    customer_id: UUID | None = None
    name: Line
    phone: TypedPhone | None = None
    email: Email | None = None
    comments: Paragraph = ""
    requested_at: Moment | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.phone is None and self.email is None and self.customer_id is None:
            raise ValueError("phone, email or customer_id is required")
        return self


class QuarantineLead(Command, creates=True):
    """Keep a document that cannot be read as a lead."""

    lead_id: UUID
    source: LeadSource
    reason: str = Field(min_length=1, max_length=400)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    raw: str = Field(max_length=MAX_RAW)


class QualifyLead(Command):
    """Say that the interest is real: ``customer_id`` and ``model`` are needed unless the lead has them."""

    lead_id: UUID
    customer_id: UUID | None = None
    model: Model | None = None


class DisqualifyLead(Command):
    """Give up the lead; the reason is required."""

    lead_id: UUID
    reason: Line


class ConvertLead(Command):
    """Pursue a qualified lead as an opportunity, which may be given to a salesperson at once."""

    lead_id: UUID
    salesperson: Line | None = None


class RecordLeadShredding(Command):
    """Note that the lead's key is destroyed."""

    lead_id: UUID
    key_id: UUID
    destroyed_at: datetime
    fingerprint: str
    proof: str


@lead.decides
def capture(state: Lead, c: CaptureLead, ctx: Context) -> list[Event]:
    """A new lead."""
    return [
        LeadCaptured(
            source=c.source,
            provider=c.provider,
            model=c.model,
            vin=c.vin,
            customer_id=c.customer_id,
            name=c.name,
            phone=None if c.phone is None else e164(c.phone),
            phone_typed=c.phone,
            email=c.email,
            comments=c.comments,
            requested_at=c.requested_at,
        )
    ]


@lead.decides
def quarantine(state: Lead, c: QuarantineLead, ctx: Context) -> list[Event]:
    """A document set aside."""
    return [LeadQuarantined(source=c.source, reason=c.reason, sha256=c.sha256, size=c.size, raw=c.raw)]


@lead.decides
def qualify(state: Lead, c: QualifyLead, ctx: Context) -> list[Event]:
    """Raises `LeadClosed`, `CustomerUnknown`, `ModelUnknown`."""
    _require_open(state)
    customer_id, model = c.customer_id or state.customer_id, c.model or state.model
    if customer_id is None:
        raise CustomerUnknown(
            "customer_id: the lead has none, name one", fields={"customer_id": "is required"}
        )
    if model is None:
        raise ModelUnknown("model: the lead has none, name one", fields={"model": "is required"})
    if state.state == "qualified" and (customer_id, model) == (state.customer_id, state.model):
        return []
    return [LeadQualified(customer_id=customer_id, model=model)]


@lead.decides
def disqualify(state: Lead, c: DisqualifyLead, ctx: Context) -> list[Event]:
    """Raises `LeadClosed`."""
    if state.state == "disqualified":
        return []
    _require_open(state)
    return [LeadDisqualified(reason=c.reason)]


@lead.decides
def convert(state: Lead, c: ConvertLead, ctx: Context) -> list[Event]:
    """Raises `LeadClosed`, `LeadNotQualified`."""
    if state.state == "converted":
        return []
    _require_open(state)
    if state.state != "qualified" or state.customer_id is None or state.model is None:
        raise LeadNotQualified("qualify the lead first")
    return [
        LeadConverted(
            opportunity_id=ctx.new_id("opportunity"),
            customer_id=state.customer_id,
            model=state.model,
            salesperson=c.salesperson,
        )
    ]


@lead.decides
def record_shredding(state: Lead, c: RecordLeadShredding, ctx: Context) -> list[Event]:
    """Once is enough, in whatever state the lead is."""
    if state.shredded:
        return []
    return [
        LeadShredded(key_id=c.key_id, destroyed_at=c.destroyed_at, fingerprint=c.fingerprint, proof=c.proof)
    ]


def _require_open(state: Lead) -> None:
    if state.state not in ("captured", "qualified"):
        raise LeadClosed(f"the lead is {state.state}")
