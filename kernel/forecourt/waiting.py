"""Waiting for something, but not for ever."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

FEW = 3
ENOUGH = 64
LINGER_SECONDS = 0.006

INSIST_SECONDS = 5.0
"""After which a task that was cancelled and has not ended is cancelled again: it may have lost that, or is slow."""


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
    """Wait for an event at most ``seconds``; whether it came.

    Not `asyncio.wait_for`, which in Python 3.11 swallows a cancellation that comes together with the event.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()


def end_if_cancelled(error: Exception) -> None:
    """Raise `asyncio.CancelledError` where the running task was cancelled, and a library made ``error`` of that.

    For whoever goes on after errors of a library: asyncpg and gRPC answer a cancellation with errors of their own now
    and then, and a loop that took them for a lost connection would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error


@contextlib.contextmanager
def heeding_cancellation() -> Iterator[None]:
    """Raise `asyncio.CancelledError` where the running task is cancelled in the block, whatever the block makes of it.

    For calls of a library that repeats what fails: the client of EventStoreDB does so even with what was cancelled.
    """
    began_in = asyncio.current_task()
    before = 0 if began_in is None else began_in.cancelling()

    def heed(error: Exception | None) -> None:
        task = asyncio.current_task()
        # A generator may be left in another task than it was entered in.
        if task is not None and task.cancelling() > (before if task is began_in else 0):
            raise asyncio.CancelledError from error

    try:
        yield
    except Exception as error:
        heed(error)
        raise
    heed(None)


async def cancel_and_wait(*tasks: asyncio.Future[Any], insist: bool = True) -> None:
    """Cancel tasks and return when all have ended, however they did.

    Where the caller is cancelled meanwhile, that is raised once they have ended: ``await task`` in a
    ``suppress(CancelledError)`` would take it for the task's own and swallow it, and the caller would go on for ever.
    Tasks that go on nevertheless, because a library lost the cancellation, are cancelled again every `INSIST_SECONDS`,
    unless ``insist`` is False, for those whose clean-up takes its time.
    """
    interrupted: asyncio.CancelledError | None = None
    pending = {task for task in tasks if not task.done()}
    for task in pending:
        task.cancel()
    while pending:
        try:
            _, pending = await asyncio.wait(pending, timeout=INSIST_SECONDS if insist else None)
            for task in pending:
                task.cancel()
        except asyncio.CancelledError as error:
            interrupted = error
            pending = {task for task in pending if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()  # read: otherwise asyncio logs it as forgotten
    if interrupted is not None:
        raise interrupted
