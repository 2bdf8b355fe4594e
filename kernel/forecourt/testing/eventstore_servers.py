"""Event stores to run the conformance suite on: what starts them, opens them, restarts them."""

import asyncio
import os
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from forecourt.embedded.postgres import EmbeddedPostgres
from forecourt.eventstore import open_store
from forecourt.eventstore.memory import MemoryEventStore, MemoryLog
from forecourt.eventstore.port import EventStore
from forecourt.eventstore.postgres import PostgresEventStore

START_SECONDS = 20
"""Seconds that a server may take to start or stop."""


class EventStoreServer(ABC):
    """A running event store. Every `open` gives a new client of the same store."""

    url: str | None = None
    """For `forecourt.eventstore.open_store` in other processes; None where there is only this process."""

    can_restart: bool = False
    """Whether `restart` does what it says."""

    @abstractmethod
    async def open(self) -> EventStore:
        """Open the store. The caller closes it."""

    def restart(self) -> None:
        """Stop the server the hard way and start it again. Blocks until it answers."""
        raise RuntimeError("this event store cannot be restarted")


class MemoryServer(EventStoreServer):
    """The memory store: every client on one log."""

    def __init__(self) -> None:
        self._log = MemoryLog()

    async def open(self) -> EventStore:
        """See `EventStoreServer`."""
        return MemoryEventStore(self._log)


class RemoteServer(EventStoreServer):
    """A server that is there already and that is not ours to restart."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self) -> EventStore:
        """See `EventStoreServer`."""
        return await open_store(str(self.url))


class StandInServer(RemoteServer):
    """The EventStoreDB stand-in in a subprocess, on a free port of 127.0.0.1, its events in ``data``.

    ``options`` go to its command line, see ``python -m forecourt.testing.eventstoredb_standin --help``.
    """

    can_restart = True

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self._port = _free_port()
        self._command = [
            *(sys.executable, "-m", "forecourt.testing.eventstoredb_standin"),
            *("--port", str(self._port), "--data", str(data), *options),
        ]
        super().__init__(f"esdb://127.0.0.1:{self._port}?Tls=false")
        self._process = self._start()

    def restart(self) -> None:
        """Kill the server and start it again on the same port with the same events."""
        self.kill()
        self._process = self._start()

    def kill(self) -> None:
        """End the server at once, without any farewell to its clients."""
        self._process.kill()
        self._process.wait(START_SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def start(self) -> None:
        """Start the server again after `kill`."""
        self._process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        line = process.stdout.readline() if process.stdout is not None else ""
        if not line.startswith("listening"):
            raise RuntimeError(
                f"the EventStoreDB stand-in did not start, exit status {process.wait(START_SECONDS)}"
            )
        return process


class PostgresServer(RemoteServer):
    """A PostgreSQL of our own, with the event store's tables in it."""

    can_restart = True

    def __init__(self, postgres: EmbeddedPostgres) -> None:
        super().__init__(postgres.url)
        self._postgres = postgres

    def restart(self) -> None:
        """Kill the server and start it again on the same port with the same data."""
        self._postgres.kill()
        self._postgres.start()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that no other test uses, durable because it is killed in the middle."""
    with (
        TemporaryDirectory(prefix="forecourt-pg-") as folder,
        EmbeddedPostgres(Path(folder)) as postgres,
    ):
        asyncio.run(_migrate(postgres.url))
        yield PostgresServer(postgres)


async def _migrate(url: str) -> None:
    store = await PostgresEventStore.open(url)
    await store.migrate()
    await store.close()


@contextmanager
def eventstoredb_server(*options: str) -> Iterator[EventStoreServer]:
    """The server that EVENTSTOREDB_URI names, else a stand-in of our own with ``options``."""
    uri = os.environ.get("EVENTSTOREDB_URI")
    if uri and not options:
        yield RemoteServer(uri)
        return
    with standin_server(*options) as server:
        yield server


@contextmanager
def standin_server(*options: str) -> Iterator[StandInServer]:
    """A stand-in of our own, whatever the environment says."""
    with TemporaryDirectory(prefix="forecourt-esdb-") as folder:
        server = StandInServer(Path(folder) / "events.log", *options)
        try:
            yield server
        finally:
            server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
