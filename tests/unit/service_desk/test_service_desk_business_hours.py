"""Business time: shifts, holidays, make-up days, time zones, and the laws of the arithmetic."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service_desk.business_hours import BusinessCalendar, add_business_time, business_time_between
from service_desk.stores import store_of

CN = store_of("D001").office
SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = BusinessCalendar(
    name="berlin",
    time_zone="Europe/Berlin",
    # A night shift around the hours that daylight saving skips and repeats, and a split day.
    shifts={
        weekday: ((time(1, 30), time(3, 30)), (time(8), time(12)), (time(14), time(19)))
        for weekday in range(7)
    },
    country="DE",
)

moments = st.integers(0, 3 * 365 * 86_400).map(
    lambda s: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=s)
)
amounts = st.integers(0, 100 * 3600).map(lambda seconds: timedelta(seconds=seconds))
calendars = st.sampled_from([CN, BERLIN])


def local(year: int, month: int, day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=SHANGHAI)


@pytest.mark.parametrize(
    ("start", "hours", "expected"),
    [
        pytest.param(local(2026, 1, 5, 10), 1, local(2026, 1, 5, 11), id="within a shift"),
        pytest.param(local(2026, 1, 5, 11), 2, local(2026, 1, 5, 14, 30), id="over lunch"),
        pytest.param(local(2026, 1, 5, 17), 2, local(2026, 1, 6, 10), id="over night"),
        pytest.param(local(2026, 1, 5, 20), 1, local(2026, 1, 6, 10), id="begun after hours"),
        pytest.param(local(2026, 1, 5, 17), 1, local(2026, 1, 5, 18), id="ends with the shift"),
        pytest.param(local(2026, 1, 9, 17), 2, local(2026, 1, 12, 10), id="over the weekend"),
        pytest.param(
            local(2025, 12, 31, 17), 2, local(2026, 1, 4, 10), id="New Year, then Sunday to make up for it"
        ),
        pytest.param(
            local(2026, 2, 14, 17), 2, local(2026, 2, 24, 10), id="Saturday to make up, Spring Festival"
        ),
        pytest.param(local(2026, 9, 30, 17), 2, local(2026, 10, 8, 10), id="National Day"),
    ],
)
def test_deadlines(start: datetime, hours: int, expected: datetime) -> None:
    assert add_business_time(CN, start, timedelta(hours=hours)) == expected


def test_a_free_day_has_no_shifts_and_a_make_up_day_has_those_of_a_monday() -> None:
    assert CN.shifts_on(date(2026, 2, 17)) == ()
    assert CN.shifts_on(date(2026, 1, 3)) == ()
    assert CN.shifts_on(date(2026, 1, 4)) == CN.shifts_on(date(2026, 1, 5))


def test_elapsed_time_leaves_breaks_nights_and_weekends_out() -> None:
    friday, monday = local(2026, 1, 9, 11), local(2026, 1, 12, 10)
    assert business_time_between(CN, friday, monday) == timedelta(hours=1 + 4.5 + 1)
    assert business_time_between(CN, monday, friday) == timedelta(0)


def test_an_hour_that_daylight_saving_skips_is_not_counted() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    start, end = datetime(2026, 3, 29, 0, tzinfo=berlin), datetime(2026, 3, 29, 7, tzinfo=berlin)
    assert business_time_between(BERLIN, start, end) == timedelta(hours=1)
    start, end = datetime(2026, 10, 25, 0, tzinfo=berlin), datetime(2026, 10, 25, 7, tzinfo=berlin)
    assert business_time_between(BERLIN, start, end) == timedelta(hours=3)


@settings(max_examples=150)
@given(calendars, moments, amounts)
def test_elapsed_is_the_inverse_of_adding(
    calendar: BusinessCalendar, start: datetime, amount: timedelta
) -> None:
    assert business_time_between(calendar, start, add_business_time(calendar, start, amount)) == amount


@settings(max_examples=150)
@given(calendars, moments, amounts, amounts)
def test_adding_twice_is_adding_the_sum(
    calendar: BusinessCalendar, start: datetime, one: timedelta, other: timedelta
) -> None:
    in_two_steps = add_business_time(calendar, add_business_time(calendar, start, one), other)
    assert in_two_steps == add_business_time(calendar, start, one + other)


@settings(max_examples=150)
@given(calendars, moments, moments, amounts, amounts)
def test_later_starts_and_larger_amounts_never_end_earlier(
    calendar: BusinessCalendar, one: datetime, other: datetime, small: timedelta, large: timedelta
) -> None:
    (one, other), (small, large) = sorted((one, other)), sorted((small, large))
    assert add_business_time(calendar, one, small) <= add_business_time(calendar, other, small)
    assert add_business_time(calendar, one, small) <= add_business_time(calendar, one, large)


@settings(max_examples=100)
@given(calendars, moments, st.integers(0, 40 * 86400), st.integers(0, 40 * 86400))
def test_elapsed_time_adds_up_and_never_exceeds_the_clock(
    calendar: BusinessCalendar, start: datetime, first: int, second: int
) -> None:
    middle = start + timedelta(seconds=first)
    end = middle + timedelta(seconds=second)
    parts = business_time_between(calendar, start, middle) + business_time_between(calendar, middle, end)
    assert parts == business_time_between(calendar, start, end) <= end - start


@pytest.mark.parametrize(
    "shifts",
    [
        {},
        {0: ()},
        {0: ((time(12), time(9)),)},
        {0: ((time(9), time(12)), (time(11), time(13)))},
        {0: ((time(9), time(9)),)},
        {7: ((time(9), time(12)),)},
    ],
)
def test_impossible_shifts_are_refused(shifts: dict[int, tuple[tuple[time, time], ...]]) -> None:
    with pytest.raises(ValueError, match="shifts"):
        BusinessCalendar(name="x", time_zone="UTC", shifts=shifts)


def test_a_negative_amount_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        add_business_time(CN, local(2026, 1, 5, 10), timedelta(seconds=-1))
