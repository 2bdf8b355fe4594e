"""Fingerprints of an event store, per category: of the events as they are stored, and of the states they lead to.

Two stores with the same fingerprints hold the same events, byte for byte, and every aggregate that is loaded from them
is the same. Memory is bounded: events are hashed as they pass, and states are folded in several passes, each over so
many streams as fit.
"""

import dataclasses
import hashlib
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Any
from zlib import crc32

import msgspec
from pydantic import BaseModel

from forecourt.codec import Codec
from forecourt.deciders import Decider
from forecourt.events import Event
from forecourt.eventstore.port import EventStore, StoredEvent
from forecourt.service import Service

STREAMS_AT_ONCE = 20_000
"""Aggregates whose states are in memory at once, about."""

_MODULUS = 1 << 256
_encode = msgspec.json.encode


class Category(msgspec.Struct, frozen=True):
    """The fingerprint of a category. ``states`` is empty where no service is installed that can fold it."""

    streams: int
    events: int
    stored: str
    states: str = ""


class _Stored:
    """A running hash over the events of a category, in their order."""

    def __init__(self) -> None:
        self.streams = self.events = 0
        self._hash = hashlib.sha256()

    def add(self, event: StoredEvent) -> None:
        self.events += 1
        self.streams += event.sequence == 1
        self._hash.update(_encode(event))

    def result(self) -> Category:
        return Category(self.streams, self.events, self._hash.hexdigest())


async def fingerprints(
    store: EventStore, services: Sequence[Service], codecs: Mapping[str, Codec] | None, *, until: int
) -> dict[str, Category]:
    """Fingerprints of every category, of the events up to position ``until``.

    ``codecs`` are those of the services by name, with the persons' keys; without them no states are
    folded, and ``states`` is empty, as it is for a category of a service that is not among ``services``. Raises
    `forecourt.registry.UndecodableEvent` where an event cannot be read.
    """
    stored: dict[str, _Stored] = {}
    async for batch in _up_to(store, None, until):
        for event in batch:
            stored.setdefault(event.category, _Stored()).add(event)
    found = {category: one.result() for category, one in sorted(stored.items())}
    for service in services if codecs is not None else ():
        assert codecs is not None
        deciders = {decider.category: decider for decider in service.deciders if decider.category in found}
        streams = sum(found[category].streams for category in deciders)
        states = await _states(store, deciders, codecs[service.name], streams, until)
        for category, digest in states.items():
            found[category] = msgspec.structs.replace(found[category], states=digest)
    return found


async def _up_to(
    store: EventStore, categories: Collection[str] | None, until: int
) -> AsyncGenerator[list[StoredEvent], None]:
    batches = store.read_all(categories=categories)
    try:
        async for batch in batches:
            yield [event for event in batch.events if event.position <= until]
            if batch.position >= until:
                return
    finally:
        if isinstance(batches, AsyncGenerator):
            await batches.aclose()


async def _states(
    store: EventStore, deciders: Mapping[str, Decider[Any]], codec: Codec, streams: int, until: int
) -> dict[str, str]:
    """A hash of all states of each category, which does not depend on their order: the sum of the hashes of each."""
    sums = dict.fromkeys(deciders, 0)
    parts = -(-streams // STREAMS_AT_ONCE)
    for part in range(parts):
        states: dict[str, tuple[Any, int]] = {}
        async for events in _up_to(store, list(deciders), until):
            mine = [event for event in events if crc32(event.stream.encode()) % parts == part]
            for recorded in await codec.decode(mine):
                meta = recorded.meta
                decider = deciders[meta.category]
                state, _ = states.get(meta.stream, (decider.initial, 0))
                assert isinstance(recorded.event, Event)  # the category is this service's own
                states[meta.stream] = decider.evolve(state, recorded.event), meta.sequence
        for stream, (state, sequence) in states.items():
            text = f"{stream} {sequence} {canonical(state)}"
            digest = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
            category = stream.partition("-")[0]
            sums[category] = (sums[category] + digest) % _MODULUS
    return {category: f"{total:064x}" for category, total in sums.items()}


def canonical(value: Any) -> str:
    """A text that is the same for equal states, in whatever process: sets have no order that a text could have."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [
            f"{field.name}={canonical(getattr(value, field.name))}" for field in dataclasses.fields(value)
        ]
        return f"{type(value).__name__}({','.join(parts)})"
    if isinstance(value, msgspec.Struct):
        parts = [f"{name}={canonical(getattr(value, name))}" for name in value.__struct_fields__]
        return f"{type(value).__name__}({','.join(parts)})"
    if isinstance(value, BaseModel):
        parts = [f"{name}={canonical(getattr(value, name))}" for name in type(value).model_fields]
        return f"{type(value).__name__}({','.join(parts)})"
    if isinstance(value, Mapping):
        return f"{{{','.join(sorted(f'{canonical(k)}:{canonical(v)}' for k, v in value.items()))}}}"
    if isinstance(value, set | frozenset):
        return f"{{{','.join(sorted(map(canonical, value)))}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(canonical, value))}]"
    return repr(value)
