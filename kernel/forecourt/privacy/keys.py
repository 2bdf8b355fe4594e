"""Where the keys of persons are kept: a port, and one in memory for tests (``keys_postgres`` is the real one).

A person is named by the text of their id (a UUID in its canonical form). What a lookup answers for a person is
their key, or `Destroyed` for good, or nothing: there never was a key, or it is lost.
"""

import hashlib
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid4

from forecourt.privacy.cipher import KeyedHash, PersonKey, new_key

Person = str
"""The id of a person, as canonical text of a UUID."""


@dataclass(frozen=True)
class Destroyed:
    """A person's key is no more: since when, which it was, and the fingerprint of its last wrapped form."""

    key_id: UUID
    at: datetime
    fingerprint: str

    @property
    def proof(self) -> str:
        """SHA-256, in hex, over key id, time and fingerprint: to be compared with what the key store holds."""
        text = f"{self.key_id}|{self.at.isoformat()}|{self.fingerprint}"
        return hashlib.sha256(text.encode()).hexdigest()


Entry = PersonKey | Destroyed
OnDestroyed = Callable[[Person | None], None]
"""Told whose key was destroyed; None: it may be anybody's, since announcements were not heard for a while."""


class Hashes(Protocol):
    """Keeps the keys of hashes."""

    async def keyed_hash(self, name: str) -> KeyedHash:
        """The hash of that name; its key is made when first needed, and stays the same."""


class KeyStore(Hashes, Protocol):
    """Keeps a key for each person. All answers are from one lookup, however many persons are asked for."""

    async def get(self, persons: Collection[Person]) -> dict[Person, Entry]:
        """What there is for each of ``persons``; those without a key are left out."""

    async def obtain(self, persons: Collection[Person]) -> dict[Person, Entry]:
        """The same, with a new key for each person who has none. Raises `ValueError` for an id that is none."""

    async def destroy(self, person: Person, at: datetime) -> Destroyed:
        """Destroy a person's key for good, at the given time; where it was done before, the first answer again."""

    def on_destroyed(self, forget: OnDestroyed) -> None:
        """Have ``forget`` called when a person's key is destroyed, in whatever process."""


class MemoryKeys:
    """Keys in this process, for tests."""

    def __init__(self) -> None:
        self.entries: dict[Person, Entry] = {}
        self.lookups = 0
        self._forgetters: list[OnDestroyed] = []
        self._hashes: dict[str, KeyedHash] = {}

    async def keyed_hash(self, name: str) -> KeyedHash:
        """The hash of that name."""
        return self._hashes.setdefault(name, KeyedHash(new_key()))

    async def get(self, persons: Collection[Person]) -> dict[Person, Entry]:
        """What there is for each of ``persons``."""
        self.lookups += 1
        return {person: self.entries[person] for person in persons if person in self.entries}

    async def obtain(self, persons: Collection[Person]) -> dict[Person, Entry]:
        """The same, with a new key for each person who has none."""
        for person in persons:
            check_canonical(person)
            self.entries.setdefault(person, PersonKey(new_key()))
        return await self.get(persons)

    async def destroy(self, person: Person, at: datetime) -> Destroyed:
        """Destroy a person's key for good."""
        found = self.entries.get(person)
        if not isinstance(found, Destroyed):
            found = self.entries[person] = Destroyed(uuid4(), at, "")
        for forget in self._forgetters:
            forget(person)
        return found

    def on_destroyed(self, forget: OnDestroyed) -> None:
        """Have ``forget`` called when a person's key is destroyed."""
        self._forgetters.append(forget)


_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


def is_canonical(person: Person) -> bool:
    """Whether a text is the canonical form of a UUID."""
    return _CANONICAL(person) is not None


def check_canonical(person: Person) -> None:
    """Raise `ValueError` where a text is not the canonical form of a UUID."""
    if not is_canonical(person):
        raise ValueError("person: must be a UUID in its canonical form")
