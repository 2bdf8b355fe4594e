"""Declares the queues of event handlers before any worker has run: what is published from then on waits for them."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence

from forecourt.config import ConfigError
from forecourt.errors import Unavailable

SECONDS = 60.0
"""How long the broker may take."""


class NotDeclared(Unavailable):
    """The handlers' queues could not be declared; the message says why."""


async def declare_queues(services: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
    """Declare exchange, handler, retry and parking queues and all bindings of services; the handlers' queues.

    Safe at any time, by several at once. ``environment`` is added to that of the process. In a process of its own,
    because the handlers are declared by nameko classes, and those belong into a worker.
    Raises `ConfigError`, or `NotDeclared` where the broker does not answer or has such a queue that is different.
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "forecourt.work", "--declare", *services),
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(child.communicate(), SECONDS)
    except TimeoutError:
        raise NotDeclared(f"broker: does not answer within {SECONDS:g} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode == 0:
        return output.decode().split()
    reason = errors.decode().strip().rpartition("\n")[2]
    if child.returncode == 2:
        raise ConfigError(reason.removeprefix("configuration: "))
    raise NotDeclared(reason)
