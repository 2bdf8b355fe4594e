"""Arithmetic with business time: what a clock counts while a store is open.

A calendar knows the shifts of each weekday in the store's time zone, the public holidays of its country or of a part
of it, the weekend days on which that country works to make up for a bridge day, and days of its own. All
moments are aware; answers are in UTC.

The two functions are inverses: ``business_time_between(c, s, add_business_time(c, s, d)) == d``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import holidays

Shift = tuple[time, time]
"""From (inclusive) to (exclusive), local time, within one day."""

_LONGEST_SEARCH = timedelta(days=20 * 366)


@dataclass(frozen=True)
class BusinessCalendar:
    """When a store works. ``country`` (ISO 3166 alpha-2, or empty for none) brings its public holidays, ``subdivision``
    those of a part of it. What is said of single days counts more: those ``closed``, then those ``working``.

    ``shifts`` maps weekdays (Monday is 0) to that day's shifts; a weekday that is not named is free. A working day
    on a weekday that is free has the shifts of ``make_up_like``. Raises ``ValueError`` on shifts
    that are empty, overlap or are out of order.
    """

    name: str
    time_zone: str
    shifts: Mapping[int, tuple[Shift, ...]]
    country: str = ""
    subdivision: str = ""
    closed: frozenset[date] = frozenset()
    working: frozenset[date] = frozenset()
    make_up_like: int = 0

    def __post_init__(self) -> None:
        if not any(self.shifts.values()):
            raise ValueError("shifts: a calendar needs at least one")
        for weekday, shifts in self.shifts.items():
            edges = [edge for shift in shifts for edge in shift]
            if edges != sorted(set(edges)) or not 0 <= weekday <= 6:
                raise ValueError(f"shifts: those of weekday {weekday} are empty, overlap or are out of order")
        ZoneInfo(self.time_zone)

    def shifts_on(self, day: date) -> tuple[Shift, ...]:
        """The shifts worked on a local date, none on a free day."""
        regular = self.shifts.get(day.weekday(), ())
        if day in self.closed:
            return ()
        if self._makes_up(day):
            return regular or self.shifts.get(self.make_up_like, ())
        return () if self._is_public_holiday(day) else regular

    def _makes_up(self, day: date) -> bool:
        by_country = bool(self.country) and _is_make_up_day(self.country, self.subdivision, day)
        return day in self.working or by_country

    def _is_public_holiday(self, day: date) -> bool:
        return bool(self.country) and _is_holiday(self.country, self.subdivision, day)

    def working_periods(self, since: datetime) -> Iterator[tuple[datetime, datetime]]:
        """The shifts that end after ``since``, as UTC moments in order, without end.

        Raises ``ValueError`` where none is found within twenty years.
        """
        zone = ZoneInfo(self.time_zone)
        day = since.astimezone(zone).date()
        last_found = day
        while day - last_found < _LONGEST_SEARCH:
            for opens, closes in self.shifts_on(day):
                start = datetime.combine(day, opens, zone).astimezone(UTC)
                end = datetime.combine(day, closes, zone).astimezone(UTC)
                # A shift inside an hour that daylight saving skips has no length.
                if end > since and end > start:
                    last_found = day
                    yield start, end
            day += timedelta(days=1)
        raise ValueError(f"calendar {self.name}: no working day within twenty years")


@cache
def _public_holidays(country: str, subdivision: str) -> holidays.HolidayBase:
    return holidays.country_holidays(country, subdivision or None)


@cache
def _is_holiday(country: str, subdivision: str, day: date) -> bool:
    return day in _public_holidays(country, subdivision)


@cache
def _is_make_up_day(country: str, subdivision: str, day: date) -> bool:
    known = _public_holidays(country, subdivision)
    # Looking a day up fills the library's tables for its year.
    return day not in known and day in known.weekend_workdays


def add_business_time(calendar: BusinessCalendar, start: datetime, amount: timedelta) -> datetime:
    """The moment at which ``amount`` of business time has passed since ``start``.

    A deadline that ends with a shift is that shift's end, not the next one's begin. Nothing added answers
    ``start``. Raises ``ValueError`` on a negative amount.
    """
    if amount < timedelta(0):
        raise ValueError("amount: must not be negative")
    moment = start.astimezone(UTC)
    if not amount:
        return moment
    for opens, closes in calendar.working_periods(moment):
        begin = max(opens, moment)
        if amount <= closes - begin:
            return begin + amount
        amount -= closes - begin
    raise AssertionError("working periods have no end")


def business_time_between(calendar: BusinessCalendar, start: datetime, end: datetime) -> timedelta:
    """The business time from ``start`` to ``end``; zero where ``end`` is not later."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    elapsed = timedelta(0)
    if end <= start:
        return elapsed
    for opens, closes in calendar.working_periods(start):
        if opens >= end:
            break
        elapsed += min(closes, end) - max(opens, start)
    return elapsed
