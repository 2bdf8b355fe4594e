"""What a second process of a role brings on this machine: two against one, ``serve`` and ``work``.

The load, PostgreSQL and RabbitMQ run on the same cores: on two of them a ratio well below 2 is what to expect.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping

import asyncpg

from bench.harness import Bench, address, output_of, process
from forecourt.config import Settings, load_from
from forecourt.rpc.wiring import token_issuer

_BEHIND = (
    "SELECT count(*) FROM customer.projection WHERE state = 'active'"
    " AND position < (SELECT max(position) FROM events.event)"
)


async def run(bench: Bench) -> None:
    """``two_serve_vs_one`` and ``two_work_vs_one``."""
    url = await bench.fresh_database()
    env = {"DATABASE_URL": url, "FORECOURT_DATA": str(bench.data), "AMQP_URI": bench.amqp_uri}
    await output_of("forecourt.cli", "migrate", "customer", env=env)
    scale = Scale(bench, url, env)
    await bench.ratio("two_serve_vs_one", lambda: scale.serve(2), lambda: scale.serve(1))
    await bench.ratio("two_work_vs_one", lambda: scale.work(2), lambda: scale.work(1))


class Scale:
    """The measurements, on one database."""

    def __init__(self, bench: Bench, url: str, env: Mapping[str, str]) -> None:
        self._bench = bench
        self._url = url
        self._env = dict(env)
        tokens = token_issuer(load_from(Settings, self._env))
        token = tokens.issue("bench", roles=["salesperson"], dealers=["D001"], brands=["hongtong"])
        self._load_env = {"BENCH_TOKEN": token}
        self._first = 0

    @contextlib.asynccontextmanager
    async def _roles(self, *roles: str) -> AsyncIterator[list[str]]:
        """Processes, one for each role named; the gRPC addresses of those that serve."""
        addresses = []
        async with contextlib.AsyncExitStack() as stack:
            for number, role in enumerate(roles):
                grpc, http = address(), address()
                if role == "serve":
                    addresses.append(grpc)
                await stack.enter_async_context(
                    process(
                        "forecourt.cli",
                        role,
                        "customer",
                        env={**self._env, "GRPC_LISTEN": grpc, "HTTP_LISTEN": http},
                        health=f"http://{http}/readyz",
                        log=self._bench.data / f"{role}-{number}.log",
                    )
                )
            yield addresses

    async def _register(self, addresses: list[str], calls: int) -> float:
        """Registrations a second, spread over the addresses."""
        self._first += 1_000_000
        target = f"ipv4:{','.join(addresses)}"
        arguments = ("register", target, str(calls), str(self._first))
        return float(await output_of("bench.load", *arguments, env=self._load_env))

    async def serve(self, processes: int) -> float:
        """Commands a second with so many processes that serve."""
        async with self._roles(*["serve"] * processes) as addresses:
            return await self._register(addresses, self._bench.count(6_000))

    async def work(self, processes: int) -> float:
        """Events handled a second with so many workers, from the first to the last."""
        async with self._roles("serve", "project") as addresses:
            await self._register(addresses, self._bench.count(1_500))
            while await self._value(_BEHIND):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        before = await self._handled()
        total = await self._value(
            "SELECT count(*) FROM events.event WHERE type = 'customer.CustomerRegistered'"
        )
        # The relay comes last: all workers stand ready when the first event arrives.
        async with self._roles(*["work"] * processes, "relay"):
            while (began := await self._handled()) == before:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            start = time.perf_counter()
            while await self._handled() < total:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            return (total - began) / (time.perf_counter() - start)

    async def _handled(self) -> int:
        table = "to_regclass('customer.processed_event')"
        if not await self._value(f"SELECT ({table} IS NOT NULL)::int"):
            return 0
        return await self._value("SELECT count(*) FROM customer.processed_event")

    async def _value(self, query: str) -> int:
        connection = await asyncpg.connect(self._url)
        try:
            return int(await connection.fetchval(query))
        finally:
            await connection.close()
