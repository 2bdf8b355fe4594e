"""The sales service on real servers, in all its roles and on a virtual clock: a pytest plugin."""

from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
import pytest_asyncio

from forecourt.platform import Platform
from forecourt.testing.servers import PostgresServer, RabbitMQServer
from tests.integration.sales_client import SalesClient
from tests.integration.sales_platform import now
from tests.staff import Hats


@pytest.fixture(scope="module")
def servers(postgres_server: PostgresServer, rabbitmq_server: RabbitMQServer) -> Iterator[dict[str, str]]:
    """A database and a virtual host for this module."""
    url, uri = postgres_server.create_database(), rabbitmq_server.create_vhost()
    environment = {"DATABASE_URL": url, "AMQP_URI": uri}
    with pytest.MonkeyPatch.context() as patch:
        # Where the user named servers, the platform must use our database on them and not theirs.
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment
    rabbitmq_server.delete_vhost(uri)
    postgres_server.drop_database(url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(
    servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    """The sales service in all its roles."""
    found = Platform(
        tmp_path_factory.mktemp("platform"),
        together=True,
        clock="virtual",
        restart=False,
        sandboxes=False,
        services=["sales"],
        environment=servers,
    )
    async with found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(platform: Platform) -> AsyncIterator[grpc.aio.Channel]:
    """A connection to the API."""
    async with grpc.aio.insecure_channel(platform.addresses["grpc"]) as opened:
        yield opened


def client_of(platform: Platform, channel: grpc.aio.Channel, actor: str, *dealers: str) -> SalesClient:
    """A caller who acts for dealers, the first store unless others are named."""
    stores = dealers or ("D001",)
    return SalesClient(
        channel,
        Hats(lambda role: platform.token(actor, roles=[role], dealers=stores, brands=["hongtong"])),
    )


@pytest.fixture
def seller(platform: Platform, channel: grpc.aio.Channel) -> SalesClient:
    """A salesperson of the first store."""
    return client_of(platform, channel, "seller")


@pytest.fixture
def both(platform: Platform, channel: grpc.aio.Channel) -> SalesClient:
    """Somebody who sees two stores."""
    return client_of(platform, channel, "both", "D001", "D002")


@pytest.fixture
def manager(platform: Platform, channel: grpc.aio.Channel) -> SalesClient:
    """The sales manager of the first store."""
    return client_of(platform, channel, "manager")


@pytest_asyncio.fixture(loop_scope="module")
async def year(platform: Platform) -> int:
    """The year on the platform's clock."""
    return (await now(platform)).year
