"""Servers that are replaced one after the other under load: what ordinary clients notice of it."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from forecourt.rpc.draining import REFUSAL, end_connections
from forecourt.rpc.server import GrpcServer, Limits
from forecourt.testing.probes import poll_async
from tests.e2e.client import SERVICE_CONFIG
from tests.integration import edge_shop
from tests.integration.edge_shop import TOKENS, Client, make_api, make_backend, message

pytestmark = pytest.mark.integration

ID = "6f0f2c4e-0000-4000-8000-000000000001"
TOKEN = TOKENS.issue("amy", roles=["salesperson"], dealers=["D001"], brands=["hongtong"])
CALLERS = 40
ROUNDS = 4


async def serving(port: int = 0, *, drain_seconds: float = 5.0) -> GrpcServer:
    limits = Limits(notice_seconds=0.05, drain_seconds=drain_seconds)
    server = GrpcServer([(make_api(), make_backend())], limits)
    await server.start("127.0.0.1", port)
    return server


@asynccontextmanager
async def shop_on(*servers: GrpcServer) -> AsyncIterator[Client]:
    """The shop, as an ordinary client of all these servers sees it, on connections of its own."""
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 200),
    ]
    target = "ipv4:" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        yield Client(channel, TOKEN)


def looking(shop: Client, mode: str = "", timeout: float = 10.0) -> "asyncio.Future[object]":
    asked = message("GetBasketRequest", basket_id=ID, mode=mode)
    return asyncio.ensure_future(shop.call("GetBasket", asked, timeout=timeout))


async def status_of(call: "asyncio.Future[object]") -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    return "OK"


async def test_no_call_of_an_ordinary_client_fails_while_servers_are_replaced() -> None:
    """gRPC's own stop answers those it has not taken up with CANCELLED, which nobody tries again.

    Each caller has connections of its own: one of them that is ended connects again while others are.
    """
    servers = [await serving(), await serving()]
    answers: Counter[str] = Counter()
    done = asyncio.Event()

    async def call_on_and_on() -> None:
        async with shop_on(*servers) as shop:
            while not done.is_set():
                answers[await status_of(looking(shop))] += 1

    callers = [asyncio.create_task(call_on_and_on()) for _ in range(CALLERS)]
    for number in range(2 * ROUNDS):
        old = servers[number % 2]
        enough = answers["OK"] + 5 * CALLERS
        await old.drain()
        servers[number % 2] = await serving(old.port)
        await poll_async(lambda: answers["OK"] >= enough, 20, what="callers to be answered")  # noqa: B023
    done.set()
    await asyncio.gather(*callers)
    await asyncio.gather(*(server.drain() for server in servers))
    assert set(answers) == {"OK"}


async def test_calls_that_come_while_others_are_finished_are_refused_as_something_to_try_again() -> None:
    edge_shop.STARTED = asyncio.Event()
    server = await serving()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        shop = Client(channel, TOKEN)
        under_way = looking(shop, "slow")
        await edge_shop.STARTED.wait()
        drained = asyncio.create_task(server.drain())
        late = [await status_of(looking(shop))]
        while late[-1] == "OK":
            late.append(await status_of(looking(shop)))
        assert late[-1] == f"UNAVAILABLE: {REFUSAL}"
        assert await status_of(under_way) == "OK"
        await drained


async def test_who_takes_too_long_sees_a_connection_that_ended() -> None:
    edge_shop.STARTED = asyncio.Event()
    server = await serving(drain_seconds=0.1)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call = looking(Client(channel, TOKEN), "forever")
        stream = Client(channel, TOKEN).call("Chat", _nothing())
        await asyncio.sleep(0)
        await server.drain()
        assert (await status_of(call)).startswith("UNAVAILABLE")
        assert (await status_of(asyncio.ensure_future(stream.read()))).startswith("UNAVAILABLE")


async def _nothing() -> AsyncIterator[object]:
    await asyncio.Event().wait()
    yield message("Row")


async def test_connections_of_other_ports_stay() -> None:
    server, other = await serving(), await serving()
    async with shop_on(server) as shop, shop_on(other) as untouched:
        assert [await status_of(looking(one)) for one in (shop, untouched)] == ["OK", "OK"]
        assert end_connections({server.port}) == 1
        assert end_connections(set()) == 0
        assert await status_of(looking(untouched)) == "OK"
        assert (await status_of(looking(shop, timeout=2))).startswith("UNAVAILABLE"), "nobody listens there"
    await asyncio.gather(server.drain(), other.drain())


def test_the_documented_service_config_is_the_one_tested() -> None:
    text = (Path(__file__).parents[2] / "docs/operating.md").read_text()
    block = text.split("Its service config")[1]
    assert json.loads(block.split("```json\n")[1].split("```")[0]) == SERVICE_CONFIG
