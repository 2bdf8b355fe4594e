"""Terms of a sale that quotes and orders share: lines, sums, periods of time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from forecourt.errors import InvalidInput
from forecourt.values import Money, zero
from trade.fields import Code, Line

LineKind = Literal["vehicle", "accessory", "service", "discount"]

Model = Annotated[Line, Field(max_length=80)]
"""The name of a car model, as it stands in the price list."""

Store = Code
"""The code of a store, which is that of its dealer: ``D001``."""


class SaleLine(BaseModel):
    """One line of a quote or an order: ``quantity`` times ``unit_price``. A discount has a negative price."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: LineKind
    description: Line
    quantity: int = Field(ge=1, le=1000)
    unit_price: Money

    @property
    def amount(self) -> Money:
        """The sum of the line."""
        return Money(amount=self.unit_price.amount * self.quantity, currency=self.unit_price.currency)


def _consistent(lines: tuple[SaleLine, ...]) -> tuple[SaleLine, ...]:
    for index, line in enumerate(lines):
        if line.unit_price.currency != lines[0].unit_price.currency:
            raise ValueError(f"{index}.unit_price.currency: differs from the first line's")
        if (line.kind == "discount") != (line.unit_price.amount < 0):
            raise ValueError(f"{index}.unit_price: is negative for a discount, and only for a discount")
    if lines and total_of(lines).amount <= 0:
        raise ValueError("the total must be more than zero")
    return lines


SaleLines = Annotated[tuple[SaleLine, ...], Field(min_length=1, max_length=100), AfterValidator(_consistent)]
"""The lines of a quote or an order: one currency, and more than nothing in total."""


def total_of(lines: Sequence[SaleLine]) -> Money:
    """The sum of one or more lines."""
    total = zero(lines[0].unit_price.currency)
    return Money(amount=sum((line.amount.amount for line in lines), Decimal("0.00")), currency=total.currency)


def require_currency(given: Money, currency: str, field: str) -> None:
    """Raise `InvalidInput` naming ``field`` unless the sum is in ``currency``."""
    if given.currency != currency:
        reason = f"is in {given.currency}, the order in {currency}"
        raise InvalidInput(f"{field}: {reason}", fields={f"{field}.currency": reason})


def require_between(moment: datetime, earliest: datetime, latest: datetime, field: str) -> None:
    """Raise `InvalidInput` naming ``field`` unless the moment lies in the period."""
    if moment < earliest:
        reason = f"is earlier than {earliest:%Y-%m-%d %H:%M} UTC"
    elif moment > latest:
        reason = f"is later than {latest:%Y-%m-%d %H:%M} UTC"
    else:
        return
    raise InvalidInput(f"{field}: {reason}", fields={field: reason})


CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far a caller's clock may be ahead of ours."""
