"""To whom an aggregate belongs, who else may act on it, and how its events change that.

An aggregate belongs to the dealer and brand of its first event. What hands it on or shares it is declared as data
of its decider::

    car.ownership.transfers(CarTransferred, to=lambda e: e.to_store)
    person.ownership.shares(PersonShared, with_=lambda e: e.store)
    person.ownership.ends_sharing(PersonUnshared, with_=lambda e: e.store)
    person.ownership.only_owner(SharePerson, UnsharePerson)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from forecourt.access.scope import Scope

E = TypeVar("E")

NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Ownership:
    """The owner's dealer and brand, the dealers it is ``shared`` with, and the ``former`` ones of either kind."""

    dealer_id: str = ""
    brand: str = ""
    shared: frozenset[str] = NOBODY
    former: frozenset[str] = NOBODY

    def to(self, dealer_id: str) -> "Ownership":
        """After a transfer: the new owner has it, the old one has not."""
        if dealer_id == self.dealer_id:
            return self
        former = (self.former | {self.dealer_id}) - {dealer_id}
        return replace(self, dealer_id=dealer_id, shared=self.shared - {dealer_id}, former=former)

    def shared_with(self, dealer_id: str) -> "Ownership":
        """After it was shared with a dealer."""
        if dealer_id == self.dealer_id:
            return self
        return replace(self, shared=self.shared | {dealer_id}, former=self.former - {dealer_id})

    def unshared_with(self, dealer_id: str) -> "Ownership":
        """After sharing with a dealer ended."""
        if dealer_id not in self.shared:
            return self
        return replace(self, shared=self.shared - {dealer_id}, former=self.former | {dealer_id})


class OwnershipRules:
    """What a decider declares about the ownership of its aggregates.

    ``every_brand`` is the reason why the brand limits nobody, where that is so.
    """

    def __init__(self, every_brand: str = "") -> None:
        self.every_brand = every_brand
        self._changes: dict[type[Any], Callable[[Ownership, Any], Ownership]] = {}
        self._owners_only: set[type[Any]] = set()

    def transfers(self, event: type[E], *, to: Callable[[E], str]) -> None:
        """``event`` hands the aggregate to another dealer, at once."""
        self._changes[event] = lambda ownership, e: ownership.to(to(e))

    def shares(self, event: type[E], *, with_: Callable[[E], str]) -> None:
        """``event`` lets another dealer act on the aggregate too, at once."""
        self._changes[event] = lambda ownership, e: ownership.shared_with(with_(e))

    def ends_sharing(self, event: type[E], *, with_: Callable[[E], str]) -> None:
        """``event`` ends what `shares` began, at once."""
        self._changes[event] = lambda ownership, e: ownership.unshared_with(with_(e))

    def only_owner(self, *commands: type[Any]) -> None:
        """These commands are refused to those whom the aggregate is only shared with."""
        self._owners_only.update(commands)

    def after(self, ownership: Ownership, event: Any) -> Ownership:
        """The ownership after an event."""
        change = self._changes.get(type(event))
        return ownership if change is None else change(ownership, event)

    def reaches(self, scope: Scope, ownership: Ownership) -> bool:
        """Whether the aggregate lies within ``scope``."""
        if not (self.every_brand or scope.covers_brand(ownership.brand)):
            return False
        return scope.covers_dealer(ownership.dealer_id) or scope.covers_any(ownership.shared)

    def acted_for(self, ownership: Ownership, scope: Scope, dealer_id: str, brand: str) -> tuple[str, str]:
        """The dealer and brand that an event of an aggregate within ``scope`` belongs to.

        Those that the actor acts for, where the aggregate is theirs or shared with them. Else the owner's, or where the
        actor has it by sharing only, a dealer's that it is shared with.
        """
        if not self.every_brand:
            brand = ownership.brand or brand
        if dealer_id == ownership.dealer_id or dealer_id in ownership.shared or not ownership.dealer_id:
            return dealer_id, brand
        if scope.covers_dealer(ownership.dealer_id):
            return ownership.dealer_id, brand
        return min(filter(scope.covers_dealer, ownership.shared)), brand

    def reached(self, scope: Scope, ownership: Ownership) -> bool:
        """Whether it did so before: whoever gave it away may repeat the command that did."""
        return scope.covers_brand(ownership.brand) and scope.covers_any(ownership.former)

    def allows(self, command: Any, scope: Scope, ownership: Ownership) -> bool:
        """Whether ``command`` may be given by whom the aggregate is within the scope of."""
        return type(command) not in self._owners_only or scope.covers_dealer(ownership.dealer_id)
