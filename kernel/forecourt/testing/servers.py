"""Pytest fixtures for real servers: PostgreSQL and RabbitMQ, started when the first test asks for them.

With ``DATABASE_URL`` or ``AMQP_URI`` set, the tests use those servers and leave nothing behind there: every test has a
database and a virtual host of its own. For RabbitMQ that needs its management plugin; where it is not at port 15672 of
the same host, ``RABBITMQ_MANAGEMENT_URL`` says where.

A test that restarts or kills a server starts one of its own with `forecourt.embedded`.
"""

import base64
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit
from uuid import uuid4

import pytest

from forecourt.embedded import EmbeddedPostgres, EmbeddedRabbitMQ
from forecourt.embedded.postgres import run_sql

HTTP_SECONDS = 30.0


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL server on which databases may be created. ``url`` names one that is there."""

    url: str

    def create_database(self) -> str:
        """A new, empty database: its URL."""
        name = f"test_{uuid4().hex}"
        run_sql(self.url, f"CREATE DATABASE {name} TEMPLATE template0;")
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    def drop_database(self, url: str) -> None:
        """Drop what `create_database` made, and whoever is still connected to it."""
        run_sql(self.url, f"DROP DATABASE {urlsplit(url).path.removeprefix('/')} WITH (FORCE);")


@dataclass(frozen=True)
class RabbitMQServer:
    """A RabbitMQ server on which virtual hosts may be created."""

    uri: str
    management_url: str

    def create_vhost(self) -> str:
        """A new virtual host: its AMQP URI."""
        name = f"test-{uuid4().hex}"
        self._request("PUT", f"/api/vhosts/{name}")
        user = quote(unquote(urlsplit(self.management_url).username or "guest"), safe="")
        self._request(
            "PUT", f"/api/permissions/{name}/{user}", b'{"configure": ".*", "write": ".*", "read": ".*"}'
        )
        return urlunsplit(urlsplit(self.uri)._replace(path=f"/{name}"))

    def delete_vhost(self, uri: str) -> None:
        """Delete what `create_vhost` made, with all queues and connections in it."""
        self._request("DELETE", f"/api/vhosts/{urlsplit(uri).path.removeprefix('/')}")

    def definitions(self, uri: str) -> str:
        """Every queue, exchange and binding of a virtual host, by name and routing key, as JSON."""
        return self._request("GET", f"/api/definitions/{urlsplit(uri).path.removeprefix('/')}").decode()

    def _request(self, method: str, path: str, body: bytes = b"") -> bytes:
        parts = urlsplit(self.management_url)
        address = urlunsplit((parts.scheme, _host(parts), path, "", ""))
        request = urllib.request.Request(address, data=body or None, method=method)  # noqa: S310
        account = f"{unquote(parts.username or 'guest')}:{unquote(parts.password or 'guest')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(account.encode()).decode())
        request.add_header("Content-Type", "application/json")
        # Not through a proxy: the server is on this machine or on the developer's network.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=HTTP_SECONDS) as response:
            answer: bytes = response.read()
        return answer


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The server that ``DATABASE_URL`` names, or a private one for this session."""
    if url := os.environ.get("DATABASE_URL"):
        yield PostgresServer(url)
        return
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), durable=False) as server:
        yield PostgresServer(server.url)


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQServer]:
    """The server that ``AMQP_URI`` names, or a private node for this session."""
    if uri := os.environ.get("AMQP_URI"):
        yield RabbitMQServer(uri, os.environ.get("RABBITMQ_MANAGEMENT_URL") or _usual_management_url(uri))
        return
    server = EmbeddedRabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield RabbitMQServer(server.start(), server.management_url)
    finally:
        server.kill()  # Nobody needs its data any more, and stopping in order takes it seconds.


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database, dropped after the test."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def amqp_uri(rabbitmq_server: RabbitMQServer) -> Iterator[str]:
    """The URI of an empty virtual host, deleted after the test."""
    uri = rabbitmq_server.create_vhost()
    yield uri
    rabbitmq_server.delete_vhost(uri)


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _usual_management_url(uri: str) -> str:
    parts = urlsplit(uri)
    account = parts.netloc.rpartition("@")[0] or "guest:guest"
    return f"http://{account}@{parts.hostname}:15672"
