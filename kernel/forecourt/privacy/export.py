"""Everything that the platform has recorded about one person, from the events themselves, with where it stands.

Which events are a person's is told by the declarations of all services: the streams that bear the person's id, those
whose first event names the person in a field that some event declares as its ``person``, and single events that do so
in streams of something else (a car, say). Where the aggregate is a person of its own (a lead), one event that names the
person makes the whole stream theirs. What names somebody else is left out.

The whole log is read once, a page at a time; only what is found is kept in memory.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from forecourt.codec import Codec
from forecourt.events import AnyEvent
from forecourt.eventstore.port import EventStore, StoredEvent
from forecourt.privacy.fields import PersonalFields
from forecourt.privacy.keys import KeyStore
from forecourt.registry import UndecodableEvent
from forecourt.service import Service

_decode = msgspec.json.Decoder(dict[str, Any]).decode

COLUMNS = ("event_id", "type", "time", "stream", "sequence", "position", "field", "personal", "value")
"""The columns of the CSV form: one row a value."""


class Entry(msgspec.Struct, frozen=True):
    """One event about the person: where it stands, all its values, and the paths of the personal ones.

    ``data`` is None where the event cannot be read; the rest still says that it is there.
    """

    event_id: UUID
    type: str
    version: int
    time: str
    stream: str
    sequence: int
    position: int
    dealer_id: str
    brand: str
    data: dict[str, Any] | None
    personal: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """What one service declares."""

    codec: Codec
    categories: frozenset[str]
    persons: frozenset[str]
    """Categories whose aggregates are persons of their own."""


class Export:
    """Finds and reads the events of persons, over all of ``services``."""

    def __init__(self, services: Sequence[Service], store: EventStore, keys: KeyStore | None) -> None:
        self._store = store
        self._parts = [_part(service, keys) for service in services]
        self._by_category = {category: part for part in self._parts for category in part.categories}
        events = [cls for service in services for cls in service.registry.own_events().values()]
        self._links = frozenset(cls.person for cls in events if cls.person is not None)

    async def of(self, person: UUID) -> list[Entry]:
        """All entries of a person in the order of the log; none where nothing is recorded."""
        found = await self._find(str(person))
        entries = [await self._entry(event) for event in found]
        return sorted(entries, key=lambda entry: entry.position)

    async def _find(self, person: str) -> list[StoredEvent]:
        streams: set[str] = set()
        single: list[StoredEvent] = []
        async for batch in self._store.read_all(categories=sorted(self._by_category)):
            for event in batch.events:
                if event.stream.endswith(person):
                    streams.add(event.stream)
                elif person in event.data and self._names(event, person):
                    is_whole = event.sequence == 1 or event.category in self._part_of(event).persons
                    if is_whole:
                        streams.add(event.stream)
                    else:
                        single.append(event)
        found = [event for event in single if event.stream not in streams]
        for stream in streams:
            async for page in self._store.read_stream(stream):
                found += [event for event in page if not self._names_another(event, person)]
        return found

    def _part_of(self, event: StoredEvent) -> _Part:
        return self._by_category[event.category]

    def _named(self, event: StoredEvent) -> set[str]:
        try:
            data = _decode(event.data)
        except msgspec.DecodeError:
            return set()
        return {data[link] for link in self._links if isinstance(data.get(link), str)}

    def _names(self, event: StoredEvent, person: str) -> bool:
        return person in self._named(event)

    def _names_another(self, event: StoredEvent, person: str) -> bool:
        named = self._named(event)
        return bool(named) and person not in named

    async def _entry(self, event: StoredEvent) -> Entry:
        codec = self._part_of(event).codec
        try:
            (recorded,) = await codec.decode([event])
        except UndecodableEvent:
            return _entry(event, None, ())
        fact: AnyEvent = recorded.event
        data = fact.model_dump(mode="json")
        return _entry(event, data, _personal_paths(codec.registry.personal_fields(type(fact)), data))


def _part(service: Service, keys: KeyStore | None) -> _Part:
    registry = service.registry
    own = {category for category in service.categories if None in registry.persons_of(category)}
    return _Part(Codec(registry, keys), service.categories, frozenset(own))


def _entry(event: StoredEvent, data: dict[str, Any] | None, personal: tuple[str, ...]) -> Entry:
    return Entry(
        event.id,
        event.type,
        event.version,
        event.time.isoformat(),
        event.stream,
        event.sequence,
        event.position,
        event.dealer_id,
        event.brand,
        data,
        personal,
    )


def _personal_paths(fields: PersonalFields | None, data: dict[str, Any]) -> tuple[str, ...]:
    marked = {path for path, _ in fields.paths()} if fields is not None else set()
    return tuple(path for path, value in _flat(data) if value is not None and _is_marked(path, marked))


def _is_marked(path: str, marked: set[str]) -> bool:
    """Whether a path, or one above it, is that of a personal value; indexes and keys count as 0."""
    parts = path.split(".")
    for length in range(1, len(parts) + 1):
        above = parts[:length]
        if any(_fits(above, one.split(".")) for one in marked):
            return True
    return False


def _fits(parts: list[str], pattern: list[str]) -> bool:
    return len(parts) == len(pattern) and all(
        part == wanted or wanted == "0" for part, wanted in zip(parts, pattern, strict=True)
    )


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every single value of decoded JSON with its path."""
    if isinstance(value, dict):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield path, value
        return
    for key, inner in items:
        yield from _flat(inner, f"{path}.{key}" if path else str(key))


def as_json(person: UUID, entries: Sequence[Entry]) -> str:
    """The export as one JSON object."""
    return msgspec.json.format(msgspec.json.encode({"person": person, "events": entries})).decode()


def as_csv(entries: Sequence[Entry]) -> str:
    """The export as CSV (RFC 4180) with a header: one row a value."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for entry in entries:
        place = (entry.event_id, entry.type, entry.time, entry.stream, entry.sequence, entry.position)
        for path, value in _flat(entry.data or {}):
            shown = "" if value is None else value
            writer.writerow((*place, path, "yes" if path in entry.personal else "no", shown))
    return out.getvalue()
