"""Publishes messages in order, with many of them outstanding, and says what the broker has confirmed.

kombu connects, negotiates, beats the heart and reads the confirms. Publishing through its `Channel` costs a
socket call, a lock and a look for incoming events per message; here the frames of a whole chunk are put
together and written at once, which is what makes a relay keep up with the store.

Whatever goes wrong (connection lost, a nack, no confirm in time) is answered in one way: connect again and
send all that is not confirmed again, in order. So nothing is lost, and a receiver that drops duplicates sees
each stream in order.
"""

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any, NamedTuple

from prometheus_client import Gauge

from forecourt import logs
from forecourt.messaging.cloudevents import CONTENT_TYPE, EXCHANGE
from forecourt.messaging.forwarder import BROKER_TROUBLE, connect
from forecourt.metrics import RELAY_ERRORS, RELAY_RETURNED, RELAY_UNCONFIRMED, RELAYED

log = logs.get(__name__)

HEARTBEAT = 10.0
"""Seconds after which a silent connection counts as lost."""

WINDOW = 1_024
"""Messages that may be published and not yet confirmed."""

CHUNK = 64
"""Messages written with one socket call."""

CHUNK_BYTES = 256_000
"""Bytes after which a chunk is written although it has fewer messages."""

MAX_BACKOFF = 5.0
"""Longest pause, in seconds, between two attempts to connect."""

CONFIRM_TIMEOUT = 30.0
"""Seconds without any confirm, while some are due and the broker is not blocked, before reconnecting."""

FIRST_CONFIRM_TIMEOUT = 3.0
"""The same for the first confirm of a connection, doubled after each that stayed away.

A quorum queue whose broker has just come back may swallow what it is sent before it has found its leader: that is
never confirmed, and only sent again once we connect anew.
"""

BLOCKED = Gauge("forecourt_relay_blocked", "1 while the broker blocks publishers (an alarm)", ["service"])

_METHOD = Struct(">BHIHHH")
_HEADER = Struct(">BHIHHQH")
_BODY = Struct(">BHI")
_END = b"\xce"
# Which properties follow, in this order: content_type, delivery_mode, message_id.
_PROPERTY_FLAGS = 1 << 15 | 1 << 12 | 1 << 7
_HEADERS_FLAG = 1 << 13
_PERSISTENT = b"\x02"
_MANDATORY = b"\x01"


class Outgoing(NamedTuple):
    """A message: routing key, the event's id, the body, and headers, where it has any."""

    routing_key: str
    message_id: str
    body: bytes
    headers: Mapping[str, str] | None = None


class _Refused(Exception):
    """The broker nacked a message, or a confirm is overdue: begin again on a new connection."""


_TROUBLE = (*BROKER_TROUBLE, _Refused)


def _short(text: str) -> bytes:
    encoded = text.encode()
    return bytes((len(encoded),)) + encoded


_EXCHANGE_FIELD = _short(EXCHANGE)
_CONTENT_TYPE_FIELD = _short(CONTENT_TYPE)
_PROPERTIES_START = _CONTENT_TYPE_FIELD + _PERSISTENT


def _table(texts: Mapping[str, str]) -> bytes:
    """A field table of long strings."""
    entries = b"".join(_short(name) + b"S" + _long(text.encode()) for name, text in texts.items())
    return _long(entries)


