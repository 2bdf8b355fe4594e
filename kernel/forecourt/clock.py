"""Clocks. All time comes from here, in UTC; nothing else asks the operating system.

A `VirtualClock` lets a month of reminders be rehearsed in seconds. Its settings are shared by all processes
through the database (``forecourt.clock_store``), so that every service lives at the same virtual time.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time, in UTC."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC. Never earlier than an answer given before."""


class SystemClock:
    """The operating system's clock, held back from running backwards."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        """The present moment in UTC."""
        self._last = max(self._last, datetime.now(UTC))
        return self._last


@dataclass(frozen=True)
class ClockSetting:
    """A line through time: at ``real`` the clock showed ``virtual`` and ran at ``rate`` seconds a second."""

    real: datetime
    virtual: datetime
    rate: float = 1.0

    def at(self, real: datetime) -> datetime:
        """The virtual time at the real moment ``real``."""
        return self.virtual + (real - self.real) * self.rate


class VirtualClock:
    """A clock that can be set forward and accelerated, and never runs backwards.

    ``apply`` takes a new setting; one that lies in the past of an answer already given makes the clock stand
    still until the setting has caught up.
    """

    def __init__(self, setting: ClockSetting, real: Clock | None = None) -> None:
        self._real = real or SystemClock()
        self._setting = setting
        self._last = setting.virtual

    @property
    def setting(self) -> ClockSetting:
        """The setting in force."""
        return self._setting

    def now(self) -> datetime:
        """The virtual moment, in UTC."""
        self._last = max(self._last, self._setting.at(self._real.now()))
        return self._last

    def apply(self, setting: ClockSetting) -> None:
        """Run by ``setting`` from now on."""
        if setting.rate < 0:
            raise ValueError("rate: must not be negative, time never runs backwards")
        self._setting = setting

    def set(self, moment: datetime, *, rate: float | None = None) -> ClockSetting:
        """Jump to ``moment``, which must not lie in the past, and answer the setting that does so."""
        if moment < self.now():
            raise ValueError("moment: lies in the past, time never runs backwards")
        self.apply(ClockSetting(self._real.now(), moment, self._setting.rate if rate is None else rate))
        return self._setting


class ManualClock:
    """A clock for tests: stands still until it is moved."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 1, 5, 9, 0, tzinfo=UTC)

    def now(self) -> datetime:
        """The moment it was last moved to."""
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move forward by ``by`` and answer the new moment."""
        if by < timedelta(0):
            raise ValueError("by: must not be negative, time never runs backwards")
        self._now += by
        return self._now


def monotonic() -> float:
    """Seconds from an arbitrary start, for measuring how long something took."""
    return time.perf_counter()
