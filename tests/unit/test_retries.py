"""What becomes of a message after a failed attempt."""

import pytest

from forecourt.errors import InvalidInput, Refused
from forecourt.eventstore.port import StoreUnavailable
from forecourt.messaging.retries import Park, Retry, after_failure, describe, fresh, is_outage, malformed
from forecourt.projections.freshness import NotYetThere

DELAYS = (1.0, 10.0)


class TooEarly(Refused):
    """Not yet."""


def test_each_attempt_waits_longer_and_the_last_one_parks() -> None:
    headers: dict[str, object] = {"tenant": "east", "x-death": [{"count": 1}]}
    first = after_failure(headers, TooEarly(), DELAYS)
    assert first == Retry(
        1.0,
        {
            "tenant": "east",
            "attempts": 1,
            "first-error": "TooEarly (too-early)",
            "last-error": "TooEarly (too-early)",
        },
    )
    second = after_failure(first.headers, KeyError("Mr Wang"), DELAYS)
    assert isinstance(second, Retry)
    assert second.delay == 10.0
    assert second.headers["last-error"] == "KeyError"
    third = after_failure(second.headers, TooEarly(), DELAYS)
    assert isinstance(third, Park)
    assert (third.reason, third.headers["attempts"]) == ("attempts-exhausted", 3)
    assert third.headers["first-error"] == "TooEarly (too-early)"


def test_what_cannot_be_mended_is_parked_at_once() -> None:
    decision = after_failure({}, InvalidInput("phone: +86 138"), DELAYS)
    assert isinstance(decision, Park)
    assert (decision.reason, decision.headers["attempts"]) == ("permanent-error", 1)
    assert malformed({}, InvalidInput()).reason == "malformed"


def test_no_delays_means_no_second_attempt() -> None:
    assert isinstance(after_failure({}, TooEarly(), ()), Park)


def test_an_error_is_told_without_its_message() -> None:
    assert describe(InvalidInput("phone: +86 138")) == "InvalidInput (invalid-input)"
    assert describe(ValueError("Mr Wang")) == "ValueError"


def test_attempts_that_somebody_made_up_count_for_nothing() -> None:
    decision = after_failure({"attempts": "many"}, TooEarly(), DELAYS)
    assert decision.headers["attempts"] == 1


def test_starting_anew_keeps_foreign_headers_only() -> None:
    assert fresh({"attempts": 3, "reason": "x", "x-delivery-count": 2, "tenant": "east"}) == {
        "tenant": "east"
    }


@pytest.mark.parametrize(
    ("error", "raised_by_the_handler", "away"),
    [
        (StoreUnavailable("away"), True, True),
        (NotYetThere("behind"), True, True),
        (ConnectionError("the database"), False, True),
        (TimeoutError("a provider"), True, False),
        (ValueError("a mistake"), True, False),
    ],
)
def test_what_is_an_outage_and_what_an_attempt(
    error: Exception, raised_by_the_handler: bool, away: bool
) -> None:
    assert is_outage(error, error if raised_by_the_handler else None) is away


def test_a_database_that_cannot_roll_back_is_away_whatever_the_handler_raised() -> None:
    assert is_outage(TimeoutError("the database"), TimeoutError("also the database"))
