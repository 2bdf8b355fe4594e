"""Between typed events and stored records, a batch at a time; what is personal is encrypted in the records.

All personal values of an event are one ciphertext, in the member ``_personal`` of its data. What stands in their places
is what they read as without the key (`forecourt.privacy.fields`), so an event of an erased person needs no repair.

Asynchronous because the keys of persons are looked up once for a whole batch. Where a person's key is destroyed
or lost, their fields read as erased, and the rest of the event as ever. Events from before encryption are read as they
are.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from forecourt import metrics
from forecourt.events import AnyEvent, Event, Recorded
from forecourt.eventstore.port import StoredEvent
from forecourt.privacy.cipher import PREFIX, KeyLost, OpenKey, PersonKey, TamperedCiphertext, is_sealed, place
from forecourt.privacy.fields import SEALED
from forecourt.privacy.keys import Entry, KeyStore, Person
from forecourt.registry import Registry, TamperedEvent, UndecodableEvent

_decode_json = msgspec.json.Decoder(dict[str, Any]).decode
_decode_value = msgspec.json.Decoder(Any).decode
_encode_json = msgspec.json.encode

_MEMBER = f'"{SEALED}"'

LOOKUP = 1_000
"""Events whose keys are looked up together: while those before them are decrypted, the next ones' are on their way."""


class _Draft(NamedTuple):
    """A new event with personal values, between object and text."""

    at: int
    stream: str
    sequence: int
    type: str
    person: Person
    data: dict[str, Any]
    private: dict[str, Any]


class _Sealed(msgspec.Struct, gc=False):
    """A stored event with encrypted values, between text and object; a third of a tuple's cost with names."""

    person: Person
    data: dict[str, Any]
    text: object


class Damage(NamedTuple):
    """Something stored that cannot be read: an event, or what ``marks`` name. ``slug`` says why."""

    slug: str
    marks: tuple[str, ...]
    """What tells it from other damage: the event, the persons, or the stream."""
    event: StoredEvent | None = None


OnDamage = Callable[[str, Damage], None]
"""Told of the service and of the damage, each time that it is met."""


def not_told(_service: str, _damage: Damage) -> None:
    """For those who read what nobody else will."""


