"""Commands over gRPC: against an empty echo, the import against one call each, and as shipped against unprotected."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from bench.harness import Bench, address, output_of, process
from forecourt.config import Settings, load_from
from forecourt.rpc.wiring import token_issuer

RUNS = 15
"""Client, server and database share two cores: single pairs of measurements differ by a fifth."""

AS_SHIPPED = ("forecourt.cli", "serve", "customer")
PLAIN = ("bench.plain_server",)


async def run(bench: Bench) -> None:
    """``command_vs_echo``, ``import_vs_command`` and ``command_secure_vs_plain``."""
    load = _Load(bench, bench.count(8_000))
    # Each with databases of its own: adding to an index of many rows costs more than to one of few.
    async with _echo() as echo, _customer(bench, *PLAIN) as plain:
        # What protects a command is measured by itself, below.
        await load.compare("command_vs_echo", ("register", plain), ("echo", echo))
    async with _customer(bench, *AS_SHIPPED) as bulk, _customer(bench, *AS_SHIPPED) as single:
        await load.compare("import_vs_command", ("import", bulk), ("register", single))
    async with _customer(bench, *AS_SHIPPED) as secure, _customer(bench, *PLAIN) as plain:
        await load.compare("command_secure_vs_plain", ("register", secure), ("register", plain))


class _Load:
    """Calls to servers, never the same customer twice."""

    def __init__(self, bench: Bench, calls: int) -> None:
        self._bench = bench
        self._calls = calls
        self._first = 0
        self._tokens = token_issuer(load_from(Settings, _env(bench)))

    async def compare(self, name: str, ours: tuple[str, str], peer: tuple[str, str]) -> None:
        """Measure two kinds of calls, each given with the address that it goes to."""
        await self._bench.ratio(name, lambda: self._rate(*ours), lambda: self._rate(*peer), runs=RUNS)

    async def _rate(self, kind: str, target: str) -> float:
        """Calls, or rows, per second."""
        self._first += 1_000_000
        role = "head_office" if kind == "import" else "salesperson"
        token = self._tokens.issue("bench", roles=[role], dealers=["D001"], brands=["hongtong"])
        # A run of each takes about as long.
        total = 3 * self._calls if kind == "import" else self._calls
        arguments = (kind, target, str(total), str(self._first))
        return float(await output_of("bench.load", *arguments, env={"BENCH_TOKEN": token}))


def _env(bench: Bench) -> dict[str, str]:
    return {
        "DATABASE_URL": bench.database_url,
        "FORECOURT_DATA": str(bench.data),
        # Counted like any other, but one caller shall not be stopped on a fast machine.
        "FORECOURT_RATE_LIMIT": "1000000",
        "FORECOURT_RATE_BURST": "1000000",
        "AMQP_URI": bench.amqp_uri,
    }


@contextlib.asynccontextmanager
async def _echo() -> AsyncIterator[str]:
    """The address of an echo."""
    grpc, http = address(), address()
    async with process("bench.echo_server", grpc, http, health=f"http://{http}/healthz"):
        yield grpc


@contextlib.asynccontextmanager
async def _customer(bench: Bench, *module: str) -> AsyncIterator[str]:
    """The address of the service customer on a new database."""
    grpc, http, database = address(), address(), await bench.fresh_database()
    env = {**_env(bench), "DATABASE_URL": database, "GRPC_LISTEN": grpc, "HTTP_LISTEN": http}
    await output_of("forecourt.cli", "migrate", "customer", env=env)
    # No projector takes its share of the cores from what is measured, so an import must not wait for one.
    connection = await asyncpg.connect(database)
    await connection.execute("UPDATE customer.projection SET position = $1", 2**62)
    await connection.close()
    log = bench.data / f"{database.rpartition('/')[2]}.log"
    async with process(*module, env=env, health=f"http://{http}/healthz", log=log):
        yield grpc
