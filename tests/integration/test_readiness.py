"""Whether `serve` takes calls: by gRPC, as Kubernetes asks, it goes by what `/readyz` goes by."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import grpc
import pytest
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc

from forecourt import runtime
from forecourt.config import Settings, load_from
from forecourt.discovery import find_services
from forecourt.roles import Process
from forecourt.runtime import Runtime
from forecourt.testing.probes import poll_async
from forecourt.testing.token_keys import Signer, jwk_set

pytestmark = pytest.mark.integration

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NAMES = ("", "crm.customer.v1.CustomerService")
SECONDS = 20.0


class Gateway:
    """The way to a server, which can be shut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def open(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Cut all connections, and take no new ones."""
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._open |= {writer, far_writer}
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        self._open -= {writer, far_writer}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def key_server(keys: list[str]) -> AsyncIterator[str]:
    """Serves the first of ``keys``, and nothing while there is none."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=keys[0]) if keys else web.Response(status=503)

    app = web.Application()
    app.router.add_get("/jwks", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    await runner.cleanup()


@asynccontextmanager
async def serving(database_url: str, **variables: str) -> AsyncIterator[Process]:
    """The customer service's `serve`, in this process."""
    services = [service for service in find_services() if service.name == "customer"]
    listen = {"GRPC_LISTEN": "127.0.0.1:0", "HTTP_LISTEN": "127.0.0.1:0", "FORECOURT_DRAIN_SECONDS": "1"}
    settings = load_from(Settings, {"DATABASE_URL": database_url, **listen, **variables})
    await runtime.migrate(services, settings)
    opened = await Runtime.open(services, settings)
    process, stop = Process(opened, ["serve"]), asyncio.Event()
    running = asyncio.create_task(process.run(stop))
    try:
        await poll_async(lambda: process.grpc is not None and process.grpc.port > 0, SECONDS, what="a port")
        yield process
    finally:
        stop.set()
        await running
        await opened.close()


async def health(channel: grpc.aio.Channel) -> list[int]:
    """What is answered, of the whole and of the service."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answers = [
        await stub.Check(health_pb2.HealthCheckRequest(service=name), wait_for_ready=True) for name in NAMES
    ]
    return [answer.status for answer in answers]


async def until(channel: grpc.aio.Channel, status: int) -> None:
    """Wait until all are at a status."""

    async def there() -> bool:
        return await health(channel) == [status, status]

    await poll_async(there, SECONDS, what=f"health {status}")


async def pages(process: Process) -> tuple[int, int]:
    """What the pages of liveness and readiness answer."""
    base = f"http://127.0.0.1:{process.http.port}"
    async with (
        aiohttp.ClientSession(base) as http,
        http.get("/healthz") as alive,
        http.get("/readyz") as ready,
    ):
        return alive.status, ready.status


async def test_it_serves_once_the_key_set_was_read(database_url: str) -> None:
    keys: list[str] = []
    async with (
        key_server(keys) as url,
        serving(database_url, FORECOURT_JWKS_URL=url) as process,
        grpc.aio.insecure_channel(f"127.0.0.1:{process.grpc and process.grpc.port}") as channel,
    ):
        await until(channel, NOT_SERVING)
        assert await pages(process) == (200, 503)
        keys.append(jwk_set(Signer()))
        await until(channel, SERVING)
        assert await pages(process) == (200, 200)


async def test_it_does_not_serve_while_the_database_is_away(database_url: str, tmp_path: Any) -> None:
    parts = urlsplit(database_url)
    gateway = Gateway(parts.hostname or "", parts.port or 5432)
    await gateway.open()
    user, _, _ = parts.netloc.rpartition("@")
    through = parts._replace(
        netloc=f"{user}@127.0.0.1:{gateway.port}" if user else f"127.0.0.1:{gateway.port}"
    )
    async with (
        serving(through.geturl(), FORECOURT_DATA=str(tmp_path)) as process,
        grpc.aio.insecure_channel(f"127.0.0.1:{process.grpc and process.grpc.port}") as channel,
    ):
        await until(channel, SERVING)
        await gateway.shut()
        await until(channel, NOT_SERVING)
        assert await pages(process) == (200, 503)
        await gateway.open()
        await until(channel, SERVING)
    await gateway.shut()
