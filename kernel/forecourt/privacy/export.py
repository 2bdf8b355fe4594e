"""Everything that the platform has recorded about one person, from the events themselves, with where it stands.

Which events are a person's: the streams that bear the person's id, those whose first event names the person in a
field that is declared to do so (`Event.person`, `Service.person_field`), and single events that do so in streams of
something else (a car, say). Where the aggregate is a person of its own (a lead), and so has a key of its own, one event
that names the person makes the whole stream theirs. What names somebody else is left out.

Events are read as they were recorded, not as the classes of today: so it is complete in every process, whichever
services are installed there. The whole log is read once, a page at a time; only what is found is kept in memory.
"""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from copy import copy
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import msgspec

from forecourt.access.scope import UNRESTRICTED, Scope
from forecourt.codec import Damage, OnDamage, not_told
from forecourt.eventstore.port import EventStore, StoredEvent
from forecourt.privacy.cipher import KeyLost, PersonKey, TamperedCiphertext, is_sealed, place
from forecourt.privacy.fields import ERASED, SEALED
from forecourt.privacy.keys import Destroyed, KeyStore
from forecourt.privacy.keys import Entry as KeyEntry
from forecourt.registry import TamperedEvent
from forecourt.service import Service

_decode = msgspec.json.Decoder(dict[str, Any]).decode

COLUMNS = ("event_id", "type", "time", "stream", "sequence", "position", "field", "personal", "value")
"""The columns of the CSV form: one row a value."""


class Entry(msgspec.Struct, frozen=True):
    """One event about the person: where it stands, all its values, and the paths of the personal ones.

    ``data`` is None where the event cannot be decrypted; the rest still says that it is there.
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


def links_of(services: Iterable[Service]) -> frozenset[str]:
    """The fields in which events name persons, as far as these services declare them."""
    own = {cls.person for service in services for cls in service.registry.own_events().values()}
    return frozenset(link for link in own | {service.person_field for service in services} if link)


class Export:
    """Finds and reads the events of persons, within a scope.

    ``links`` are the fields in which events name persons. ``on_damage`` is told of what cannot be decrypted.
    """

    def __init__(
        self,
        store: EventStore,
        keys: KeyStore,
        links: Collection[str],
        *,
        scope: Scope = UNRESTRICTED,
        on_damage: OnDamage = not_told,
    ) -> None:
        self._store = store
        self._keys = keys
        self._links = frozenset(links)
        self._scope = scope
        self._on_damage = on_damage

    def within(self, scope: Scope) -> Self:
        """The same, limited to another scope: to the person's own stream, and what its stores did."""
        other = copy(self)
        other._scope = scope  # noqa: SLF001
        return other

    async def of(self, person: UUID) -> list[Entry]:
        """All entries of a person in the order of the log; none where nothing is recorded."""
        found = [event for event in await self._find(str(person)) if self._covers(event, str(person))]
        owners = [(str(person), str(event.stream_id)) for event in found]
        keys = await self._keys.get({str(person), *(owner for both in owners for owner in both)})
        entries = [_entry(event, both, keys) for event, both in zip(found, owners, strict=True)]
        for event, both, entry in zip(found, owners, entries, strict=True):
            if entry.data is None:
                self._on_damage(event.type.partition(".")[0], _damage(event, both, keys))
        return sorted(entries, key=lambda entry: entry.position)

    async def erased_at(self, person: UUID) -> datetime | None:
        """When the person's key was destroyed, None while it is there."""
        entry = (await self._keys.get([str(person)])).get(str(person))
        return entry.at if isinstance(entry, Destroyed) else None

    async def _find(self, person: str) -> list[StoredEvent]:
        streams: set[str] = set()
        single: list[StoredEvent] = []
        async for batch in self._store.read_all():
            for event in batch.events:
                if event.stream.endswith(person):
                    streams.add(event.stream)
                elif person in event.data and person in self._named(event):
                    if event.sequence == 1:
                        streams.add(event.stream)
                    else:
                        single.append(event)
        persons = await self._keys.get({str(event.stream_id) for event in single})
        streams |= {event.stream for event in single if str(event.stream_id) in persons}
        found = [event for event in single if event.stream not in streams]
        for stream in streams:
            async for page in self._store.read_stream(stream):
                found += [event for event in page if not self._names_another(event, person)]
        return found

    def _covers(self, event: StoredEvent, person: str) -> bool:
        within = self._scope.covers_dealer(event.dealer_id) and self._scope.covers_brand(event.brand)
        return within or event.stream.endswith(person)

    def _named(self, event: StoredEvent) -> set[str]:
        try:
            data = _decode(event.data)
        except msgspec.DecodeError:
            return set()
        return {data[link] for link in self._links if isinstance(data.get(link), str)}

    def _names_another(self, event: StoredEvent, person: str) -> bool:
        named = self._named(event)
        return bool(named) and person not in named


def _entry(event: StoredEvent, owners: tuple[str, ...], keys: dict[str, KeyEntry]) -> Entry:
    data, personal = _opened(event, owners, keys)
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


def _damage(event: StoredEvent, owners: tuple[str, ...], keys: dict[str, KeyEntry]) -> Damage:
    """Why an event cannot be decrypted: its key is lost, or else it is not what was written."""
    if not keys.keys() & set(owners) or any(_is_of_a_lost_key(event, owner, keys) for owner in owners):
        return Damage("person-key-lost", owners[:1])
    return Damage(TamperedEvent.slug, (str(event.id),), event)


def _is_of_a_lost_key(event: StoredEvent, owner: str, keys: dict[str, KeyEntry]) -> bool:
    """Whether it is the owner's all right, but of a key before the one that the owner has now."""
    key = keys.get(owner)
    if not isinstance(key, PersonKey):
        return False
    try:
        _unsealed(key, _decode(event.data)[SEALED], owner, event)
    except KeyLost:
        return True
    except (TamperedCiphertext, msgspec.DecodeError, KeyError):
        return False
    return False


def _opened(
    event: StoredEvent, owners: tuple[str, ...], keys: dict[str, KeyEntry]
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """An event's values, decrypted, and the paths of the personal ones; None where it cannot be decrypted."""
    try:
        left = _decode(event.data)
        sealed = left.pop(SEALED, None)
        if sealed is None:
            return left, ()
        entries = [keys[owner] for owner in owners if owner in keys]
        living = [(owner, key) for owner in owners if isinstance(key := keys.get(owner), PersonKey)]
        for owner, key in living:
            try:
                private = _unsealed(key, sealed, owner, event)
            except TamperedCiphertext:
                continue
            data = {**left, **private}
            return data, _differing(left, data)
    except msgspec.DecodeError:
        return None, ()
    if len(entries) > len(living):
        erased = tuple(path for path, value in _flat(left) if value == ERASED)
        return left, erased
    return None, ()


def _unsealed(key: PersonKey, sealed: object, owner: str, event: StoredEvent) -> dict[str, Any]:
    if not is_sealed(sealed):
        raise TamperedCiphertext("is not an encrypted text")
    bound_to = place(sealed, owner, event.type, event.stream, event.sequence)
    return _decode(key.unseal(sealed, bound_to))


def _differing(left: dict[str, Any], data: dict[str, Any]) -> tuple[str, ...]:
    """The paths of values that are not what is left without the key: the personal ones."""
    without = dict(_flat(left))
    return tuple(
        path
        for path, value in _flat(data)
        if value is not None and (path not in without or without[path] != value)
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
