"""The dealer group's day as ``make demo`` plays it, and that nothing that is seen outside the stores names anybody."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
from amqp.exceptions import AMQPError

from demo.generate import INPUT
from demo.play import STAYING
from forecourt.testing.probes import poll_async
from forecourt.testing.servers import PostgresServer, RabbitMQServer
from tests.e2e.collector import Collector, collecting
from tests.e2e.persons import Persons, persons_of
from tests.e2e.test_erasure import bind_spy, overheard

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

PERSONS = persons_of(INPUT)


@dataclass(frozen=True)
class Played:
    """How the day ended, what it reported, and all that can be seen of it outside the stores, by where it was found."""

    status: int
    said: str
    seen: dict[str, str]
    left: list[str]
    """Databases and virtual hosts that it left."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, rabbitmq_server: RabbitMQServer
) -> AsyncIterator[Played]:
    """The day as the command plays it, on servers that others use too."""
    folder = tmp_path_factory.mktemp("demo")
    async with collecting() as collector:
        demo = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "demo.play", "--data", str(folder), "--stay"),
            env={
                **os.environ,
                "DATABASE_URL": postgres_server.url,
                "AMQP_URI": rabbitmq_server.uri,
                "RABBITMQ_MANAGEMENT_URL": rabbitmq_server.management_url,
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            vhost = f"forecourt-demo-{demo.pid}"
            uri = urlunsplit(urlsplit(rabbitmq_server.uri)._replace(path=f"/{vhost}"))
            await poll_async(lambda: asyncio.to_thread(_listens, uri), timeout=120, what="its exchange")
            said = await _until(demo, STAYING)
            seen = await outside(said, rabbitmq_server, uri, collector)
            rest, _ = await demo.communicate(b"\n")
        finally:
            if demo.returncode is None:
                demo.terminate()
                await demo.wait()
    assert demo.returncode is not None
    left = await _left(postgres_server, rabbitmq_server, demo.pid)
    yield Played(demo.returncode, said + rest.decode(), seen | logs(folder), left)


def _listens(uri: str) -> bool:
    """Bind a spy, once there is what it is bound to."""
    try:
        bind_spy(uri)
    except AMQPError:
        return False
    return True


async def _until(demo: asyncio.subprocess.Process, line: str) -> str:
    """All that a process says, to the end of a line."""
    assert demo.stdout is not None
    said = ""
    async for one in demo.stdout:
        said += one.decode()
        if one.decode().strip() == line:
            return said
    raise AssertionError(said)


async def _left(postgres: PostgresServer, broker: RabbitMQServer, pid: int) -> list[str]:
    connection = await asyncpg.connect(postgres.url)
    try:
        databases = [row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")]
    finally:
        await connection.close()
    try:
        found = [
            f"virtual host {await asyncio.to_thread(broker.definitions, f'amqp://x/forecourt-demo-{pid}')}"
        ]
    except HTTPError:
        found = []
    return found + [name for name in databases if name == f"forecourt_demo_{pid}"]


async def outside(said: str, broker: RabbitMQServer, uri: str, collector: Collector) -> dict[str, str]:
    """Metrics, names in the broker, messages, and traces."""
    metrics = []
    async with aiohttp.ClientSession() as http:
        for page in re.findall(r"http://\S+/metrics", said):
            async with http.get(page) as response:
                metrics.append(await response.text())
    return {
        "metrics": "\n".join(metrics),
        "names in the broker": await asyncio.to_thread(broker.definitions, uri),
        "messages": "\n".join(await asyncio.to_thread(overheard, uri)),
        "traces": b"\n".join(collector.bodies).decode(errors="replace"),
    }


def logs(folder: Path) -> dict[str, str]:
    """The logs of all processes, once they have ended."""
    found = {f"log {path.name}": path.read_text(errors="replace") for path in (folder / "log").glob("*")}
    assert len(found) > 3
    return found


async def test_the_day_ends_well(played: Played) -> None:
    assert played.status == 0, played.said
    assert played.said.splitlines()[-1] == "demo: ok"
    for part in (
        "Customers",
        "cars sold and delivered",
        "Messages",
        "The history of",
        "sales.ReservationConfirmed",
    ):
        assert part in played.said, part


async def test_the_day_leaves_nothing_on_servers_of_others(played: Played) -> None:
    assert played.left == []


async def test_nothing_that_can_be_seen_outside_the_stores_names_anybody(played: Played) -> None:
    assert PERSONS.found_in(played.said), "the report itself shows some, on purpose"
    assert len(PERSONS.names) > 500
    assert len(PERSONS.numbers) > 1_900
    for where, text in played.seen.items():
        assert len(text) > 100 or where == "log sandbox.log", where
        assert PERSONS.found_in(text) == set(), where


@pytest.mark.parametrize("where", ["metrics", "names in the broker", "messages", "traces", "log"])
async def test_the_search_would_find_them(played: Played, where: str) -> None:
    text = next(text for name, text in played.seen.items() if name.startswith(where))
    for planted in (
        *(min(PERSONS.names), max(PERSONS.names)),
        *(min(PERSONS.numbers), min(PERSONS.addresses), PERSONS.texts[0]),
    ):
        for spelt in (planted, planted.encode("unicode_escape").decode()):
            assert planted in PERSONS.found_in(f'{text[:50_000]} {{"x": "{spelt}"}} {text[50_000:]}')


async def test_numbers_are_found_however_they_are_written() -> None:
    persons = Persons(frozenset(), frozenset({"13912345678"}), frozenset(), ())
    for written in ("13912345678", "+8613912345678", "139 1234 5678", "139-1234-5678", "+86 13912345678"):
        assert persons.found_in(f"to {written}.") == {"13912345678"}, written
    for other in ("113912345678", "139123456780", "1391234567"):
        assert persons.found_in(other) == set(), other
