"""``python -m bench [NAME ...]``: run benchmarks, print a table, write ``build/bench.json``."""

import argparse
import asyncio
import importlib
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.harness import Bench, servers

GROUPS = ("commands", "store", "projections", "relaying", "lag", "memory", "privacy", "scale")
GOALS = {
    "command_vs_echo": 0.5,
    "append_vs_single": 2.0,
    "read_vs_raw": 0.2,
    "project_vs_raw": 0.4,
    "relay_vs_raw": 0.4,
    "append_vs_eventsourcing": 8.0,
    "project_vs_eventsourcing": 30.0,
    "import_vs_command": 3.0,
    "read_secure_vs_plain": 0.7,
    "command_secure_vs_plain": 0.8,
}


def main() -> None:
    """Run the groups that were named, all by default."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], help="which to run; all by default")
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the full number of events")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), help="where the numbers go")
    options = parser.parse_args()
    console = Console()
    results: dict[str, float] = {}
    for group in options.groups or GROUPS:
        # Servers of its own: what one group leaves in queues and tables would be the next one's work.
        with console.status(group), servers() as (url, uri, folder):
            bench = Bench(url, uri, folder, options.scale)
            asyncio.run(importlib.import_module(f"bench.{group}").run(bench))
        results |= bench.results
        console.print(group, "done")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(options.out.read_text()) if options.out.exists() and options.groups else {}
    options.out.write_text(json.dumps(known | results, indent=2) + "\n")
    console.print(_table(results))


def _table(results: dict[str, float]) -> Table:
    table = Table("name", "result", "goal")
    for name, value in results.items():
        table.add_row(name, f"{value:,}", f">= {GOALS[name]}" if name in GOALS else "")
    return table


if __name__ == "__main__":
    main()
