"""Identity documents of a customer: one of each kind, whose number is shown masked and told only for a purpose.

Whether somebody else has the same document is found by a keyed hash of its number, never by the number. Recording says
nothing about others, whatever it finds: what is suspected becomes an event, of customers of the same store
(`customer.worker`).
"""

from dataclasses import replace
from datetime import date
from typing import Literal
from uuid import UUID

from pydantic import Field, ValidationInfo, field_validator

from customer.customer import Customer, Document, customer, must_live
from forecourt.deciders import Command, Context
from forecourt.errors import Refused
from forecourt.events import Event, Personal
from forecourt.privacy.cipher import KeyedHash
from trade.identity import MAX_TYPED, Country, DocumentKind, normal_number

HASH = "identity_document"
"""The name of the keyed hash of numbers."""

UnmaskPurpose = Literal[
    "contract",
    "invoice",
    "plate_registration",
    "insurance",
    "loan",
    "duplicate_check",
    "customer_request",
    "authority_request",
]

# Events


class IdentityDocumentRecorded(Event, name="IdentityDocumentRecorded", version=1):
    """A document was seen and noted, in the place of an earlier one of its kind.

    ``number`` is in its normal form, ``fingerprint`` a keyed hash of it, ``expires_on`` the last day of its validity.
    """

    kind: DocumentKind
    number: Personal[str]
    fingerprint: Personal[str]
    issuing_country: Personal[str | None]
    expires_on: Personal[date | None]


class IdentityDocumentRemoved(Event, name="IdentityDocumentRemoved", version=1):
    """The document of this kind is not the customer's, or not kept any more."""

    kind: DocumentKind


# Commands


class TypedDocument(Command):
    """A document as somebody typed it; ``number`` is checked and in its normal form."""

    customer_id: UUID
    kind: DocumentKind
    issuing_country: Country | None = Field(default=None, validate_default=True)
    number: str = Field(min_length=1, max_length=MAX_TYPED)
    expires_on: date | None = None

    @field_validator("issuing_country")
    @classmethod
    def _of_passports(cls, country: str | None, info: ValidationInfo) -> str | None:
        if "kind" in info.data and (country is None) == (info.data["kind"] == "passport"):
            raise ValueError("is what a passport needs, and no other document has")
        return country

    @field_validator("number")
    @classmethod
    def _normal(cls, typed: str, info: ValidationInfo) -> str:
        if not {"kind", "issuing_country"} <= info.data.keys():
            return typed  # what is wrong with those is said, and this depends on them
        return normal_number(info.data["kind"], typed, info.data["issuing_country"])


class RecordIdentityDocument(TypedDocument):
    """Note a document, in the place of an earlier one of its kind; ``fingerprint`` is that of `fingerprint_of`."""

    fingerprint: str


def fingerprint_of(document: TypedDocument, keyed: KeyedHash) -> str:
    """What is the same for the same document, whoever has it."""
    return keyed.of(document.kind, document.issuing_country or "", document.number)


class RemoveIdentityDocument(Command):
    """Forget the document of a kind."""

    customer_id: UUID
    kind: DocumentKind


# Refusals


class DocumentDoesNotFitCustomer(Refused):
    """A company has a business licence, everybody else has the other documents."""


# Decisions


@customer.decides
def record_document(state: Customer, c: RecordIdentityDocument, ctx: Context) -> list[Event]:
    """The same document again is nothing new. Raises `CustomerErased`, `DocumentDoesNotFitCustomer`."""
    must_live(state)
    if (c.kind == "business_licence") != (state.kind == "company"):
        raise DocumentDoesNotFitCustomer("a company has a business licence, and nobody else has one")
    if state.documents.get(c.kind) == Document(c.number, c.issuing_country, c.expires_on):
        return []
    return [
        IdentityDocumentRecorded(
            kind=c.kind,
            number=c.number,
            fingerprint=c.fingerprint,
            issuing_country=c.issuing_country,
            expires_on=c.expires_on,
        )
    ]


@customer.decides
def remove_document(state: Customer, c: RemoveIdentityDocument, ctx: Context) -> list[Event]:
    """Removing what is not there is fine. Raises `CustomerErased`."""
    must_live(state)
    return [IdentityDocumentRemoved(kind=c.kind)] if c.kind in state.documents else []


# Evolution


@customer.evolves
def _recorded(state: Customer, e: IdentityDocumentRecorded) -> Customer:
    document = Document(e.number, e.issuing_country, e.expires_on)
    return replace(state, documents={**state.documents, e.kind: document})


@customer.evolves
def _removed(state: Customer, e: IdentityDocumentRemoved) -> Customer:
    kept = {kind: document for kind, document in state.documents.items() if kind != e.kind}
    return replace(state, documents=kept)
