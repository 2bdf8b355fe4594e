"""How commands of the command line talk: output, errors in words, and their coroutines run to the end."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import asyncpg
import typer
from rich.console import Console

from forecourt import logs
from forecourt.config import ConfigError
from forecourt.errors import ForecourtError

out = Console(soft_wrap=True)

_NAMES_OBJECTS_ONLY = (
    asyncpg.AdminShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.DiskFullError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.LockNotAvailableError,
    asyncpg.ObjectInUseError,
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.UndefinedTableError,
)
"""Errors whose message names databases, roles, schemas and tables. Those of others may quote a person's data."""


def answering(command: Callable[..., None]) -> Callable[..., None]:
    """Errors that a user can do something about, in words and not as a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except ConfigError as error:
            _complain("configuration", error, 2)
        except ForecourtError as error:
            _complain(error.slug, error, 1)
        except asyncpg.PostgresError as error:
            _complain("database", _of_postgresql(error), 1)

    return run


def _complain(kind: str, reason: Exception | str, code: int) -> None:
    sys.stderr.write(f"{kind}: {reason}\n")
    raise typer.Exit(code)


def _of_postgresql(error: asyncpg.PostgresError) -> str:
    """One line about an error of PostgreSQL. Its detail and hint are left out: they quote rows."""
    name = type(error).__name__
    if not isinstance(error, _NAMES_OBJECTS_ONLY):
        return f"{name}; what it is about is in the log of the database"
    message = str(error.args[0]) if error.args else ""
    return f"{name}: {' '.join(message.split())}"


def operate(work: Coroutine[Any, Any, None]) -> None:
    """Run a command's coroutine; what is logged goes to standard error."""
    logs.configure(process="forecourt", level="WARNING", pretty=True)
    asyncio.run(work)
