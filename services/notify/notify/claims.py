"""Claims on messages: of all sender processes, one at a time handles a message.

A claim is a PostgreSQL advisory lock on one connection per run of the sender. It needs no time-out, of which a virtual
clock would make nonsense: when a process dies its connection ends, and its claims with it. A claim keeps senders
out of each other's way; that a message is not sent twice is the aggregate's doing (`StartAttempt`).
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import asyncpg

from forecourt.connections import LOST

_TAKE = "SELECT id FROM unnest($1::uuid[]) AS id WHERE pg_try_advisory_lock(hashtextextended(id::text, 7))"
_GIVE_BACK = "SELECT pg_advisory_unlock(hashtextextended(id::text, 7)) FROM unnest($1::uuid[]) AS id"

TIMEOUT = 5.0


class Claims:
    """The claims of one sender. A connection that is lost takes all of them with it."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool
        self._connection: Any = None
        self._busy = asyncio.Lock()

    async def take(self, ids: Sequence[UUID]) -> set[UUID]:
        """Claim messages that this sender has not claimed yet; those that nobody else has."""
        if not ids:
            return set()
        async with self._busy:
            connection = await self._connected()
            rows = await connection.fetch(_TAKE, list(ids), timeout=TIMEOUT)
            return {row["id"] for row in rows}

    async def give_back(self, ids: Iterable[UUID]) -> None:
        """Give claims back."""
        async with self._busy:
            if self._connection is not None and not self._connection.is_closed():
                await self._connection.execute(_GIVE_BACK, list(ids), timeout=TIMEOUT)

    async def close(self) -> None:
        """Give back everything, and the connection."""
        async with self._busy:
            await self._drop()

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            await self._drop()
            self._connection = await self._pool.acquire(timeout=TIMEOUT)
        return self._connection

    async def _drop(self) -> None:
        # The pool resets a connection that comes back, which ends its advisory locks.
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*LOST):
                await self._pool.release(connection)
