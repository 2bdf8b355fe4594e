"""What must work on the hub's loop, all at once: ``python messaging_bridge.py DATABASE_URL STORE_URL``.

Prints a JSON object with what it found.
"""

from forecourt.worker import bridge

bridge.install()

import asyncio  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from datetime import UTC, datetime  # noqa: E402
from typing import Any  # noqa: E402
from uuid import uuid4  # noqa: E402

import asyncpg  # noqa: E402
import eventlet  # noqa: E402
import grpc.aio  # noqa: E402
from aiohttp import ClientSession  # noqa: E402

from forecourt.eventstore import open_store  # noqa: E402
from forecourt.eventstore.port import NewEvent  # noqa: E402
from forecourt.http import HttpEdge  # noqa: E402

CALLS = 1_000
AT_ONCE = 30


def measure_ticks(ticks: list[float]) -> None:
    """A green thread that ticks for as long as the process lives."""
    while True:
        ticks.append(time.monotonic())
        eventlet.sleep(0.02)


def many(call: Any) -> int:
    """Green threads, some at a time, each waiting for a coroutine; how many got their own answer."""
    pool = eventlet.GreenPool(AT_ONCE)
    return sum(pool.imap(lambda number: bridge.wait(call(number)) == number, range(CALLS)))


async def echo_server() -> tuple[Any, Any, Any]:
    """An echo over gRPC."""

    async def echo(request: bytes, context: Any) -> bytes:
        return request

    server = grpc.aio.server()
    handlers: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("probe.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    return server, channel, channel.unary_unary("/probe.Echo/Echo")


async def store_roundtrip(url: str, count: int) -> int:
    """Append through the event store's own client while a subscription follows; how many came by."""
    store = await open_store(url)
    try:
        stream = f"request-{uuid4()}"

        async def follow() -> int:
            seen = 0
            async for batch in store.subscribe():
                seen += sum(event.stream == stream for event in batch.events)
                if seen == count:
                    return seen
            return seen

        following = asyncio.create_task(follow())
        for number in range(count):
            event = NewEvent(
                id=uuid4(),
                type="shop.Asked",
                version=1,
                time=datetime.now(UTC),
                data="{}",
                correlation_id=uuid4(),
            )
            await store.append(stream, [event], expected=number)
        return await asyncio.wait_for(following, 20)
    finally:
        await store.close()


async def http_status() -> int:
    """The health page, served and asked for on the loop."""
    edge = HttpEdge()
    port = await edge.start("127.0.0.1", 0)
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as answer:
        status = answer.status
    await edge.stop()
    return status


def raised() -> str:
    """What a coroutine raises comes out where it is waited for."""

    async def refuse() -> None:
        await asyncio.sleep(0)
        raise LookupError("a person's name")

    try:
        bridge.wait(refuse())
    except LookupError as error:
        return str(error)
    return ""


def main(database_url: str, store_url: str) -> None:
    """Run all probes while a green thread ticks."""
    ticks: list[float] = []
    eventlet.spawn(measure_ticks, ticks)
    found: dict[str, Any] = {}

    async def open_pool() -> Any:
        return await asyncpg.create_pool(database_url, min_size=1, max_size=5)

    pool = bridge.wait(open_pool())

    async def select(number: int) -> int:
        async with pool.acquire() as connection, connection.transaction():
            return int(await connection.fetchval("SELECT $1::int", number))

    found["asyncpg"] = many(select)
    server, channel, call = bridge.wait(echo_server())

    async def echo(number: int) -> int:
        return int(await call(str(number).encode()))

    found["grpc"] = many(echo)
    found["store"] = bridge.wait(store_roundtrip(store_url, 50))
    found["http"] = bridge.wait(http_status())
    found["thread"] = bridge.wait(asyncio.wait_for(asyncio.to_thread(lambda: 7), 5))
    found["raised"] = raised()
    bridge.wait(channel.close())
    bridge.wait(server.stop(None))
    bridge.wait(pool.close())
    found["ticks"] = len(ticks)
    found["seconds"] = ticks[-1] - ticks[0]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
