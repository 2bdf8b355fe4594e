"""The end of a server that costs no call: new ones are refused, and clients try them again elsewhere; those under way
are finished; what arrives after that sees a connection that ended, and is tried again as well.

gRPC's own ``stop`` is not enough. Calls that have arrived and are not yet taken up when it comes are answered with
CANCELLED (https://github.com/grpc/grpc/issues/41785), which clients repeat as little as what they cancelled themselves;
UNAVAILABLE is what their standard retries are for.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Collection, Mapping
from typing import Any

import grpc
import psutil

from forecourt.clock import monotonic
from forecourt.rpc.shapes import around

LOOK_SECONDS = 0.02

REFUSAL = "this process is shutting down: try again, and another one will answer"


class Gate:
    """Counts the calls under way, and refuses new ones as UNAVAILABLE once it is closed."""

    def __init__(self) -> None:
        self.under_way = 0
        self._closed = False

    def guard(
        self, table: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
    ) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
        """The handlers of an API, behind this gate."""
        return {method: around(handler, self._counted) for method, handler in table.items()}

    async def close(self, seconds: float) -> None:
        """Refuse new calls from now on, and return when those under way have ended, or after ``seconds``."""
        self._closed = True
        end = monotonic() + seconds
        quiet = 0
        # Twice quiet: the answer of the last call is written after its handler has ended.
        while quiet < 2 and monotonic() < end:
            await asyncio.sleep(LOOK_SECONDS)
            quiet = 0 if self.under_way else quiet + 1

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def counted(request: Any, servicer: Any) -> Any:
            if self._closed:
                await servicer.abort(grpc.StatusCode.UNAVAILABLE, REFUSAL)
            self.under_way += 1
            try:
                return await function(request, servicer)
            finally:
                self.under_way -= 1

        return counted


def end_connections(ports: Collection[int]) -> int:
    """Listen on these ports no more, and end the connections that came in on them; answers how many there were.

    The sockets are shut down under gRPC's feet, which has nothing to do it with: both sides take it for the end of a
    connection, as it is. It takes some milliseconds, and can be run in another thread.
    """
    # First those that listen: whose connection is ended connects again at once.
    _on_each(psutil.CONN_LISTEN, ports, _put_aside)
    return _on_each(psutil.CONN_ESTABLISHED, ports, _shut_down)


def _on_each(status: str, ports: Collection[int], act: Callable[[int], None]) -> int:
    done = 0
    for found in psutil.Process().net_connections("tcp"):
        if found.status != status or found.laddr.port not in ports:
            continue
        with contextlib.suppress(OSError):  # it has ended by itself
            # Looked at again: gRPC may have closed it meanwhile, and the number may be another socket's by now.
            if _port_of(found.fd) in ports:
                act(found.fd)
                done += 1
    return done


def _port_of(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as one:
        return int(one.getsockname()[1])


def _put_aside(descriptor: int) -> None:
    """Close a socket that listens, and leave gRPC one in its place that does nothing, for it to close."""
    with socket.socket() as idle:
        os.dup2(idle.fileno(), descriptor)


def _shut_down(descriptor: int) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        connection.shutdown(socket.SHUT_RDWR)
