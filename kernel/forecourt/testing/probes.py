"""Waiting in tests: ask again and again until something is so, never sleep and hope."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

INTERVAL_SECONDS = 0.02


def poll(probe: Callable[[], T | None], timeout: float = 10.0, *, what: str = "") -> T:
    """Call ``probe`` until what it answers is true, and answer that. ``timeout`` in seconds.

    Raises `TimeoutError` with ``what`` was waited for and the last answer. An exception of the probe's is passed on.
    """
    deadline = time.monotonic() + timeout
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise _timed_out(timeout, what or _name(probe), answer)
        time.sleep(INTERVAL_SECONDS)
    return answer


@overload
async def poll_async(
    probe: Callable[[], Awaitable[T | None]], timeout: float = 10.0, *, what: str = ""
) -> T: ...


@overload
async def poll_async(probe: Callable[[], T | None], timeout: float = 10.0, *, what: str = "") -> T: ...


async def poll_async(
    probe: Callable[[], Awaitable[T | None] | T | None], timeout: float = 10.0, *, what: str = ""
) -> T:
    """As `poll`, for probes that may be coroutine functions, without blocking the loop."""
    deadline = time.monotonic() + timeout
    while True:
        asked = probe()
        answer = await asked if isinstance(asked, Awaitable) else asked
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise _timed_out(timeout, what or _name(probe), answer)
        await asyncio.sleep(INTERVAL_SECONDS)


def _name(probe: object) -> str:
    return getattr(probe, "__qualname__", repr(probe))


def _timed_out(timeout: float, what: str, answer: object) -> TimeoutError:
    return TimeoutError(f"waited {timeout:g} s for: {what}; the last answer was {answer!r}")
