"""How it goes on after a failed attempt."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forecourt.testing.given import NOW
from notify.retries import GiveUp, GoOn, Trail, after_failure

DELAYS = tuple(timedelta(seconds=s) for s in (10, 60, 300))
TWO = ("generic", "twilio")


def after(outcome: Any, provider: str, failures: int, *, unknown: bool = False, can: bool = True) -> Any:
    return after_failure(outcome, Trail(provider, failures, unknown, can), TWO, DELAYS, NOW)


def test_when_nothing_was_sent_the_next_provider_tries_at_once() -> None:
    assert after("not_sent", "generic", 1) == GoOn(NOW, "twilio")
    assert after("withdrawn", "generic", 3) == GoOn(NOW, "twilio")


def test_after_the_last_provider_the_first_tries_again_after_growing_pauses() -> None:
    assert after("not_sent", "twilio", 2) == GoOn(NOW + DELAYS[0], "generic")
    assert after("not_sent", "twilio", 4) == GoOn(NOW + DELAYS[1], "generic")
    assert after("not_sent", "twilio", 6) == GoOn(NOW + DELAYS[2], "generic")


def test_after_the_last_round_it_is_given_up() -> None:
    assert after("not_sent", "generic", 7) == GoOn(NOW, "twilio")
    assert after("not_sent", "twilio", 8) == GiveUp("providers_exhausted")


def test_a_refusal_is_final() -> None:
    assert after("refused", "generic", 1) == GiveUp("refused")


def test_an_unknown_outcome_stays_with_its_provider() -> None:
    assert after("unknown", "generic", 1, unknown=True) == GoOn(NOW + DELAYS[0], "generic")
    assert after("not_sent", "generic", 2, unknown=True) == GoOn(NOW + DELAYS[1], "generic")


def test_an_unknown_outcome_that_cannot_be_found_out_is_given_up_at_once() -> None:
    assert after("unknown", "twilio", 1, unknown=True, can=False) == GiveUp("outcome_unknown")


def test_a_provider_that_is_no_longer_configured_is_left_behind() -> None:
    assert after("not_sent", "gone", 1) == GoOn(NOW + DELAYS[0], "generic")


@given(st.lists(st.sampled_from(["not_sent", "unknown", "withdrawn"]), min_size=40, max_size=40))
def test_every_story_ends_and_an_unknown_outcome_is_never_handed_over(outcomes: list[Any]) -> None:
    provider, unknown = "generic", False
    for failures, outcome in enumerate(outcomes, start=1):
        unknown = outcome == "unknown" or (unknown and outcome == "not_sent")
        step = after_failure(outcome, Trail(provider, failures, unknown, True), TWO, DELAYS, NOW)
        if isinstance(step, GiveUp):
            assert step.reason == ("outcome_unknown" if unknown else "providers_exhausted")
            return
        assert step.at >= NOW
        assert not unknown or step.provider == provider
        provider = step.provider
    raise AssertionError("goes on for ever")
