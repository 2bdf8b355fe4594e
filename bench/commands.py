"""Commands over gRPC: against an empty echo, the import against one call each, and as shipped against unprotected."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

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
        await bench.ratio(
            "command_vs_echo",
            lambda: load.rate("register", plain),
            lambda: load.rate("echo", echo),
            runs=RUNS,
        )
    async with _customer(bench, *AS_SHIPPED) as bulk, _customer(bench, *AS_SHIPPED) as single:
        await bench.ratio(
            "import_vs_command",
            lambda: load.rate("import", bulk),
            lambda: load.rate("register", single),
            runs=RUNS,
        )
    async with _customer(bench, *AS_SHIPPED) as secure, _customer(bench, *PLAIN) as plain:
        await bench.ratio(
            "command_secure_vs_plain",
            lambda: load.rate("register", secure),
            lambda: load.rate("register", plain),
            runs=RUNS,
        )


@dataclass
class _Load:
    """Calls to servers, never the same customer twice."""

    bench: Bench
    calls: int
    first: int = 0

    async def rate(self, kind: str, target: str) -> float:
        """Calls, or rows, per second."""
        self.first += 1_000_000
        role = "head_office" if kind == "import" else "salesperson"
        tokens = token_issuer(load_from(Settings, _env(self.bench)))
        token = tokens.issue("bench", roles=[role], dealers=["D001"], brands=["hongtong"])
        # A run of each takes about as long.
        total = 3 * self.calls if kind == "import" else self.calls
        arguments = (kind, target, str(total), str(self.first))
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
    log = bench.data / f"{database.rpartition('/')[2]}.log"
    async with process(*module, env=env, health=f"http://{http}/healthz", log=log):
        yield grpc
