"""How commands of the command line talk: output, errors in words, and their coroutines run to the end."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import typer
from rich.console import Console

from forecourt import logs
from forecourt.config import ConfigError
from forecourt.errors import ForecourtError

out = Console(soft_wrap=True)


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

    return run


def _complain(kind: str, error: Exception, code: int) -> None:
    sys.stderr.write(f"{kind}: {error}\n")
    raise typer.Exit(code)


def operate(work: Coroutine[Any, Any, None]) -> None:
    """Run a command's coroutine; what is logged goes to standard error."""
    logs.configure(process="forecourt", level="WARNING", pretty=True)
    asyncio.run(work)
