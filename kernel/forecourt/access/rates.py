"""How much one identity may ask for: calls a second as a token bucket, and streams at once.

Both are counted in this process alone: behind a load balancer an identity may have as much from every replica.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from forecourt import metrics
from forecourt.errors import LimitExceeded

_CALLERS = 10_000
"""Identities that are remembered; the one that has not called for longest is forgotten, with a full bucket."""


class RateExceeded(LimitExceeded):
    """An identity calls more often than it may."""


class TooManyStreams(LimitExceeded):
    """An identity has as many streams open as it may."""


class RateLimiter:
    """A token bucket for every identity: ``rate`` calls a second, and ``burst`` at once after a pause."""

    def __init__(self, rate: float, burst: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """``rate`` 0 limits nothing."""
        self._rate = rate
        self._burst = float(burst)
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, actor_id: str) -> None:
        """Count a call of an actor. Raises `RateExceeded` with the time until the next one may be."""
        if not self._rate:
            return
        now = self._monotonic()
        left, then = self._buckets.get(actor_id, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        if left < 1:
            metrics.RATE_LIMITED.inc()
            raise RateExceeded(
                f"rate: more than {self._rate:g} calls a second", retry_after=(1 - left) / self._rate
            )
        self._buckets[actor_id] = (left - 1, now)
        self._buckets.move_to_end(actor_id)
        if len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)


class StreamLimiter:
    """Counts the open streams of every identity."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def one(self, actor_id: str) -> Iterator[None]:
        """A stream of an actor, while it lasts. Raises `TooManyStreams`."""
        if self._open[actor_id] >= self._most:
            raise TooManyStreams(f"streams: {self._most} are open already")
        self._open[actor_id] += 1
        metrics.OPEN_STREAMS.inc()
        try:
            yield
        finally:
            metrics.OPEN_STREAMS.dec()
            self._open[actor_id] -= 1
            if not self._open[actor_id]:
                del self._open[actor_id]
