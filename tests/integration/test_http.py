"""The HTTP side of a process: alive, ready with reasons, metrics, and a service's own routes."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from forecourt.http import HttpEdge

pytestmark = pytest.mark.integration

WELL = asyncio.Event()


async def needed() -> None:
    """What the process needs: there while ``WELL`` is set."""
    if not WELL.is_set():
        raise ConnectionRefusedError("the address of a server that nobody else needs to know")


async def receipt(request: web.Request) -> web.Response:
    """A provider's report."""
    return web.json_response({"method": request.method, "got": await request.text()})


@pytest.fixture
async def edge() -> AsyncIterator[HttpEdge]:
    WELL.set()
    registry = CollectorRegistry()
    Counter("forecourt_test_things", "Things", registry=registry).inc(3)
    edge = HttpEdge(checks={"server": needed}, routes=[("/callbacks/{name}", receipt)], registry=registry)
    await edge.start("127.0.0.1", 0)
    yield edge
    await edge.stop()


@pytest.fixture
async def http(edge: HttpEdge) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{edge.port}") as session:
        yield session


async def test_metrics_are_served(http: aiohttp.ClientSession) -> None:
    async with http.get("/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert "forecourt_test_things_total 3.0" in await answer.text()


async def test_readiness_names_what_is_missing_and_comes_back(http: aiohttp.ClientSession) -> None:
    async with http.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok", "checks": {"server": "ok"}})
    WELL.clear()
    async with http.get("/readyz") as answer:
        assert answer.status == 503
        assert (await answer.json())["checks"] == {"server": "failing: ConnectionRefusedError"}
    async with http.get("/healthz") as answer:
        assert answer.status == 200
    WELL.set()
    async with http.get("/readyz") as answer:
        assert answer.status == 200


async def test_a_draining_process_is_alive_but_not_ready(edge: HttpEdge, http: aiohttp.ClientSession) -> None:
    edge.drain()
    async with http.get("/readyz") as answer:
        assert (answer.status, (await answer.json())["status"]) == (503, "draining")
    async with http.get("/healthz") as answer:
        assert answer.status == 200


async def test_a_services_own_route_is_served(http: aiohttp.ClientSession) -> None:
    async with http.post("/callbacks/sms", data="delivered") as answer:
        assert await answer.json() == {"method": "POST", "got": "delivered"}
    async with http.post("/callbacks/sms", data=b"x" * 1_000_001) as answer:
        assert answer.status == 413
    async with http.get("/nothing") as answer:
        assert answer.status == 404


async def test_a_taken_port_is_an_error(edge: HttpEdge) -> None:
    with pytest.raises(OSError, match="address already in use"):
        await HttpEdge().start("127.0.0.1", edge.port)
