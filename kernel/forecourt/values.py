"""Value types that any trade needs: money, and the spelling of sums and identifiers."""

from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

CURRENCY = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
"""An ISO 4217 code."""


def _at_most_two_places(amount: Decimal) -> Decimal:
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -2:
        raise ValueError("must be a finite amount with at most two decimal places")
    return amount


Amount = Annotated[
    Decimal, AfterValidator(_at_most_two_places), Field(ge=Decimal("-1e12"), le=Decimal("1e12"))
]
"""A sum in major units (yuan, euro) with at most two places."""


class Money(BaseModel):
    """A sum of one currency: a decimal in major units and an ISO 4217 code. Adding two currencies is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: Amount
    currency: CURRENCY

    def __add__(self, other: "Money") -> "Money":
        return Money(amount=self.amount + self._same(other).amount, currency=self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return Money(amount=self.amount - self._same(other).amount, currency=self.currency)

    def _same(self, other: "Money") -> "Money":
        if other.currency != self.currency:
            raise ValueError(f"currency: {other.currency} is not {self.currency}")
        return other


def zero(currency: str) -> Money:
    """No money, of a currency."""
    return Money(amount=Decimal("0.00"), currency=currency)


def _positive(sum_: Money) -> Money:
    if sum_.amount <= 0:
        raise ValueError("amount: must be more than zero")
    return sum_


PositiveMoney = Annotated[Money, AfterValidator(_positive)]
"""A sum of more than nothing."""
