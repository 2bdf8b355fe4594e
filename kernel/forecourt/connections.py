"""Pools of connections to PostgreSQL."""

from typing import Any

import asyncpg


async def open_pool(
    dsn: str, size: int, *, least: int = 1, changes_sessions: bool = False, **settings: str
) -> "asyncpg.Pool[asyncpg.Record]":
    """A pool of at most ``size`` connections. Raises what asyncpg raises.

    ``changes_sessions`` says that users may leave something in their session, such as a lock: asyncpg then cleans a
    connection that comes back, which is a round trip after every statement. ``settings`` are the server's, for all
    connections.
    """
    options: dict[str, Any] = {} if changes_sessions else {"reset": _leave_as_it_is}
    return await asyncpg.create_pool(
        dsn, min_size=least, max_size=size, server_settings={"jit": "off", **settings}, **options
    )


async def _leave_as_it_is(connection: object) -> None:
    """In the place of asyncpg's reset; a transaction that was left open is rolled back before it."""
