"""A right that one process at a time has: a PostgreSQL advisory lock, held by a session.

It is polled, not waited for: a statement that waits keeps a snapshot open and holds back vacuum as long.
The lock ends with the connection, so a holder that was killed is followed at once by whoever waits. A holder
that is cut off from the database notices by itself, at the latest after a few seconds.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import blake2b
from typing import Any

import asyncpg

from forecourt import logs
from forecourt.connections import LOST
from forecourt.waiting import end_if_cancelled, wait

log = logs.get(__name__)

POLL_SECONDS = 0.5
"""How often one that waits asks again."""

CHECK_SECONDS = 2.0
"""How often a holder looks whether its connection still answers, and how long it waits for the answer."""


class Lease:
    """The right called ``name``. ``lost`` is set when a lease that was held is gone."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", name: str) -> None:
        self._pool = pool
        self._name = name
        self._key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
        self._connection: Any = None
        self._watcher: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()

    @property
    def held(self) -> bool:
        """Whether this process has the right, as far as it knows."""
        return self._connection is not None and not self.lost.is_set()

    async def acquire(self, stop: asyncio.Event) -> bool:
        """Wait for the right, whatever happens to the database; False when ``stop`` came first."""
        while not stop.is_set():
            try:
                if await self.try_acquire():
                    return True
            except LOST as error:
                end_if_cancelled(error)
                log.warning("database does not answer", lease=self._name, error=type(error).__name__)
            await wait(stop, POLL_SECONDS)
        return False

    async def try_acquire(self) -> bool:
        """Take the right if nobody has it. True as well where this process has it already."""
        if self.held:
            return True
        await self.release()
        connection = await self._pool.acquire(timeout=CHECK_SECONDS)
        try:
            got = await connection.fetchval("SELECT pg_try_advisory_lock($1)", self._key)
        except BaseException:
            await self._give_back(connection)
            raise
        if not got:
            await self._give_back(connection)
            return False
        self.lost.clear()
        self._connection = connection
        connection.add_termination_listener(self._terminated)
        self._watcher = asyncio.create_task(self._watch(connection))
        return True

    async def release(self) -> None:
        """Give the right up, if it is held."""
        connection, self._connection = self._connection, None
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
        if connection is None:
            return
        # A connection that broke is out of reach already, and with it the lock.
        with suppress(*LOST, asyncpg.PostgresError):
            connection.remove_termination_listener(self._terminated)
            await connection.execute("SELECT pg_advisory_unlock($1)", self._key, timeout=CHECK_SECONDS)
        await self._give_back(connection)

    async def _give_back(self, connection: Any) -> None:
        with suppress(*LOST, asyncpg.PostgresError):
            await self._pool.release(connection, timeout=CHECK_SECONDS)

    async def _watch(self, connection: Any) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await connection.execute("SELECT 1", timeout=CHECK_SECONDS)
            except (*LOST, asyncpg.PostgresError):
                self.lost.set()
                return

    def _terminated(self, _: Any) -> None:
        self.lost.set()


@asynccontextmanager
async def lease(
    pool: "asyncpg.Pool[asyncpg.Record]", name: str, stop: asyncio.Event
) -> AsyncIterator[asyncio.Event | None]:
    """Hold the right ``name``: yields the event that is set when it is lost, or None when ``stop`` came first."""
    right = Lease(pool, name)
    if not await right.acquire(stop):
        yield None
        return
    try:
        yield right.lost
    finally:
        await right.release()
