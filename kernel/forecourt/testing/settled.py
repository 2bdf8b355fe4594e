"""Tells when a platform has nothing left to do: every event projected, published and reacted to."""

import asyncio
from collections.abc import Sequence

import asyncpg
from kombu import Connection
from kombu.exceptions import OperationalError

from forecourt.clock import monotonic

QUIET_SECONDS = 2.0
"""How long nothing may have moved before the platform counts as settled."""


class NotSettled(AssertionError):
    """Work was still going on when the time was up; the message says where."""


async def settled(
    database_url: str,
    amqp_uri: str,
    services: Sequence[str],
    *,
    queues: Sequence[str] = (),
    timeout: float = 120,
) -> int:
    """Wait until checkpoints stand at the store's head, ``queues`` are empty and no event has come for a while.

    Answers the head. Raises `NotSettled` after ``timeout`` seconds.
    """
    connection = await asyncpg.connect(database_url)
    try:
        deadline = monotonic() + timeout
        quiet_since, last = monotonic(), (-1, "")
        while True:
            state = await _state(connection, amqp_uri, services, queues)
            if state[1] or state != last:
                quiet_since, last = monotonic(), state
            elif monotonic() - quiet_since >= QUIET_SECONDS:
                return state[0]
            if monotonic() > deadline:
                raise NotSettled(state[1] or f"events still come, the last at position {state[0]}")
            await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def _state(
    connection: "asyncpg.Connection[asyncpg.Record]",
    amqp_uri: str,
    services: Sequence[str],
    queues: Sequence[str],
) -> tuple[int, str]:
    """The store's head, and what lags behind it (empty: nothing)."""
    head = await connection.fetchval("SELECT coalesce(max(position), 0) FROM events.event")
    behind = []
    for service in services:
        lagging = await connection.fetch(
            f"SELECT name FROM \"{service}\".projection WHERE state = 'active' AND position < $1", head
        )
        behind += [f"{service}.{row['name']}" for row in lagging]
    relays = await connection.fetch("SELECT name FROM messaging.relay_checkpoint WHERE position < $1", head)
    behind += [f"relay {row['name']}" for row in relays]
    waiting = await asyncio.to_thread(_waiting, amqp_uri, queues) if queues else 0
    if waiting:
        behind.append(f"{waiting} messages in queues")
    return head, ", ".join(behind)


def _waiting(amqp_uri: str, queues: Sequence[str]) -> int:
    """Messages ready in the queues; a queue that is not declared yet holds none."""
    total = 0
    with Connection(amqp_uri, connect_timeout=5) as connection:
        for queue in queues:
            channel = connection.channel()
            try:
                total += channel.queue_declare(queue, passive=True).message_count
            except (*connection.channel_errors, OperationalError):
                continue
            channel.close()
    return total
