"""What the benchmarks share: private servers, subprocesses, medians of ratios."""

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg

from forecourt.embedded.postgres import EmbeddedPostgres
from forecourt.embedded.process import free_port
from forecourt.embedded.rabbitmq import EmbeddedRabbitMQ

RUNS = 3
"""Pairs of measurements behind every ratio; the median counts."""


@dataclass
class Bench:
    """One run of benchmarks: where its servers are, and what came out.

    ``results`` maps names to numbers: the ratios, and the rates behind them.
    """

    database_url: str
    amqp_uri: str
    data: Path
    scale: float = 1.0
    results: dict[str, float] = field(default_factory=dict)
    _databases: int = 0

    def count(self, full: int) -> int:
        """A number of events or calls, reduced for a quick run."""
        return max(100, int(full * self.scale))

    async def fresh_database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"bench_{os.getpid()}_{self._databases}"
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        return f"{self.database_url.rpartition('/')[0]}/{name}"

    async def ratio(
        self,
        name: str,
        ours: Callable[[], Awaitable[float]],
        peer: Callable[[], Awaitable[float]],
        *,
        runs: int = RUNS,
    ) -> None:
        """Measure both in turn, ``runs`` times; keep the median ratio ours/peer and the median rates.

        Once at a hundredth of the full size or less, where the numbers mean nothing.
        """
        ours_rates, peer_rates = [], []
        for _ in range(runs if self.scale > 0.01 else 1):
            peer_rates.append(await peer())
            ours_rates.append(await ours())
        ratios = [one / other for one, other in zip(ours_rates, peer_rates, strict=True)]
        self.results[name] = round(statistics.median(ratios), 3)
        self.results[f"{name}.ours_per_s"] = round(statistics.median(ours_rates))
        self.results[f"{name}.peer_per_s"] = round(statistics.median(peer_rates))


@contextlib.contextmanager
def servers(data: Path | None = None, *, broker: bool = True) -> Iterator[tuple[str, str, Path]]:
    """A private PostgreSQL (durable) and RabbitMQ: (database URL, AMQP URI, folder)."""
    with contextlib.ExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="forecourt-bench-")))
        # The unprivileged user that PostgreSQL runs as must be able to reach its folder.
        folder.chmod(0o755)
        postgres = EmbeddedPostgres(folder / "postgres", durable=True)
        url = postgres.start()
        stack.callback(postgres.stop)
        uri = ""
        if broker:
            rabbitmq = EmbeddedRabbitMQ(folder / "rabbitmq")
            uri = rabbitmq.start()
            stack.callback(rabbitmq.stop)
        yield url, uri, folder


@contextlib.asynccontextmanager
async def process(
    *arguments: str, env: Mapping[str, str] | None = None, health: str = "", log: Path | None = None
) -> AsyncIterator["subprocess.Popen[bytes]"]:
    """A Python subprocess, ready (``health`` answers 200, or a line was printed), stopped in the end."""
    environment = {**os.environ, **(env or {})}
    with (log or Path(os.devnull)).open("ab") as out:
        child = await asyncio.to_thread(
            subprocess.Popen, [sys.executable, "-m", *arguments], env=environment, stdout=out, stderr=out
        )
    try:
        await _until_ready(child, health)
        yield child
    finally:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(child.wait, 20)
        child.kill()
        child.wait()


async def _until_ready(child: "subprocess.Popen[bytes]", health: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            if child.poll() is not None:
                raise RuntimeError(f"{child.args!r} ended with {child.returncode}")
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with session.get(health) as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)
    raise RuntimeError(f"{child.args!r} was not ready in a minute")


async def output_of(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    """The last line that a Python module prints when it is run."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments, env={**os.environ, **(env or {})}, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await child.communicate()
    if child.returncode:
        raise RuntimeError(f"{arguments!r} ended with {child.returncode}")
    return out.decode().strip().rpartition("\n")[2]


def address() -> str:
    """A free address on this machine."""
    return f"127.0.0.1:{free_port()}"
