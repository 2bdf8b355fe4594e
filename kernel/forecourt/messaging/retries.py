"""What becomes of a message whose handling failed: another try later, or the parking queue.

Pure: from the headers that a message came with, and the error, to the headers that it goes on with. Headers
name errors by class and slug, never by message: a message may hold a person's data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forecourt.connections import LOST
from forecourt.errors import ForecourtError, InvalidInput, Unavailable
from forecourt.registry import UndecodableEvent

ATTEMPTS = "attempts"
REASON = "reason"
FIRST_ERROR = "first-error"
LAST_ERROR = "last-error"
OURS = frozenset({ATTEMPTS, REASON, FIRST_ERROR, LAST_ERROR})

PERMANENT: tuple[type[Exception], ...] = (InvalidInput, UndecodableEvent)
"""Errors that another try cannot mend."""


@dataclass(frozen=True)
class Retry:
    """Try again after ``delay`` seconds."""

    delay: float
    headers: dict[str, Any]


@dataclass(frozen=True)
class Park:
    """Give up; ``reason`` is one of ``malformed``, ``permanent-error``, ``attempts-exhausted``."""

    reason: str
    headers: dict[str, Any]


def describe(error: BaseException) -> str:
    """Class and slug of an error: what may be told of it anywhere."""
    name = type(error).__name__
    return f"{name} ({error.slug})" if isinstance(error, ForecourtError) else name


def place(error: BaseException) -> str:
    """File and line that raised: what may be logged of a traceback, whose texts may hold personal data."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"


def after_failure(
    headers: Mapping[str, Any],
    error: Exception,
    delays: Sequence[float],
    permanent: tuple[type[Exception], ...] = PERMANENT,
) -> Retry | Park:
    """The decision after one more failed attempt."""
    attempts = attempts_of(headers) + 1
    what = describe(error)
    described = {
        **fresh(headers),
        ATTEMPTS: attempts,
        FIRST_ERROR: headers.get(FIRST_ERROR, what),
        LAST_ERROR: what,
    }
    if isinstance(error, permanent):
        return _park("permanent-error", described)
    if attempts > len(delays):
        return _park("attempts-exhausted", described)
    return Retry(delays[attempts - 1], described)


def malformed(headers: Mapping[str, Any], error: Exception) -> Park:
    """A message that cannot be read is given up at once."""
    what = describe(error)
    described = {ATTEMPTS: attempts_of(headers) + 1, FIRST_ERROR: what, LAST_ERROR: what}
    return _park("malformed", {**fresh(headers), **described})


def fresh(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers of a message that starts anew: without what failed attempts and the broker left on it."""
    return {name: value for name, value in headers.items() if name not in OURS and not name.startswith("x-")}


def is_outage(error: Exception, failure: Exception | None) -> bool:
    """Whether the platform itself is away, by the error with which a handler's transaction ended.

    ``failure`` is what the handler raised in it. Its own troubles may look like a lost database (a provider that times
    out): those are attempts. Where another error took their place, the transaction could not even be rolled back.
    """
    return isinstance(error, Unavailable) or (isinstance(error, LOST) and error is not failure)


def attempts_of(headers: Mapping[str, Any]) -> int:
    """How many attempts have failed before."""
    attempts = headers.get(ATTEMPTS, 0)
    return attempts if isinstance(attempts, int) and attempts >= 0 else 0


def _park(reason: str, headers: dict[str, Any]) -> Park:
    return Park(reason, {**headers, REASON: reason})