def _long(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def publish_frames(channel: int, message: Outgoing, frame_max: int) -> bytes:
    """The AMQP 0-9-1 frames of ``basic.publish``: method, header, body (in pieces where it is large)."""
    arguments = _EXCHANGE_FIELD + _short(message.routing_key) + _MANDATORY
    flags, first = _PROPERTY_FLAGS, _PROPERTIES_START
    if message.headers:
        # Headers come second, as the order of the flags has it.
        flags |= _HEADERS_FLAG
        first = _CONTENT_TYPE_FIELD + _table(message.headers) + _PERSISTENT
    properties = first + _short(message.message_id)
    body = message.body
    parts = [
        _METHOD.pack(1, channel, 6 + len(arguments), 60, 40, 0),
        arguments,
        _END,
        _HEADER.pack(2, channel, 14 + len(properties), 60, 0, len(body), flags),
        properties,
        _END,
    ]
    piece = frame_max - 8
    for start in range(0, len(body), piece):
        part = body[start : start + piece]
        parts += (_BODY.pack(3, channel, len(part)), part, _END)
    return b"".join(parts)


def wait_readable(seconds: float, *sockets: socket.socket) -> bool:
    """Wait until one of ``sockets`` can be read, or has ended; whether one can within ``seconds``."""
    # Not select.select: it refuses descriptors of 1024 and more, which a process with many connections has.
    poll = select.poll()
    for one in sockets:
        poll.register(one, select.POLLIN)
    return bool(poll.poll(seconds * 1_000))


class ConfirmedPublisher:
    """A thread that publishes what it is given to `EXCHANGE`, in order, until it is stopped.

    ``submit`` hands over messages with a mark that is reached when all of them, and all before them, are
    confirmed; ``confirmed`` is called, in the thread, with the highest mark reached. What is submitted stays
    in memory until then: the caller keeps that bounded.
    """

    def __init__(
        self, name: str, amqp_uri: str, confirmed: Callable[[int], None], *, window: int = WINDOW
    ) -> None:
        self._name = name
        self._uri = amqp_uri
        self._confirmed = confirmed
        self._window = window
        self._inbox: deque[tuple[Sequence[Outgoing], int]] = deque()
        # Messages are numbered as they are accepted. Numbers outlive connections, delivery tags do not.
        self._accepted = 0
        self._unsent: deque[tuple[int, Outgoing]] = deque()
        self._outstanding: dict[int, tuple[int, Outgoing]] = {}
        self._marks: deque[tuple[int, int]] = deque()
        self._tag = 0
        self._blocked = False
        self._progress = 0.0
        # Seconds to wait for a confirm, and connections in a row that brought none.
        self._patience = CONFIRM_TIMEOUT
        self._unanswered = 0
        self._stopping = threading.Event()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"publisher-{name}", daemon=True)
        self._confirms = RELAYED.labels(name)
        self._unconfirmed = RELAY_UNCONFIRMED.labels(name)
        self._unroutable = RELAY_RETURNED.labels(name)

    def start(self) -> None:
        """Start the thread. It connects by itself, now and after every loss."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the thread is over, because it was stopped or met something that nobody foresaw."""
        return not self._thread.is_alive()

    def submit(self, messages: Sequence[Outgoing], mark: int) -> None:
        """Take ``messages`` (none is fine); ``mark`` is reported when they are confirmed."""
        self._inbox.append((messages, mark))
        self._wake()

    def stop(self, timeout: float) -> bool:
        """End the thread within ``timeout`` seconds; what is unconfirmed then stays so. Whether it ended."""
        self._stopping.set()
        self._wake()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _wake(self) -> None:
        try:
            self._wake_writer.send(b"\0")
        except OSError:
            return  # so many wake-ups wait already that one more changes nothing, or the thread has ended

    def _run(self) -> None:
        with self._wake_reader, self._wake_writer:
            self._publish()

    def _publish(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            connection, trouble = None, None
            try:
                connection = connect(self._uri, heartbeat=HEARTBEAT)
                channel = self._open(connection)
                failures = 0
                self._follow(connection, channel)
                connection.release()
                connection = None
            except _TROUBLE as error:
                trouble = type(error).__name__
            finally:
                if connection is not None:
                    connection.collect(0.1)
            if trouble is not None:
                failures += 1
                RELAY_ERRORS.labels(self._name).inc()
                log.warning("broker connection lost", relay=self._name, error=trouble)
                self._stopping.wait(min(0.1 * 2 ** min(failures, 10), MAX_BACKOFF))
            self._set_blocked(False)

    def _open(self, connection: Any) -> Any:
        """A channel that confirms; everything unconfirmed goes to the front of what is to be sent."""
        connection.connection.on_blocked = lambda reason: self._set_blocked(True)
        connection.connection.on_unblocked = lambda: self._set_blocked(False)
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        channel.confirm_select()
        self._unsent.extendleft(reversed(self._outstanding.values()))
        self._outstanding.clear()
        self._tag = 0
        self._progress = time.monotonic()
        self._patience = min(FIRST_CONFIRM_TIMEOUT * 2**self._unanswered, CONFIRM_TIMEOUT)
        self._unanswered = min(self._unanswered + 1, 10)
        return channel

    def _follow(self, connection: Any, channel: Any) -> None:
        amqp = connection.connection
        next_beat = 0.0
        while not self._stopping.is_set():
            self._accept()
            if not self._send(amqp, channel.channel_id):
                wait_readable(1.0, amqp.transport.sock, self._wake_reader)
            self._read(amqp)
            self._report()
            if (now := time.monotonic()) >= next_beat:
                connection.heartbeat_check()
                self._check_overdue(now)
                self._unconfirmed.set(len(self._outstanding))
                next_beat = now + 1.0

    def _accept(self) -> None:
        """Number what was submitted."""
        try:
            self._wake_reader.recv(4096)
        except BlockingIOError:
            if not self._inbox:
                return
        while self._inbox:
            messages, mark = self._inbox.popleft()
            for message in messages:
                self._accepted += 1
                self._unsent.append((self._accepted, message))
            self._marks.append((self._accepted, mark))

    def _send(self, amqp: Any, channel_id: int) -> bool:
        """Write a chunk, as far as the window allows. Whether anything was written."""
        if self._blocked or not self._unsent:
            return False
        room = min(CHUNK, self._window - len(self._outstanding))
        if room <= 0:
            return False
        if not self._outstanding:
            self._progress = time.monotonic()
        frames: list[bytes] = []
        size = 0
        while self._unsent and room and size < CHUNK_BYTES:
            numbered = self._unsent.popleft()
            self._tag += 1
            self._outstanding[self._tag] = numbered
            frames.append(publish_frames(channel_id, numbered[1], amqp.frame_max))
            size += len(frames[-1])
            room -= 1
        amqp.transport.write(b"".join(frames))
        amqp.bytes_sent += 1  # what the heartbeat looks at
        return True

    def _read(self, amqp: Any) -> None:
        """Handle all that the broker has sent so far."""
        while wait_readable(0.0, amqp.transport.sock):
            try:
                while True:
                    amqp.drain_events(timeout=0)
            except TimeoutError:
                continue

    def _on_ack(self, tag: int, multiple: bool) -> None:
        before = len(self._outstanding)
        if multiple:
            for due in [due for due in self._outstanding if due <= tag]:
                del self._outstanding[due]
        else:
            self._outstanding.pop(tag, None)
        self._confirms.inc(before - len(self._outstanding))
        self._progress = time.monotonic()
        self._patience = CONFIRM_TIMEOUT
        self._unanswered = 0

    def _on_nack(self, tag: int, multiple: bool) -> None:
        raise _Refused("nack")

    def _on_return(self, *_: Any) -> None:
        # Nobody has bound a queue for this kind of event. For a topic exchange that is no error: the broker
        # confirms the message as well, and whoever needs history later reads it from the event store.
        self._unroutable.inc()

    def _report(self) -> None:
        """Tell the highest mark below which nothing is unconfirmed."""
        if self._outstanding:
            done = next(iter(self._outstanding.values()))[0] - 1
        elif self._unsent:
            done = self._unsent[0][0] - 1
        else:
            done = self._accepted
        reached = None
        while self._marks and self._marks[0][0] <= done:
            reached = self._marks.popleft()[1]
        if reached is not None:
            self._confirmed(reached)

    def _check_overdue(self, now: float) -> None:
        if self._outstanding and not self._blocked and now - self._progress > self._patience:
            raise _Refused("confirm overdue")

    def _set_blocked(self, blocked: bool) -> None:
        self._blocked = blocked
        BLOCKED.labels(self._name).set(blocked)
