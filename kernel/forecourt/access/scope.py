"""Whose data a caller reaches: the dealers and brands of the token, applied to commands and to queries alike.

A store reaches what it owns and what was shared with it, head office (``"*"``) everything, a manufacturer its brands
at all dealers. What lies outside is answered as if it were not there: `forecourt.deciders` does so before a command is
decided, `forecourt.projections.scoping` in the SQL of every query.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

ALL = "*"
"""Stands for all dealers, or all brands, in a token."""

MAX_NAME = 100
"""Most characters of the name of a dealer or brand that a call is for."""


def single(name: str) -> str:
    """The name of one dealer or brand that something is done for. Raises `ValueError` with the reason."""
    if not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"must have 1 to {MAX_NAME} characters")
    if not (name.isascii() and name.isprintable()):
        raise ValueError("must consist of printable ASCII characters")
    if name == ALL:
        raise ValueError("must be a single one")
    return name


@dataclass(frozen=True, slots=True)
class Scope:
    """The dealers and brands whose data may be reached; None is everybody's, an empty set nobody's."""

    dealers: frozenset[str] | None = None
    brands: frozenset[str] | None = None

    def covers_dealer(self, dealer_id: str) -> bool:
        """Whether a dealer's own data may be reached."""
        return self.dealers is None or dealer_id in self.dealers

    def covers_any(self, dealers: Collection[str]) -> bool:
        """Whether the data of at least one of these dealers may be reached."""
        return self.dealers is None or not self.dealers.isdisjoint(dealers)

    def covers_brand(self, brand: str) -> bool:
        """Whether data of a brand may be reached."""
        return self.brands is None or brand in self.brands


UNRESTRICTED = Scope()
"""Head office, and whatever the platform does by itself."""


@lru_cache(maxsize=10_000)
def scope_of(dealers: tuple[str, ...], brands: tuple[str, ...]) -> Scope:
    """The scope of a token's dealers and brands; `UNRESTRICTED` itself where both are all."""
    if ALL in dealers and ALL in brands:
        return UNRESTRICTED
    return Scope(None if ALL in dealers else frozenset(dealers), None if ALL in brands else frozenset(brands))
