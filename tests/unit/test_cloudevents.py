"""Stored events as CloudEvents: the published shape, the way back, and what is refused."""

import json
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecourt.eventstore.port import StoredEvent
from forecourt.messaging.cloudevents import (
    MAX_ROUTING_KEY,
    MalformedCloudEvent,
    binding_key,
    from_cloudevent,
    routing_key,
    to_cloudevent,
)

EVENT = StoredEvent(
    position=3_000_000_000,
    stream="repair_order-7c9e6679-7425-40de-944b-e07fc1f90ae7",
    sequence=4,
    id=UUID("0b5f5b5e-0000-4000-8000-000000000001"),
    type="service_desk.RepairOrderOpened",
    version=2,
    time=datetime(2026, 1, 5, 9, 0, 0, 250_000, tzinfo=UTC),
    data='{"km": 12000, "price": "1.10", "note": "刹车 \\"异响\\""}',
    correlation_id=UUID("0b5f5b5e-0000-4000-8000-000000000002"),
    causation_id=UUID("0b5f5b5e-0000-4000-8000-000000000003"),
    dealer_id="D001",
    brand="甲",
    actor_id="staff-7",
    metadata='{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}',
)


def test_the_published_shape() -> None:
    assert json.loads(to_cloudevent(EVENT)) == {
        "specversion": "1.0",
        "id": "0b5f5b5e-0000-4000-8000-000000000001",
        "type": "crm.service_desk.RepairOrderOpened.v2",
        "source": "/crm/service_desk",
        "subject": "repair_order-7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "time": "2026-01-05T09:00:00.250000Z",
        "datacontenttype": "application/json",
        "sequence": "0000000004",
        "position": "0000000003000000000",
        "correlationid": "0b5f5b5e-0000-4000-8000-000000000002",
        "causationid": "0b5f5b5e-0000-4000-8000-000000000003",
        "dealerid": "D001",
        "brand": "甲",
        "actorid": "staff-7",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": {"km": 12000, "price": "1.10", "note": '刹车 "异响"'},
    }


def test_data_goes_through_untouched_to_the_last_space() -> None:
    assert EVENT.data.encode() in to_cloudevent(EVENT)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
events = st.builds(
    StoredEvent,
    position=st.integers(1, 2**63 - 1),
    stream=st.uuids().map(lambda key: f"order-{key}"),
    sequence=st.integers(1, 2**31),
    id=st.uuids(),
    type=st.sampled_from(["sales.OrderPlaced", "service_desk.RepairOrderOpened"]),
    version=st.integers(1, 99),
    time=st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    data=st.dictionaries(text, text | st.integers() | st.none()).map(
        lambda d: msgspec.json.encode(d).decode()
    ),
    correlation_id=st.uuids(),
    causation_id=st.none() | st.uuids().filter(lambda key: key.int != 0),
    dealer_id=text,
    brand=text,
    actor_id=text,
    metadata=st.just("{}"),
)


@given(events)
def test_the_way_there_and_back_changes_nothing(event: StoredEvent) -> None:
    assert from_cloudevent(to_cloudevent(event)) == event


def changed(**attributes: object) -> bytes:
    message = json.loads(to_cloudevent(EVENT))
    message.update(attributes)
    return json.dumps({name: value for name, value in message.items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "body"),
        (b"\xff\xfe", "body"),
        (b"[]", "attribute"),
        (b"{}", "attribute: .*specversion"),
        (changed(id="7"), r"attribute: .*\$\.id"),
        (changed(id=None), "attribute: .*id"),
        (changed(data=None), "attribute: .*data"),
        (changed(data=[1]), "attribute"),
        (changed(data="text"), "attribute"),
        (changed(specversion="0.3"), "specversion"),
        (changed(datacontenttype="text/xml"), "datacontenttype"),
        (changed(type="crm.sales.OrderPlaced"), "type"),
        (changed(type="com.other.Thing.v1"), "type"),
        (changed(type="crm.sales.OrderPlaced.v0"), "type"),
        (changed(time="yesterday"), r"\$\.time"),
        (changed(time="2026-01-05T09:00:00"), "time: must have a time zone"),
        (changed(sequence="-1"), "sequence"),
        (changed(position="99999999999999999999"), "position"),
        (changed(position=7), r"\$\.position"),
    ],
)
def test_what_is_malformed_is_refused_by_name(body: bytes, named: str) -> None:
    with pytest.raises(MalformedCloudEvent, match=named) as caught:
        from_cloudevent(body)
    assert caught.value.fields


@given(st.binary(max_size=300))
def test_no_garbage_does_anything_but_be_refused(body: bytes) -> None:
    with pytest.raises(MalformedCloudEvent):
        from_cloudevent(body)


def test_the_routing_key_names_service_event_brand_and_dealer() -> None:
    assert routing_key("sales.OrderPlaced", "chery", "D001") == "sales.OrderPlaced.chery.D001"
    assert routing_key("sales.OrderPlaced", "", "") == "sales.OrderPlaced._._"
    assert routing_key("sales.OrderPlaced", "a.b", "* #") == "sales.OrderPlaced.a_b.___"
    assert binding_key("sales.OrderPlaced") == "sales.OrderPlaced.#"


@given(brand=st.text(max_size=300), dealer=st.text(max_size=300))
def test_a_routing_key_always_has_four_words_that_fit(brand: str, dealer: str) -> None:
    key = routing_key("sales.OrderPlaced", brand, dealer)
    assert len(key.encode(errors="surrogatepass")) <= MAX_ROUTING_KEY
    assert key.startswith("sales.OrderPlaced.")
    assert not set(key) & set("*# ")
    assert len(key.split(".")) <= 4
