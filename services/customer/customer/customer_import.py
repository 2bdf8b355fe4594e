"""The import of a customer file: what became of each row, so that a broken import can be resumed and explained.

The customers themselves are registered one by one, under command ids derived from import id and row number;
this aggregate only keeps the report.
"""

from collections import Counter
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
    """Ranges of rows that have been reported."""

    started: bool = False
    ranges: frozenset[tuple[int, int]] = frozenset()


class ReportRows(Command, creates="if_missing"):
    """Report on a chunk."""

    import_id: UUID
    file_name: str = Field(max_length=200)
    rows: tuple[RowReport, ...] = Field(min_length=1, max_length=CHUNK_ROWS)


customer_import = Decider(service="customer", category="customer_import", initial=Import(), key="import_id")


@customer_import.decides
def report(state: Import, c: ReportRows, ctx: Context) -> list[Event]:
    """A chunk that was reported before is not reported again."""
    first, last = c.rows[0].row, c.rows[-1].row
    if (first, last) in state.ranges:
        return []
    events: list[Event] = [] if state.started else [ImportStarted(file_name=c.file_name)]
    counts = Counter(row.outcome for row in c.rows)
    events.append(
        ImportRowsReported(
            first_row=first,
            last_row=last,
            created=counts["created"],
            refused=counts["refused"],
            duplicates=counts["duplicate"],
        )
    )
    refused = [row.model_dump() for row in c.rows if row.outcome != "created"]
    return [*events, *(ImportRowRefused(**row) for row in refused)]


@customer_import.evolves
def _started(state: Import, e: ImportStarted) -> Import:
    return replace(state, started=True)


@customer_import.evolves
def _reported(state: Import, e: ImportRowsReported) -> Import:
    return replace(state, ranges=state.ranges | {(e.first_row, e.last_row)})


customer_import.ignores(ImportRowRefused)
