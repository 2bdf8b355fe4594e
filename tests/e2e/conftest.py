"""One platform for each module of end-to-end tests, on the session's servers."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from forecourt.testing.servers import PostgresServer, RabbitMQServer
from tests.e2e.group import Group
from tests.e2e.group import running as running_group
from tests.e2e.house import House, running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, rabbitmq_server: RabbitMQServer
) -> AsyncIterator[House]:
    """A platform of its own: database, virtual host, processes."""
    database_url, amqp_uri = postgres_server.create_database(), rabbitmq_server.create_vhost()
    try:
        async with running(tmp_path_factory.mktemp("e2e"), database_url, amqp_uri, together=True) as opened:
            yield opened
    finally:
        postgres_server.drop_database(database_url)
        rabbitmq_server.delete_vhost(amqp_uri)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def group(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> AsyncIterator[Group]:
    """A dealer group in this process, in which nothing has happened yet."""
    database_url = postgres_server.create_database()
    try:
        async with running_group(database_url, tmp_path_factory.mktemp("group")) as opened:
            yield opened
    finally:
        postgres_server.drop_database(database_url)
