"""What the tests of sales share: cars, sums, lines."""

from decimal import Decimal

from forecourt.testing.given import an_id
from forecourt.values import Money
from sales.terms import LineKind, SaleLine
from trade.vin import expected_check_digit

CUSTOMER = an_id("customer")
OTHER = an_id("other customer")
ORDER = an_id("order")
OPPORTUNITY = an_id("opportunity")
LEAD = an_id("lead")
RESERVATION = an_id("reservation")
MODEL = "Hongtong H5"


def a_vin(number: int = 1) -> str:
    """A valid Chinese VIN with this serial number."""
    vin = f"LSVAA49J0320{number:05d}"
    return vin[:8] + expected_check_digit(vin) + vin[9:]


VIN = a_vin(1)


def yuan(amount: str) -> Money:
    """A sum in CNY."""
    return Money(amount=Decimal(amount), currency="CNY")


def a_line(price: str, *, quantity: int = 1, kind: LineKind = "vehicle", currency: str = "CNY") -> SaleLine:
    """A line of a quote or an order."""
    money = Money(amount=Decimal(price), currency=currency)
    return SaleLine(kind=kind, description="H5 1.5T", quantity=quantity, unit_price=money)
