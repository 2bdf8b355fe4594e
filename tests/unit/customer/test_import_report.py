"""The report of an import: every row of the file counts once, however the file was cut into chunks."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given as examples
from hypothesis import strategies as st

from customer.customer_import import (
    ImportRowRefused,
    ImportRowsReported,
    ImportStarted,
    ReportRows,
    RowReport,
    customer_import,
    merged,
)
from customer.read_models import ImportRow, imports
from forecourt.events import Event
from forecourt.testing.given import CONTEXT, an_id, given, given_rows, recorded

FILE = an_id("file")
STARTED = ImportStarted(file_name="customers.csv")


def rows(*numbers: int, outcome: Any = "created") -> tuple[RowReport, ...]:
    return tuple(RowReport(row=number, outcome=outcome) for number in numbers)


def report(reports: tuple[RowReport, ...]) -> ReportRows:
    return ReportRows(import_id=FILE, file_name="customers.csv", rows=reports)


def created(first: int, last: int, count: int | None = None) -> ImportRowsReported:
    many = last - first + 1 if count is None else count
    return ImportRowsReported(first_row=first, last_row=last, created=many, refused=0, duplicates=0)


def test_a_chunk_is_reported_once() -> None:
    given(customer_import).when(report(rows(1, 2, 3))).then(STARTED, created(1, 3))
    given(customer_import, STARTED, created(1, 3)).when(report(rows(1, 2, 3))).then_nothing()


def test_of_a_chunk_that_overlaps_only_the_new_rows_are_reported() -> None:
    before = given(customer_import, STARTED, created(1, 4))
    before.when(report(rows(3, 4, 5, 6))).then(created(5, 6))
    before.when(report(rows(2, 3))).then_nothing()


def test_a_chunk_around_reported_rows_is_reported_in_parts() -> None:
    before = given(customer_import, STARTED, created(3, 4), created(7, 7))
    before.when(report(rows(*range(1, 10)))).then(created(1, 2), created(5, 6), created(8, 9))


def test_rows_that_the_file_leaves_out_do_not_part_a_chunk() -> None:
    given(customer_import, STARTED).when(report(rows(1, 3, 6))).then(created(1, 6, count=3))


def test_a_row_that_was_refused_is_told_of_once() -> None:
    refused = ImportRowRefused(row=2, outcome="refused", customer_id=None, field="", reason="")
    first = ImportRowsReported(first_row=1, last_row=2, created=1, refused=1, duplicates=0)
    chunk = report(rows(1) + rows(2, outcome="refused"))
    given(customer_import).when(chunk).then(STARTED, first, refused)
    again = report(rows(2, outcome="refused") + rows(3))
    given(customer_import, STARTED, first, refused).when(again).then(created(3, 3))


def shown(history: Iterable[Event]) -> ImportRow:
    """The import as it is shown."""
    table = given_rows(imports)
    for number, event in enumerate(history, start=1):
        table.when(recorded(event, stream_id=FILE, sequence=number))
    row = table.rows[(FILE,)]
    assert isinstance(row, ImportRow)
    return row


def test_an_import_that_is_resumed_with_other_chunks_counts_every_row_once() -> None:
    history: list[Event] = []
    for first, size in ((1, 4), (5, 4), (1, 3), (4, 3), (7, 3), (10, 3)):
        chunk = report(rows(*range(first, first + size)))
        history += customer_import.decide(customer_import.fold(history), chunk, CONTEXT)
    assert (shown(history).created, shown(history).ranges) == (12, [(1, 12)])


CHUNKS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), min_size=1, max_size=12)


@examples(CHUNKS)
def test_however_chunks_overlap_every_row_counts_once(chunks: list[tuple[int, int]]) -> None:
    history: list[Event] = []
    sent: set[int] = set()
    for first, size in chunks:
        numbers = range(first, first + size)
        sent.update(numbers)
        chunk = report(rows(*numbers))
        history += customer_import.decide(customer_import.fold(history), chunk, CONTEXT)
    assert shown(history).created == len(sent)
    assert shown(history).ranges == merged((row, row) for row in sent)
