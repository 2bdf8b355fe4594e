"""Sharing a customer with another store, and handing one over: both take effect at once.

Whoever the customer is shared with sees and does what the owner may, except for what this module and the erasure keep
to the owner.
"""

from dataclasses import replace
from uuid import UUID

from customer.customer import Customer, customer, must_live
from customer.erasure import ApproveErasure
from forecourt.deciders import Command, Context
from forecourt.events import Event
from trade.fields import Code

# Events


class CustomerShared(Event, name="CustomerShared", version=1):
    """Another store may see the customer and act, too."""

    store: str


class CustomerUnshared(Event, name="CustomerUnshared", version=1):
    """The other store may not any more."""

    store: str


class CustomerTransferred(Event, name="CustomerTransferred", version=1):
    """The customer belongs to another store from now on, and no salesperson takes care of them yet."""

    to_store: str


# Commands


class ShareCustomer(Command):
    """Let another store see the customer and act."""

    customer_id: UUID
    store: Code


class UnshareCustomer(Command):
    """End the sharing with a store."""

    customer_id: UUID
    store: Code


class TransferCustomer(Command):
    """Hand the customer over to another store."""

    customer_id: UUID
    to_store: Code


# Ownership

customer.ownership.shares(CustomerShared, with_=lambda e: e.store)
customer.ownership.ends_sharing(CustomerUnshared, with_=lambda e: e.store)
customer.ownership.transfers(CustomerTransferred, to=lambda e: e.to_store)
customer.ownership.only_owner(ShareCustomer, UnshareCustomer, TransferCustomer, ApproveErasure)

# Decisions


@customer.decides
def share(state: Customer, c: ShareCustomer, ctx: Context) -> list[Event]:
    """What is the store's own, or shared with it, stays as it is. Raises `CustomerErased`."""
    must_live(state)
    own = ctx.ownership
    return [] if c.store == own.dealer_id or c.store in own.shared else [CustomerShared(store=c.store)]


@customer.decides
def unshare(state: Customer, c: UnshareCustomer, ctx: Context) -> list[Event]:
    """Never refuses: ending what is over is fine, and an erased customer's history may still be shared."""
    return [CustomerUnshared(store=c.store)] if c.store in ctx.ownership.shared else []


@customer.decides
def transfer(state: Customer, c: TransferCustomer, ctx: Context) -> list[Event]:
    """Raises `CustomerErased`."""
    must_live(state)
    return [] if c.to_store == ctx.ownership.dealer_id else [CustomerTransferred(to_store=c.to_store)]


# Evolution


# With whom the customer is shared is known of its ownership, which an erasure leaves as it is.
customer.ignores(CustomerShared, CustomerUnshared)


@customer.evolves
def _transferred(state: Customer, e: CustomerTransferred) -> Customer:
    return replace(state, salesperson_id=None)
