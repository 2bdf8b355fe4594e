"""Starts a worker process: the service's nameko classes, without nameko's command line.

SIGTERM (or SIGINT) drains: no more messages are taken, handlers that run finish and are acknowledged, then
the process ends. Handlers that take longer than ``FORECOURT_DRAIN_SECONDS`` are abandoned, their messages come
again.
"""

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from forecourt.worker import bridge

bridge.install()

import eventlet  # noqa: E402  # the bridge comes first
from nameko.exceptions import ConfigurationError  # noqa: E402
from nameko.runners import ServiceRunner  # noqa: E402
from prometheus_client import Gauge  # noqa: E402

from forecourt import logs, tracing  # noqa: E402
from forecourt.clock import Clock, SystemClock  # noqa: E402
from forecourt.config import Settings, split_address  # noqa: E402
from forecourt.connections import LOST  # noqa: E402
from forecourt.eventstore import open_store  # noqa: E402
from forecourt.eventstore.port import StoreUnavailable  # noqa: E402
from forecourt.http import HttpEdge  # noqa: E402
from forecourt.messaging import topology  # noqa: E402
from forecourt.messaging.entrypoints import OnEvent  # noqa: E402
from forecourt.messaging.forwarder import BROKER_TROUBLE, BrokerUnavailable, connect  # noqa: E402
from forecourt.messaging.parked import count_parked  # noqa: E402
from forecourt.service import Service  # noqa: E402
from forecourt.worker.runtime import CONFIG_KEY, Runtime, open_runtime  # noqa: E402

log = logs.get(__name__)

HEARTBEAT = 10
"""Seconds between heartbeats with the broker."""

PRUNE_SECONDS = 600.0
"""How often ids of handled events that are too old are forgotten."""

PARKED_SECONDS = 15.0
"""How often the parking queues are counted."""

PARKED_NOW = Gauge("forecourt_parking_queue_messages", "Messages given up and not yet dealt with", ["queue"])


class NotConsuming(Exception):
    """A handler has no queue yet."""


OpenRuntime = Callable[[Service, Settings], Awaitable[Runtime]]


async def default_runtime(service: Service, settings: Settings) -> Runtime:
    """The runtime as the settings say, on the system's clock."""
    clock: Clock = SystemClock()
    store = await open_store(settings.store, statement_seconds=settings.forecourt_statement_seconds)
    return await open_runtime(service, settings, store=store, clock=clock)


def run_worker(service: Service, settings: Settings, *, open_with: OpenRuntime = default_runtime) -> None:
    """Run the service's handlers and timers until SIGTERM. Raises what made a handler's container die.

    ``open_with`` opens pools, store and clock on the hub's loop; it is tried again until the servers answer.
    """
    classes = [_import(path) for path in service.workers]
    stop = eventlet.event.Event()
    _on_signals(stop)
    runtime = _open(service, settings, open_with, stop)
    if runtime is None:
        return
    bridge.wait(tracing.start(settings, "work", [service.name]))
    runner = ServiceRunner(_nameko_config(settings, runtime))
    for cls in classes:
        runner.add_service(cls)
    http = HttpEdge(
        checks={
            "database": runtime.check_database,
            "broker": _broker_check(settings),
            "handlers": partial(_check_handlers, runner),
        }
    )
    bridge.wait(http.start(*split_address(settings.http_listen)))
    chores = [eventlet.spawn(_prune, runtime), eventlet.spawn(_count_parked, runner, settings)]
    log.info("worker starting", service=service.name, http_port=http.port)
    ended = eventlet.spawn(_serve, runner, stop)
    stop.wait()
    if ended.dead:
        raise ended.wait()
    http.drain()
    drained = eventlet.spawn(_drain, runner, ended, runtime, http)
    if eventlet.timeout.with_timeout(settings.forecourt_drain_seconds, drained.wait, timeout_value=True):
        log.warning("worker gave up waiting for handlers", service=service.name)
        sys.stderr.flush()
        os._exit(0)
    for chore in chores:
        chore.kill()
    log.info("worker stopped", service=service.name)


def declare(services: Sequence[Service], settings: Settings) -> list[str]:
    """Declare the queues of all handlers, as their workers would; the handlers' queues.

    Safe at any time. Raises `BrokerUnavailable`, also where a queue is there with other properties.
    """
    declared: list[str] = []
    try:
        with connect(settings.broker) as connection:
            for service in services:
                declared += _declare(connection, service, settings.forecourt_retry_delays)
    except BROKER_TROUBLE as error:
        raise BrokerUnavailable(f"broker: {type(error).__name__}: {error}") from error
    return declared


