"""Waiting for something, but not for ever."""

import asyncio
import contextlib

MANY = 8
LINGER_SECONDS = 0.005


class Company:
    """How long a group waits for more before it goes.

    Callers that were answered together come back one after the other, and a statement for the first few of them costs
    as much as one for all. So where the last group held `MANY`, the next one waits `LINGER_SECONDS` unless as many are
    there already. Who comes alone never waits.
    """

    def __init__(self) -> None:
        self._last = 0

    async def gather(self, waiting: int) -> None:
        """Wait a moment where ``waiting`` are fewer than last time."""
        if self._last >= MANY and waiting < self._last:
            await asyncio.sleep(LINGER_SECONDS)

    def went(self, size: int) -> None:
        """Note the size of the group that goes."""
        self._last = size


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event at most ``seconds``; whether it came."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
