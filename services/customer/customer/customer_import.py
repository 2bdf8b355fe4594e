"""The import of a customer file: what became of each row, so that a broken import can be resumed and explained.

The customers themselves are registered one by one, under command ids derived from import id and row number;
this aggregate only keeps the report.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from forecourt.deciders import Command, Context, Decider
from forecourt.events import Event

Outcome = Literal["created", "refused", "duplicate"]

CHUNK_ROWS = 400
"""Most rows of one chunk."""


class RowReport(BaseModel):
    """What became of one row; no personal data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int = Field(ge=1)
    outcome: Outcome
    customer_id: UUID | None = None
    field: str = ""
    reason: str = ""


class ImportStarted(Event, name="ImportStarted", version=1):
    """The first chunk of a file arrived."""

    file_name: str


class ImportRowsReported(Event, name="ImportRowsReported", version=1):
    """A chunk of rows was dealt with."""

    first_row: int
    last_row: int
    created: int
    refused: int
    duplicates: int


class ImportRowRefused(Event, name="ImportRowRefused", version=1):
    """A row became no customer: it is bad, or repeats the customer ``customer_id``.

    No personal data: ``reason`` is one of our own texts, without a value and without a word of the sender's.
    """

    row: int
    outcome: Literal["refused", "duplicate"]
    customer_id: UUID | None
    field: str
    reason: str


@dataclass(frozen=True)
class Import:
    """Ranges of rows that have been reported, as `merged` answers them."""

    started: bool = False
    ranges: tuple[tuple[int, int], ...] = ()


class ReportRows(Command, creates="if_missing"):
    """Report on a chunk."""

    import_id: UUID
    file_name: str = Field(max_length=200)
    rows: tuple[RowReport, ...] = Field(min_length=1, max_length=CHUNK_ROWS)


customer_import = Decider(service="customer", category="customer_import", initial=Import(), key="import_id")


@customer_import.decides
def report(state: Import, c: ReportRows, ctx: Context) -> list[Event]:
    """A row that was reported before, in whatever chunk, is not reported again."""
    news = _unreported(c.rows, state.ranges)
    if not news:
        return []
    started: list[Event] = [] if state.started else [ImportStarted(file_name=c.file_name)]
    refused = [row.model_dump() for rows in news for row in rows if row.outcome != "created"]
    return [*started, *map(_reported_rows, news), *(ImportRowRefused(**row) for row in refused)]


def _unreported(rows: Iterable[RowReport], ranges: Sequence[tuple[int, int]]) -> list[list[RowReport]]:
    """The rows outside ``ranges``, in order, parted where a range lies between them."""
    parts: dict[int, list[RowReport]] = {}
    for row in rows:
        begun = bisect_right(ranges, row.row, key=lambda pair: pair[0])
        if not begun or ranges[begun - 1][1] < row.row:
            parts.setdefault(begun, []).append(row)
    return list(parts.values())


def _reported_rows(rows: Sequence[RowReport]) -> ImportRowsReported:
    counts = Counter(row.outcome for row in rows)
    return ImportRowsReported(
        first_row=rows[0].row,
        last_row=rows[-1].row,
        created=counts["created"],
        refused=counts["refused"],
        duplicates=counts["duplicate"],
    )


def merged(ranges: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """Ranges of whole numbers, as (first, last), in order, touching ones joined."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted((int(first), int(last)) for first, last in ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return joined


@customer_import.evolves
def _started(state: Import, e: ImportStarted) -> Import:
    return replace(state, started=True)


@customer_import.evolves
def _reported(state: Import, e: ImportRowsReported) -> Import:
    return replace(state, ranges=tuple(merged([*state.ranges, (e.first_row, e.last_row)])))


customer_import.ignores(ImportRowRefused)
