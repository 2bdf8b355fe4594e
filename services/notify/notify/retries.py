"""What follows a failed attempt: the same provider again, the next one, or nobody. Pure.

* Nothing was sent: the next provider at once. When all have had their turn, the first again after a pause
  that grows from round to round.
* Nobody knows: the same provider after a pause, and no other one, because two providers cannot know of each
  other that they both send. See ``docs/adr/0011-unknown-outcome.md``.
* Refused for good, or out of rounds: a dead letter, with its reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from notify.notification import DeadLetterReason, FailureOutcome

DEFAULT_DELAYS = tuple(timedelta(seconds=s) for s in (10, 60, 300, 1800, 7200, 21_600))
"""The pauses between the rounds."""


@dataclass(frozen=True)
class Trail:
    """What has been tried since the message was queued, the failure in question included.

    ``failures`` counts all of them. ``unknown``: some attempt at ``provider`` may have been sent.
    ``can_find_out``: the provider takes the same message again without sending it twice, or tells what became
    of it.
    """

    provider: str
    failures: int
    unknown: bool
    can_find_out: bool


@dataclass(frozen=True)
class GoOn:
    """Try again at ``at``, at ``provider``."""

    at: datetime
    provider: str


@dataclass(frozen=True)
class GiveUp:
    """Park the message."""

    reason: DeadLetterReason


def after_failure(
    outcome: FailureOutcome,
    trail: Trail,
    providers: Sequence[str],
    delays: Sequence[timedelta],
    now: datetime,
) -> GoOn | GiveUp:
    """How it goes on after a failure; ``providers`` of the channel are in order of preference."""
    if outcome == "refused":
        return GiveUp("refused")
    turn = providers.index(trail.provider) if trail.provider in providers else len(providers) - 1
    rounds_done = trail.failures // len(providers)
    if trail.unknown:
        if not trail.can_find_out or trail.failures > len(providers) * len(delays):
            return GiveUp("outcome_unknown")
        return GoOn(now + delays[min(rounds_done, len(delays) - 1)], trail.provider)
    if trail.failures >= len(providers) * (len(delays) + 1):
        return GiveUp("providers_exhausted")
    if turn + 1 < len(providers):
        return GoOn(now, providers[turn + 1])
    return GoOn(now + delays[min(max(rounds_done - 1, 0), len(delays) - 1)], providers[0])
