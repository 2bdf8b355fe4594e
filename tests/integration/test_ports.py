"""Ports of a platform stay its own while a process that listens there is being restarted."""

import asyncio
import socket
from pathlib import Path

import grpc
import pytest

from forecourt.embedded.process import free_port
from forecourt.platform import HOST, Platform

pytestmark = pytest.mark.integration


async def test_a_reserved_port_is_kept_for_our_servers(tmp_path: Path) -> None:
    platform = Platform(tmp_path)
    async with platform._stack:
        port = platform._port(free_port())
        # What an outgoing connection does, or somebody else's server.
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((HOST, port))
        for _ in range(2):
            served = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
            assert served.add_insecure_port(f"{HOST}:{port}") == port
            await served.start()
            await served.stop(None)
            page = await asyncio.start_server(lambda _reader, _writer: None, HOST, port)
            page.close()
            await page.wait_closed()
    with socket.socket() as other:
        other.bind((HOST, port))


async def test_two_platforms_are_not_given_the_same_port(tmp_path: Path) -> None:
    one, another = Platform(tmp_path / "one"), Platform(tmp_path / "another")
    async with one._stack, another._stack:
        preferred = free_port()
        assert one._port(preferred) != another._port(preferred)
