"""The HTTP side of every process: ``/metrics``, ``/healthz`` (alive), ``/readyz`` (what it needs answers).

Plain aiohttp on whatever loop runs, so that a worker can serve it on its hub's loop too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiohttp import StreamReader, web
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

Check = Callable[[], Awaitable[object]]
"""Raises where what it checks is not well."""

Route = tuple[str, Callable[[web.Request], Awaitable[web.StreamResponse]]]

CHECK_SECONDS = 2.0
MAX_BODY = 1_000_000


async def read_up_to(body: StreamReader, most: int) -> bytes:
    """A whole body, or its first ``most`` bytes: the reader itself answers what has arrived so far."""
    read = b""
    while len(read) < most and (more := await body.read(most - len(read))):
        read += more
    return read


async def outcome_of(check: Check) -> str:
    """What a check says: ``ok``, or how it fails, for whoever asks without trust in it."""
    try:
        await asyncio.wait_for(check(), CHECK_SECONDS)
    except Exception as error:  # noqa: BLE001  # in whatever way a check fails, that is its answer
        return f"failing: {type(error).__name__}"
    return "ok"


class HttpEdge:
    """Serves metrics, health and a service's own routes: a path, and a handler for all methods."""

    def __init__(
        self,
        *,
        checks: Mapping[str, Check] | None = None,
        routes: Iterable[Route] = (),
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._checks = dict(checks or {})
        self._registry = registry
        self._draining = False
        self._runner: web.AppRunner | None = None
        self.port = 0
        self._app = web.Application(client_max_size=MAX_BODY)
        self._app.router.add_get("/metrics", self._metrics)
        self._app.router.add_get("/healthz", self._healthz)
        self._app.router.add_get("/readyz", self._readyz)
        for path, handler in routes:
            self._app.router.add_route("*", path, handler)

    async def start(self, host: str, port: int) -> int:
        """Listen, and answer the port (a free one where ``port`` is 0). Raises `OSError` if it is taken."""
        self._runner = web.AppRunner(self._app, access_log=None, handle_signals=False, shutdown_timeout=5.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.port = int(self._runner.addresses[0][1])
        return self.port

    def drain(self) -> None:
        """Answer not ready from now on."""
        self._draining = True

    async def stop(self) -> None:
        """Finish requests under way and stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        names = list(self._checks)
        results = await asyncio.gather(*(outcome_of(self._checks[name]) for name in names))
        report = dict(zip(names, results, strict=True))
        ready = not self._draining and all(result == "ok" for result in results)
        body = {"status": "ok" if ready else "draining" if self._draining else "failing", "checks": report}
        return web.json_response(body, status=200 if ready else 503)
