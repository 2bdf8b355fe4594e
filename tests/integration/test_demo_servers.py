"""The demo keeps to itself on a broker that others use: a virtual host of its own, or one without a platform."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kombu import Connection, Exchange

from demo.servers import vhost_of_its_own
from forecourt.config import ConfigError
from forecourt.embedded.process import free_port
from forecourt.messaging.cloudevents import EXCHANGE
from forecourt.testing.servers import RabbitMQServer

pytestmark = pytest.mark.integration


def start_a_platform(uri: str) -> None:
    """Declare what every platform has."""
    with Connection(uri) as connection:
        Exchange(EXCHANGE, "topic", durable=True, channel=connection.default_channel).declare()


@pytest.fixture
def nobody_manages(monkeypatch: pytest.MonkeyPatch, amqp_uri: str) -> str:
    """A broker without a management page; the URI of an empty virtual host there."""
    monkeypatch.setenv("AMQP_URI", amqp_uri)
    monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", f"http://127.0.0.1:{free_port()}")
    return amqp_uri


async def test_it_has_a_virtual_host_of_its_own(
    monkeypatch: pytest.MonkeyPatch, rabbitmq_server: RabbitMQServer, amqp_uri: str
) -> None:
    start_a_platform(amqp_uri)
    monkeypatch.setenv("AMQP_URI", amqp_uri)
    monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", rabbitmq_server.management_url)
    async with vhost_of_its_own() as environment:
        own = environment["AMQP_URI"]
        assert urlsplit(own).path not in ("", "/", urlsplit(amqp_uri).path)
        assert '"exchanges":[]' in rabbitmq_server.definitions(own)
        start_a_platform(own)
    with pytest.raises(OSError, match=r"HTTP Error 40[04]"):
        rabbitmq_server.definitions(own)
    assert EXCHANGE in rabbitmq_server.definitions(amqp_uri)


async def test_where_none_can_be_made_an_empty_one_will_do(nobody_manages: str) -> None:
    async with vhost_of_its_own() as environment:
        assert environment == {}


async def test_where_none_can_be_made_another_platform_is_left_alone(nobody_manages: str) -> None:
    start_a_platform(nobody_manages)
    with pytest.raises(ConfigError, match="AMQP_URI: names a virtual host with the queues of a platform"):
        async with vhost_of_its_own():
            pytest.fail("it went on")


def test_the_command_says_so(nobody_manages: str, tmp_path: Path) -> None:
    start_a_platform(nobody_manages)
    done = subprocess.run(
        [sys.executable, "-m", "demo.play", "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("configuration: AMQP_URI: ")
