"""Groups wait for company where company is to be expected, and only there."""

from forecourt.waiting import ENOUGH, Company


class Watch:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def company(groups: list[int], *, seconds: float) -> Company:
    """One that has seen groups of these sizes leave, so many seconds apart."""
    watch = Watch()
    made = Company(monotonic=watch)
    for size in groups:
        watch.now += seconds
        made.went(size)
    return made


def test_the_first_caller_does_not_wait() -> None:
    assert not Company().is_expected(1)


def test_callers_one_by_one_do_not_wait() -> None:
    assert not company([1] * 20, seconds=0.005).is_expected(1)


def test_who_comes_in_a_crowd_waits_for_the_rest_of_it() -> None:
    assert company([8] * 20, seconds=0.005).is_expected(1)


def test_small_groups_in_quick_succession_become_larger_ones() -> None:
    assert company([4] * 20, seconds=0.004).is_expected(2)


def test_a_group_as_large_as_a_wait_would_make_it_goes_at_once() -> None:
    twenty_a_wait = company([20] * 20, seconds=0.005)
    assert twenty_a_wait.is_expected(19)
    assert not twenty_a_wait.is_expected(20)


def test_a_crowd_that_is_there_already_does_not_wait() -> None:
    assert not company([ENOUGH] * 20, seconds=0.005).is_expected(ENOUGH)


def test_after_the_crowd_has_gone_nobody_waits_for_it_again() -> None:
    watch = Watch()
    gone = Company(monotonic=watch)
    for _ in range(20):
        watch.now += 0.005
        gone.went(32)
    for _ in range(8):
        watch.now += 1.0
        gone.went(1)
    assert not gone.is_expected(1)
