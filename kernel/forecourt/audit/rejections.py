"""Calls that are turned away at the door, counted: a flood of them must not fill the store.

The first call of its kind is an entry at once. What follows within the interval is counted, and the number is an entry
when the interval is over.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from forecourt.audit.entries import CallsRejected
from forecourt.audit.trail import AuditTrail, AuditUnavailable, Origin

SECONDS = 10.0
"""How long calls of one kind are counted before the number is stored."""

KINDS = 500
"""Kinds that are counted apart at a time; the rest is one kind, without actor and RPC."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Calls that are counted together."""

    rpc: str
    code: str
    slug: str
    actor_id: str = ""
    dealer_id: str = ""


@dataclass(slots=True)
class _Count:
    since: datetime
    number: int = 0


class Rejections:
    """Counts rejected calls and writes the numbers to the trail."""

    def __init__(self, trail: AuditTrail, *, seconds: float = SECONDS) -> None:
        self._trail = trail
        self._seconds = seconds
        self._counts: dict[Kind, _Count] = {}
        self._timers: dict[Kind, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def note(self, kind: Kind) -> None:
        """Count one call; returns when it is stored, if it is the first of its kind."""
        if kind not in self._counts and len(self._counts) >= KINDS:
            kind = Kind("", kind.code, kind.slug)
        known = self._counts.get(kind)
        if known is not None:
            known.number += 1
            return
        self._counts[kind] = _Count(self._trail.clock.now(), 1)
        self._wait(kind)
        await self._store(kind)

    async def close(self) -> None:
        """Store what is counted."""
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for kind in list(self._counts):
            await self._store(kind)

    def _wait(self, kind: Kind) -> None:
        self._timers[kind] = asyncio.get_running_loop().call_later(self._seconds, self._over, kind)

    def _over(self, kind: Kind) -> None:
        """The interval is over: store the number and go on counting, or forget a kind that came no more."""
        if self._counts[kind].number == 0:
            del self._counts[kind], self._timers[kind]
            return
        self._wait(kind)
        task = asyncio.get_running_loop().create_task(self._store(kind))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _store(self, kind: Kind) -> None:
        """Store the number; where that fails it is kept for the next time, and the caller is still told why."""
        count = self._counts[kind]
        number, since, count.number = count.number, count.since, 0
        if not number:
            return
        now = self._trail.clock.now()
        entry = CallsRejected(
            rpc=kind.rpc, code=kind.code, slug=kind.slug, count=number, since=since, until=now
        )
        try:
            await self._trail.record(entry, Origin(uuid4(), kind.actor_id, kind.dealer_id))
            count.since = now
        except AuditUnavailable:
            with contextlib.suppress(KeyError):
                self._counts[kind].number += number
