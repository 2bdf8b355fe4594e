"""A person's key goes by an id alone: no lead may have a customer's, or who erases the lead erases the customer."""

from uuid import uuid4

import pytest

from customer.customer import RegisterCustomer, customer
from customer.service import service as customers
from forecourt.clock import SystemClock
from forecourt.codec import Codec
from forecourt.command_handler import CommandHandler
from forecourt.deciders import Context
from forecourt.errors import AlreadyExists
from forecourt.eventstore.memory import MemoryEventStore
from forecourt.privacy.cipher import PersonKey
from forecourt.privacy.keys import Destroyed, MemoryKeys
from forecourt.testing.given import an_id
from sales.lead import CaptureLead, lead
from sales.service import service as sales
from sales.shredding import shred

SHARED = an_id("an id that somebody chose")


class House:
    """The handlers of two services on one store, with one set of keys."""

    def __init__(self) -> None:
        self.keys = MemoryKeys()
        store = MemoryEventStore()
        self.customers = CommandHandler(store, Codec(customers.registry, self.keys))
        self.leads = CommandHandler(store, Codec(sales.registry, self.keys))

    async def register(self) -> None:
        await self.customers.execute(customer, registering(), context())

    async def capture(self) -> None:
        await self.leads.execute(lead, capturing(), context())

    async def shred(self) -> bool:
        """Whether the lead's key could be destroyed."""
        return await shred(SHARED, self.keys, self.leads.exists, SystemClock().now()) is not None


def context() -> Context:
    return Context(now=SystemClock().now(), command_id=uuid4(), correlation_id=uuid4())


def registering() -> RegisterCustomer:
    return RegisterCustomer(customer_id=SHARED, kind="buyer", name="Wang Wei")


def capturing() -> CaptureLead:
    return CaptureLead(lead_id=SHARED, customer_id=an_id("somebody erased"), source="walk_in", name="x")


async def test_a_lead_with_the_id_of_a_customer_is_refused() -> None:
    house = House()
    await house.register()
    with pytest.raises(AlreadyExists):
        await house.capture()


async def test_a_customer_with_the_id_of_a_lead_is_refused() -> None:
    house = House()
    await house.capture()
    with pytest.raises(AlreadyExists):
        await house.register()


async def test_a_lead_that_has_one_all_the_same_leaves_the_key_alone() -> None:
    house = House()
    await house.capture()
    (answer,) = await house.customers.create_many(customer, [(registering(), context())])
    assert not isinstance(answer, Exception)
    assert not await house.shred()
    assert isinstance(house.keys.entries[str(SHARED)], PersonKey)


async def test_any_other_lead_is_shredded() -> None:
    house = House()
    await house.capture()
    assert await house.shred()
    assert isinstance(house.keys.entries[str(SHARED)], Destroyed)
