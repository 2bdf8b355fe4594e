"""The ``work`` role as a program: ``python -m forecourt.work sales``; with ``--declare`` and any services, only their
handlers' queues are declared (`forecourt.messaging.declaring`).

A process of its own from the very first import, because nameko needs eventlet's patches in place before anything
else is loaded (`forecourt.worker.bridge`); ``python -m sales work`` turns into this one.
"""

# The runner comes first: importing it installs the bridge.
from forecourt.worker.runner import declare, run_worker  # isort: skip

import sys
from dataclasses import dataclass, fields

from forecourt import logs
from forecourt.audit.system import SystemCommands
from forecourt.clock import SystemClock
from forecourt.clock_store import ClockFollower
from forecourt.config import ConfigError, Settings, load
from forecourt.discovery import find_services
from forecourt.eventstore import open_store
from forecourt.messaging.forwarder import BrokerUnavailable
from forecourt.projections.queries import ReadModels
from forecourt.service import Service
from forecourt.snapshots import PostgresSnapshots
from forecourt.worker.runtime import Runtime, open_runtime


@dataclass(frozen=True)
class PlatformRuntime(Runtime):
    """A worker's runtime whose read models and clock listen to the database."""

    follower: ClockFollower | None = None

    async def close(self) -> None:
        """Let go of everything; what listens comes first, because it holds connections of the pool."""
        if self.follower is not None:
            await self.follower.close()
        await self.read_models.close()
        await super().close()


async def _open(service: Service, settings: Settings) -> Runtime:
    """The worker's runtime, with the platform's clock, snapshots and read models."""
    store = await open_store(settings.store, statement_seconds=settings.forecourt_statement_seconds)
    try:
        runtime = await open_runtime(service, settings, store=store, clock=SystemClock())
    except BaseException:
        await store.close()
        raise
    snapshots = PostgresSnapshots(runtime.pool, service.name, runtime.codec)
    commands = SystemCommands(store, runtime.codec, runtime.audit.trail, snapshots=snapshots)
    read_models = ReadModels(runtime.pool, service.name, service.projections)
    parts = {field.name: getattr(runtime, field.name) for field in fields(runtime)}
    parts |= {"commands": commands, "read_models": read_models}
    if settings.forecourt_clock != "virtual":
        return PlatformRuntime(**parts)
    follower = await ClockFollower.open(runtime.pool)
    runtime.audit.trail.clock = follower.clock
    return PlatformRuntime(**parts | {"clock": follower.clock}, follower=follower)


def main() -> None:
    """Run the worker of the service that the first argument names, until SIGTERM."""
    if sys.argv[1:2] == ["--declare"]:
        sys.exit(_declare(sys.argv[2:]))
    try:
        (service,) = find_services(sys.argv[1:2])
        settings = load(Settings)
        _ = settings.database, settings.broker
    except ConfigError as error:
        sys.exit(_refuse(error))
    logs.configure(process=f"work-{service.name}", level=settings.forecourt_log_level)
    try:
        run_worker(service, settings, open_with=_open)
    except ConfigError as error:
        sys.exit(_refuse(error))


def _declare(names: list[str]) -> int:
    logs.configure(process="declare", level="WARNING")
    try:
        queues = declare(find_services(names), load(Settings))
    except ConfigError as error:
        return _refuse(error)
    except BrokerUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{queue}\n" for queue in queues))
    return 0


def _refuse(error: ConfigError) -> int:
    sys.stderr.write(f"configuration: {error}\n")
    return 2


if __name__ == "__main__":
    main()
