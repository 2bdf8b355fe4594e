"""Streams that keep up: how long they may be silent, how long they may not read, and how many an identity may have."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from forecourt import metrics
from forecourt.access.rates import StreamLimiter
from forecourt.errors import LimitExceeded
from forecourt.rpc.errors import DeadlineExceeded


class StreamIdle(DeadlineExceeded):
    """The caller sent nothing for too long."""


class StreamNotRead(LimitExceeded):
    """The caller did not take what was sent to it for too long."""


@dataclass(frozen=True)
class Streams:
    """The rules for the streams of a process. Times in seconds."""

    idle_seconds: float = 300.0
    write_seconds: float = 60.0
    limiter: StreamLimiter = field(default_factory=lambda: StreamLimiter(100))

    def one(self, actor_id: str) -> AbstractContextManager[None]:
        """A stream of an actor, while it lasts. Raises `forecourt.access.rates.TooManyStreams`."""
        return self.limiter.one(actor_id)

    async def receive(self, requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """What the caller sends. Raises `StreamIdle`: the time counts only while something is waited for."""
        while True:
            try:
                async with asyncio.timeout(self.idle_seconds):
                    request = await anext(requests)
            except StopAsyncIteration:
                return
            except TimeoutError:
                metrics.DROPPED_STREAMS.labels("idle").inc()
                raise StreamIdle(f"stream: nothing was sent for {self.idle_seconds:g} seconds") from None
            yield request

    async def write(self, servicer: Any, answer: bytes) -> None:
        """Send an answer. gRPC holds back what the caller does not take. Raises `StreamNotRead`."""
        try:
            async with asyncio.timeout(self.write_seconds):
                await servicer.write(answer)
        except TimeoutError:
            metrics.DROPPED_STREAMS.labels("not-read").inc()
            raise StreamNotRead(f"stream: nothing was read for {self.write_seconds:g} seconds") from None
