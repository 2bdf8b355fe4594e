"""Snapshots of long streams: a shortcut for loading, never the truth.

A snapshot that does not fit today's state class (its fingerprint differs) is ignored and written anew. What holds
personal data is encrypted by the codec, and reads as no snapshot once the person is erased.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import asyncpg
from pydantic import TypeAdapter

from forecourt.access.duties import NOBODY, Actors
from forecourt.access.ownership import Ownership
from forecourt.codec import Codec


@dataclass(frozen=True)
class Snapshot:
    """A stream's state at a version; ``known`` maps recent event ids to (sequence, position), ``actors`` says who
    caused the events that four-eyes rules are about."""

    state: Any
    version: int
    position: int
    ownership: Ownership
    known: dict[UUID, tuple[int, int]]
    actors: Actors = field(default_factory=lambda: NOBODY)


class SnapshotStore(Protocol):
    """Keeps the latest snapshot of each stream."""

    async def load(self, stream: str, state_type: type[Any]) -> Snapshot | None:
        """The latest snapshot that fits ``state_type``, or None."""

    async def save(self, stream: str, snapshot: Snapshot, state_type: type[Any]) -> None:
        """Keep ``snapshot``, unless a later one is there."""


BESIDES = "shared, former, actors"
"""What a snapshot says besides the state, dealer and brand; one that was written without is not used."""

_known = TypeAdapter(dict[UUID, tuple[int, int]])
_actors = TypeAdapter(dict[str, tuple[str, ...]])
_adapters: dict[type[Any], tuple[TypeAdapter[Any], str]] = {}


def _adapter(state_type: type[Any]) -> tuple[TypeAdapter[Any], str]:
    """The (de)serialiser of a state class, and a fingerprint of its shape."""
    if state_type not in _adapters:
        adapter: TypeAdapter[Any] = TypeAdapter(state_type)
        shape = BESIDES + repr(sorted(adapter.json_schema().items(), key=repr))
        _adapters[state_type] = adapter, hashlib.sha256(shape.encode()).hexdigest()[:16]
    return _adapters[state_type]


class PostgresSnapshots:
    """Snapshots in a table beside the read models (`forecourt.migrations`)."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", schema: str, codec: Codec | None = None) -> None:
        self._pool = pool
        self._codec = codec
        self._table = f'"{schema}".snapshot'

    async def load(self, stream: str, state_type: type[Any]) -> Snapshot | None:
        """The latest snapshot that fits ``state_type``, or None."""
        adapter, shape = _adapter(state_type)
        row = await self._pool.fetchrow(
            f"SELECT * FROM {self._table} WHERE stream = $1 AND shape = $2", stream, shape
        )
        if row is None:
            return None
        state = row["state"]
        if self._codec is not None:
            state = await self._codec.unseal_state(stream, state)
        if state is None:
            return None
        return Snapshot(
            adapter.validate_json(state),
            row["version"],
            row["position"],
            Ownership(row["dealer_id"], row["brand"], frozenset(row["shared"]), frozenset(row["former"])),
            _known.validate_json(row["known"]),
            _actors.validate_json(row["actors"]),
        )

    async def save(self, stream: str, snapshot: Snapshot, state_type: type[Any]) -> None:
        """Keep ``snapshot``, unless a later one of the same shape is there, or it may not be stored."""
        adapter, shape = _adapter(state_type)
        state: str | None = adapter.dump_json(snapshot.state).decode()
        if self._codec is not None and state is not None:
            state = await self._codec.seal_state(stream, state)
        if state is None:
            return
        ownership = snapshot.ownership
        await self._pool.execute(
            f"""
            INSERT INTO {self._table} AS t
                (stream, shape, version, position, dealer_id, brand, state, known, shared, former, actors)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
            ON CONFLICT (stream) DO UPDATE SET shape = $2, version = $3, position = $4, dealer_id = $5,
                brand = $6, state = $7, known = $8, shared = $9, former = $10, actors = $11
            WHERE t.version < $3 OR t.shape <> $2
            """,
            stream,
            shape,
            snapshot.version,
            snapshot.position,
            ownership.dealer_id,
            ownership.brand,
            state,
            _known.dump_json(snapshot.known).decode(),
            sorted(ownership.shared),
            sorted(ownership.former),
            _actors.dump_json(dict(snapshot.actors)).decode(),
        )