class Codec:
    """Encodes new events and decodes stored ones.

    Without ``keys`` (in tests, and where no personal data is) events are written plain. ``on_damage`` is told of what
    cannot be read.
    """

    def __init__(
        self, registry: Registry, keys: KeyStore | None = None, *, on_damage: OnDamage = not_told
    ) -> None:
        self.registry = registry
        self._keys = keys
        self._on_damage = on_damage

    async def encode(self, stream: str, events: Sequence[Event], *, after: int) -> list[str]:
        """The ``data`` of each event, as JSON text, to be appended after sequence ``after`` and nowhere else.

        Keys of new persons are made in one go.
        """
        return (await self.encode_many([(stream, events, after)]))[0]

    async def encode_many(self, streams: Sequence[tuple[str, Sequence[Event], int]]) -> list[list[str]]:
        """The same for events of several streams, still with one lookup of keys."""
        texts: list[list[str]] = []
        drafts: list[tuple[list[str], _Draft]] = []
        for stream, events, after in streams:
            own: list[str] = []
            for event in events:
                draft = None if self._keys is None else self._draft(stream, event, after, len(own))
                own.append(event.model_dump_json() if draft is None else "")
                if draft is not None:
                    drafts.append((own, draft))
            texts.append(own)
        if drafts and self._keys is not None:
            entries = await self._keys.obtain({draft.person for _, draft in drafts})
            for own, draft in drafts:
                own[draft.at] = _sealed(draft, entries[draft.person])
        return texts

    def _draft(self, stream: str, event: Event, after: int, at: int) -> _Draft | None:
        """An event taken apart, None where nothing in it is personal."""
        fields = self.registry.personal_fields(type(event))
        if fields is None:
            return None
        data = event.model_dump(mode="json")
        if not (private := fields.split(data)):
            return None
        type_, person = self.registry.type_of(type(event)), fields.person_of(data, stream)
        return _Draft(at, stream, after + at + 1, type_, person, data, private)

    async def decode(self, batch: Sequence[StoredEvent]) -> list[Recorded[AnyEvent]]:
        """The typed events of a batch, with one lookup of keys. Raises `UndecodableEvent`."""
        try:
            return await self._decode(batch)
        except UndecodableEvent as error:
            event = error.event
            self._on_damage(self.registry.service, Damage(error.slug, (str(event.id),), event))
            raise

    async def _decode(self, batch: Sequence[StoredEvent]) -> list[Recorded[AnyEvent]]:
        opened = [self._open(stored) if _MEMBER in stored.data else None for stored in batch]
        sealed = [(index, one) for index, one in enumerate(opened) if one is not None]
        if not sealed:
            return self.registry.decode_all(batch)
        if self._keys is None:
            raise UndecodableEvent(batch[sealed[0][0]], "is encrypted, and there are no keys here")
        read = self.registry.read
        parts = [sealed[start : start + LOOKUP] for start in range(0, len(sealed), LOOKUP)]
        lookup = _look_up(self._keys, parts[0])
        lost: set[Person] = set()
        try:
            # One turn of the loop: the keys are looked up while the other events are decoded.
            await asyncio.sleep(0)
            found: list[Any] = [
                read(stored, None) if one is None else None for stored, one in zip(batch, opened, strict=True)
            ]
            for part, following in zip(parts, [*parts[1:], None], strict=True):
                entries = await lookup
                if following is not None:
                    lookup = _look_up(self._keys, following)
                    await asyncio.sleep(0)
                lost |= _unseal_all(part, batch, entries)
                for index, one in part:
                    found[index] = read(batch[index], one.data)
        finally:
            lookup.cancel()
        if lost:
            metrics.LOST_KEYS.inc(len(lost))
            self._on_damage(self.registry.service, Damage("person-key-lost", tuple(sorted(lost))))
        return found

    def _open(self, stored: StoredEvent) -> _Sealed | None:
        """A stored event, taken apart; None where nothing in it is read that is encrypted."""
        fields = self.registry.personal(stored)
        if fields is None:
            return None
        try:
            data = _decode_json(stored.data)
        except msgspec.DecodeError as error:
            raise UndecodableEvent(stored, "data does not fit: DecodeError") from error
        text = data.pop(SEALED, None)
        return None if text is None else _Sealed(fields.person_of(data, stored.stream), data, text)

    # --- states

    async def seal_state(self, stream: str, text: str) -> str | None:
        """The JSON of an aggregate's state as it may be stored, encrypted where it holds personal data.

        None where it may not be stored: the person is erased, or the state may hold data of several persons.
        """
        persons = self.registry.persons_of(stream.partition("-")[0])
        if self._keys is None or not persons:
            return text
        person = stream.partition("-")[2]
        if persons != {None}:
            return None
        entry = (await self._keys.obtain([person]))[person]
        if not isinstance(entry, PersonKey):
            return None
        return _encode_json(entry.seal(text.encode(), f"{person}|{stream}|state".encode())).decode()

    async def unseal_state(self, stream: str, stored: str) -> str | None:
        """What `seal_state` was given, from what it answered; None where that cannot be told (any more)."""
        if self._keys is None or not self.registry.persons_of(stream.partition("-")[0]):
            return stored
        value, person = _decode_value(stored), stream.partition("-")[2]
        entry = (await self._keys.get([person])).get(person)
        if not isinstance(entry, PersonKey) or not is_sealed(value):
            return None
        try:
            return entry.unseal(value, f"{person}|{stream}|state".encode()).decode()
        except TamperedCiphertext:
            self._on_damage(self.registry.service, Damage("snapshot-tampered", (person,)))
            return None

    def on_erased(self, forget: Callable[[], None]) -> None:
        """Have ``forget`` called when somebody is erased, in whatever process, or may have been."""
        if self._keys is not None:
            self._keys.on_destroyed(lambda _person: forget())


def _look_up(keys: KeyStore, part: Sequence[tuple[int, _Sealed]]) -> "asyncio.Future[dict[Person, Entry]]":
    return asyncio.ensure_future(keys.get({sealed.person for _, sealed in part}))


def _sealed(draft: _Draft, entry: Entry) -> str:
    # Of somebody who was erased, what comes late is not written any more.
    if isinstance(entry, PersonKey):
        bound_to = place(PREFIX, draft.person, draft.type, draft.stream, draft.sequence)
        draft.data[SEALED] = entry.seal(_encode_json(draft.private), bound_to)
    return _encode_json(draft.data).decode()


def _unseal_all(
    part: Sequence[tuple[int, _Sealed]], batch: Sequence[StoredEvent], entries: Mapping[Person, Entry]
) -> set[Person]:
    """Put the personal values of a part of a batch in their places; those whose keys are lost."""
    times = Counter([sealed.person for _, sealed in part])
    lost: set[Person] = set()
    kept: dict[Person, OpenKey] = {}
    for index, sealed in part:
        person = sealed.person
        key = kept.get(person)
        if key is None:
            entry = entries.get(person)
            if not isinstance(entry, PersonKey):
                if entry is None:
                    lost.add(person)
                continue
            key = entry.opened()
            if times[person] > 1:
                kept[person] = key
        if not _unseal(sealed, key, batch[index]):
            lost.add(person)
    return lost


def _unseal(sealed: _Sealed, key: OpenKey, stored: StoredEvent) -> bool:
    """Put the personal values in their places; False where they were encrypted with a key that is lost."""
    text = sealed.text
    if not is_sealed(text):
        raise TamperedEvent(stored, f"{SEALED}: is not an encrypted text")
    bound_to = place(text, sealed.person, stored.type, stored.stream, stored.sequence)
    try:
        sealed.data.update(_decode_json(key.unseal(text, bound_to)))
    except KeyLost:
        return False
    except (TamperedCiphertext, msgspec.DecodeError):
        raise TamperedEvent(stored, f"{SEALED}: the encrypted values were tampered with") from None
    return True
