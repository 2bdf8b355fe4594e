"""nameko and asyncio in one process: eventlet's hub runs on an asyncio loop, and coroutines run on that loop.

``install`` must come before anything else is imported: it chooses eventlet's asyncio hub, patches the standard
library, and gives grpcio's threads back the real ``threading`` module, without which grpc blocks for ever.
Only ``python -m <service> work`` does so; no other process may import this package.

Green code (nameko's) waits for a coroutine with ``wait``. Asynchronous code never waits for green code.
"""

import os
import sys
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def install() -> None:
    """Put this process on the asyncio hub. Raises `RuntimeError` where it comes too late."""
    if "eventlet" in sys.modules and os.environ.get("EVENTLET_HUB") != "asyncio":
        raise RuntimeError("the bridge must be installed before eventlet is imported")
    os.environ["EVENTLET_HUB"] = "asyncio"
    import eventlet
    from eventlet import patcher

    eventlet.monkey_patch()
    from grpc._cython import cygrpc

    cygrpc.threading = patcher.original("threading")


def wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the hub's loop while this green thread waits; its result, or what it raises."""
    from eventlet.asyncio import spawn_for_awaitable

    result: T = spawn_for_awaitable(_own_task(coroutine)).wait()
    return result


async def _own_task(awaitable: Awaitable[T]) -> T:
    return await awaitable


def loop() -> Any:
    """The hub's asyncio loop."""
    from eventlet.hubs import get_hub

    return get_hub().loop
