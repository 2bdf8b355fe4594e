"""Quiet hours by the clock on the customer's wall."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify.quiet_hours import QuietHours, quiet_until

NIGHT = QuietHours()
ZONES = ["Asia/Shanghai", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"]


def at(text: str, zone: str = "Asia/Shanghai") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-03-01T20:59:59", None),
        ("2026-03-01T21:00:00", "2026-03-02T08:00:00"),
        ("2026-03-01T23:30:00", "2026-03-02T08:00:00"),
        ("2026-03-02T03:00:00", "2026-03-02T08:00:00"),
        ("2026-03-02T07:59:59", "2026-03-02T08:00:00"),
        ("2026-03-02T08:00:00", None),
        ("2026-03-02T12:00:00", None),
    ],
)
def test_from_nine_to_eight_customers_are_left_in_peace(now: str, until: str | None) -> None:
    expected = None if until is None else at(until)
    assert quiet_until(at(now).astimezone(UTC), "Asia/Shanghai", NIGHT) == expected


def test_it_is_the_customers_night_that_counts() -> None:
    evening_in_shanghai = at("2026-03-01T22:00:00").astimezone(UTC)
    assert quiet_until(evening_in_shanghai, "Asia/Shanghai", NIGHT) is not None
    assert quiet_until(evening_in_shanghai, "Europe/Berlin", NIGHT) is None


def test_quiet_hours_within_a_day() -> None:
    lunch = QuietHours(time(12, 0), time(14, 0))
    assert quiet_until(at("2026-03-01T13:00:00"), "Asia/Shanghai", lunch) == at("2026-03-01T14:00:00")
    assert quiet_until(at("2026-03-01T14:00:00"), "Asia/Shanghai", lunch) is None


def test_equal_ends_mean_none() -> None:
    assert quiet_until(at("2026-03-01T03:00:00"), "Asia/Shanghai", QuietHours(time(0), time(0))) is None


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from(ZONES),
    st.times(),
    st.times(),
)
def test_the_end_lies_ahead_and_is_not_quiet(now: datetime, zone: str, start: time, end: time) -> None:
    quiet = QuietHours(start.replace(microsecond=0), end.replace(microsecond=0))
    until = quiet_until(now, zone, quiet)
    if until is None:
        assert not quiet.holds(now.astimezone(ZoneInfo(zone)).time())
        return
    assert now < until <= now + timedelta(hours=26)
    assert not quiet.holds(until.astimezone(ZoneInfo(zone)).time())
