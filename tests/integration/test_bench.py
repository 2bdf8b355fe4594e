"""The benchmarks run: at a thousandth of their size, for the names of their results and not for the numbers."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.__main__ import GOALS, GROUPS
from bench.harness import Bench
from forecourt.testing.servers import PostgresServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SCALE = 0.001
MEASURES = {
    "commands": {"command_vs_echo", "import_vs_command", "command_secure_vs_plain"},
    "store": {"append_vs_single", "append_vs_eventsourcing", "read_vs_raw"},
    "projections": {"project_vs_raw", "project_vs_eventsourcing"},
    "relaying": {"relay_vs_raw"},
    "lag": {"lag_ms_p99.read_model", "lag_ms_p99.amqp"},
    "memory": {"memory_mib.project", "memory_mib.relay"},
    "privacy": {"read_secure_vs_plain", "read_all_secure_vs_plain"},
    "scale": {"two_serve_vs_one", "two_work_vs_one"},
}


@dataclass
class BenchOnSharedServers(Bench):
    """A run that knows which databases it made, so that none is left on a server that others use."""

    made: list[str] = field(default_factory=list)

    async def fresh_database(self) -> str:
        self.made.append(await super().fresh_database())
        return self.made[-1]


@pytest.fixture
def bench(
    postgres_server: PostgresServer, database_url: str, amqp_uri: str, tmp_path: Path
) -> Iterator[BenchOnSharedServers]:
    """A run on the servers of the tests: to start some for each group takes longer than to measure."""
    run = BenchOnSharedServers(database_url, amqp_uri, tmp_path, SCALE)
    yield run
    for url in run.made:
        postgres_server.drop_database(url)


def test_every_group_and_every_goal_is_measured_here() -> None:
    assert set(MEASURES) == set(GROUPS)
    assert set().union(*MEASURES.values()) >= GOALS.keys()


@pytest.mark.parametrize("group", MEASURES)
async def test_a_group_measures_what_goals_are_set_for(bench: BenchOnSharedServers, group: str) -> None:
    await importlib.import_module(f"bench.{group}").run(bench)
    assert MEASURES[group] <= bench.results.keys()
    # A message may be there before the answer is: a lag may be nothing.
    assert all(bench.results[name] > 0 or group == "lag" for name in MEASURES[group])


def test_the_command_starts_servers_and_writes_what_it_measured(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "relaying", "--scale", str(SCALE), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert json.loads(out.read_text()).keys() >= MEASURES["relaying"]
