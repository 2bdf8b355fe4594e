"""The whole platform on one machine: servers, roles and sandboxes, as ``forecourt run`` starts them.

::

    async with Platform(Path("var")) as platform:
        platform.addresses["grpc"]      # host:port of the API; of each process's HTTP side by its name
        platform.environment            # the variables that all processes share, for further commands
        platform.supervisor.children    # every process, to stop, kill or watch

PostgreSQL and RabbitMQ are private ones below the data folder, unless ``DATABASE_URL`` or ``AMQP_URI`` name others.
"""

import asyncio
import fcntl
import os
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Self

from forecourt.config import Settings, load_from
from forecourt.discovery import Sandbox, find_sandboxes, find_services
from forecourt.embedded.postgres import EmbeddedPostgres
from forecourt.embedded.process import free_port
from forecourt.embedded.rabbitmq import EmbeddedRabbitMQ
from forecourt.messaging.declaring import declare_queues
from forecourt.rpc import wiring
from forecourt.runtime import migrate
from forecourt.supervisor import ProcessSpec, Supervisor

HOST = "127.0.0.1"
GRPC_PORT = 50051
HTTP_PORT = 9100
READY_SECONDS = 120.0


class Platform:
    """Everything that runs; an asynchronous context manager.

    ``together`` puts serve, project and relay into one process. ``clock`` is ``system`` or ``virtual``.
    ``environment`` is added for all processes and wins over the surrounding one.
    ``sandboxes`` False leaves the sandboxes of providers out.
    ``services`` are the names of those to run, all that are installed by default.
    """

    def __init__(
        self,
        data: Path,
        *,
        together: bool = False,
        clock: str = "system",
        durable: bool = True,
        restart: bool = True,
        sandboxes: bool = True,
        services: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data = data.absolute()
        self.addresses: dict[str, str] = {}
        self.environment: dict[str, str] = {
            "FORECOURT_CLOCK": clock,
            "FORECOURT_DATA": str(self.data),
            **(environment or {}),
        }
        self.supervisor = Supervisor(self.data / "log", restart=restart)
        self.postgres: EmbeddedPostgres | None = None
        self.rabbitmq: EmbeddedRabbitMQ | None = None
        self._together = together
        self._durable = durable
        self._services = find_services(services)
        self._sandboxes = sandboxes
        self._stack = AsyncExitStack()
        self._ports: set[int] = set()
        self._with_metrics: list[str] = []

    @property
    def settings(self) -> Settings:
        """The settings that the processes have in common."""
        return load_from(Settings, {**os.environ, **self.environment})

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        await asyncio.gather(self._start_postgres(), self._start_rabbitmq())
        wiring.token_issuer(self.settings)
        names = [service.name for service in self._services]
        await asyncio.gather(migrate(self._services, self.settings), declare_queues(names, self.environment))
        await self._stack.enter_async_context(self.supervisor)
        roles = ("serve+project+relay",) if self._together else ("serve", "project", "relay")
        for name in roles:
            self.addresses[name] = f"{HOST}:{self._port(HTTP_PORT)}"
        for sandbox in find_sandboxes() if self._sandboxes else ():
            self._declare(sandbox.callback, f"http://{self.addresses[roles[0]]}")
            await self.supervisor.start(self._sandbox(sandbox))
        await self.supervisor.start_all(self._processes(roles), seconds=READY_SECONDS)

    async def _start_postgres(self) -> None:
        url = self.environment.get("DATABASE_URL") or os.environ.get("DATABASE_URL")
        if not url:
            self.postgres = EmbeddedPostgres(self.data / "postgres", durable=self._durable)
            url = await asyncio.to_thread(self.postgres.start)
            self._stack.push_async_callback(asyncio.to_thread, self.postgres.stop)
        self.environment["DATABASE_URL"] = url

    async def _start_rabbitmq(self) -> None:
        uri = self.environment.get("AMQP_URI") or os.environ.get("AMQP_URI")
        if not uri:
            self.rabbitmq = EmbeddedRabbitMQ(self.data / "rabbitmq")
            uri = await asyncio.to_thread(self.rabbitmq.start)
            self._stack.push_async_callback(asyncio.to_thread, self.rabbitmq.stop)
            self.addresses["rabbitmq"] = self.rabbitmq.management_url
        self.environment["AMQP_URI"] = uri

    def _sandbox(self, sandbox: Sandbox) -> ProcessSpec:
        """A sandbox's process; the variables that it declares tell everybody where it listens."""
        arguments = []
        for option, preferred in sandbox.ports.items():
            port = self._port(preferred)
            arguments += [f"--{option}-port", str(port)]
            self.addresses[option] = f"{HOST}:{port}"
            for variable, value in sandbox.variables.get(option, {}).items():
                self._declare(variable, value.format(host=HOST, port=port))
        return ProcessSpec(sandbox.name, [sys.executable, "-m", sandbox.module, *arguments], self.environment)

    def _declare(self, variable: str, value: str) -> None:
        """Tell all processes, unless the user has said otherwise."""
        if variable and variable not in os.environ:
            self.environment.setdefault(variable, value)

    def _processes(self, roles: Sequence[str]) -> list[ProcessSpec]:
        port = self._port(GRPC_PORT)
        self.addresses["grpc"] = f"{HOST}:{port}"
        names = [service.name for service in self._services]
        specs = [self._role(name, names) for name in roles]
        workers = [service for service in self._services if service.workers]
        return specs + [self._spec(f"work-{s.name}", ["forecourt.cli", "work", s.name], {}) for s in workers]

    def _role(self, name: str, services: Sequence[str]) -> ProcessSpec:
        first, *others = name.split("+")
        command = ["forecourt.cli", first, *(f"--with={other}" for other in others), *services]
        return self._spec(name, command, {"GRPC_LISTEN": self.addresses["grpc"]})

    def _spec(self, name: str, module: Sequence[str], env: Mapping[str, str]) -> ProcessSpec:
        if name not in self.addresses:
            self.addresses[name] = f"{HOST}:{self._port(HTTP_PORT)}"
        address = self.addresses[name]
        self._with_metrics.append(name)
        return ProcessSpec(
            name,
            [sys.executable, "-m", *module],
            {**self.environment, "HTTP_LISTEN": address, **env},
            health=f"http://{address}/readyz",
        )

    def _port(self, preferred: int) -> int:
        """The preferred port or one of the next twenty, else any that is free; each is given once."""
        candidates: list[int] = [*range(preferred, preferred + 20), *(free_port() for _ in range(20))]
        for port in candidates:
            if port not in self._ports and self._reserve(port):
                self._ports.add(port)
                return port
        raise OSError(f"no free port from {preferred} on")

    def _reserve(self, port: int) -> bool:
        """Whether a port is free, also of the intentions of other platforms on this machine."""
        folder = Path(tempfile.gettempdir()) / f"forecourt-ports-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = self._stack.enter_context((folder / str(port)).open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        held = _held(port)
        if held is None:
            return False
        self._stack.enter_context(held)
        return True

    @property
    def pages(self) -> dict[str, str]:
        """What a browser can look at, by name: metrics of every process, the sandboxes, the broker."""
        found = {name: f"http://{self.addresses[name]}/metrics" for name in self._with_metrics}
        for sandbox in find_sandboxes() if self._sandboxes else ():
            for option, page in sandbox.pages.items():
                found[f"{sandbox.name}: {page}"] = f"http://{self.addresses[option]}/"
        if self.rabbitmq is not None:
            found["RabbitMQ"] = self.rabbitmq.management_url
        return found

    def token(
        self,
        actor: str,
        *,
        roles: Sequence[str] = (),
        dealers: Sequence[str] = (),
        brands: Sequence[str] = (),
        valid_for: timedelta = timedelta(hours=12),
    ) -> str:
        """A development token that the platform's servers accept."""
        return wiring.token_issuer(self.settings).issue(
            actor, roles=roles, dealers=dealers, brands=brands, valid_for=valid_for
        )


def _held(port: int) -> socket.socket | None:
    """A socket that is bound to a free port and does not listen; None where the port is not free.

    Servers with SO_REUSEADDR, which all of ours are, may listen there. While one of them is being restarted, the port
    is not given to an outgoing connection: it lies among those that the kernel gives away.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((HOST, port))
    except OSError:
        held.close()
        return None
    return held
