"""Many processes of each role at once, and all of them restarted one by one, as a rolling deployment does.

The client is an ordinary gRPC client: a list of addresses, round robin, and retries of UNAVAILABLE by the standard
service config, nothing of its own. One process serves all services here; in Kubernetes each service has its own.
"""

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import quantiles

import grpc
import pytest
import pytest_asyncio

from forecourt.clock import monotonic
from forecourt.testing.probes import poll_async
from tests.e2e.client import SERVICE_CONFIG, Client
from tests.e2e.house import SECONDS, SERVICES
from tests.faults.checks import assert_nothing_lost_or_doubled
from tests.faults.house import Fortress, open_fortress
from tests.faults.load import ACTOR, Load, load

pytestmark = [
    pytest.mark.faults,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

WORKERS = tuple(f"work-{service}" for service in SERVICES)
RECORD = Path("build/rolling-restart.json")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fortress]:
    """A platform with two processes that serve."""
    async with open_fortress(tmp_path_factory.mktemp("rolling")) as opened:
        await opened.replicate("serve")
        yield opened


@asynccontextmanager
async def balanced(house: Fortress) -> AsyncIterator[tuple[Client, Client]]:
    """A seller and a manager whose calls go to both processes."""
    addresses = [house.child(name).spec.env["GRPC_LISTEN"] for name in ("serve", "serve-2")]
    options = [
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]
    async with grpc.aio.insecure_channel(f"ipv4:{','.join(addresses)}", options=options) as channel:
        yield Client(channel, house.hats(ACTOR)), Client(channel, house.hats("manager"))


async def test_many_of_each_give_the_same_result_as_one(house: Fortress) -> None:
    """Two serve, project and relay, and three work of each service: nothing is lost, doubled, or out of order, and
    every read model is what one process makes of the same events."""
    more = [("project", 2), ("relay", 2), *((name, number) for name in WORKERS for number in (2, 3))]
    added = await asyncio.gather(*(house.replicate(name, number) for name, number in more))
    try:
        async with balanced(house) as clients:
            async with load(house, *clients) as sent:
                await sent.accepted(300)
            assert not sent.retried
            await assert_nothing_lost_or_doubled(house, sent)
        for name in ("serve", "serve-2"):
            assert await house.metric(name, "forecourt_commands_total") > 50
        for name in ("project", "relay"):
            leading = [await _followed(house, one) > 0 for one in (name, f"{name}-2")]
            assert sorted(leading) == [False, True], f"one {name} works, the other stands by"
        for name in WORKERS:
            shares = [await _handled(house, one) for one in (name, f"{name}-2", f"{name}-3")]
            assert sum(share > 0 for share in shares) == 3, f"{name}: {shares}"
    finally:
        await asyncio.gather(*map(house.platform.supervisor.stop, added))


async def _followed(house: Fortress, process: str) -> float:
    relayed = await house.metric(process, "forecourt_relay_confirmed_events_total")
    return relayed + await house.metric(process, "forecourt_projection_events_total")


async def _handled(house: Fortress, process: str) -> float:
    return await house.metric(process, "forecourt_handled_events_total")


async def test_every_role_is_restarted_one_by_one_and_no_command_fails(house: Fortress) -> None:
    async with balanced(house) as clients:
        with subscriber(house) as reading:
            # A start takes seconds: with a small load the events to be checked stay few.
            async with load(house, *clients, dealers=3) as sent:
                await sent.accepted(100)
                calm = list(sent.seconds)
                began = monotonic()
                for name in ("serve", "serve-2", "project", "relay", *WORKERS):
                    await roll(house, sent, name)
                took = monotonic() - began
                assert reading.is_alive()
        assert not sent.retried, "the client's own retries must do"
        _report(calm, sent.seconds[len(calm) :], took)
        await assert_nothing_lost_or_doubled(house, sent)


async def roll(house: Fortress, sent: Load, name: str) -> None:
    """End a process as Kubernetes does, let it finish within its grace, and go on when its successor takes part."""
    child = house.child(name)
    process, restarts = child.process, child.restarts
    assert process is not None
    child.send(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), child.spec.grace) == 0, child.last_words()
    await poll_async(lambda: child.restarts > restarts, SECONDS, what=f"{name} to start again")
    await house.platform.supervisor.wait_ready(name, seconds=SECONDS)
    if name.startswith("serve"):
        what = f"{name} to answer commands again"
        await poll_async(lambda: house.metric(name, "forecourt_commands_total"), SECONDS, what=what)
    await sent.accepted(10)


def _report(calm: list[float], rolling: list[float], took: float) -> None:
    """Print and record what callers noticed; how slow this machine is today fails no test."""
    record = {
        "commands": len(rolling),
        "seconds": round(took, 1),
        "p50_ms_before": _percentile(calm, 50),
        "p99_ms_before": _percentile(calm, 99),
        "p50_ms": _percentile(rolling, 50),
        "p99_ms": _percentile(rolling, 99),
        "max_ms": round(max(rolling) * 1_000, 1),
    }
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    print("rolling restart:", json.dumps(record))


def _percentile(seconds: list[float], percent: int) -> float:
    return round(quantiles(seconds, n=100)[percent - 1] * 1_000, 1)


@contextmanager
def subscriber(house: Fortress) -> Iterator[threading.Thread]:
    """Somebody outside who takes every event from the broker all the while, in the order of arrival."""
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            house.drain_tap()
            ended.wait(0.1)

    reading = threading.Thread(target=read, name="subscriber")
    reading.start()
    try:
        yield reading
    finally:
        ended.set()
        reading.join()
