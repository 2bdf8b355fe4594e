"""A lease: of all processes that want to do a piece of work, one at a time does it.

A session advisory lock of PostgreSQL: it is let go when its holder dies, and a lost connection is noticed by
the holder, which stops. It is polled, not waited for: a statement that waits keeps a snapshot open and would
hold back vacuum for as long as the standby stands by.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

POLL_SECONDS = 0.5
"""How often a standby tries to take over."""

HEARTBEAT_SECONDS = 5.0
"""How often a holder makes sure that its connection is alive."""


@contextlib.asynccontextmanager
async def lease(pool: Any, name: str, stop: asyncio.Event) -> AsyncIterator[asyncio.Event | None]:
    """Hold the lease ``name``; yields an event that is set when it is lost, or None when ``stop`` came first."""
    async with pool.acquire() as connection:
        while not await connection.fetchval(
            "SELECT pg_try_advisory_lock(hashtextextended($1, 0))", f"forecourt.{name}"
        ):
            if await wait(stop, POLL_SECONDS):
                yield None
                return
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        heartbeat = asyncio.create_task(_heartbeat(connection, lost))
        try:
            yield lost
        finally:
            heartbeat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await heartbeat


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event at most ``seconds``; whether it came."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


async def _heartbeat(connection: Any, lost: asyncio.Event) -> None:
    while not await wait(lost, HEARTBEAT_SECONDS):
        try:
            await connection.fetchval("SELECT 1", timeout=HEARTBEAT_SECONDS)
        except Exception:  # noqa: BLE001
            # Of whatever kind: a holder that cannot reach the lock's server does not hold it.
            lost.set()
