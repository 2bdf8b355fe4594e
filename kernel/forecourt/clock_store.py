"""The shared virtual clock: one row in the database that all processes follow.

The row is a line through time (`ClockSetting`), measured on the database's own clock. Every change is one
statement that refuses to go back behind what the row says at that moment. Followers hear of changes by
NOTIFY, and look by themselves every second. Time cannot be changed where ``FORECOURT_ENV=production``.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import asyncpg

from forecourt import logs, migrations
from forecourt.clock import ClockSetting, VirtualClock
from forecourt.connections import keep_listening
from forecourt.errors import InvalidInput, Refused
from forecourt.waiting import cancel_and_wait, wait

log = logs.get(__name__)

CHANNEL = "forecourt_clock"
POLL_SECONDS = 1.0
MAX_RATE = 10_000_000.0

# What the clock shows while the statement holds the row's lock: no two changes can pass each other.
_SHOWN = "virtual + (clock_timestamp() - real) * rate"

_READ = "SELECT real, virtual, rate FROM events.clock_setting"

_SET = f"""
UPDATE events.clock_setting SET real = clock_timestamp(), virtual = $1, rate = coalesce($2, rate)
WHERE $1 >= {_SHOWN} RETURNING real, virtual, rate
"""

_ADVANCE = f"""
UPDATE events.clock_setting SET real = clock_timestamp(), virtual = {_SHOWN} + $1, rate = coalesce($2, rate)
RETURNING real, virtual, rate
"""


class TimeRunsForwardOnly(Refused):
    """The clock cannot be set to a moment that it has passed."""


class ClockIsReal(Refused):
    """Time cannot be changed where ``FORECOURT_ENV=production``."""


class ClockStore:
    """Reads and changes the shared clock."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", *, production: bool = False) -> None:
        self._pool = pool
        self._production = production

    async def migrate(self) -> None:
        """Create the table, with a clock that shows real time, where it is missing."""
        await migrations.apply(self._pool, [migrations.CLOCK])

    async def read(self) -> ClockSetting:
        """The setting in force."""
        return _setting(await self._pool.fetchrow(_READ))

    async def set(self, moment: datetime, *, rate: float | None = None) -> ClockSetting:
        """Jump forward to ``moment`` (aware). Raises `TimeRunsForwardOnly` or `ClockIsReal`."""
        if moment.tzinfo is None:
            raise _invalid("moment", "must have a time zone")
        return await self._change(_SET, moment.astimezone(UTC), rate)

    async def advance(self, by: timedelta) -> ClockSetting:
        """Jump forward by ``by``. Raises `TimeRunsForwardOnly` or `ClockIsReal`."""
        if by < timedelta(0):
            raise TimeRunsForwardOnly("by: must not be negative, time never runs backwards")
        return await self._change(_ADVANCE, by, None)

    async def accelerate(self, rate: float) -> ClockSetting:
        """Run at ``rate`` virtual seconds a real second from now on; 0 stands still."""
        return await self._change(_ADVANCE, timedelta(0), rate)

    async def _change(self, statement: str, value: datetime | timedelta, rate: float | None) -> ClockSetting:
        if self._production:
            raise ClockIsReal("time cannot be changed where FORECOURT_ENV=production")
        if rate is not None and not 0 <= rate <= MAX_RATE:
            raise _invalid("rate", f"must be 0 to {MAX_RATE:.0f}")
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(statement, value, rate)
            if row is None:
                raise TimeRunsForwardOnly("moment: lies in the past, time never runs backwards")
            await connection.execute(f"NOTIFY {CHANNEL}")
        return _setting(row)


class ClockFollower:
    """Keeps a `VirtualClock` by the shared setting, until it is closed."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", clock: VirtualClock) -> None:
        self.clock = clock
        self._pool = pool
        self._store = ClockStore(pool)
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, pool: "asyncpg.Pool[asyncpg.Record]") -> Self:
        """Start following; the clock shows the shared time when this returns."""
        follower = cls(pool, VirtualClock(await ClockStore(pool).read()))
        # Whatever it is, time must not stand still here for ever while it runs elsewhere.
        follower._task = asyncio.create_task(
            keep_listening(follower._listen, "the clock's setting is not readable", seconds=POLL_SECONDS)
        )
        return follower

    async def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def _listen(self) -> None:
        async with self._pool.acquire() as connection:
            await connection.add_listener(CHANNEL, self._notified)
            try:
                while True:
                    self._news.clear()
                    self.clock.apply(_setting(await connection.fetchrow(_READ)))
                    await wait(self._news, POLL_SECONDS)
            finally:
                if not connection.is_closed():
                    await connection.remove_listener(CHANNEL, self._notified)

    def _notified(self, *_: Any) -> None:
        self._news.set()


def _setting(row: asyncpg.Record | None) -> ClockSetting:
    if row is None:
        raise LookupError("events.clock_setting: is empty; run 'forecourt migrate'")
    return ClockSetting(row["real"], row["virtual"], row["rate"])


def _invalid(field: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{field}: {reason}", fields={field: reason})
