"""What the customer service does by itself: look for duplicates of every new customer, and erase who is to be."""

from customer.customer import ContactPointAdded, CustomerRegistered, SuspectDuplicate, customer
from customer.erasure import ErasureApproved, RecordShredding
from customer.policies import THRESHOLD, likeness
from customer.read_models import CustomerRow, customers
from forecourt.access.scope import Scope
from forecourt.events import Recorded
from forecourt.messaging.entrypoints import on_event
from forecourt.projections.queries import any_, eq
from forecourt.worker.dependencies import ClockProvider, Commands, Keys, ReadModelsProvider

MOST_SUSPECTS = 20
"""Customers compared with a new one; more than that share a switchboard, not an identity."""


class CustomerReactions:
    """Reacts to events of the customer service itself."""

    name = "customer"

    commands = Commands()
    read_models = ReadModelsProvider()
    keys = Keys()
    clock = ClockProvider()

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

    @on_event(ErasureApproved)
    async def shred(self, event: Recorded[ErasureApproved]) -> None:
        """Destroy the customer's key, and record the proof."""
        destroyed = await self.keys.destroy(str(event.stream_id), self.clock.now())
        record = RecordShredding(
            customer_id=event.stream_id,
            key_id=destroyed.key_id,
            destroyed_at=destroyed.at,
            fingerprint=destroyed.fingerprint,
            proof=destroyed.proof,
        )
        await self.commands.execute(customer, record)

    async def _sharing(self, one: CustomerRow) -> list[CustomerRow]:
        conditions = [eq(column, value) for column in ("mobile", "email") if (value := getattr(one, column))]
        if not conditions:
            return []
        # Of a suspicion the store learns that somebody like this is there: so only of those that it may know.
        known = self.read_models.within(Scope(frozenset({one.dealer_id}), frozenset({one.brand})))
        found: list[CustomerRow] = await known.all(customers, where=[any_(*conditions)], limit=MOST_SUSPECTS)
        return found
