"""Pools of connections to PostgreSQL whose statements end even where the server falls silent, and listeners on them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from forecourt import logs
from forecourt.waiting import end_if_cancelled

log = logs.get(__name__)

STATEMENT_SECONDS = 30.0
"""How long a statement may take, unless a process is told otherwise."""

PATIENT_SECONDS = 24 * 3600.0
"""The same for statements that take as long as a table is large, or wait for such: given to each of them."""

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    ConnectionError,
    OSError,
    TimeoutError,
)
"""What a server that is gone, restarting or full looks like."""

_NOTICE_LOST_CLIENTS = {
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
"""Half a minute instead of hours: so long would the server keep the locks of a machine that was cut off."""


async def open_pool(
    dsn: str,
    size: int,
    *,
    least: int = 1,
    changes_sessions: bool = False,
    statement_seconds: float = STATEMENT_SECONDS,
    **settings: str,
) -> "asyncpg.Pool[asyncpg.Record]":
    """A pool of at most ``size`` connections. Raises what asyncpg raises.

    A statement, or connecting, that takes longer than ``statement_seconds`` raises `TimeoutError`; where the server
    does not even answer that it was given up, after as long again, its connection is closed.

    ``changes_sessions`` says that users may leave something in their session, such as a lock: asyncpg then cleans a
    connection that comes back, which is a round trip after every statement. ``settings`` are the server's, for all
    connections.
    """
    options: dict[str, Any] = {} if changes_sessions else {"reset": _leave_as_it_is}
    return await asyncpg.create_pool(
        dsn,
        min_size=least,
        max_size=size,
        timeout=statement_seconds,
        command_timeout=statement_seconds,
        server_settings={"jit": "off", **_NOTICE_LOST_CLIENTS, **settings},
        **options,
    )


async def _leave_as_it_is(connection: object) -> None:
    """In the place of asyncpg's reset; a transaction that was left open is rolled back before it."""


async def keep_listening(
    listen: Callable[[], Awaitable[None]],
    what: str,
    *,
    seconds: float,
    between: Callable[[], None] | None = None,
) -> None:
    """Listen for ever: ``seconds`` after it ended, again, whatever ended it.

    ``what`` is logged where it was anything but a connection that was lost. ``between`` is called each time.
    """
    while True:
        try:
            await listen()
        except LOST as error:
            end_if_cancelled(error)
            log.debug(what, error=type(error).__name__)
        except Exception:
            # Whoever listens must not become deaf for good and never say so.
            log.exception(what)
        if between is not None:
            between()
        await asyncio.sleep(seconds)
