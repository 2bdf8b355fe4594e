"""What the customer service does by itself: look for duplicates of every new customer, and erase who is to be."""

from customer.customer import ContactPointAdded, CustomerRegistered, SuspectDuplicate, customer
from customer.documents import IdentityDocumentRecorded
from customer.erasure import ErasureApproved, RecordShredding
from customer.policies import THRESHOLD, likeness
from customer.read_models import CustomerRow, customers, documents
from forecourt.access.scope import Scope
from forecourt.events import Recorded
from forecourt.messaging.entrypoints import on_event
from forecourt.projections.queries import ReadModels, any_, eq
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
            await self._suspect(one, other)

    @on_event(IdentityDocumentRecorded)
    async def suspect_by_document(self, event: Recorded[IdentityDocumentRecorded]) -> None:
        """Record a suspicion for each customer that has the same document as this one."""
        await self.read_models.wait_for(documents, event.meta.position)
        await self.read_models.wait_for(customers, event.meta.position)
        one = await self.read_models.get(customers, event.stream_id)
        if one is None:
            return
        known = self._known_to(one)
        same = await known.all(
            documents, where=[eq("fingerprint", event.event.fingerprint)], limit=MOST_SUSPECTS
        )
        others = await known.get_many(customers, [row.customer_id for row in same])
        for other in others.values():
            await self._suspect(one, other, same_document=True)

    async def _suspect(self, one: CustomerRow, other: CustomerRow, *, same_document: bool = False) -> None:
        score, shared = likeness(one, other, same_document=same_document)
        if other.customer_id == one.customer_id or score < THRESHOLD:
            return
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
        found: list[CustomerRow] = await self._known_to(one).all(
            customers, where=[any_(*conditions)], limit=MOST_SUSPECTS
        )
        return found

    def _known_to(self, one: CustomerRow) -> ReadModels:
        """What the customer's store may see: of a suspicion it learns that somebody like this is there."""
        known: ReadModels = self.read_models.within(Scope(frozenset({one.dealer_id}), frozenset({one.brand})))
        return known
