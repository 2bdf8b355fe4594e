"""Sums and lines: which are taken, and that totals are exact to the cent."""

from decimal import Decimal

import pytest
from hypothesis import given, strategies
from pydantic import TypeAdapter, ValidationError

from forecourt.values import PositiveMoney
from sales.terms import SaleLine, SaleLines, total_of
from tests.unit.sales.samples import a_line, yuan

lines_of = TypeAdapter(SaleLines)
positive = TypeAdapter(PositiveMoney)


def test_a_discount_lowers_the_total() -> None:
    lines = (
        a_line("128800.00"),
        a_line("-3000.50", kind="discount"),
        a_line("99.99", quantity=3, kind="accessory"),
    )
    assert total_of(lines_of.validate_python(lines)) == yuan("126099.47")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((), "at least 1"),
        ((a_line("1.00"),) * 101, "at most 100"),
        ((a_line("1.00"), a_line("1.00", currency="EUR")), "1.unit_price.currency"),
        ((a_line("10.00"), a_line("-1.00")), "1.unit_price: is negative for a discount"),
        ((a_line("10.00"), a_line("1.00", kind="discount")), "1.unit_price: is negative for a discount"),
        ((a_line("10.00"), a_line("-10.00", kind="discount")), "more than zero"),
    ],
)
def test_impossible_lines_are_refused(lines: tuple[SaleLine, ...], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        lines_of.validate_python(lines)


@pytest.mark.parametrize("amount", ["0", "0.00", "-0.01"])
def test_a_payment_is_more_than_nothing(amount: str) -> None:
    with pytest.raises(ValidationError, match="more than zero"):
        positive.validate_python(yuan(amount))


@pytest.mark.parametrize("amount", ["0.001", "NaN", "Infinity", "1e13", "many"])
def test_a_sum_is_finite_and_has_two_places_at_most(amount: str) -> None:
    with pytest.raises(ValidationError):
        positive.validate_python({"amount": amount, "currency": "CNY"})


@given(
    strategies.lists(
        strategies.tuples(strategies.integers(1, 10**9), strategies.integers(1, 1000)), min_size=1
    )
)
def test_totals_are_exact(cents: list[tuple[int, int]]) -> None:
    lines = [a_line(str(Decimal(price) / 100), quantity=quantity) for price, quantity in cents]
    try:
        total = total_of(lines).amount
    except ValidationError:
        assert sum(price * quantity for price, quantity in cents) > 10**14
    else:
        assert total * 100 == sum(price * quantity for price, quantity in cents)
