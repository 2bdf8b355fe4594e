"""The four shapes of gRPC handlers: what is unary, and what streams."""

from collections.abc import Callable
from typing import Any


def around(handler: Any, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Any:
    """A handler whose function, whatever its shape, is what ``wrap`` makes of it."""
    asked = "stream" if handler.request_streaming else "unary"
    answered = "stream" if handler.response_streaming else "unary"
    shape = f"{asked}_{answered}"
    return handler._replace(**{shape: wrap(getattr(handler, shape))})
