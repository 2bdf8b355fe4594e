"""The benchmarks run: at a thousandth of their size, for the names of their results and not for the numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import GOALS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

MEASURED_HERE = {
    "commands": {"command_vs_echo", "import_vs_command", "command_secure_vs_plain"},
    "projections": {"project_vs_raw", "project_vs_eventsourcing"},
    "privacy": {"read_secure_vs_plain"},
}


def test_the_benchmarks_measure_what_goals_are_set_for(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", *MEASURED_HERE, "--scale", "0.001", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    results = json.loads(out.read_text())
    expected = set().union(*MEASURED_HERE.values())
    assert expected <= GOALS.keys()
    assert expected <= results.keys()
    assert all(results[name] > 0 for name in expected)
