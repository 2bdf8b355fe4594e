"""One gRPC server for any set of services: health, reflection, limits, keep-alive, and an orderly end."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from forecourt import logs, tracing
from forecourt.http import Check, outcome_of
from forecourt.rpc.binding import Api
from forecourt.rpc.draining import Gate, end_connections
from forecourt.rpc.endpoints import Backend, handlers
from forecourt.rpc.tls import Tls

log = logs.get(__name__)


_METADATA_BYTES = 16 * 1024

STOP_SECONDS = 0.5
"""For handlers to notice that their callers are gone."""

HEALTH_SECONDS = 1.0
"""Between two rounds of the checks that health goes by."""


@dataclass(frozen=True)
class Limits:
    """What the server takes on at most. Sizes in bytes, times in seconds."""

    message_bytes: int = 4 * 1024 * 1024
    concurrent_rpcs: int = 2_000
    concurrent_streams: int = 1_000
    handshake_seconds: float = 20.0
    """For a new connection to say what it wants; gRPC's own limit is two minutes."""
    connection_seconds: float = 3_600.0
    idle_connection_seconds: float = 900.0
    keepalive_seconds: float = 60.0
    keepalive_timeout_seconds: float = 20.0
    min_ping_seconds: float = 10.0
    notice_seconds: float = 0.5
    """Between "not serving" and the first call that is refused, for callers that watch the health."""
    drain_seconds: float = 10.0
    """For calls under way, while new ones are refused."""


class GrpcServer:
    """Serves the APIs of any services on one address, or with client certificates also on a second one."""

    def __init__(
        self,
        apis: Sequence[tuple[Api, Backend]],
        limits: Limits | None = None,
        *,
        tls: Tls | None = None,
        reflected: bool = True,
        checks: Mapping[str, Check] | None = None,
    ) -> None:
        """Without ``tls`` the server speaks plain text. It says "serving" while all ``checks`` pass."""
        self._apis = apis
        self._limits = limits or Limits()
        self._tls = tls
        self._reflected = reflected
        self._gate = Gate()
        self._server: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()
        self._checks = dict(checks or {})
        self._failing: list[str] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.port = 0
        self.mtls_port = 0

    async def start(self, host: str, port: int) -> int:
        """Check every table, listen, and answer the port (a free one where ``port`` is 0).

        Raises `BindingError` or `ConversionError` for a table that does not fit, `OSError` for a taken port.
        """
        limits = self._limits
        server = grpc.aio.server(options=_options(limits), maximum_concurrent_rpcs=limits.concurrent_rpcs)
        names = [health.SERVICE_NAME, reflection.SERVICE_NAME]
        for api, backend in self._apis:
            table = self._gate.guard(handlers(api, backend))
            if tracing.tracer is not None:
                table = tracing.tracer.handlers(api.full_name, table)
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(api.full_name, table),))
            names.append(api.full_name)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._reflected:
            reflection.enable_server_reflection(names, server)
        self._listen(server, host, port)
        await self._look()
        await server.start()
        if self._checks:
            self._watching = asyncio.create_task(self._keep_looking())
        self._server = server
        return self.port

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_SECONDS)
            await self._look()

    async def _look(self) -> None:
        """Say whether calls can be answered. Calls that come nevertheless are taken as ever."""
        names = list(self._checks)
        outcomes = await asyncio.gather(*(outcome_of(self._checks[name]) for name in names))
        failing = [name for name, outcome in zip(names, outcomes, strict=True) if outcome != "ok"]
        if failing == self._failing:
            return
        if failing or self._failing:
            log.warning("health has changed", failing=failing)
        self._failing = failing
        answers = health_pb2.HealthCheckResponse
        for name in ("", *(api.full_name for api, _ in self._apis)):
            await self._health.set(name, answers.NOT_SERVING if failing else answers.SERVING)

    def _listen(self, server: grpc.aio.Server, host: str, port: int) -> None:
        tls = self._tls
        second = tls.second if tls is not None else None
        if tls is None:
            self.port = _bound(server.add_insecure_port, f"{host}:{port}")
            return
        credentials = tls.files.credentials(require_client=tls.files.has_client_ca and second is None)
        self.port = _bound(partial(server.add_secure_port, server_credentials=credentials), f"{host}:{port}")
        if second is not None:
            strict = tls.files.credentials(require_client=True)
            add = partial(server.add_secure_port, server_credentials=strict)
            self.mtls_port = _bound(add, f"{second[0]}:{second[1]}")

    async def drain(self) -> None:
        """Say "not serving", refuse new calls, finish those under way, stop."""
        if self._server is None:
            return
        if self._watching is not None:
            self._watching.cancel()
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._limits.notice_seconds)
        await self._gate.close(self._limits.drain_seconds)
        await asyncio.to_thread(end_connections, {self.port, self.mtls_port} - {0})
        await self._server.stop(STOP_SECONDS)
        self._server = None


def _bound(add: Callable[[str], int], address: str) -> int:
    try:
        return add(address)
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}") from error


def _options(limits: Limits) -> list[tuple[str, Any]]:
    return [
        # Two processes on one port would each get some of the calls: better that the second one fails.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.message_bytes),
        # Between a soft and a hard limit calls are refused at random, so both are the same.
        ("grpc.max_metadata_size", _METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _METADATA_BYTES),
        ("grpc.max_concurrent_streams", limits.concurrent_streams),
        ("grpc.server_handshake_timeout_ms", int(limits.handshake_seconds * 1_000)),
        ("grpc.max_connection_age_ms", int(limits.connection_seconds * 1_000)),
        ("grpc.max_connection_age_grace_ms", int(limits.connection_seconds * 1_000)),
        ("grpc.max_connection_idle_ms", int(limits.idle_connection_seconds * 1_000)),
        ("grpc.keepalive_time_ms", int(limits.keepalive_seconds * 1_000)),
        ("grpc.keepalive_timeout_ms", int(limits.keepalive_timeout_seconds * 1_000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", int(limits.min_ping_seconds * 1_000)),
    ]
