"""The command line, as a user runs it: real processes, real exit codes."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp
import asyncpg
import psutil
import pytest

from forecourt.embedded.process import free_port
from forecourt.supervisor import NotReady, ProcessSpec, Supervisor
from forecourt.testing.probes import poll, poll_async

pytestmark = pytest.mark.integration

DATA = tempfile.mkdtemp(prefix="forecourt-cli-")


def forecourt(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    own = {"DATABASE_URL": "", "AMQP_URI": "", "FORECOURT_DATA": DATA}
    return subprocess.run(
        [sys.executable, "-m", "forecourt.cli", *arguments],
        env={**os.environ, **own, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["serve", "customer"], {}, "DATABASE_URL: is not set"),
        (["serve", "customer"], {"DATABASE_URL": "mysql://x"}, "DATABASE_URL: "),
        (
            ["serve", "customer"],
            {"DATABASE_URL": "postgresql://127.0.0.1:1/x"},
            "DATABASE_URL: cannot connect",
        ),
        (["relay", "customer"], {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "AMQP_URI: is not set"),
        (["serve", "customer"], {"FORECOURT_CLOCK": "fast"}, "FORECOURT_CLOCK: "),
        (["serve", "kitchen"], {}, "no kitchen"),
        (["serve", "customer", "--with", "cook"], {}, "--with: no role cook"),
        (["token", "--actor", "amy"], {"FORECOURT_ENV": "production"}, "FORECOURT_ENV: "),
        (["token", "--actor", "amy", "--role", "cook"], {}, "--role: no role cook; there are "),
    ],
)
def test_a_wrong_setting_is_named_without_a_traceback(
    arguments: list[str], variables: dict[str, str], said: str
) -> None:
    done = forecourt(*arguments, **variables)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_is_printed_alone_on_a_line() -> None:
    done = forecourt("token", "--actor", "amy", "--dealer", "D001", "--role", "salesperson")
    assert done.returncode == 0
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", done.stdout)


def test_the_clock_is_shown_and_only_set_forward(database_url: str) -> None:
    def clock(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return forecourt("clock", *arguments, DATABASE_URL=database_url, **variables)

    assert "at rate 0" in clock("set", "2031-03-01T09:00:00+08:00", "--rate", "0").stdout
    assert clock("show").stdout.startswith("2031-03-01T01:00:00+00:00")
    assert clock("advance", "--days", "1").stdout.startswith("2031-03-02T01:00:00+00:00")
    assert clock("rate", "60").stdout.strip().endswith("at rate 60")
    back = clock("set", "2031-03-01")
    assert (back.returncode, "time runs forward only" in back.stderr.replace("-", " ")) == (1, True)
    assert clock("set", "tomorrow").returncode == 2
    assert clock("advance", "--days", "1", FORECOURT_ENV="production").returncode == 1


def test_a_build_that_is_only_compared_leaves_nothing(database_url: str) -> None:
    assert forecourt("migrate", "customer", DATABASE_URL=database_url).returncode == 0
    done = forecourt("rebuild", "customer", "customer", "--no-switch", DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr
    assert "the same as" in done.stdout

    async def tables() -> list[str]:
        connection = await asyncpg.connect(database_url)
        try:
            found = await connection.fetch("SELECT relation FROM customer.projection WHERE name = 'customer'")
            return [row["relation"] for row in found]
        finally:
            await connection.close()

    (relation,) = asyncio.run(tables())
    assert not relation.endswith("_next")


async def test_a_role_starts_answers_and_drains_on_sigterm(database_url: str, tmp_path: Path) -> None:
    settings = {
        "DATABASE_URL": database_url,
        "AMQP_URI": "",
        "FORECOURT_DATA": DATA,
        "GRPC_LISTEN": f"127.0.0.1:{free_port()}",
        "HTTP_LISTEN": f"127.0.0.1:{free_port()}",
        "FORECOURT_DRAIN_SECONDS": "2",
    }
    assert (await asyncio.to_thread(forecourt, "migrate", "customer", **settings)).stdout == "migrate: ok\n"
    page = f"http://{settings['HTTP_LISTEN']}"
    command = [sys.executable, "-m", "forecourt.cli", "serve", "customer", "--with", "project"]
    async with Supervisor(tmp_path, restart=False) as supervisor, aiohttp.ClientSession() as http:
        await supervisor.start_all(
            [ProcessSpec("serve", command, settings, health=f"{page}/readyz")], seconds=30
        )
        async with http.get(f"{page}/readyz") as answer:
            checks = (await answer.json())["checks"]
            assert checks == dict.fromkeys(
                ("database", "store", "token keys", "projections of customer"), "ok"
            )
        async with http.get(f"{page}/metrics") as answer:
            assert "forecourt_append_batch_events" in await answer.text()
        # A second one finds the ports taken, and says which.
        second = await asyncio.to_thread(forecourt, "serve", "customer", **settings)
        assert (second.returncode, "HTTP_LISTEN: cannot listen" in second.stderr) == (2, True)
        child = supervisor.children["serve"]
        child.send(signal.SIGTERM)
        assert child.process is not None
        assert await asyncio.wait_for(child.process.wait(), 15) == 0
        lines = [json.loads(line) for line in child.log_file.read_text().splitlines()]
        assert [line["event"] for line in lines if line["logger"] == "forecourt.roles"] == [
            "started",
            "stopped",
        ]


async def test_a_relay_names_all_events_of_its_service_before_it_publishes_one(
    database_url: str, amqp_uri: str, tmp_path: Path
) -> None:
    """So that Prometheus sees the first one of a name as an increase."""
    settings = {
        "DATABASE_URL": database_url,
        "AMQP_URI": amqp_uri,
        "FORECOURT_DATA": DATA,
        "HTTP_LISTEN": f"127.0.0.1:{free_port()}",
    }
    assert (await asyncio.to_thread(forecourt, "migrate", "service_desk", **settings)).returncode == 0
    page = f"http://{settings['HTTP_LISTEN']}"
    command = [sys.executable, "-m", "forecourt.cli", "relay", "service_desk"]
    async with Supervisor(tmp_path, restart=False) as supervisor, aiohttp.ClientSession() as http:
        await supervisor.start_all(
            [ProcessSpec("relay", command, settings, health=f"{page}/readyz")], seconds=30
        )
        async with http.get(f"{page}/metrics") as answer:
            exposed = await answer.text()
    name = "forecourt_relay_published_events_total"
    assert f'{name}{{event="SlaBreached",service="service_desk"}} 0.0' in exposed


# --- the supervisor


def script(text: str) -> list[str]:
    """A child that runs ``text``."""
    return [sys.executable, "-c", text]


SLEEPER = script("import signal; signal.pause()")


async def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    async with Supervisor(tmp_path) as supervisor:
        child = await supervisor.start(ProcessSpec("a", SLEEPER))
        first = child.pid
        child.send(signal.SIGKILL)
        await poll_async(lambda: child.pid not in (None, first), timeout=10)
        assert child.restarts == 1


async def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    stubborn = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
while True:
    signal.pause()
"""
    async with Supervisor(tmp_path) as supervisor:
        child = await supervisor.start(ProcessSpec("a", script(stubborn), grace=0.3))
        await poll_async(lambda: "up" in child.last_words(), timeout=10)
        pid = child.pid
        await supervisor.stop("a")
        assert pid is not None
        assert not psutil.pid_exists(pid)
        assert child.restarts == 0


async def test_a_child_that_is_never_ready_is_named_with_its_last_words(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, restart=False) as supervisor:
        spec = ProcessSpec(
            "a", script("raise SystemExit('no such thing')"), health="http://127.0.0.1:1/healthz"
        )
        with pytest.raises(NotReady, match=r"(?s)a: is not ready.*no such thing"):
            await supervisor.start_all([spec], seconds=10)


def test_no_child_outlives_the_supervisor(tmp_path: Path) -> None:
    text = f"""
import asyncio, sys
from pathlib import Path
from forecourt.supervisor import ProcessSpec, Supervisor
async def main():
    async with Supervisor(Path({str(tmp_path)!r})) as supervisor:
        child = await supervisor.start(ProcessSpec("a", {SLEEPER!r}))
        print(child.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen(script(text), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    poll(lambda: _has_ended(pid), timeout=10)


def _has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
