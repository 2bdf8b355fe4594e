"""``forecourt simulate`` plays a small dealer group's days through the public APIs, and comes to an end with no lag."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.integration, pytest.mark.timeout(240)]


def simulate(**variables: str) -> subprocess.CompletedProcess[str]:
    """Two days of a group of seven hundredths of the size."""
    return subprocess.run(
        [sys.executable, "-m", "forecourt.cli", "simulate", "--profile", "hongtong", *_options(variables)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )


def _options(variables: dict[str, str]) -> list[str]:
    return ["--days", "2", "--scale", "0.07", "--data", variables["FORECOURT_DATA"]]


async def test_two_days_of_a_small_group(database_url: str, amqp_uri: str, tmp_path: Path) -> None:
    servers = {"DATABASE_URL": database_url, "AMQP_URI": amqp_uri, "FORECOURT_DATA": str(tmp_path)}
    done = await asyncio.to_thread(simulate, **servers)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-2_000:]
    assert done.stdout.endswith("simulate: ok\n")
    found = {
        name.strip(): float(number.replace(",", ""))
        for name, number in re.findall(r"│ ([a-z ,]+?) +│ +([\d.,]+) │", done.stdout)
    }
    assert (found["cars"], found["repairs"], found["complaints"]) == (2, 22, 2)
    # Of 1,400 rows those that are good: some are refused, some are duplicates.
    assert 1_300 < found["customers"] < 1_400
    assert found["events"] > found["customers"]


async def test_the_data_of_another_platform_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "postgres/PG_VERSION"
    kept.parent.mkdir()
    kept.touch()
    done = await asyncio.to_thread(simulate, FORECOURT_DATA=str(tmp_path))
    assert (done.returncode, "--data: " in done.stderr, kept.exists()) == (2, True, True), done.stderr


async def test_nothing_is_simulated_in_production(tmp_path: Path) -> None:
    variables = {"FORECOURT_ENV": "production", "FORECOURT_DATA": str(tmp_path)}
    done = await asyncio.to_thread(simulate, **variables)
    assert (done.returncode, "production" in done.stderr) == (2, True)
