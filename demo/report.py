"""The report at the end of the demo: tables for people, and the checks behind ``demo: ok``."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table


@dataclass
class Report:
    """Collects figures and checks while the day goes on, and prints them."""

    out: Console
    failures: list[str] = field(default_factory=list)

    def expect(self, what: str, actual: object, expected: object) -> None:
        """Note a failure unless both are equal."""
        if actual != expected:
            self.failures.append(f"{what}: {actual!r}, expected {expected!r}")

    def expect_true(self, what: str, holds: bool) -> None:
        """Note a failure unless it holds."""
        if not holds:
            self.failures.append(what)

    def figures(self, title: str, rows: Sequence[tuple[str, object]]) -> None:
        """A table of names and numbers."""
        table = Table(title=title, show_header=False, title_justify="left")
        table.add_column(style="bold")
        table.add_column(justify="right")
        for name, value in rows:
            table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
        self.out.print(table)

    def rows(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table with named columns."""
        table = Table(title=title, title_justify="left")
        for column in columns:
            table.add_column(column)
        for row in rows:
            table.add_row(*(str(cell) for cell in row))
        self.out.print(table)

    def message(self, arrived: Mapping[str, Any]) -> None:
        """A message that a customer got, shown whole."""
        head = f"{arrived['channel']} to {arrived['to']}"
        subject = f"[bold]{arrived['subject']}[/bold]\n\n" if arrived.get("subject") else ""
        self.out.print(Panel(subject + arrived["text"].strip(), title=head, title_align="left", width=90))

    def finish(self) -> int:
        """Print what failed, and the last line. The exit status."""
        for failure in self.failures:
            self.out.print(f"[red]failed[/red] {failure}", markup=True, highlight=False)
        print("demo: failed" if self.failures else "demo: ok", flush=True)
        return 1 if self.failures else 0


def once_per_reason(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys under which more than one message arrived."""
    keys = Counter((message["channel"], message["key"] or message["reference"]) for message in messages)
    return [f"{channel}:{key}" for (channel, key), count in keys.items() if count > 1]
