"""Waiting for the broker, in a process that has many connections."""

import fcntl
import resource
import socket
from collections.abc import Iterator

import pytest

from forecourt.messaging.publisher import wait_readable

HIGH = 1_500
"""A descriptor that ``select.select`` does not take."""


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets, the first with a high descriptor."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] <= HIGH:
        pytest.skip(f"this machine allows {before[1]} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], HIGH + 100), before[1]))
    low, other = socket.socketpair()
    with low, other, socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD, HIGH)) as high:
        assert high.fileno() >= HIGH
        yield high, other
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_sockets_with_high_descriptors_are_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    high, other = pair
    assert not wait_readable(0.0, high)
    other.send(b"x")
    assert wait_readable(5.0, high, other)
    high.recv(1)
    assert not wait_readable(0.01, high, other)


def test_an_end_is_seen_as_something_to_read(pair: tuple[socket.socket, socket.socket]) -> None:
    high, other = pair
    other.close()
    assert wait_readable(5.0, high)
