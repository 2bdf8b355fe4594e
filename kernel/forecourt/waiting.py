"""Waiting for something, but not for ever."""

import asyncio
import contextlib


async def wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event at most ``seconds``; whether it came."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
