"""A running platform with the outer world around it, at noon of a Monday in Shanghai, far from quiet hours."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import grpc

from forecourt.clock_store import ClockStore
from forecourt.platform import Platform
from forecourt.testing.settled import settled
from tests.e2e.client import Client
from tests.staff import Hats

NOON = datetime(2027, 3, 1, 4, 0, tzinfo=UTC)
SECONDS = 60.0
SERVICES = ("customer", "sales", "service_desk", "notify")
"""The services that react to events."""

PROJECTED = (*SERVICES, "audit")
"""The services that have read models."""

ENVIRONMENT = {
    "FORECOURT_RETRY_DELAYS": "0.2,0.5,1,2",
    "NOTIFY_RETRY_DELAYS": "0.2,0.5,1,1,2,2",
    "NOTIFY_TIMEOUT_SECONDS": "1",
    "NOTIFY_STORES": "D001=鸿通浦东店",
}


@dataclass
class House:
    """The platform, and what its surroundings saw."""

    platform: Platform
    http: aiohttp.ClientSession
    channel: grpc.aio.Channel

    @property
    def database_url(self) -> str:
        """Where everything is stored."""
        return self.platform.environment["DATABASE_URL"]

    @property
    def amqp_uri(self) -> str:
        """The broker."""
        return self.platform.environment["AMQP_URI"]

    def hats(self, actor: str, store: str = "D001") -> Hats:
        """The tokens of somebody at a store."""
        return Hats(
            lambda role: self.platform.token(actor, roles=[role], dealers=[store], brands=["hongtong"])
        )

    def client(self, actor: str, store: str = "D001") -> Client:
        """Somebody at a store, in each call with the role that the call is the job of."""
        return Client(self.channel, self.hats(actor, store))

    async def settled(self) -> int:
        """Wait until everything that happened has had its consequences."""
        return await settled(self.database_url, self.amqp_uri, PROJECTED, timeout=SECONDS)

    async def now(self) -> datetime:
        """The platform's time."""
        async with asyncpg.create_pool(self.database_url, min_size=1, max_size=1) as pool:
            setting = await ClockStore(pool).read()
        return setting.at(datetime.now(UTC))

    async def set_clock(self, moment: datetime) -> None:
        """Let time pass until ``moment``."""
        async with asyncpg.create_pool(self.database_url, min_size=1, max_size=1) as pool:
            await ClockStore(pool).set(moment)

    async def fault(self, **fault: Any) -> None:
        """Have a provider in the sandbox misbehave."""
        url = f"http://{self.platform.addresses['http']}/faults"
        async with self.http.post(url, json=fault) as response:
            assert response.status == 200, await response.text()

    async def faults(self) -> list[dict[str, Any]]:
        """The faults that no message has met yet."""
        async with self.http.get(f"http://{self.platform.addresses['http']}/faults") as response:
            found: list[dict[str, Any]] = await response.json()
            return found

    async def arrived(self) -> list[dict[str, Any]]:
        """The messages that customers got."""
        async with self.http.get(f"http://{self.platform.addresses['http']}/messages") as response:
            messages: list[dict[str, Any]] = (await response.json())["messages"]
            return messages

    async def metric(self, process: str, name: str, *having: str) -> float:
        """The sum of the samples of a metric on a process's page, of those with all the labels."""
        async with self.http.get(f"http://{self.platform.addresses[process]}/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.partition("{")[0] == name and all(label in line for label in having)
        )

    async def sql(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of a statement, on a connection of its own: servers may restart."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()


@asynccontextmanager
async def running(
    folder: Path,
    database_url: str,
    amqp_uri: str,
    *,
    together: bool,
    environment: Mapping[str, str] = ENVIRONMENT,
) -> AsyncIterator[House]:
    """The platform on servers that run already."""
    async with AsyncExitStack() as stack:
        async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool:
            await ClockStore(pool).migrate()
            await pool.execute("UPDATE events.clock_setting SET virtual = $1, rate = 1", NOON)
        servers = {"DATABASE_URL": database_url, "AMQP_URI": amqp_uri}
        platform = Platform(
            folder, together=together, clock="virtual", environment={**environment, **servers}
        )
        await stack.enter_async_context(platform)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1_000)]
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(platform.addresses["grpc"], options=options)
        )
        yield House(platform, http, channel)
