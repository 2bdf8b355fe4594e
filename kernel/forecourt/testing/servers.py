"""Pytest fixtures for real servers: PostgreSQL and RabbitMQ, started when the first test asks for them.

With ``DATABASE_URL`` or ``AMQP_URI`` set, the tests use those servers and leave nothing behind there: every test has a
database and a virtual host of its own. For RabbitMQ that needs its management plugin; where it is not at port 15672 of
the same host, ``RABBITMQ_MANAGEMENT_URL`` says where.

A test that restarts or kills a server starts one of its own with `forecourt.embedded`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from forecourt.embedded import EmbeddedPostgres, EmbeddedRabbitMQ
from forecourt.embedded.postgres import run_sql
from forecourt.testing.rabbitmq import RabbitMQServer

__all__ = [
    "PostgresServer",
    "RabbitMQServer",
    "amqp_uri",
    "database_url",
    "postgres_server",
    "rabbitmq_server",
]


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
        yield RabbitMQServer.of(uri)
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
