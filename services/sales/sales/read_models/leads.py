"""Leads, and the documents that could not be read as leads."""

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec.structs import replace

from forecourt.events import Meta
from forecourt.privacy.fields import ERASED
from forecourt.projections.projection import Index, Projection
from sales.lead import (
    LeadCaptured,
    LeadConverted,
    LeadDisqualified,
    LeadQualified,
    LeadQuarantined,
    LeadShredded,
)


class LeadRow(msgspec.Struct, frozen=True):
    """A lead as it is now.

    ``unlinked_since`` is when it last had news while nobody knew whose it is; None once that is known or it is erased.
    ``linked`` are all customers whose it was taken for: the data may be that of any of them.
    """

    lead_id: UUID
    state: str
    source: str
    provider: str
    model: str | None
    vin: str | None
    customer_id: UUID | None
    name: str
    phone: str | None
    phone_typed: str | None
    email: str | None
    comments: str
    reason: str | None
    opportunity_id: UUID | None
    dealer_id: str
    brand: str
    requested_at: datetime | None
    captured_at: datetime
    unlinked_since: datetime | None
    linked: tuple[str, ...]


leads = Projection(
    "lead",
    version=3,
    row=LeadRow,
    key="lead_id",
    indexes=[
        Index(("dealer_id", "state", "captured_at")),
        "captured_at",
        "customer_id",
        Index(("linked",), kind="gin"),
        "unlinked_since",
    ],
)


@leads.on()
def _captured(row: LeadRow | None, e: LeadCaptured, m: Meta) -> LeadRow:
    return LeadRow(
        lead_id=m.stream_id,
        state="captured",
        source=e.source,
        provider=e.provider,
        model=e.model,
        vin=e.vin,
        customer_id=e.customer_id,
        name=e.name,
        phone=e.phone,
        phone_typed=e.phone_typed,
        email=e.email,
        comments=e.comments,
        reason=None,
        opportunity_id=None,
        dealer_id=m.dealer_id,
        brand=m.brand,
        requested_at=e.requested_at,
        captured_at=m.time,
        unlinked_since=m.time if e.customer_id is None else None,
        linked=() if e.customer_id is None else (str(e.customer_id),),
    )


@leads.on()
def _qualified(row: LeadRow | None, e: LeadQualified, m: Meta) -> LeadRow | None:
    return row and replace(
        row,
        state="qualified",
        customer_id=e.customer_id,
        model=e.model,
        unlinked_since=None,
        linked=tuple(sorted({*row.linked, str(e.customer_id)})),
    )


@leads.on()
def _disqualified(row: LeadRow | None, e: LeadDisqualified, m: Meta) -> LeadRow | None:
    return row and replace(
        row, state="disqualified", reason=e.reason, unlinked_since=row.unlinked_since and m.time
    )


@leads.on()
def _converted(row: LeadRow | None, e: LeadConverted, m: Meta) -> LeadRow | None:
    return row and replace(row, state="converted", opportunity_id=e.opportunity_id)


@leads.on()
def _shredded(row: LeadRow | None, e: LeadShredded, m: Meta) -> LeadRow | None:
    return row and replace(
        row,
        name=ERASED,
        phone=None,
        phone_typed=None,
        email=None,
        comments="",
        reason=row.reason and ERASED,
        unlinked_since=None,
    )


class QuarantinedRow(msgspec.Struct, frozen=True):
    """A document that could not be read as a lead."""

    lead_id: UUID
    reason: str
    raw: str
    size: int
    sha256: str
    dealer_id: str
    brand: str
    received_at: datetime


quarantined_leads = Projection(
    "quarantined_lead",
    version=1,
    row=QuarantinedRow,
    key="lead_id",
    indexes=[Index(("dealer_id", "received_at")), "received_at"],
)


@quarantined_leads.on()
def _expired(row: QuarantinedRow | None, e: LeadShredded, m: Meta) -> None:
    """Nobody can read it any more."""


@quarantined_leads.on()
def _quarantined(row: QuarantinedRow | None, e: LeadQuarantined, m: Meta) -> QuarantinedRow:
    return QuarantinedRow(m.stream_id, e.reason, e.raw, e.size, e.sha256, m.dealer_id, m.brand, m.time)
