"""A database and a virtual host of its own, on servers that others use too: the day starts from nothing."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from amqp.exceptions import NotFound
from kombu import Connection

from forecourt.config import ConfigError
from forecourt.messaging.cloudevents import EXCHANGE
from forecourt.testing.rabbitmq import RabbitMQServer


@asynccontextmanager
async def servers_of_its_own() -> AsyncIterator[dict[str, str]]:
    """The variables that name a new database and a new virtual host, where the environment names servers.

    Both are gone in the end. Raises `ConfigError` where the broker is another platform's and cannot be shared.
    """
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(database_of_its_own())
        yield database | await stack.enter_async_context(vhost_of_its_own())


@asynccontextmanager
async def database_of_its_own() -> AsyncIterator[dict[str, str]]:
    """On a server that ``DATABASE_URL`` names, a new database, dropped in the end."""
    server = os.environ.get("DATABASE_URL")
    if not server:
        yield {}
        return
    parts = urlsplit(server)
    name = f"forecourt_demo_{os.getpid()}"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        yield {"DATABASE_URL": urlunsplit(parts._replace(path=f"/{name}"))}
    finally:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.close()


@asynccontextmanager
async def vhost_of_its_own() -> AsyncIterator[dict[str, str]]:
    """On a broker that ``AMQP_URI`` names, a new virtual host, deleted in the end.

    Queues have fixed names: in a virtual host of another platform the two would take each other's messages. So where
    none can be made, the one that is named has to be without a platform.
    """
    given = os.environ.get("AMQP_URI")
    if not given:
        yield {}
        return
    broker = RabbitMQServer.of(given)
    try:
        uri = await asyncio.to_thread(broker.create_vhost, f"forecourt-demo-{os.getpid()}")
    except OSError as error:
        if await asyncio.to_thread(_has_a_platform, given):
            raise ConfigError(_occupied(error)) from None
        yield {}
        return
    try:
        yield {"AMQP_URI": uri}
    finally:
        await asyncio.to_thread(broker.delete_vhost, uri)


def _has_a_platform(uri: str) -> bool:
    with Connection(uri) as connection:
        try:
            connection.channel().exchange_declare(EXCHANGE, "topic", passive=True)
        except NotFound:
            return False
    return True


def _occupied(error: OSError) -> str:
    return (
        "AMQP_URI: names a virtual host with the queues of a platform, which would take the demo's messages, and none"
        f" could be made for the demo ({type(error).__name__} from the management page, RABBITMQ_MANAGEMENT_URL)."
        " Name a virtual host that is empty."
    )
