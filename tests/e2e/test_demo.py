"""The dealer group's day as ``make demo`` plays it, and that nothing that is seen outside the stores names anybody."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import pytest
import pytest_asyncio
from rich.console import Console

from demo.generate import INPUT
from demo.play import Day
from demo.report import Report
from forecourt.platform import Platform
from forecourt.testing.servers import PostgresServer, RabbitMQServer
from tests.e2e.collector import Collector, collecting
from tests.e2e.house import House
from tests.e2e.persons import Persons, persons_of
from tests.e2e.test_erasure import bind_spy, overheard
from tests.e2e.test_personal_data import pages

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

PERSONS = persons_of(INPUT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def played(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, rabbitmq_server: RabbitMQServer
) -> AsyncIterator[tuple[int, str, dict[str, str]]]:
    """How the day ended, what it reported, and all that can be seen of it outside the stores, by where it was found."""
    url, uri = postgres_server.create_database(), rabbitmq_server.create_vhost()
    said = io.StringIO()
    report = Report(Console(file=said, width=200))
    try:
        async with collecting() as collector:
            environment = {"DATABASE_URL": url, "AMQP_URI": uri, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
            folder = tmp_path_factory.mktemp("demo")
            async with Platform(folder, together=True, clock="virtual", environment=environment) as platform:
                await asyncio.to_thread(bind_spy, uri)
                options = [("grpc.max_receive_message_length", 16_000_000)]
                async with grpc.aio.insecure_channel(platform.addresses["grpc"], options=options) as channel:
                    await Day(platform, channel, report).play()
                seen = await outside(platform, rabbitmq_server, uri, collector)
        yield report.finish(), said.getvalue(), seen | logs(folder)
    finally:
        postgres_server.drop_database(url)
        rabbitmq_server.delete_vhost(uri)


async def outside(
    platform: Platform, broker: RabbitMQServer, uri: str, collector: Collector
) -> dict[str, str]:
    """Metrics, names in the broker, messages, and traces."""
    async with aiohttp.ClientSession() as http:
        metrics = await pages(House(platform, http, channel=None))  # type: ignore[arg-type]
    return {
        "metrics": metrics,
        "names in the broker": await asyncio.to_thread(broker.definitions, uri),
        "messages": "\n".join(await asyncio.to_thread(overheard, uri)),
        "traces": b"\n".join(collector.bodies).decode(errors="replace"),
    }


def logs(folder: Path) -> dict[str, str]:
    """The logs of all processes, once they have ended."""
    found = {f"log {path.name}": path.read_text(errors="replace") for path in (folder / "log").glob("*")}
    assert len(found) > 3
    return found


async def test_the_day_ends_well(played: tuple[int, str, dict[str, str]]) -> None:
    status, said, _ = played
    assert status == 0, said


async def test_nothing_that_can_be_seen_outside_the_stores_names_anybody(
    played: tuple[int, str, dict[str, str]],
) -> None:
    _, said, seen = played
    assert PERSONS.found_in(said), "the report itself shows some, on purpose"
    assert len(PERSONS.names) > 500
    assert len(PERSONS.numbers) > 1_900
    for where, text in seen.items():
        assert len(text) > 100 or where == "log sandbox.log", where
        assert PERSONS.found_in(text) == set(), where


@pytest.mark.parametrize("where", ["metrics", "names in the broker", "messages", "traces", "log"])
async def test_the_search_would_find_them(played: tuple[int, str, dict[str, str]], where: str) -> None:
    text = next(text for name, text in played[2].items() if name.startswith(where))
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
