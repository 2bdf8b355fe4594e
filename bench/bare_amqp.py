"""The least that can publish to RabbitMQ: a socket that speaks AMQP 0-9-1 with pipelined publisher confirms.

Frames are written by hand after the specification (AMQP 0-9-1, sections 2.3 and 4.2); only what publishing
needs is there. It is the raw limit that the relay is measured against, not a client.
"""

import socket
import struct
from urllib.parse import unquote, urlsplit

OUTSTANDING = 256

_METHOD, _HEADER, _BODY, _END = 1, 2, 3, b"\xce"


class BarePublisher:
    """A connection with one channel in confirm mode."""

    def __init__(self, uri: str) -> None:
        url = urlsplit(uri)
        self._socket = socket.create_connection((url.hostname or "127.0.0.1", url.port or 5672))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._confirmed = 0
        user, password = unquote(url.username or "guest"), unquote(url.password or "guest")
        self._handshake(user, password, unquote(url.path[1:]) or "/")

    def _handshake(self, user: str, password: str, vhost: str) -> None:
        self._socket.sendall(b"AMQP\x00\x00\x09\x01")
        self._wait_for(10, 10)
        response = f"\0{user}\0{password}".encode()
        self._send(0, 10, 11, b"\0\0\0\0" + _short("PLAIN") + _long(response) + _short("en_US"))
        self._wait_for(10, 30)
        self._send(0, 10, 31, struct.pack(">HIH", 2_047, 131_072, 0))
        self._send(0, 10, 40, _short(vhost) + b"\0\0")
        self._wait_for(10, 41)
        self._send(1, 20, 10, b"\0")
        self._wait_for(20, 11)
        self._send(1, 85, 10, b"\0")
        self._wait_for(85, 11)

    def publish(self, exchange: str, routing_key: str, bodies: list[bytes]) -> None:
        """Publish ``bodies``, persistent and mandatory, and return when all are confirmed. Call it once."""
        method = _frame(
            _METHOD, 1, struct.pack(">HHH", 60, 40, 0) + _short(exchange) + _short(routing_key) + b"\x01"
        )
        self._confirmed = sent = 0
        while self._confirmed < len(bodies):
            room = min(len(bodies), self._confirmed + OUTSTANDING) - sent
            if room > 0:
                self._socket.sendall(b"".join(method + _content(body) for body in bodies[sent : sent + room]))
                sent += room
            self._read()

    def _read(self) -> None:
        """Take what has arrived; count what an ack (basic.ack, also of many) confirms."""
        self._buffer += self._socket.recv(65_536)
        while len(self._buffer) >= 8:
            kind, _, size = struct.unpack_from(">BHI", self._buffer)
            if len(self._buffer) < size + 8:
                return
            payload, self._buffer = self._buffer[7 : 7 + size], self._buffer[8 + size :]
            if kind == _METHOD and payload[:4] == b"\x00\x3c\x00\x50":
                self._confirmed = max(self._confirmed, struct.unpack_from(">Q", payload, 4)[0])

    def _wait_for(self, class_id: int, method_id: int) -> None:
        while True:
            while (
                len(self._buffer) < 8 or len(self._buffer) < struct.unpack_from(">BHI", self._buffer)[2] + 8
            ):
                received = self._socket.recv(65_536)
                if not received:
                    raise ConnectionError("the broker closed the connection")
                self._buffer += received
            _, _, size = struct.unpack_from(">BHI", self._buffer)
            payload, self._buffer = self._buffer[7 : 7 + size], self._buffer[8 + size :]
            if struct.unpack_from(">HH", payload) == (class_id, method_id):
                return

    def _send(self, channel: int, class_id: int, method_id: int, arguments: bytes) -> None:
        self._socket.sendall(_frame(_METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + _END


def _content(body: bytes) -> bytes:
    """Header (content type and delivery mode 2) and body."""
    content_type = _short("application/cloudevents+json")
    header = struct.pack(">HHQH", 60, 0, len(body), 0x9000) + content_type + b"\x02"
    return _frame(_HEADER, 1, header) + _frame(_BODY, 1, body)


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def _long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
