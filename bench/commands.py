"""Commands over gRPC: against an empty echo, the import against one call each, and as shipped against unprotected."""

from bench.harness import Bench, address, output_of, process
from forecourt.config import Settings, load_from
from forecourt.rpc.wiring import token_issuer

RUNS = 15
"""Client, server and database share two cores: single pairs of measurements differ by a fifth."""


async def run(bench: Bench) -> None:
    """``command_vs_echo``, ``import_vs_command`` and ``command_secure_vs_plain``."""
    url, plain_url = await bench.fresh_database(), await bench.fresh_database()
    grpc, http, echo, echo_http = address(), address(), address(), address()
    plain, plain_http = address(), address()
    env = {
        "DATABASE_URL": url,
        "GRPC_LISTEN": grpc,
        "HTTP_LISTEN": http,
        "FORECOURT_DATA": str(bench.data),
        # Counted like any other, but one caller shall not be stopped on a fast machine.
        "FORECOURT_RATE_LIMIT": "1000000",
        "FORECOURT_RATE_BURST": "1000000",
        "AMQP_URI": bench.amqp_uri,
    }
    tokens = token_issuer(load_from(Settings, env))

    def load_env(kind: str) -> dict[str, str]:
        role = "head_office" if kind == "import" else "salesperson"
        return {"BENCH_TOKEN": tokens.issue("bench", roles=[role], dealers=["D001"], brands=["hongtong"])}

    calls = bench.count(8_000)
    first = 0

    async def rate(kind: str, target: str) -> float:
        nonlocal first
        first += 1_000_000
        # A run of each takes about as long.
        total = 3 * calls if kind == "import" else calls
        return float(await output_of("bench.load", kind, target, str(total), str(first), env=load_env(kind)))

    for database in (url, plain_url):
        await output_of("forecourt.cli", "migrate", "customer", env={**env, "DATABASE_URL": database})
    async with (
        process("bench.echo_server", echo, echo_http, health=f"http://{echo_http}/healthz"),
        process(
            "forecourt.cli",
            "serve",
            "customer",
            env=env,
            health=f"http://{http}/healthz",
            log=bench.data / "serve.log",
        ),
        process(
            "bench.plain_server",
            env={**env, "DATABASE_URL": plain_url, "GRPC_LISTEN": plain, "HTTP_LISTEN": plain_http},
            health=f"http://{plain_http}/healthz",
            log=bench.data / "plain.log",
        ),
    ):
        # What protects a command is measured by itself, below.
        await bench.ratio(
            "command_vs_echo", lambda: rate("register", plain), lambda: rate("echo", echo), runs=RUNS
        )
        await bench.ratio(
            "import_vs_command", lambda: rate("import", grpc), lambda: rate("register", grpc), runs=RUNS
        )
        await bench.ratio(
            "command_secure_vs_plain",
            lambda: rate("register", grpc),
            lambda: rate("register", plain),
            runs=RUNS,
        )
