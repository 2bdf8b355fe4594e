"""The promise that a complaint's customer is given: deadlines by severity, and who hears of a missed one.

Levels of the ladder: 1 the service manager, when nobody acknowledged in time; 2 the store manager, when
nothing was resolved in time; 3 the head office, eight business hours after that.
"""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from service_desk.business_hours import BusinessCalendar, add_business_time, business_time_between

Severity = Literal["low", "normal", "high", "critical"]

RULE_VERSION = 1
TOP_LEVEL = 3

_HOURS: dict[Severity, tuple[int, int]] = {
    "low": (8, 80),
    "normal": (4, 40),
    "high": (2, 24),
    "critical": (1, 8),
}
"""Business hours to acknowledge and to resolve."""
_HEAD_OFFICE_AFTER = timedelta(hours=8)


class Deadline(BaseModel):
    """A step of the ladder and the moment at which it is climbed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: int
    due_at: datetime


class TimeLeft(BaseModel):
    """A step of the ladder and the business seconds left to it while the clock stands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: int
    seconds: int


def ladder(
    calendar: BusinessCalendar, start: datetime, severity: Severity, *, acknowledged: bool
) -> tuple[Deadline, ...]:
    """The deadlines of a clock that starts at ``start``; none for acknowledging where that has been done."""
    to_acknowledge, to_resolve = (timedelta(hours=hours) for hours in _HOURS[severity])
    after = {1: to_acknowledge, 2: to_resolve, 3: to_resolve + _HEAD_OFFICE_AFTER}
    return tuple(
        Deadline(level=level, due_at=add_business_time(calendar, start, amount))
        for level, amount in after.items()
        if level > 1 or not acknowledged
    )


def time_left(
    calendar: BusinessCalendar, now: datetime, deadlines: tuple[Deadline, ...]
) -> tuple[TimeLeft, ...]:
    """What is left to each deadline, nothing to one that has passed."""
    return tuple(
        TimeLeft(
            level=deadline.level,
            seconds=int(business_time_between(calendar, now, deadline.due_at).total_seconds()),
        )
        for deadline in deadlines
    )


def continued(calendar: BusinessCalendar, now: datetime, left: tuple[TimeLeft, ...]) -> tuple[Deadline, ...]:
    """The deadlines of a clock that goes on at ``now`` with what was left."""
    return tuple(
        Deadline(level=item.level, due_at=add_business_time(calendar, now, timedelta(seconds=item.seconds)))
        for item in left
    )


def delay(
    calendar: BusinessCalendar, planned: tuple[Deadline, ...], deadlines: tuple[Deadline, ...]
) -> timedelta:
    """The business time by which the last of ``deadlines`` is later than planned: a clock stood so long."""
    if not deadlines:
        return timedelta(0)
    last = max(deadlines, key=lambda deadline: deadline.level)
    first = next(deadline.due_at for deadline in planned if deadline.level == last.level)
    return business_time_between(calendar, first, last.due_at)


def delayed(
    calendar: BusinessCalendar, deadlines: tuple[Deadline, ...], by: timedelta
) -> tuple[Deadline, ...]:
    """The deadlines of a clock that stood for some business time."""
    return tuple(
        Deadline(level=deadline.level, due_at=add_business_time(calendar, deadline.due_at, by))
        for deadline in deadlines
    )
