"""Logging: one JSON object a line on standard error, with the ids of the call at hand.

``bind(correlation_id=...)`` puts an id on every line that the present task writes. What is logged are names,
ids and counts; a person's data never is, which is why inputs and events are not logged at all.
"""

import logging
import sys
from typing import Any

import structlog

_NOISY = {
    "asyncio": logging.WARNING,
    "aiohttp": logging.WARNING,
    "amqp": logging.WARNING,
    "grpc": logging.WARNING,
}


def configure(*, process: str, level: str = "INFO", pretty: bool = False) -> None:
    """Route structlog and the standard library's logging to standard error; ``process`` is on every line."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
    ]
    render: list[Any] = (
        [structlog.dev.ConsoleRenderer()]
        if pretty
        else [
            structlog.processors.ExceptionRenderer(_describe),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _add_process(process),
                *render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _NOISY.items():
        logging.getLogger(name).setLevel(max(least, root.level))


_transform = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=30)
_TELLTALES = ("ValidationError", "PostgresError", "DataError", "ViolationError")


def _describe(exc_info: Any) -> list[dict[str, Any]]:
    """A traceback without local variables, and without the texts of errors that quote the data at fault."""
    stacks: list[dict[str, Any]] = _transform(exc_info)
    for stack in stacks:
        if stack["exc_type"].endswith(_TELLTALES):
            stack["exc_value"] = "(not logged, it may quote data)"
    return stacks


def _add_process(process: str) -> Any:
    def add(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event["process"] = process
        return event

    return add


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module: ``log = logs.get(__name__)``; ``log.info("started", port=port)``."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def bind(**ids: object) -> None:
    """Put ids on every line that the present task (or thread) logs from now on."""
    structlog.contextvars.bind_contextvars(**ids)
