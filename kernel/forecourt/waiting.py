"""Waiting for something, but not for ever."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable

FEW = 3
ENOUGH = 64
LINGER_SECONDS = 0.006


class Company:
    """How long a group waits for more before it goes.

    A statement for one costs as much as one for ten. So while callers come so fast that at least `FEW` more are to be
    expected within ``linger`` seconds, a group waits that long; not when it has as many as are to be expected, or
    `ENOUGH`: those came together, and few will follow. Who comes alone never waits.
    """

    def __init__(
        self, linger: float = LINGER_SECONDS, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._linger = linger
        self._monotonic = monotonic
        self._went = -math.inf
        self._rate = 0.0

    def is_expected(self, waiting: int) -> bool:
        """Whether more than those ``waiting`` are to be expected."""
        expected = self._rate * self._linger
        return waiting < min(ENOUGH, expected) and expected >= FEW

    async def gather(self, waiting: int) -> None:
        """Wait a moment where more than the ``waiting`` are to be expected."""
        if self.is_expected(waiting):
            await asyncio.sleep(self._linger)

    def went(self, size: int) -> None:
        """Note the size of the group that goes; how fast callers come is learned from it."""
        now = self._monotonic()
        since, self._went = now - self._went, now
        self._rate = (self._rate + size / max(since, self._linger)) / 2


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event at most ``seconds``; whether it came."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