def _declare(connection: Any, service: Service, delays: Sequence[float]) -> list[str]:
    channel = connection.channel()
    declared = []
    for cls in map(_import, service.workers):
        topology.declare_retries(channel, cls.name, delays)
        for method, member in vars(cls).items():
            for entrypoint in getattr(member, "nameko_entrypoints", ()):
                if isinstance(entrypoint, OnEvent):
                    queue = topology.handler_queue(cls.name, method)
                    topology.declare_handler(channel, queue, entrypoint.types_in(service.registry, queue))
                    declared.append(queue)
    return declared


def _serve(runner: Any, stop: Any) -> Exception:
    """Start the containers and wait for them; why they ended."""
    try:
        runner.start()
        log.info("worker started", services=sorted(runner.service_names))
        runner.wait()
        return RuntimeError("the containers ended by themselves")
    except Exception as error:  # noqa: BLE001  # raised by the main green thread, which ends the process
        return error
    finally:
        if not stop.ready():
            stop.send(None)


def _drain(runner: Any, ended: Any, runtime: Runtime, http: HttpEdge) -> None:
    runner.stop()
    ended.wait()
    bridge.wait(_close(runtime, http))


def _nameko_config(settings: Settings, runtime: Runtime) -> dict[str, Any]:
    return {
        "AMQP_URI": settings.broker,
        "HEARTBEAT": HEARTBEAT,
        "TRANSPORT_OPTIONS": {"read_timeout": 10, "write_timeout": 10},
        "max_workers": runtime.worker.forecourt_worker_concurrency,
        CONFIG_KEY: runtime,
    }


def _open(service: Service, settings: Settings, open_with: OpenRuntime, stop: Any) -> Runtime | None:
    """The runtime, as soon as the servers answer; None when told to stop before."""
    while not stop.ready():
        try:
            return bridge.wait(_awaited(open_with(service, settings)))
        except (*LOST, StoreUnavailable) as error:
            log.warning("waiting for the database", error=type(error).__name__)
            eventlet.sleep(1.0)
    return None


async def _awaited(runtime: Awaitable[Runtime]) -> Runtime:
    return await runtime


def _on_signals(stop: Any) -> None:
    """Have the loop itself take the signals: a handler set with ``signal`` would not wake it."""

    def request() -> None:
        if not stop.ready():
            stop.send(None)

    loop = bridge.loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: eventlet.spawn(request))


def _prune(runtime: Runtime) -> None:
    while True:
        eventlet.sleep(PRUNE_SECONDS)
        try:
            while bridge.wait(runtime.forget_processed()):
                eventlet.sleep(0.1)
        except LOST as error:
            log.warning("could not forget old event ids", error=type(error).__name__)


def _count_parked(runner: Any, settings: Settings) -> None:
    queues = [
        topology.parking_queue(topology.handler_queue(container.service_name, entrypoint.method_name))
        for container, entrypoint in _handlers(runner)
    ]
    while True:
        eventlet.sleep(PARKED_SECONDS)
        try:
            for queue, count in count_parked(settings.broker, queues).items():
                PARKED_NOW.labels(queue).set(count)
        except BrokerUnavailable as error:
            log.warning("could not count parked messages", error=logs.told(error))


def _handlers(runner: Any) -> list[tuple[Any, OnEvent]]:
    """The handlers of events, each with its container."""
    return [
        (container, entrypoint)
        for container in runner.containers
        for entrypoint in container.entrypoints
        if isinstance(entrypoint, OnEvent)
    ]


async def _check_handlers(runner: Any) -> None:
    """An event that is published before a handler's queue is bound would never reach that handler."""
    idle = [entrypoint.method_name for _, entrypoint in _handlers(runner) if not entrypoint.consuming]
    if idle:
        raise NotConsuming(", ".join(idle))


def _broker_check(settings: Settings) -> Callable[[], Awaitable[object]]:
    async def check() -> None:
        def ping() -> None:
            connect(settings.broker).release()

        await _in_green_thread(ping)

    return check


async def _in_green_thread(function: Callable[[], None]) -> None:
    """Run blocking, patched code from the loop: in a green thread that ends by setting a future."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def run() -> None:
        try:
            function()
        except Exception as error:  # noqa: BLE001  # handed over to whoever waits
            if not done.done():
                done.set_exception(error)
        else:
            if not done.done():
                done.set_result(None)

    eventlet.spawn(run)
    await done


async def _close(runtime: Runtime, http: HttpEdge) -> None:
    await http.stop()
    await runtime.close()
    await tracing.stop()


def _import(path: str) -> type[Any]:
    module, _, name = path.partition(":")
    cls: type[Any] | None = getattr(importlib.import_module(module), name, None)
    if cls is None:
        raise ConfigurationError(f"workers: {path} does not exist")
    return cls
