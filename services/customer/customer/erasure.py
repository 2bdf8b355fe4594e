"""Erasing a customer: one person asks, another approves, and the customer's key is destroyed.

What was encrypted with the key cannot be read by anybody any more, wherever a copy is. `PersonalDataShredded`
says so with a proof, and tells all read models to drop what they hold in plain text. Statistics stay: that there
was a customer, and what happened.
"""

from dataclasses import replace
from datetime import datetime
from typing import Literal
from uuid import UUID

from customer.customer import Customer, CustomerErased, customer
from forecourt.deciders import Command, Context
from forecourt.errors import Refused
from forecourt.events import Event, Personal
from trade.fields import Line

ErasureReason = Literal["customer_request", "retention_over", "unlawful_processing"]

# Events


class ErasureRequested(Event, name="ErasureRequested", version=1):
    """Somebody of the staff asked for the customer's personal data to be erased."""

    reason: ErasureReason
    requested_by: str


class ErasureRejected(Event, name="ErasureRejected", version=1):
    """The request was turned down or taken back."""

    explanation: Personal[str]
    rejected_by: str


class ErasureApproved(Event, name="ErasureApproved", version=1):
    """A second person agreed: from now on nothing is recorded of the customer, and the key is destroyed."""

    requested_by: str
    approved_by: str


class PersonalDataShredded(Event, name="PersonalDataShredded", version=1, erases=True):
    """The customer's key is destroyed.

    ``fingerprint`` is the SHA-256 of the wrapped key as it was, ``proof`` that of key id, time and fingerprint
    joined by ``|``; both are compared with what the key store holds.
    """

    key_id: UUID
    destroyed_at: datetime
    fingerprint: str
    proof: str


# Commands


class RequestErasure(Command):
    """Ask for the erasure of the customer's personal data; another person has to approve."""

    customer_id: UUID
    reason: ErasureReason


class RejectErasure(Command):
    """Turn a request for erasure down, or take it back."""

    customer_id: UUID
    explanation: Line


class ApproveErasure(Command):
    """Agree to the erasure that another person asked for. It cannot be undone."""

    customer_id: UUID


class RecordShredding(Command):
    """Note that the customer's key is destroyed."""

    customer_id: UUID
    key_id: UUID
    destroyed_at: datetime
    fingerprint: str
    proof: str


# Refusals


class ErasureNotRequested(Refused):
    """Nobody has asked for the customer to be erased."""


class ErasureNotApproved(Refused):
    """The customer's key may only be destroyed once a second person has agreed."""


# Decisions


@customer.decides
def request(state: Customer, c: RequestErasure, ctx: Context) -> list[Event]:
    """Asking twice is asking once."""
    if state.erasure != "none":
        return []
    return [ErasureRequested(reason=c.reason, requested_by=ctx.actor_id)]


@customer.decides
def reject(state: Customer, c: RejectErasure, ctx: Context) -> list[Event]:
    """Raises `CustomerErased` where it is too late, `ErasureNotRequested`."""
    if state.erasure in ("approved", "done"):
        raise CustomerErased("the customer is erased; it cannot be undone")
    if state.erasure == "none":
        raise ErasureNotRequested("nobody has asked for the customer to be erased")
    return [ErasureRejected(explanation=c.explanation, rejected_by=ctx.actor_id)]


@customer.decides
def approve(state: Customer, c: ApproveErasure, ctx: Context) -> list[Event]:
    """Raises `ErasureNotRequested`."""
    if state.erasure in ("approved", "done"):
        return []
    if state.erasure == "none":
        raise ErasureNotRequested("nobody has asked for the customer to be erased")
    return [ErasureApproved(requested_by=state.erasure_requested_by, approved_by=ctx.actor_id)]


@customer.decides
def record_shredding(state: Customer, c: RecordShredding, ctx: Context) -> list[Event]:
    """Raises `ErasureNotApproved`."""
    if state.erasure == "done":
        return []
    if state.erasure != "approved":
        raise ErasureNotApproved("a second person has to agree before the key is destroyed")
    return [
        PersonalDataShredded(
            key_id=c.key_id, destroyed_at=c.destroyed_at, fingerprint=c.fingerprint, proof=c.proof
        )
    ]


# Evolution


@customer.evolves
def _requested(state: Customer, e: ErasureRequested) -> Customer:
    return replace(state, erasure="requested", erasure_requested_by=e.requested_by)


@customer.evolves
def _rejected(state: Customer, e: ErasureRejected) -> Customer:
    return replace(state, erasure="none", erasure_requested_by="")


@customer.evolves
def _approved(state: Customer, e: ErasureApproved) -> Customer:
    return replace(state, erasure="approved", documents={})


@customer.evolves
def _shredded(state: Customer, e: PersonalDataShredded) -> Customer:
    return Customer(kind=state.kind, erasure="done")


# Duties

customer.duties.four_eyes(ApproveErasure, ErasureRequested)
