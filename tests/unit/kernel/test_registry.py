"""Names, versions and upcasters of events."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from forecourt.events import Event, ForeignEvent, Personal
from forecourt.eventstore.port import StoredEvent
from forecourt.registry import Registry, RegistryError, UndecodableEvent, build_registry
from forecourt.testing.given import an_id
from forecourt.values import Money


class Line(BaseModel):
    what: str
    price: Money


class OrderPlaced(Event, name="OrderPlaced", version=3):
    customer_id: UUID
    at: datetime
    day: date | None
    kind: Literal["cash", "loan"]
    lines: tuple[Line, ...]
    note: Personal[str]
    discounts: dict[str, Decimal]


def stored(type_: str, version: int, data: str) -> StoredEvent:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return StoredEvent(
        1, f"order-{an_id('o')}", 1, an_id("e"), type_, version, now, data, an_id("c"), None, "", "", "", "{}"
    )


def to_2(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"kind": "cash"}


def to_3(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"discounts": {}}


STEPS = [("OrderPlaced", 1, to_2), ("OrderPlaced", 2, to_3)]
REGISTRY = build_registry("sales", [("order", [OrderPlaced])], upcasters=STEPS)

amounts = st.decimals(min_value=-(10**9), max_value=10**9, places=2)
moneys = st.builds(Money, amount=amounts, currency=st.sampled_from(["CNY", "EUR"]))
orders = st.builds(
    OrderPlaced,
    customer_id=st.uuids(),
    at=st.datetimes(timezones=st.just(UTC)),
    day=st.none() | st.dates(),
    kind=st.sampled_from(["cash", "loan"]),
    lines=st.lists(st.builds(Line, what=st.text(max_size=20), price=moneys), max_size=3).map(tuple),
    note=st.text(max_size=50),
    discounts=st.dictionaries(st.text(max_size=5), amounts, max_size=3),
)


@given(orders)
def test_what_is_written_is_what_is_read(event: OrderPlaced) -> None:
    data = event.model_dump_json()
    read = REGISTRY.decode(stored("sales.OrderPlaced", 3, data)).event
    assert read == event == OrderPlaced.model_validate_json(data)
    assert read.model_dump_json() == data


def test_old_versions_go_through_every_upcaster() -> None:
    data = f'{{"customer_id":"{an_id("w")}","at":"2026-01-01T00:00:00Z","day":null,"lines":[],"note":""}}'
    event = REGISTRY.decode(stored("sales.OrderPlaced", 1, data)).event
    assert isinstance(event, OrderPlaced)
    assert (event.kind, event.discounts) == ("cash", {})


@pytest.mark.parametrize(
    ("type_", "version", "data"),
    [
        ("sales.OrderPlaced", 4, "{}"),
        ("sales.Unheard", 1, "{}"),
        ("sales.OrderPlaced", 3, "{}"),
        ("sales.OrderPlaced", 3, "not json"),
        ("sales.OrderPlaced", 3, "[]"),
        ("sales.OrderPlaced", 3, '{"customer_id":1}'),
    ],
)
def test_what_cannot_be_read_says_so_without_the_data(type_: str, version: int, data: str) -> None:
    with pytest.raises(UndecodableEvent) as caught:
        REGISTRY.decode(stored(type_, version, data))
    assert "position 1" in str(caught.value)


def test_a_missing_upcaster_is_found_at_start() -> None:
    with pytest.raises(RegistryError, match="no upcaster from version 2"):
        build_registry("sales", [("order", [OrderPlaced])], upcasters=STEPS[:1])


def test_a_second_upcaster_for_one_step_is_found_at_start() -> None:
    with pytest.raises(RegistryError, match="two upcasters"):
        build_registry("sales", [("order", [OrderPlaced])], upcasters=[*STEPS, STEPS[0]])


def test_an_upcaster_past_the_class_is_found_at_start() -> None:
    with pytest.raises(RegistryError, match="leads past the class"):
        build_registry("sales", [("order", [OrderPlaced])], upcasters=[*STEPS, ("OrderPlaced", 3, to_3)])


def test_an_upcaster_to_nowhere_is_found_at_start() -> None:
    with pytest.raises(RegistryError, match="has an upcaster but no class"):
        build_registry("sales", [], upcasters=STEPS)


def test_two_classes_of_one_name_are_found_at_start() -> None:
    class Again(Event, name="OrderPlaced", version=1):
        pass

    with pytest.raises(RegistryError, match="registered twice"):
        build_registry("sales", [("order", [OrderPlaced, Again])], upcasters=STEPS)


def test_an_event_without_name_is_found_at_start() -> None:
    class Nameless(Event):
        pass

    with pytest.raises(RegistryError, match="needs name="):
        Registry("sales").add(Nameless, category="order")


def test_a_foreign_event_ignores_what_it_does_not_need() -> None:
    class Delivered(ForeignEvent, type="sales.VehicleDelivered", category="order", versions=(1, 2)):
        vin: str
        odometer_km: int = 0

    registry = build_registry("service_desk", [], [Delivered])
    event = registry.decode(stored("sales.VehicleDelivered", 2, '{"vin":"X","colour":"red"}')).event
    assert event == Delivered(vin="X")
    full = registry.decode(stored("sales.VehicleDelivered", 1, '{"vin":"X","odometer_km":3,"y":1}')).event
    assert full == Delivered(vin="X", odometer_km=3)


def test_an_own_event_cannot_be_foreign() -> None:
    class Own(ForeignEvent, type="sales.Own", category="order"):
        pass

    with pytest.raises(RegistryError, match="own event"):
        build_registry("sales", [], [Own])
