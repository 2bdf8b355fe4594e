"""Names and arguments of exchanges and queues, and how they are declared.

::

    crm.events (topic) ──<service>.<Event>.#──▶ <service>.<method>           the handler's queue
    <service>.retry.<delay> (fanout) ──▶ <service>.retry.<delay>             waits, then back to that queue
                                         <service>.<method>.parked           given up, for a person to look at

All queues are durable quorum queues. A message waits in the retry queue of its delay (one per service and
delay, so time-outs never overtake each other) under the name of its handler's queue as routing key; when its
time is up the broker dead-letters it through the default exchange, which is that queue. A message that was
handed out `DELIVERY_LIMIT` times without an answer, because it kills the process that handles it, is
dead-lettered by the broker into the parking queue.
"""

from collections.abc import Collection
from typing import Any

from forecourt.messaging.cloudevents import EXCHANGE, binding_key

DELIVERY_LIMIT = 20
"""Deliveries without an answer after which the broker itself parks a message."""

_NO_LIMIT = 1_000_000
_PARKED = ".parked"


def handler_queue(service: str, method: str) -> str:
    """The queue of one handler."""
    return f"{service}.{method}"


def parking_queue(queue: str) -> str:
    """Where the messages of ``queue`` go that are given up."""
    return f"{queue}{_PARKED}"


def home_of(parked: str) -> str:
    """The handler's queue that a parking queue belongs to. Raises `ValueError`."""
    if not parked.endswith(_PARKED):
        raise ValueError(f"queue: {parked} is not a parking queue, its name must end with {_PARKED}")
    return parked.removesuffix(_PARKED)


def retry_exchange(service: str, delay: float) -> str:
    """Exchange and queue in which messages of a service wait for ``delay`` seconds."""
    return f"{service}.retry.{delay:g}s"


def declare_handler(channel: Any, queue: str, stored_types: Collection[str]) -> None:
    """Declare a handler's queue with its bindings, and its parking queue."""
    channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
    declare_parking(channel, queue)
    _quorum(
        channel,
        queue,
        {
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": parking_queue(queue),
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )
    for stored_type in stored_types:
        channel.queue_bind(queue, EXCHANGE, binding_key(stored_type))


def declare_parking(channel: Any, queue: str) -> None:
    """Declare the parking queue of ``queue``. Looking at what is parked never counts as failed delivery."""
    _quorum(channel, parking_queue(queue), {"x-delivery-limit": _NO_LIMIT})


def declare_retries(channel: Any, service: str, delays: Collection[float]) -> None:
    """Declare the exchanges and queues in which a service's messages wait."""
    for delay in delays:
        name = retry_exchange(service, delay)
        channel.exchange_declare(name, "fanout", durable=True, auto_delete=False)
        _quorum(
            channel,
            name,
            {
                "x-message-ttl": round(delay * 1000),
                "x-dead-letter-exchange": "",
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
                "x-delivery-limit": _NO_LIMIT,
            },
        )
        channel.queue_bind(name, name, "")


def _quorum(channel: Any, name: str, arguments: dict[str, Any]) -> None:
    channel.queue_declare(
        name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum", **arguments}
    )
