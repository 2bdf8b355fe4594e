"""Whose a vehicle is, and what the purchase history says of it, as sales tells it."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

from customer import foreign
from customer.customer import VehicleOwnershipRecorded
from customer.read_models import OwnershipRow, history, ownerships
from forecourt.events import AnyEvent
from forecourt.testing.given import NOW, an_id, given_rows, later, recorded
from forecourt.values import Money

WANG, LI = an_id("wang"), an_id("li")
ORDER, RESALE = an_id("order"), an_id("resale")
VIN = "LSVAA4181E2184841"


def delivered(customer_id: UUID, at: datetime) -> foreign.VehicleDelivered:
    return foreign.VehicleDelivered(customer_id=customer_id, vin=VIN, model="H5", delivered_at=at)


def owned(customer_id: UUID, since: datetime, until: date | None = None) -> OwnershipRow:
    return OwnershipRow(customer_id, VIN, since.date(), until, "D001", "hongtong")


RETURNED = foreign.VehicleReturned(customer_id=WANG, vin=VIN)
CANCELLED = foreign.OrderCancelled(
    customer_id=WANG, vin=None, refund=Money(amount=Decimal("5000.00"), currency="CNY")
)


def test_a_vehicle_that_was_returned_and_sold_again_is_its_new_owners_only() -> None:
    rows = given_rows(ownerships).when(
        recorded(delivered(WANG, NOW), stream_id=ORDER),
        recorded(RETURNED, stream_id=ORDER, sequence=2, time=later(days=5)),
        recorded(delivered(LI, later(days=9)), stream_id=RESALE, time=later(days=9)),
    )
    rows.then_rows([owned(WANG, NOW, later(days=5).date()), owned(LI, later(days=9))])


def test_whoever_buys_a_returned_vehicle_again_owns_it() -> None:
    rows = given_rows(ownerships, owned(WANG, NOW, later(days=5).date()))
    rows.when(recorded(delivered(WANG, later(days=9)), stream_id=RESALE))
    rows.then_rows([owned(WANG, later(days=9))])


def test_an_end_that_was_recorded_before_the_return_stays() -> None:
    sold = VehicleOwnershipRecorded(vin=VIN, since=NOW.date(), until=later(days=2).date())
    rows = given_rows(ownerships).when(
        recorded(sold, stream_id=WANG, category="customer"),
        recorded(RETURNED, stream_id=ORDER, time=later(days=5)),
    )
    rows.then_rows([owned(WANG, NOW, later(days=2).date())])


def test_the_return_of_a_vehicle_that_nobody_is_known_to_own_changes_nothing() -> None:
    given_rows(ownerships).when(recorded(RETURNED, stream_id=ORDER)).then_rows([])


def shown(event: AnyEvent) -> tuple[UUID, str, str, str]:
    """The line of history that an event makes: whose, of which kind, vehicle, detail."""
    (row,) = given_rows(history).when(recorded(event, stream_id=ORDER)).rows.values()
    return row.customer_id, row.kind, row.vin, row.detail


def test_the_purchase_history_tells_of_the_return_and_the_cancellation() -> None:
    assert shown(RETURNED) == (WANG, "purchase", VIN, VIN)
    assert shown(CANCELLED) == (WANG, "purchase", "", "5000.00 CNY")
    with_a_car = CANCELLED.model_copy(update={"vin": VIN})
    assert shown(with_a_car) == (WANG, "purchase", VIN, "5000.00 CNY")


def test_the_day_of_the_return_is_that_of_its_event() -> None:
    late = datetime(2026, 3, 31, 23, 59, tzinfo=UTC)
    rows = given_rows(ownerships, owned(WANG, NOW)).when(recorded(RETURNED, stream_id=ORDER, time=late))
    rows.then_row((WANG, VIN), owned(WANG, NOW, date(2026, 3, 31)))
