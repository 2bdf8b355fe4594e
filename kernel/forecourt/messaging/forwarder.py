"""Publishes single messages, each confirmed before it returns: retries, parking, replays.

Blocking code on kombu; under the worker's patched standard library it only blocks its green thread.
"""

import threading
from collections.abc import Mapping
from typing import Any, Self

import kombu
from amqp import Message
from amqp.exceptions import AMQPError
from kombu.exceptions import OperationalError

from forecourt.errors import Unavailable

TIMEOUT = 10.0
"""Seconds to wait for the broker's confirm."""

BROKER_TROUBLE = (OSError, AMQPError, OperationalError)
"""What a broker that is gone, refuses, or does not answer looks like."""

PERSISTENT = 2


class BrokerUnavailable(Unavailable):
    """The broker did not confirm a message; it may have it all the same."""


_kombu: Any = kombu  # hardly typed


def connect(amqp_uri: str, *, heartbeat: float = 0, confirm_each: bool = False) -> Any:
    """A `kombu.Connection`, connected, that gives up after `TIMEOUT` seconds instead of waiting for ever.

    With ``confirm_each`` publishing waits for the broker's confirm. Raises `BROKER_TROUBLE`.
    """
    options = {"read_timeout": TIMEOUT, "write_timeout": TIMEOUT, "confirm_publish": confirm_each}
    connection = _kombu.Connection(
        amqp_uri, heartbeat=heartbeat, connect_timeout=5, transport_options=options
    )
    # Callers have their own way to wait and try again: kombu's would sleep for seconds in between.
    connection.ensure_connection(max_retries=1, interval_start=0, reraise_as_library_errors=False)
    return connection


class Forwarder:
    """A lazily made connection for confirmed publishing, shared by whoever publishes in this process."""

    def __init__(self, amqp_uri: str) -> None:
        self._uri = amqp_uri
        self._lock = threading.Lock()
        self._connection: Any = None
        self._channel: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        *,
        properties: Mapping[str, Any],
        headers: Mapping[str, Any],
    ) -> None:
        """Publish persistently and wait for the confirm. Raises `BrokerUnavailable`."""
        message = Message(
            body, application_headers=dict(headers), **{**properties, "delivery_mode": PERSISTENT}
        )
        with self._lock:
            # The connection may have died unnoticed since the last message: then a second one is made, once.
            for last in (False, True):
                try:
                    self._open().basic_publish(
                        message,
                        exchange,
                        routing_key,
                        mandatory=True,
                        timeout=TIMEOUT,
                        confirm_timeout=TIMEOUT,
                    )
                    return
                except BROKER_TROUBLE as error:
                    self._drop()
                    if last:
                        raise BrokerUnavailable(f"broker: {type(error).__name__}") from error

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def _open(self) -> Any:
        if self._channel is None:
            self._connection = connect(self._uri, confirm_each=True)
            self._channel = self._connection.channel()
        return self._channel

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.collect(0.1)
        self._connection = self._channel = None
