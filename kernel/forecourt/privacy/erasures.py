"""Whose keys were destroyed, by the log or by a list: a restored backup brings such keys back.

An event whose name ends in ``Shredded`` says that the key of its stream's id is destroyed, ``destroyed_at`` when.
"""

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from forecourt.eventstore.port import EventStore
from forecourt.privacy.keys import Destroyed, KeyStore, Person


@dataclass(frozen=True)
class Erasure:
    """Somebody's key was destroyed."""

    person: Person
    at: datetime


async def recorded(store: EventStore) -> AsyncIterator[list[Erasure]]:
    """Whom the log says to be erased; it is read from the beginning."""
    async for batch in store.read_all():
        if found := [
            _erasure(event.stream, json.loads(event.data)) for event in batch.events if _shredded(event.type)
        ]:
            yield found


def listed(lines: Iterable[str], now: datetime) -> Iterator[Erasure]:
    """Whom a file names: in each line an id, or an event as ``forecourt events --json`` shows it.

    Raises `ValueError` with the number of a line that is neither, or another event.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _listed(line.strip(), now)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(f"line {number}: is no id, and no event of an erasure") from None


def _listed(line: str, now: datetime) -> Erasure:
    if not line.startswith("{"):
        return Erasure(str(UUID(line)), now)
    event = json.loads(line)
    if not _shredded(event["type"]):
        raise ValueError("another event")
    return _erasure(event["stream"], event["data"])


def _shredded(event_type: str) -> bool:
    return event_type.endswith("Shredded")


def _erasure(stream: str, data: Any) -> Erasure:
    at = datetime.fromisoformat(data["destroyed_at"])
    return Erasure(str(UUID(stream.partition("-")[2])), at if at.tzinfo else at.replace(tzinfo=UTC))


async def standing(keys: KeyStore, erasures: Sequence[Erasure]) -> list[Erasure]:
    """Those whose key is not destroyed, or who may still be given one."""
    entries = await keys.get({erasure.person for erasure in erasures})
    return [one for one in erasures if not isinstance(entries.get(one.person), Destroyed)]


async def destroy_again(keys: KeyStore, erasures: Sequence[Erasure]) -> int:
    """Destroy the keys that are not; how many. Doing it again does nothing."""
    found = await standing(keys, erasures)
    for erasure in found:
        await keys.destroy(erasure.person, erasure.at)
    return len(found)
