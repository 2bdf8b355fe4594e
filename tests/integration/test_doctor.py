"""``forecourt doctor`` on a platform that is well, and with each part broken in turn."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from kombu import Connection

from customer.customer import RegisterCustomer, customer
from customer.service import service
from forecourt import doctor
from forecourt.clock import ManualClock
from forecourt.config import Settings, load_from
from forecourt.deciders import Context
from forecourt.doctor import Doctor, Finding, State, worst
from forecourt.embedded.process import free_port
from forecourt.eventstore.memory import MemoryEventStore
from forecourt.eventstore.port import StoreUnavailable
from forecourt.operations import handler_queues
from forecourt.platform import Platform
from forecourt.runtime import Runtime, migrate
from forecourt.testing.given import NOW
from forecourt.testing.probes import poll_async

pytestmark = pytest.mark.integration

QUEUE = "customer.suspect_duplicates"


@pytest_asyncio.fixture
async def platform(tmp_path: Path, database_url: str, amqp_uri: str) -> AsyncIterator[Platform]:
    servers = {"DATABASE_URL": database_url, "AMQP_URI": amqp_uri}
    async with Platform(
        tmp_path, together=True, sandboxes=False, restart=False, services=["customer"], environment=servers
    ) as running:
        yield running


async def examine(platform: Platform, clock: ManualClock | None = None, **changed: str) -> dict[str, Finding]:
    """What the doctor finds, by check, all that is not ok first."""
    settings = load_from(Settings, {**os.environ, **platform.environment, **changed})
    handlers = handler_queues(service)
    findings = await Doctor([service], settings, handlers=handlers, watch=1.0, clock=clock).examine()
    assert all(finding.advice for finding in findings if finding.state)
    return {finding.check: finding for finding in sorted(findings, key=lambda one: one.state)}


def states(found: dict[str, Finding]) -> dict[str, State]:
    """What is not ok."""
    return {check: finding.state for check, finding in found.items() if finding.state}


async def register(platform: Platform) -> None:
    """Record an event, by no process of the platform."""
    runtime = await Runtime.open([service], platform.settings)
    try:
        context = Context(NOW, uuid4(), uuid4(), actor_id="amy", dealer_id="D001", brand="hongtong")
        command = RegisterCustomer(kind="prospect", name="王伟")
        await runtime.services[0].commands.execute(customer, command, context)
    finally:
        await runtime.close()


def cli(platform: Platform, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line beside the platform."""
    return subprocess.run(
        [sys.executable, "-m", "forecourt.cli", *arguments],
        env={**os.environ, **platform.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def stop(platform: Platform, name: str) -> None:
    """End a process; it is not started again."""
    child = platform.supervisor.children[name]
    child.send(signal.SIGTERM)
    assert child.process is not None
    await asyncio.wait_for(child.process.wait(), 20)


async def test_each_part_that_breaks_is_named(platform: Platform) -> None:
    await register(platform)

    # Healthy.
    async def well() -> bool:
        return not states(await examine(platform))

    await poll_async(well, 30, what="a platform that is well")
    done = await asyncio.to_thread(cli, platform, "doctor", "customer", "--json")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "ok"), done.stdout + done.stderr
    checks = {finding["check"] for finding in json.loads(done.stdout)["findings"]}
    expected = {"settings", "database", "event store", "migrations", "clock", "keys"}
    assert checks == expected | {"broker", "lag"}

    # Settings, servers and keys that are wrong.
    nowhere = f"127.0.0.1:{free_port()}"
    found = await examine(platform, AMQP_URI=f"amqp://{nowhere}/")
    assert states(found) == {"broker": State.PROBLEM}
    found = await examine(platform, DATABASE_URL=f"postgresql://{nowhere}/x")
    assert states(found) == {"database": State.PROBLEM, "event store": State.PROBLEM}
    assert found["broker"].state is State.OK
    found = await examine(platform, EVENT_STORE_URL=f"esdb://{nowhere}?Tls=false")
    assert states(found) == {"event store": State.PROBLEM}
    another = base64.b64encode(b"k" * 32).decode()
    found = await examine(platform, FORECOURT_MASTER_KEY=another)
    assert states(found) == {"keys": State.PROBLEM}
    assert "master keys not given" in found["keys"].detail
    found = await examine(platform, FORECOURT_ENV="production")
    assert states(found) == {"settings": State.PROBLEM, "keys": State.PROBLEM}

    # Clocks that differ.
    found = await examine(platform, ManualClock(datetime.now(UTC) - timedelta(seconds=60)))
    assert states(found) == {"clock": State.PROBLEM}
    found = await examine(platform, ManualClock(datetime.now(UTC) + timedelta(seconds=5)))
    assert states(found) == {"clock": State.WARNING}
    await _sql(platform, "UPDATE events.clock_setting SET virtual = virtual + interval '1 day', rate = 0")
    assert states(await examine(platform)) == {"virtual clock": State.WARNING}
    found = await examine(platform, FORECOURT_CLOCK="virtual")
    assert states(found) == {"virtual clock": State.WARNING}
    assert "rate 1" in found["virtual clock"].advice
    await _sql(platform, "UPDATE events.clock_setting SET real = now(), virtual = now(), rate = 1")

    # A message parked, and an event put aside.
    with Connection(platform.environment["AMQP_URI"]) as connection:
        connection.Producer().publish(b"{}", routing_key=f"{QUEUE}.parked", exchange="")
    await _sql(
        platform,
        "INSERT INTO customer.projection_quarantine (target, projection, version, position, stream, type, reason)"
        " SELECT id, name, version, 1, 's', 't', 'test' FROM customer.projection WHERE name = 'customer'",
    )
    await poll_async(lambda: _has(platform, f"parked {QUEUE}"), 10)
    found = await examine(platform)
    expected_states = {f"parked {QUEUE}": State.WARNING, "quarantine customer.customer": State.WARNING}
    assert states(found) == expected_states
    done = await asyncio.to_thread(cli, platform, "doctor", "customer")
    assert (done.returncode, "forecourt parked show" in done.stdout) == (1, True)

    # Nobody works, relays or projects any more.
    await stop(platform, "work-customer")
    found = await examine(platform)
    assert found[f"queue {QUEUE}"].state is State.WARNING
    await register(platform)
    await poll_async(lambda: _is_problem(platform, f"queue {QUEUE}"), 10, what="messages without a consumer")
    await stop(platform, "serve+project+relay")
    await register(platform)
    found = await examine(platform)
    assert {found["lag of relay customer"].state, found["lag of projection customer.customer"].state} == {
        State.PROBLEM
    }
    assert worst(list(found.values())) is State.PROBLEM

    # What migrate makes is gone.
    with Connection(platform.environment["AMQP_URI"]) as connection:
        connection.channel().queue_delete(QUEUE)
    await _sql(platform, "DROP TABLE messaging.relay_checkpoint")
    found = await examine(platform)
    assert "not declared" in found[f"queue {QUEUE}"].detail
    assert found["migrations"].detail == "missing: messaging.relay_checkpoint"
    assert "rows in forecourt.migration" in found["migrations"].advice
    done = await asyncio.to_thread(cli, platform, "doctor", "customer", "--json")
    assert (done.returncode, done.stderr.count("Traceback")) == (2, 0)

    # The advice helps.
    await _sql(platform, "DELETE FROM forecourt.migration WHERE schema IN ('messaging', 'events')")
    found = await examine(platform)
    assert found["migrations"].state is State.PROBLEM
    pending = "3 pending: events: events/0001_event.sql, events: clock/0001_clock_setting.sql, messaging: "
    assert found["migrations"].detail.startswith(pending), found["migrations"].detail
    found = await examine(platform, EVENT_STORE_URL=f"esdb://{nowhere}?Tls=false")
    assert found["migrations"].detail.startswith("2 pending: "), found["migrations"].detail
    done = await asyncio.to_thread(cli, platform, "migrate", "customer")
    assert (done.returncode, done.stdout) == (0, "migrate: ok\n"), done.stderr
    assert (await examine(platform))["migrations"].state is State.OK

    # The database was migrated by another release.
    await _sql(platform, "UPDATE forecourt.migration SET checksum = 'x' WHERE schema = 'keys'")
    found = await examine(platform)
    assert "another content" in found["migrations"].detail


async def examine_alone(database_url: str) -> dict[str, Finding]:
    """What the doctor finds where nothing but the database runs."""
    settings = load_from(Settings, {"DATABASE_URL": database_url})
    async with asyncio.timeout(60):
        findings = await Doctor([service], settings, handlers=[], watch=0.1).examine()
    return {finding.check: finding for finding in findings}


async def migrated(database_url: str) -> None:
    """Make the tables."""
    await migrate([service], load_from(Settings, {"DATABASE_URL": database_url}))


async def test_a_table_that_stays_locked_is_a_finding(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing would be printed, ever, if the doctor waited with all others."""
    monkeypatch.setattr(doctor, "STATEMENT_SECONDS", 1.0)
    await migrated(database_url)
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE keys.person_key, messaging.relay_checkpoint")
            found = await examine_alone(database_url)
    finally:
        await connection.close()
    for check in ("keys", "lag"):
        assert (found[check].state, found[check].detail) == (State.PROBLEM, "no answer within 1 seconds")
        assert "locks" in found[check].advice
    assert found["migrations"].state is not State.PROBLEM


class Leaving(MemoryEventStore):
    """An event store that answers once."""

    answers = 1

    async def head(self) -> int:
        if not Leaving.answers:
            raise StoreUnavailable("event store: ConnectionResetError")
        Leaving.answers -= 1
        return await super().head()


async def test_a_store_that_goes_away_meanwhile_is_a_finding(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_store(url: str, **_: float) -> Leaving:
        return Leaving()

    await migrated(database_url)
    monkeypatch.setattr(doctor, "open_store", open_store)
    monkeypatch.setattr(Leaving, "answers", 1)
    found = await examine_alone(database_url)
    assert found["event store"].state is State.OK
    assert (found["lag"].state, found["lag"].detail) == (
        State.PROBLEM,
        "event store: ConnectionResetError",
    )
    assert found["database"].state is State.OK


async def _has(platform: Platform, check: str) -> bool:
    return check in await examine(platform)


async def _is_problem(platform: Platform, check: str) -> bool:
    return (await examine(platform))[check].state is State.PROBLEM


async def _sql(platform: Platform, statement: str) -> None:
    connection = await asyncpg.connect(platform.environment["DATABASE_URL"])
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
