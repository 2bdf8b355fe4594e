"""Starts child processes, keeps them running, and stops them all: by process id, in order, none left behind.

Used by ``forecourt run``, the demo and the end-to-end tests. Each child writes to a log file of its own; it is
ready when its health page says so; a child that dies is started again after a while that grows. A child dies with
the supervisor, however that ends; the loop must run in the main thread for that.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import aiohttp

from forecourt import logs
from forecourt.clock import monotonic
from forecourt.waiting import cancel_and_wait

log = logs.get(__name__)

BACKOFF = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before each further start of a child that keeps dying; the last one goes on."""

STEADY_SECONDS = 60.0
"""A child that ran this long begins anew with the shortest wait."""

PROBE_SECONDS = 0.1

# A child first asks the system to be killed when the thread that started it ends, then becomes the real program.
# Not done by subprocess's preexec_fn: that forks for real, and a fork of a process that uses gRPC hangs.
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""


class NotReady(Exception):
    """A child died or was not ready in time; the message says which one, and shows the end of its log."""


@dataclass(frozen=True)
class ProcessSpec:
    """A child to be: its command, what is added to the environment, and the page that answers 200 when ready."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    health: str | None = None
    grace: float = 20.0
    """Seconds between SIGTERM and SIGKILL."""


class Child:
    """A child under supervision."""

    def __init__(self, spec: ProcessSpec, log_file: Path) -> None:
        self.spec = spec
        self.log_file = log_file
        self.restarts = 0
        self.process: asyncio.subprocess.Process | None = None
        self.wanted = True
        self.watch: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        process = self.process
        return process.pid if process is not None and process.returncode is None else None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child, if it runs."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    def last_words(self, lines: int = 15) -> str:
        """The end of the child's log."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""


class Supervisor:
    """Runs children until it is stopped. Use it as an asynchronous context manager."""

    def __init__(self, log_folder: Path, *, restart: bool = True) -> None:
        self._folder = log_folder
        self._restart = restart
        self.children: dict[str, Child] = {}

    async def __aenter__(self) -> "Supervisor":
        self._folder.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_all()

    async def start(self, spec: ProcessSpec) -> Child:
        """Start a child; it is watched from now on. Raises `ValueError` for a name that is taken."""
        if spec.name in self.children:
            raise ValueError(f"{spec.name}: is there already")
        child = Child(spec, self._folder / f"{spec.name}.log")
        self.children[spec.name] = child
        await _launch(child)
        child.watch = asyncio.create_task(self._watch(child))
        return child

    async def start_all(self, specs: Sequence[ProcessSpec], *, seconds: float = 60.0) -> None:
        """Start children together and wait until all are ready. Raises `NotReady`."""
        for spec in specs:
            await self.start(spec)
        await asyncio.gather(*(self.wait_ready(spec.name, seconds=seconds) for spec in specs))

    async def wait_ready(self, name: str, *, seconds: float = 60.0) -> None:
        """Wait until a child's health page answers 200. Raises `NotReady`."""
        child = self.children[name]
        if child.spec.health is None:
            return
        end = monotonic() + seconds
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as session:
            while not await _answers(session, child.spec.health):
                if monotonic() > end or (not self._restart and child.pid is None):
                    raise NotReady(
                        f"{name}: is not ready; the end of {child.log_file}:\n{child.last_words()}"
                    )
                await asyncio.sleep(PROBE_SECONDS)

    async def stop(self, name: str) -> None:
        """Stop a child for good: SIGTERM, and SIGKILL when its grace is over."""
        child = self.children.pop(name)
        child.wanted = False
        process = child.process
        if process is not None and process.returncode is None:
            child.send(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), child.spec.grace)
            except TimeoutError:
                log.warning("killed after its grace", child=name)
                child.send(signal.SIGKILL)
                await process.wait()
        if child.watch is not None:
            await cancel_and_wait(child.watch)

    async def stop_all(self) -> None:
        """Stop all children, those started last first; the ones of no dependency on each other together."""
        await asyncio.gather(*(self.stop(name) for name in reversed(list(self.children))))

    async def _watch(self, child: Child) -> None:
        failures = 0
        while child.process is not None:
            started = monotonic()
            code = await child.process.wait()
            if not child.wanted or not self._restart:
                return
            failures = 0 if monotonic() - started > STEADY_SECONDS else failures + 1
            delay = BACKOFF[min(failures, len(BACKOFF)) - 1] if failures else BACKOFF[0]
            log.warning("child ended", child=child.spec.name, code=code, again_in_seconds=delay)
            await asyncio.sleep(delay)
            child.restarts += 1
            await _launch(child)


async def _launch(child: Child) -> None:
    output: IO[bytes]
    with child.log_file.open("ab") as output:
        child.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())),
            *child.spec.command,
            env={**os.environ, **child.spec.env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A session of its own: Ctrl-C in the terminal is for the supervisor, which stops children in order.
            start_new_session=True,
        )


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False
