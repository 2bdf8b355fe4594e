"""A real Prometheus scrapes the running platform: alerts fire there, and every panel of the dashboards has data."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from forecourt.embedded.prometheus import find_or_fetch
from forecourt.testing.probes import poll_async
from forecourt.testing.servers import PostgresServer, RabbitMQServer
from service_desk.return_visit import FORMS
from tests.e2e import stories
from tests.e2e.house import NOON, House, running
from tests.e2e.prometheus import Watch, watching, with_ranges
from tests.e2e.test_flows import until_due
from tools import dashboards

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

SECONDS = 90.0

SERIES_OF_A_METRIC = 1_500
SERIES_OF_ALL = 12_000
"""Most series of one metric, and of the whole platform.

A histogram of calls has a series for each RPC and bucket: some 150 RPCs of one kind and a dozen buckets. Stores,
persons and cars must not multiply it.
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, rabbitmq_server: RabbitMQServer
) -> AsyncIterator[House]:
    """Each role a process of its own, so that one of them can be stopped."""
    database_url, amqp_uri = postgres_server.create_database(), rabbitmq_server.create_vhost()
    folder = tmp_path_factory.mktemp("watching")
    try:
        async with running(folder, database_url, amqp_uri, together=False) as opened:
            yield opened
    finally:
        postgres_server.drop_database(database_url)
        rabbitmq_server.delete_vhost(amqp_uri)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watch(house: House, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watch]:
    """Prometheus, after the platform has lived through some days."""
    async with watching(house, tmp_path_factory.mktemp("prometheus")) as opened:
        await poll_async(lambda: all_scraped(opened, house), SECONDS, what="a scrape of every process")
        await some_days(house)
        yield opened


async def all_scraped(watch: Watch, house: House) -> bool:
    """Whether every process of the platform was scraped."""
    found = await watch.ask('up{job="forecourt"} == 1')
    return len(found) == 3 + len([name for name in house.platform.supervisor.children if "work" in name])


async def some_days(house: House) -> None:
    """A sale with all that leads to it, a repair, a complaint, a return visit, and messages that wait or fail."""
    seller, manager = house.client("seller"), house.client("manager")
    vin = next(stories.VINS)
    customer_id = await stories.register(seller)
    await stories.receive_car(seller, vin)
    opportunity_id = await stories.court(seller, customer_id, vin, NOON + timedelta(hours=1))
    await stories.sell(seller, manager, customer_id, vin, opportunity_id=opportunity_id)
    await stories.repair(
        seller, house.client("inspector"), await stories.register(seller), next(stories.VINS)
    )
    await stories.complain(seller, await stories.register(seller, mobile=False))
    # Nobody may write to this one.
    await stories.complain(seller, await stories.register(seller, consents=False))
    await house.settled()
    await house.set_clock(NOON + timedelta(days=7))
    [visit] = await until_due(seller, "service_desk.ListReturnVisits", customer_id)
    one = {"return_visit_id": visit.return_visit_id}
    phone, reached = "RETURN_VISIT_CHANNEL_PHONE", "ATTEMPT_RESULT_REACHED"
    await seller("service_desk.RecordReturnVisitAttempt", **one, channel=phone, result=reached)
    answers = [{"question": name, "score": 9} for name in FORMS["delivery", 1]]
    await seller("service_desk.CompleteReturnVisit", **one, form_version=1, answers=answers, satisfied=True)
    await house.settled()


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
async def test_every_panel_of_the_dashboards_shows_something(watch: Watch, name: str) -> None:
    wanted = dashboards.queries(name)

    async def empty() -> list[str]:
        results = await asyncio.gather(*(watch.ask(with_ranges(query)) for query in wanted.values()))
        return [panel for panel, result in zip(wanted, results, strict=True) if not result]

    left: list[str] = []

    async def nothing_empty() -> bool:
        nonlocal left
        left = await empty()
        return not left

    try:
        await poll_async(nothing_empty, SECONDS, what="data in every panel")
    except TimeoutError:
        pytest.fail(f"no data: {left}")


async def test_the_number_of_series_is_bounded(watch: Watch) -> None:
    by_metric = await watch.ask('topk(5, count by (__name__) ({job="forecourt"}))')
    for one in by_metric:
        assert int(one["value"][1]) <= SERIES_OF_A_METRIC, one["metric"]
    [everything] = await watch.ask('count({job="forecourt"})')
    assert int(everything["value"][1]) <= SERIES_OF_ALL


async def test_names_follow_the_conventions(house: House) -> None:
    """By promtool, on what each process really says."""
    promtool = str(find_or_fetch("promtool"))
    for name in ("serve", "project", "relay", "work-notify", "work-service_desk"):
        async with house.http.get(f"http://{house.platform.addresses[name]}/metrics") as response:
            page = await response.read()
        process = await asyncio.create_subprocess_exec(
            promtool,
            *("check", "metrics"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate(page)
        own = [line for line in out.decode().splitlines() if line.startswith("forecourt_")]
        assert own == [], name


async def test_a_relay_that_is_stopped_raises_the_alarm(watch: Watch, house: House) -> None:
    assert ("ForecourtRoleDown", "relay") not in await watch.firing()
    relay = house.platform.supervisor.children["relay"].spec
    await house.platform.supervisor.stop("relay")
    alarm = ("ForecourtRoleDown", "relay")
    await poll_async(lambda: raised(watch, alarm), SECONDS, what="the alarm")
    await house.platform.supervisor.start(relay)
    await poll_async(lambda: ended(watch, alarm), SECONDS, what="the end of the alarm")


async def raised(watch: Watch, alarm: tuple[str, str]) -> bool:
    """Whether an alert fires."""
    return alarm in await watch.firing()


async def ended(watch: Watch, alarm: tuple[str, str]) -> bool:
    """Whether it does not any more."""
    return alarm not in await watch.firing()
