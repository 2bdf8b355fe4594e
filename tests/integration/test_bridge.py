"""asyncio clients on eventlet's hub, in a process of their own: nothing else may be patched."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from forecourt.testing.eventstore_servers import standin_server
from tests.integration.messaging_tools import HERE

pytestmark = pytest.mark.integration


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, *([script] if script == "-c" else [str(HERE / script)]), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


async def test_asynchronous_clients_and_green_threads_share_one_loop(database_url: str) -> None:
    with standin_server() as store:
        done = await asyncio.to_thread(run, "messaging_bridge.py", database_url, str(store.url))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("ticks") > found.pop("seconds") / 0.2, "timers were held up"
    assert found == {
        "asyncpg": 1000,
        "grpc": 1000,
        "store": 50,
        "http": 200,
        "thread": 7,
        "raised": "a person's name",
    }
    assert "a person's name" not in done.stderr, "what a handler raises must not be printed by the hub"


def test_a_bridge_that_comes_too_late_says_so() -> None:
    done = run(
        "-c",
        "import warnings; warnings.simplefilter('ignore'); import eventlet\n"
        "from forecourt.worker import bridge; bridge.install()",
    )
    assert done.returncode == 1
    assert "RuntimeError: the bridge must be installed before eventlet is imported" in done.stderr
