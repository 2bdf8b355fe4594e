"""Quiet hours: when customers are left in peace, by the clock on their wall."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class QuietHours:
    """From ``start`` to ``end`` of local time, over midnight if ``end`` is earlier; none if equal."""

    start: time = time(21, 0)
    end: time = time(8, 0)

    def holds(self, local: time) -> bool:
        """Whether the time of day lies in the quiet hours."""
        if self.start <= self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end


def quiet_until(now: datetime, time_zone: str, quiet: QuietHours) -> datetime | None:
    """When the quiet hours that ``now`` lies in end, in UTC; None where they do not hold.

    ``time_zone`` is an IANA name. Raises `zoneinfo.ZoneInfoNotFoundError` for another one.
    """
    zone = ZoneInfo(time_zone)
    local = now.astimezone(zone)
    if not quiet.holds(local.time()):
        return None
    day = local.date() if local.time() < quiet.end else local.date() + timedelta(days=1)
    # fold=1: where clocks go back over the end of the quiet hours, the later of the two moments is meant, so
    # that the answer never lies in the past.
    return datetime.combine(day, quiet.end, tzinfo=zone).replace(fold=1).astimezone(UTC)
