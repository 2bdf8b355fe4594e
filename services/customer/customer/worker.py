"""What the customer service does by itself: look for duplicates of every new customer."""

from customer.customer import ContactPointAdded, CustomerRegistered, SuspectDuplicate, customer
from customer.policies import THRESHOLD, likeness
from customer.read_models import CustomerRow, customers
from forecourt.events import Recorded
from forecourt.messaging.entrypoints import on_event
from forecourt.projections.queries import any_, eq
from forecourt.worker.dependencies import Commands, ReadModelsProvider

MOST_SUSPECTS = 20
"""Customers compared with a new one; more than that share a switchboard, not an identity."""


class CustomerReactions:
    """Reacts to events of the customer service itself."""

    name = "customer"

    commands = Commands()
    read_models = ReadModelsProvider()

    @on_event(CustomerRegistered, ContactPointAdded)
    async def suspect_duplicates(self, event: Recorded[CustomerRegistered | ContactPointAdded]) -> None:
        """Record a suspicion for each customer that shares a number or address with this one."""
        await self.read_models.wait_for(customers, event.meta.position)
        one = await self.read_models.get(customers, event.stream_id)
        if one is None:
            return
        for other in await self._sharing(one):
            score, shared = likeness(one, other)
            if other.customer_id != one.customer_id and score >= THRESHOLD:
                suspicion = SuspectDuplicate(
                    customer_id=one.customer_id, other_id=other.customer_id, score=score, shared=shared
                )
                await self.commands.execute(customer, suspicion, label=str(other.customer_id))

    async def _sharing(self, one: CustomerRow) -> list[CustomerRow]:
        conditions = [eq(column, value) for column in ("mobile", "email") if (value := getattr(one, column))]
        if not conditions:
            return []
        found: list[CustomerRow] = await self.read_models.all(
            customers, where=[any_(*conditions)], limit=MOST_SUSPECTS
        )
        return found
