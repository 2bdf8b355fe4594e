"""Parked messages: look at them, send them to their handler again, or drop one for a reason.

Blocking functions for a command line. Messages stay in the parking queue while they are looked at; one is taken
out only after the broker has confirmed it in its handler's queue.
"""

import hashlib
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from amqp.exceptions import NotFound as QueueNotFound

from forecourt import logs
from forecourt.clock import monotonic
from forecourt.errors import InvalidInput, NotFound
from forecourt.messaging import retries
from forecourt.messaging.cloudevents import MalformedCloudEvent, from_cloudevent
from forecourt.messaging.forwarder import BROKER_TROUBLE, BrokerUnavailable, Forwarder, connect
from forecourt.messaging.topology import home_of

log = logs.get(__name__)

RETURN_SECONDS = 2.0
"""Longest wait until messages that were looked at are to be seen again."""

MAX_LISTED = 1_000
"""Most messages that one look shows."""


@dataclass(frozen=True)
class ParkedMessage:
    """A message that was given up. ``type``, ``subject`` and ``time`` are empty where it is no CloudEvent."""

    id: str
    type: str
    subject: str
    time: str
    reason: str
    attempts: int
    first_error: str
    last_error: str
    bytes: int


def count_parked(amqp_uri: str, queues: Collection[str]) -> dict[str, int]:
    """Messages in each parking queue; queues that do not exist are left out. Raises `BrokerUnavailable`."""
    found: dict[str, int] = {}
    with _connection(amqp_uri) as connection:
        for queue in queues:
            _home(queue)
            try:
                found[queue] = connection.channel().queue_declare(queue, passive=True).message_count
            except QueueNotFound:
                continue  # which has closed its channel only
    return found


def list_parked(amqp_uri: str, queue: str, *, limit: int = 100) -> list[ParkedMessage]:
    """The first messages of a parking queue, which all stay there.

    While they are looked at, nobody else sees them. Raises `NotFound` where there is no such queue,
    `InvalidInput` and `BrokerUnavailable`.
    """
    if not 1 <= limit <= MAX_LISTED:
        raise InvalidInput("limit: out of range", fields={"limit": f"must be 1 to {MAX_LISTED}"})
    with _look(amqp_uri, queue) as look:
        return [_described(message) for message in look.messages(limit)]


def replay(amqp_uri: str, queue: str, ids: Collection[str] | None = None) -> int:
    """Send messages to their handler again, as if they came for the first time; how many were sent.

    ``ids`` names them, None means all that are parked now. Id, body and foreign headers stay, attempts begin
    anew. Raises `NotFound` where there is no such queue or none of the ids is in it, and `BrokerUnavailable`;
    what was sent until then is sent.
    """
    home = _home(queue)
    sent = 0
    with _look(amqp_uri, queue) as look, Forwarder(amqp_uri) as forwarder:
        for message in look.messages():
            if ids is not None and message_id(message) not in ids:
                continue
            properties = {
                name: value
                for name, value in message.properties.items()
                if name in ("content_type", "message_id") and value
            }
            headers = retries.fresh(message.headers or {})
            forwarder.send("", home, _body(message), properties=properties, headers=headers)
            look.remove(message)
            sent += 1
    if ids and not sent:
        raise NotFound(f"queue {queue}: holds none of the messages")
    return sent


def discard(amqp_uri: str, queue: str, id: str, *, reason: str) -> ParkedMessage:  # noqa: A002
    """Drop one parked message for good; ``reason`` is logged with it. The message that was dropped.

    Raises `InvalidInput` without a reason, `NotFound` and `BrokerUnavailable`.
    """
    if not reason.strip():
        raise InvalidInput("reason: must be given", fields={"reason": "must be given"})
    with _look(amqp_uri, queue) as look:
        for message in look.messages():
            if message_id(message) == id:
                dropped = _described(message)
                look.remove(message)
                log.warning(
                    "parked message dropped", queue=queue, id=id, event_type=dropped.type, reason=reason
                )
                return dropped
    raise NotFound(f"queue {queue}: holds no message {id}")


def message_id(message: Any) -> str:
    """The event's id; for a message without one, a fingerprint of its body."""
    given: str | None = message.properties.get("message_id")
    return given or f"sha256-{hashlib.sha256(_body(message)).hexdigest()[:16]}"


@contextmanager
def _connection(amqp_uri: str) -> Iterator[Any]:
    connection = None
    try:
        connection = connect(amqp_uri)
        yield connection
        connection.release()
    except BROKER_TROUBLE as error:
        raise BrokerUnavailable(f"broker: {type(error).__name__}") from error
    finally:
        if connection is not None:
            connection.collect(0.1)


class _Look:
    """An open parking queue: what is taken out of `messages` and not removed goes back at the end."""

    def __init__(self, channel: Any, queue: str) -> None:
        self._channel = channel
        self._queue = queue
        self._due = self._ready()

    def messages(self, limit: int | None = None) -> Iterator[Any]:
        """What is parked now: one that is parked again meanwhile is not met twice."""
        for _ in range(min(self._due, limit or self._due)):
            message = self._channel.basic_get(self._queue)
            if message is None:
                return
            yield message

    def remove(self, message: Any) -> None:
        """Take a message out for good."""
        self._channel.basic_ack(message.delivery_tag)
        self._due -= 1

    def give_back(self) -> None:
        """Return the rest, and wait until it is there: the next look must not find the queue empty."""
        self._channel.basic_recover(requeue=True)
        deadline = monotonic() + RETURN_SECONDS
        while self._ready() < self._due and monotonic() < deadline:
            time.sleep(0.02)

    def _ready(self) -> int:
        return int(self._channel.queue_declare(self._queue, passive=True).message_count)


@contextmanager
def _look(amqp_uri: str, queue: str) -> Iterator[_Look]:
    _home(queue)
    with _connection(amqp_uri) as connection:
        try:
            look = _Look(connection.channel(), queue)
        except QueueNotFound:
            raise NotFound(f"queue: {queue} does not exist") from None
        try:
            yield look
        finally:
            look.give_back()


def _home(queue: str) -> str:
    try:
        return home_of(queue)
    except ValueError as error:
        raise InvalidInput(str(error), fields={"queue": "is not a parking queue"}) from None


def _described(message: Any) -> ParkedMessage:
    headers = message.headers or {}
    try:
        event = from_cloudevent(_body(message))
        what = (f"{event.type} v{event.version}", event.stream, event.time.isoformat())
    except MalformedCloudEvent:
        what = ("", "", "")
    return ParkedMessage(
        message_id(message),
        *what,
        reason=str(headers.get(retries.REASON) or headers.get("x-first-death-reason", "")),
        attempts=retries.attempts_of(headers),
        first_error=str(headers.get(retries.FIRST_ERROR, "")),
        last_error=str(headers.get(retries.LAST_ERROR, "")),
        bytes=len(_body(message)),
    )


def _body(message: Any) -> bytes:
    body = message.body
    return body.encode() if isinstance(body, str) else bytes(body)
