"""What the settings allow at most, on connections: calls at once, sizes, connections that are old, idle or mute."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY

from forecourt.config import Settings, load_from
from forecourt.rpc import wiring
from forecourt.rpc.calls import MetadataReader
from forecourt.rpc.server import GrpcServer, Limits
from forecourt.testing.probes import poll_async
from tests.integration.edge_shop import TOKENS, Client, make_api, make_backend, make_callers, message
from tests.integration.test_access import rest

pytestmark = pytest.mark.integration

ID = "6f0f2c4e-0000-4000-8000-000000000003"
TOKEN = TOKENS.issue("amy", roles=["salesperson"], dealers=["D001"], brands=["hongtong"])
GET = message("GetBasketRequest", basket_id=ID)
FOREVER = message("GetBasketRequest", basket_id=ID, mode="forever")
Channel = grpc.aio.Channel


@asynccontextmanager
async def serving(
    limits: Limits | None = None, **variables: str
) -> AsyncIterator[tuple[GrpcServer, Client, Channel]]:
    """A server as these settings want it, and a client on a connection of its own."""
    settings = load_from(Settings, {"FORECOURT_DRAIN_SECONDS": "0.1", **variables})
    backend = make_backend()
    metadata = MetadataReader(make_callers(), backend.clock, wiring.rates(settings))
    backend = replace(backend, metadata=metadata, streams=wiring.streams(settings))
    wanted = limits or replace(wiring.limits(settings), notice_seconds=0.01)
    server = GrpcServer([(make_api(), backend)], wanted)
    await server.start("127.0.0.1", 0)
    options = [("grpc.use_local_subchannel_pool", 1)]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options) as channel:
            yield server, Client(channel, TOKEN), channel
    finally:
        await server.drain()


async def closed(channel: Channel) -> None:
    """Return when the server has closed the connection."""
    await poll_async(
        lambda: channel.get_state() is grpc.ChannelConnectivity.IDLE, 10, what="the end of the connection"
    )


async def mute() -> AsyncIterator[Any]:
    yield message("Row", number=1, text="abc")
    await asyncio.Event().wait()


async def test_so_many_calls_at_once_and_no_more() -> None:
    async with serving(FORECOURT_MAX_CONCURRENT_RPCS="2") as (_, shop, _channel):
        waiting = [asyncio.ensure_future(shop.call("GetBasket", FOREVER).code()) for _ in range(5)]
        done, rest = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 3:
            more, rest = await asyncio.wait(rest, timeout=10, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        assert Counter(task.result() for task in done) == {grpc.StatusCode.RESOURCE_EXHAUSTED: 3}
        for task in rest:
            task.cancel()


async def test_messages_have_a_largest_size_in_calls_and_in_streams() -> None:
    async with serving(FORECOURT_MAX_MESSAGE_BYTES="2048") as (_, shop, _channel):

        async def large() -> AsyncIterator[Any]:
            yield message("Row", number=1, text="x" * 2_049)

        calls = [
            shop.call("OpenBasket", message("OpenBasketRequest", name="x" * 2_049, kind=1)),
            shop.call("Upload", large()),
        ]
        for call in calls:
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        small = message("OpenBasketRequest", name="x" * 1_000, kind=1)
        assert (await shop.call("OpenBasket", small)).version == 1


async def test_a_caller_beyond_its_rate_is_refused_until_the_bucket_fills() -> None:
    async with serving(FORECOURT_RATE_LIMIT="5", FORECOURT_RATE_BURST="3") as (_, shop, _channel):
        codes = [await shop.call("GetBasket", GET).code() for _ in range(4)]
        assert codes[:3] == [grpc.StatusCode.OK] * 3
        assert codes[3] is grpc.StatusCode.RESOURCE_EXHAUSTED

        async def may_again() -> bool:
            return await shop.call("GetBasket", GET).code() is grpc.StatusCode.OK

        await poll_async(may_again, 5, what="the next call")


async def test_streams_of_an_identity_are_counted_by_the_settings() -> None:
    async with serving(FORECOURT_MAX_STREAMS="1") as (_, shop, _channel):
        first = shop.call("Chat", mute())
        await first.read()
        second = shop.call("Chat", mute())
        assert await second.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()


def dropped(reason: str) -> float:
    """How many streams were ended for a reason."""
    return REGISTRY.get_sample_value("forecourt_dropped_streams_total", {"reason": reason}) or 0.0


async def test_streams_that_stand_still_end_by_the_settings() -> None:
    before = dropped("not-read")
    async with serving(FORECOURT_STREAM_SECONDS="0.2", FORECOURT_STREAM_WRITE_SECONDS="0.3") as (
        _,
        shop,
        _channel,
    ):
        silent = shop.call("Upload", mute())
        assert await silent.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        flood = message("GetBasketRequest", basket_id=ID, mode="x" * 5_000, page_size=100_000)
        unread = shop.call("Watch", flood, timeout=60)
        assert (await unread.read()).number == 1
        await poll_async(lambda: dropped("not-read") > before, 20, what="the end of the stream at the server")
        with pytest.raises(grpc.aio.AioRpcError, match="nothing was read"):
            await rest(unread)


async def test_an_idle_connection_is_closed_and_made_again_when_needed() -> None:
    async with serving(FORECOURT_IDLE_CONNECTION_SECONDS="0.5") as (_, shop, channel):
        await shop.call("GetBasket", GET)
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        await closed(channel)
        await shop.call("GetBasket", GET)


async def test_a_connection_with_a_call_is_not_idle() -> None:
    async with serving(FORECOURT_IDLE_CONNECTION_SECONDS="0.3") as (_, shop, channel):
        chat = shop.call("Chat", mute())
        await chat.read()
        since = monotonic()
        while monotonic() - since < 1.0:
            assert channel.get_state() is grpc.ChannelConnectivity.READY
            await asyncio.sleep(0.05)
        chat.cancel()


async def test_an_old_connection_is_closed_without_a_call_being_lost() -> None:
    async with serving(FORECOURT_CONNECTION_SECONDS="0.5") as (_, shop, channel):
        await shop.call("GetBasket", GET)
        for _ in range(3):
            left = asyncio.ensure_future(channel.wait_for_state_change(grpc.ChannelConnectivity.READY))
            async with asyncio.timeout(10):
                while not left.done():
                    assert await shop.call("GetBasket", GET).code() is grpc.StatusCode.OK
            await shop.call("GetBasket", GET)


async def test_a_call_that_outlives_its_old_connection_twice_is_ended() -> None:
    async with serving(FORECOURT_CONNECTION_SECONDS="0.5") as (_, shop, _channel):
        since = monotonic()
        chat = shop.call("Chat", mute(), timeout=20)
        await chat.read()
        assert await chat.code() is grpc.StatusCode.UNAVAILABLE
        assert 0.8 < monotonic() - since < 10


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with serving(Limits(handshake_seconds=0.5, notice_seconds=0.01, drain_seconds=0.1)) as (
        server,
        _,
        _channel,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(10):
            # The server speaks first, and then hears nothing.
            while await reader.read(1_000):
                pass
        writer.close()
