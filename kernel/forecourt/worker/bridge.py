"""nameko and asyncio in one process: eventlet's hub runs on an asyncio loop, and coroutines run on it.

``install`` must come before anything else is imported: it chooses eventlet's asyncio hub, patches the
standard library, and gives grpcio's threads back the real ``threading`` module, without which grpc blocks.
Only ``python -m <service> work`` does so; no other process may import this package.

Green code (nameko's) waits for a coroutine with ``wait``. Asynchronous code never waits for green code.
"""

import asyncio
import os
import sys
import typing
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def install() -> None:
    """Put this process on the asyncio hub. Raises `RuntimeError` where it comes too late."""
    if "eventlet" in sys.modules and os.environ.get("EVENTLET_HUB") != "asyncio":
        raise RuntimeError("the bridge must be installed before eventlet is imported")
    os.environ["EVENTLET_HUB"] = "asyncio"
    with warnings.catch_warnings():
        # eventlet announces its end of life on import; nameko needs it all the same (docs/adr).
        warnings.simplefilter("ignore")
        import eventlet
    from eventlet import patcher

    eventlet.monkey_patch()
    from grpc._cython import cygrpc

    cygrpc.threading = patcher.original("threading")


def wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the hub's loop while this green thread waits; its result, or what it raises."""
    from eventlet.asyncio import spawn_for_awaitable

    result, error = spawn_for_awaitable(_outcome(coroutine)).wait()
    if error is not None:
        raise error
    return typing.cast(T, result)


async def _outcome(coroutine: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
    # An exception that ends a green thread is printed by the hub, with its message and so with whatever data
    # is in it. So none does: it is handed over as a value and raised where it is waited for.
    try:
        return await coroutine, None
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
        return None, error


def loop() -> Any:
    """The hub's asyncio loop."""
    from eventlet.hubs import get_hub

    return get_hub().loop
