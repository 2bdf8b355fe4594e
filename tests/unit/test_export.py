"""The export of one person holds every personal value that was ever written about them, and nobody else's."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from customer.customer import ProfileCorrected
from forecourt.access.scope import UNRESTRICTED, Scope
from forecourt.codec import Codec
from forecourt.discovery import find_services
from forecourt.events import Event
from forecourt.eventstore.memory import MemoryEventStore
from forecourt.eventstore.port import NewEvent
from forecourt.privacy.cipher import PersonKey
from forecourt.privacy.export import COLUMNS, Entry, Export, as_csv, as_json, links_of
from forecourt.privacy.fields import ERASED, PersonalFields
from forecourt.privacy.keys import MemoryKeys
from forecourt.service import Service
from forecourt.testing.given import an_id
from sales.lead import LeadQualified

GOLDEN = Path(__file__).parents[1] / "golden"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WANG, LI = an_id("wang"), an_id("li")
SERVICES = list(find_services())
DAYS = ((NOW.date() + timedelta(days=1_000 + day)).isoformat() for day in count())
"""Days that nothing else has."""


def personal_events() -> Iterator[tuple[Service, str, type[Event], PersonalFields]]:
    """Every event of every service that has personal fields, with its service and category."""
    for service in SERVICES:
        for cls in service.registry.own_events().values():
            fields = service.registry.personal_fields(cls)
            if fields is not None:
                yield service, service.registry.category_of(cls), cls, fields


PERSONAL = list(personal_events())


class House:
    """A log to which events about persons are written."""

    def __init__(self) -> None:
        self.store = MemoryEventStore()
        self.keys = MemoryKeys()
        self.export = Export(self.store, self.keys, links_of(SERVICES))

    async def write(
        self,
        service: Service,
        stream: str,
        event: Event,
        after: int = 0,
        *,
        dealer_id: str = "",
        brand: str = "",
    ) -> None:
        (data,) = await Codec(service.registry, self.keys).encode(stream, [event], after=after)
        type_ = service.registry.type_of(type(event))
        new = NewEvent(
            id=uuid4(),
            type=type_,
            version=event.event_version,
            time=NOW,
            data=data,
            correlation_id=uuid4(),
            dealer_id=dealer_id,
            brand=brand,
        )
        await self.store.append(stream, [new], expected=after)

    async def write_all(self, person: UUID, name: str) -> set[str]:
        """Every personal event about a person; the values, each of its own."""
        values: set[str] = set()
        lengths: dict[str, int] = {}
        for service, category, cls, fields in PERSONAL:
            event = _filled(service, cls, fields, person, f"{name} {cls.event_name}", values)
            stream = f"{category}-{person if category == 'customer' else uuid4()}"
            await self.write(service, stream, event, lengths.get(stream, 0))
            lengths[stream] = lengths.get(stream, 0) + 1
            if category == "lead":
                # Whose a lead is may be known only later.
                await self.write(service, stream, LeadQualified(customer_id=person, model="H5"), 1)
        return values


def _filled(
    service: Service, cls: type[Event], fields: PersonalFields, person: UUID, label: str, values: set[str]
) -> Event:
    """The golden sample of an event, with values that nothing else has in its personal fields."""
    path = GOLDEN / service.name / f"{cls.event_name}.v{cls.event_version}.json"
    sample = json.loads(path.read_text())
    data = fields.masked(json.loads(path.read_text()), "MASK")
    # A list that is personal as a whole is masked as a whole.
    data |= {
        name: ["MASK"] for name, value in sample.items() if isinstance(value, list) and data[name] == "MASK"
    }
    data |= {name: "DAY" for name, value in sample.items() if data[name] == "MASK" and is_day(value)}
    if "customer_id" in data:
        data["customer_id"] = str(person) if cls.person else None
    return cls.model_validate_json(json.dumps(_numbered(data, label, values)))


def _numbered(value: Any, label: str, values: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _numbered(one, label, values) for key, one in value.items()}
    if isinstance(value, list):
        return [_numbered(one, label, values) for one in value]
    if value not in ("MASK", "DAY"):
        return value
    made = f"{label} {len(values)}." if value == "MASK" else next(DAYS)
    values.add(made)
    return made


def is_day(value: Any) -> bool:
    """Whether a value is a date."""
    return isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value) is not None


def values_of(entries: list[Entry]) -> set[str]:
    """The personal values of an export."""
    return {_at(entry.data, path) for entry in entries for path in entry.personal}


def _at(data: Any, path: str) -> Any:
    for part in path.split("."):
        data = data[int(part)] if isinstance(data, list) else data[part]
    return data


async def test_every_personal_value_ever_written_is_in_it_and_nothing_of_anybody_else() -> None:
    house = House()
    wang, li = await house.write_all(WANG, "Wang"), await house.write_all(LI, "Li")
    assert len(wang) == len(li) > 15
    entries = await house.export.of(WANG)
    assert values_of(entries) == wang
    for text in (as_json(WANG, entries), as_csv(entries)):
        assert all(value in text for value in wang)
        assert not [value for value in li if value in text]
        assert str(LI) not in text


async def test_each_value_says_which_event_it_is_from() -> None:
    house = House()
    await house.write_all(WANG, "Wang")
    entries = await house.export.of(WANG)
    stored = {event.position: event async for batch in house.store.read_all() for event in batch.events}
    assert [entry.position for entry in entries] == sorted(entry.position for entry in entries)
    for entry in entries:
        event = stored[entry.position]
        assert (entry.event_id, entry.type, entry.stream, entry.sequence) == (
            event.id,
            event.type,
            event.stream,
            event.sequence,
        )
    header, *rows = as_csv(entries).splitlines()
    assert header == ",".join(COLUMNS)
    assert all(row.split(",")[0] in {str(entry.event_id) for entry in entries} for row in rows)


async def test_events_of_things_are_his_only_where_they_name_him() -> None:
    house = House()
    sales = next(service for service in SERVICES if service.name == "sales")
    car = f"vehicle-{uuid4()}"
    for number, (name, person) in enumerate(
        [("VehicleRegistered", None), ("VehicleReserved", WANG), ("VehicleReserved", LI)]
    ):
        cls = sales.registry.own_events()[f"sales.{name}"]
        data = json.loads((GOLDEN / "sales" / f"{name}.v1.json").read_text())
        if person is not None:
            data["customer_id"] = str(person)
        await house.write(sales, car, cls.model_validate_json(json.dumps(data)), number)
    (entry,) = await house.export.of(WANG)
    assert (entry.type, entry.sequence) == ("sales.VehicleReserved", 2)


async def test_of_an_erased_person_there_is_what_is_left() -> None:
    house = House()
    wang = await house.write_all(WANG, "Wang")
    await house.keys.destroy(str(WANG), NOW)
    entries = await house.export.of(WANG)
    customer = [entry for entry in entries if entry.stream == f"customer-{WANG}"]
    assert customer
    assert values_of(customer) <= {ERASED}
    assert not [value for value in wang if value in as_json(WANG, customer)]


async def test_when_somebody_was_erased_is_said() -> None:
    house = House()
    await house.write_all(WANG, "Wang")
    assert await house.export.erased_at(WANG) is None
    await house.keys.destroy(str(WANG), NOW)
    assert await house.export.erased_at(WANG) == NOW


async def test_any_one_service_exports_the_events_of_all() -> None:
    house = House()
    wang = await house.write_all(WANG, "Wang")
    for service in (one for one in SERVICES if one.name != "audit"):
        alone = Export(house.store, house.keys, links_of([service]))
        assert values_of(await alone.of(WANG)) == wang, service.name


async def test_within_a_scope_there_is_the_person_and_what_its_stores_did() -> None:
    house = House()
    sales = next(service for service in SERVICES if service.name == "sales")
    cls = sales.registry.own_events()["sales.OrderPlaced"]
    data = json.loads((GOLDEN / "sales" / "OrderPlaced.v1.json").read_text())
    order = cls.model_validate_json(json.dumps(data | {"customer_id": str(WANG)}))
    for store, brand in (("D001", "hongtong"), ("D002", "hongtong"), ("D001", "chery"), ("", "")):
        await house.write(sales, f"order-{uuid4()}", order, dealer_id=store, brand=brand)
    customer = next(service for service in SERVICES if service.name == "customer")
    renamed = ProfileCorrected(field="name", value="Wang", reason="misspelt")
    await house.write(customer, f"customer-{WANG}", renamed, dealer_id="D002", brand="hongtong")

    async def places(scope: Scope) -> list[tuple[str, str, str]]:
        entries = await house.export.within(scope).of(WANG)
        return [(entry.type.partition(".")[0], entry.dealer_id, entry.brand) for entry in entries]

    assert len(await places(UNRESTRICTED)) == 5
    own = ("customer", "D002", "hongtong")
    one_store = Scope(frozenset({"D001"}), frozenset({"hongtong"}))
    assert await places(one_store) == [("sales", "D001", "hongtong"), own]
    one_brand = Scope(None, frozenset({"hongtong"}))
    assert await places(one_brand) == [("sales", "D001", "hongtong"), ("sales", "D002", "hongtong"), own]


async def test_what_is_encrypted_for_somebody_else_is_not_decrypted() -> None:
    house = House()
    await house.keys.obtain([str(WANG), str(LI)])
    li = (await house.keys.get([str(LI)]))[str(LI)]
    assert isinstance(li, PersonKey)
    sealed = li.seal(b'{"name":"Li"}', f"{LI}|customer.CustomerRegistered".encode())
    new = NewEvent(
        id=uuid4(),
        type="customer.CustomerRegistered",
        version=1,
        time=NOW,
        data=json.dumps({"_personal": sealed}),
        correlation_id=uuid4(),
    )
    await house.store.append(f"customer-{WANG}", [new], expected=0)
    (entry,) = await house.export.of(WANG)
    assert entry.data is None


async def test_what_cannot_be_read_is_named_all_the_same() -> None:
    house = House()
    await house.keys.obtain([str(WANG)])
    new = NewEvent(
        id=uuid4(),
        type="customer.CustomerRegistered",
        version=1,
        time=NOW,
        data='{"_personal":"enc:v1:AAAA"}',
        correlation_id=uuid4(),
    )
    await house.store.append(f"customer-{WANG}", [new], expected=0)
    told: list[tuple[str, str]] = []
    export = Export(
        house.store,
        house.keys,
        links_of(SERVICES),
        on_damage=lambda service, damage: told.append((service, damage.slug)),
    )
    (entry,) = await export.of(WANG)
    assert (entry.event_id, entry.data, entry.personal) == (new.id, None, ())
    del house.keys.entries[str(WANG)]
    await export.of(WANG)
    assert told == [("customer", "ciphertext-tampered"), ("customer", "person-key-lost")]


async def test_an_event_of_a_lost_key_is_not_called_tampered_with_where_its_person_has_a_new_one() -> None:
    house = House()
    await house.write_all(WANG, "Wang")
    del house.keys.entries[str(WANG)]
    await house.keys.obtain([str(WANG)])
    told: list[str] = []
    export = Export(
        house.store, house.keys, links_of(SERVICES), on_damage=lambda _, damage: told.append(damage.slug)
    )
    assert any(entry.data is None for entry in await export.of(WANG))
    assert set(told) == {"person-key-lost"}


async def test_of_somebody_unknown_there_is_nothing() -> None:
    assert await House().export.of(WANG) == []
