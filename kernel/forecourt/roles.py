"""Runs roles in one process: ``serve``, ``project`` and ``relay``, on one uvloop loop, until SIGTERM.

The order of the end: not ready any more, no new calls, calls under way finished, followers stopped at a
checkpoint, connections closed. ``work`` is always a process of its own (``forecourt.worker``).
"""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

import uvloop
from aiohttp import web

from forecourt import logs, tracing
from forecourt.access.callers import Callers
from forecourt.access.permissions import Permissions, RolesError
from forecourt.audit.edge import NotingParts
from forecourt.audit.rejections import Kind
from forecourt.audit.trail import AuditUnavailable
from forecourt.config import ConfigError, Settings, split_address
from forecourt.discovery import find_roles
from forecourt.errors import Forbidden
from forecourt.http import Check, HttpEdge, Route
from forecourt.messaging.forwarder import connect
from forecourt.messaging.relay import Relay
from forecourt.privacy.export import Export, links_of
from forecourt.projections.runner import ProjectionRunner
from forecourt.rpc import wiring
from forecourt.rpc.binding import Api
from forecourt.rpc.calls import Call, MetadataReader, system_metadata
from forecourt.rpc.endpoints import Backend
from forecourt.rpc.server import GrpcServer
from forecourt.runtime import Runtime, ServiceRuntime
from forecourt.service import Service

log = logs.get(__name__)

SWITCH_SECONDS = 0.0002
"""gRPC's poller is a thread of its own: with the default of 5 ms it waits for the interpreter longer than a command
takes."""

GC_THRESHOLDS = (100_000, 50, 100)
"""When the collector looks for cycles. Calls make few, but many objects, and with Python's own 700 a fifth of a
command's time goes into walking the states in the cache."""

ROLES = ("serve", "project", "relay")
"""Roles that may share a process."""

Follower = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


