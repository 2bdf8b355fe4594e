"""What a call refused of what it was given, and went on: rows of a file, leads of a document, steps that failed."""

from collections import Counter
from typing import NamedTuple
from uuid import UUID

from forecourt.audit.entries import MAX_SUBJECTS
from forecourt.deciders import Context
from forecourt.errors import ForecourtError
from forecourt.rpc.errors import NOT_DECIDED, code_of


class Why(NamedTuple):
    """What parts of a call are counted together for."""

    code: str
    slug: str
    field: str
    actor_id: str
    dealer_id: str
    brand: str


class PartsOfCall:
    """What a call refused of what it was given and went on: counted, so that a file of rows is a handful of entries."""

    __slots__ = ("_counts", "_latest", "_subjects")

    def __init__(self) -> None:
        self._counts: Counter[Why] = Counter()
        self._subjects: dict[Why, dict[UUID, None]] = {}
        self._latest: tuple[ForecourtError, Context, UUID | None] | None = None

    def refused(self, error: ForecourtError, context: Context, subject: UUID | None = None) -> None:
        """Count a part; ``context`` is the one that it was refused under, ``subject`` what it is about."""
        self._count_latest()
        self._latest = (error, context, subject)

    def entries(self, failure: BaseException | None) -> list[tuple[Why, int, tuple[UUID, ...]]]:
        """What is to be noted down, once; ``failure`` is the error with which the call itself ends.

        What a call ends with was refused on the way, too, and is an entry of its own.
        """
        if self._latest is not None and self._latest[0] is failure:
            self._latest = None
        self._count_latest()
        found = [(why, count, tuple(self._subjects[why])) for why, count in self._counts.items()]
        self._counts.clear()
        return found

    def _count_latest(self) -> None:
        if self._latest is None:
            return
        (error, context, subject), self._latest = self._latest, None
        code = code_of(error)
        if code in NOT_DECIDED:
            return
        # Below the first word of a path there may be a key that the caller chose.
        field = next(iter(error.fields), "").partition(".")[0]
        why = Why(code.name, error.slug, field, context.actor_id, context.dealer_id, context.brand)
        self._counts[why] += 1
        subjects = self._subjects.setdefault(why, {})
        if subject is not None and len(subjects) < MAX_SUBJECTS:
            subjects[subject] = None
