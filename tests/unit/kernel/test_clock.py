"""No clock runs backwards, however it is set."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecourt.clock import ClockSetting, ManualClock, SystemClock, VirtualClock

START = datetime(2026, 1, 5, 9, tzinfo=UTC)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.floats(0, 1e6)),
        st.tuples(st.just("apply"), st.floats(-1e6, 1e6)),
        st.tuples(st.just("rate"), st.floats(0, 1e4)),
    ),
    max_size=30,
)


@given(steps)
def test_a_virtual_clock_never_runs_backwards(moves: list[tuple[str, float]]) -> None:
    real = ManualClock(START)
    clock = VirtualClock(ClockSetting(START, START), real)
    last = clock.now()
    for move, by in moves:
        if move == "pass":
            real.advance(timedelta(seconds=by))
        elif move == "apply":
            clock.apply(ClockSetting(real.now(), last + timedelta(seconds=by), clock.setting.rate))
        else:
            clock.apply(ClockSetting(real.now(), clock.now(), by))
        assert clock.now() >= last
        last = clock.now()


def test_a_virtual_clock_runs_at_its_rate() -> None:
    real = ManualClock(START)
    clock = VirtualClock(ClockSetting(START, START, rate=3600), real)
    real.advance(timedelta(seconds=24))
    assert clock.now() == START + timedelta(days=1)


def test_a_clock_is_not_set_to_the_past() -> None:
    clock = VirtualClock(ClockSetting(START, START), ManualClock(START))
    with pytest.raises(ValueError, match="lies in the past"):
        clock.set(START - timedelta(seconds=1))
    with pytest.raises(ValueError, match="rate"):
        clock.apply(ClockSetting(START, START, rate=-1))
    with pytest.raises(ValueError, match="by"):
        ManualClock().advance(timedelta(seconds=-1))


def test_the_system_clock_is_aware_and_monotonic() -> None:
    clock = SystemClock()
    times = [clock.now() for _ in range(100)]
    assert times == sorted(times)
    assert times[0].tzinfo is UTC