def run(services: Sequence[Service], roles: Sequence[str], settings: Settings) -> None:
    """Run ``roles`` for ``services`` until SIGTERM or SIGINT. Raises `ConfigError`."""
    if "relay" in roles:
        _ = settings.broker
    if "serve" in roles:
        wiring.check(settings)
    logs.configure(process="+".join(roles), level=settings.forecourt_log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    uvloop.run(_run(services, roles, settings))


async def _run(services: Sequence[Service], roles: Sequence[str], settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    following = [role for role in roles if role != "serve"]
    runtime = await Runtime.open(services, settings, followers=len(following) * len(services))
    try:
        await tracing.start(settings, "+".join(roles), [service.name for service in services])
        process = Process(runtime, roles)
        # What is loaded by now stays for good: the collector need not look at it again during calls.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        await process.run(stop)
    finally:
        await runtime.close()
        await tracing.stop()


class Process:
    """The roles of one process on one runtime."""

    def __init__(self, runtime: Runtime, roles: Sequence[str]) -> None:
        self._runtime = runtime
        self._roles = roles
        self._callers = wiring.callers(runtime.settings) if "serve" in roles else None
        self.grpc = grpc_server(runtime, self._callers) if self._callers is not None else None
        parts = runtime.services
        self._projectors = {p.service.name: projector(runtime, p) for p in parts if "project" in roles}
        self._relays = [relay(runtime, p.service) for p in parts if "relay" in roles]
        routes = http_routes(runtime) if "serve" in roles else []
        self.http = HttpEdge(checks=self._checks(), routes=routes)

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything, wait for ``stop`` or for a follower to fail, and end in order."""
        settings = self._runtime.settings
        await self._listen("HTTP_LISTEN", settings.http_listen, self.http.start)
        followers_stop = asyncio.Event()
        tasks = [asyncio.create_task(follow(followers_stop)) for follow in self._followers()]
        waiting = asyncio.create_task(stop.wait())
        try:
            if self.grpc is not None:
                await self._listen("GRPC_LISTEN", settings.grpc_listen, self.grpc.start)
            log.info(
                "started",
                roles=list(self._roles),
                http_port=self.http.port,
                grpc_port=self.grpc and self.grpc.port,
            )
            done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            waiting.cancel()
            self.http.drain()
            if self.grpc is not None:
                await self.grpc.drain()
            followers_stop.set()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.http.stop()
            log.info("stopped")

    @staticmethod
    async def _listen(
        variable: str, address: str, start: Callable[[str, int], Coroutine[Any, Any, int]]
    ) -> None:
        try:
            await start(*split_address(address))
        except OSError as error:
            raise ConfigError(
                f"{variable}: cannot listen on {address} ({error.strerror or error})"
            ) from error

    def _followers(self) -> list[Follower]:
        return [*(found.run for found in self._projectors.values()), *(found.run for found in self._relays)]

    def _checks(self) -> dict[str, Check]:
        """What this process needs, by name."""
        checks = checks_of_calls(self._runtime, self._callers) if self._callers else self._runtime.checks()
        if self._relays:
            checks["broker"] = partial(asyncio.to_thread, _ping, self._runtime.settings.broker)
        for name, found in self._projectors.items():
            checks[f"projections of {name}"] = partial(_goes_well, found)
        return checks


class ProjectionFails(Exception):
    """A projector has met something that it retries."""


async def _goes_well(found: ProjectionRunner) -> None:
    if found.problem is not None:
        raise ProjectionFails(found.problem)


def _ping(amqp_uri: str) -> None:
    connect(amqp_uri).release()


def checks_of_calls(runtime: Runtime, callers: Callers) -> dict[str, Check]:
    """What every call needs, by name."""
    return {**runtime.checks(), "token keys": callers.ready}


def grpc_server(runtime: Runtime, callers: Callers | None = None) -> GrpcServer:
    """The gRPC server of all services of a runtime; its ``callers`` are those of the settings by default."""
    settings = runtime.settings
    callers = callers or wiring.callers(settings)
    metadata = MetadataReader(callers, runtime.clock, wiring.rates(settings))
    streams = wiring.streams(settings)
    permissions = permissions_of(runtime.services, settings)
    export = export_of(runtime)
    apis: list[tuple[Api, Backend]] = [
        (
            api,
            Backend(
                service=part.service.name,
                commands=part.commands,
                read_models=part.read_models,
                clock=runtime.clock,
                settings=part.settings,
                metadata=metadata,
                audit=runtime.audit,
                permissions=permissions,
                hashes=runtime.keys,
                export=export,
                streams=streams,
            ),
        )
        for part in runtime.services
        for api in part.service.apis
    ]
    return GrpcServer(
        apis,
        wiring.limits(settings),
        tls=wiring.tls(settings),
        reflected=settings.forecourt_reflection,
        checks=checks_of_calls(runtime, callers),
    )


def permissions_of(services: Iterable[ServiceRuntime], settings: Settings) -> Permissions:
    """What each role may do with these services.

    Raises `ConfigError` for a file of roles that does not fit what their methods need, `BindingError` for a method that
    does not say what it needs.
    """
    required = {
        permission
        for part in services
        for api in part.service.apis
        for permission in api.permissions().values()
    }
    try:
        return Permissions(find_roles(settings).grants(required))
    except RolesError as error:
        raise ConfigError(f"FORECOURT_ROLES_FILE: {error}") from None


def export_of(runtime: Runtime) -> Export:
    """What exports all that is recorded about a person."""
    links = links_of(part.service for part in runtime.services)
    return Export(runtime.store, runtime.keys, links, on_damage=runtime.audit.damage.note)


def http_routes(runtime: Runtime) -> list[Route]:
    """The services' own routes, each handler given a `Call` of its service."""
    export = export_of(runtime)

    def bind(
        part: ServiceRuntime,
        path: str,
        handler: Callable[[web.Request, Call], Awaitable[web.StreamResponse]],
    ) -> Any:
        name = f"{part.service.name}{path}"

        async def handle(request: web.Request) -> web.StreamResponse:
            call = Call(
                system_metadata(runtime.clock, "system:http"),
                commands=part.commands,
                read_models=part.read_models,
                clock=runtime.clock,
                settings=part.settings,
                hashes=runtime.keys,
                export=export,
            )
            try:
                async with NotingParts(runtime.audit.trail, name, call):
                    answer = await handler(request, call)
            except AuditUnavailable as error:
                raise web.HTTPServiceUnavailable from error
            if answer.status == web.HTTPForbidden.status_code:
                await runtime.audit.rejections.note(Kind(name, "PERMISSION_DENIED", Forbidden.slug))
            return answer

        return handle

    return [
        (path, bind(part, path, handler)) for part in runtime.services for path, handler in part.service.http
    ]


def projector(runtime: Runtime, part: ServiceRuntime) -> ProjectionRunner:
    """What keeps one service's read models up to date."""
    return ProjectionRunner(
        part.service.name,
        part.service.projections,
        runtime.store,
        part.codec,
        runtime.sessions,
        clock=runtime.clock,
    )


def relay(runtime: Runtime, service: Service) -> Relay:
    """The relay of one service's events."""
    return Relay(
        name=service.name,
        store=runtime.store,
        pool=runtime.sessions,
        amqp_uri=runtime.settings.broker,
        categories=service.categories,
        clock=runtime.clock,
        types=service.registry.own_events(),
    )
