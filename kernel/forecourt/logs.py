"""Logging: one JSON object a line on standard error, with the ids of the call at hand.

``bind(correlation_id=...)`` puts an id on every line that the present task writes. What is logged are names,
ids and counts; a person's data never is, which is why inputs and events are not logged at all. Texts of errors may
quote what they were raised for: only those that we write ourselves are logged (`told`), of all others class and place.
"""

import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Any, TextIO

import structlog

from forecourt.errors import ForecourtError

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
        [structlog.dev.ConsoleRenderer(exception_formatter=_print)]
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
                _without_reprs,
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


_MAX_FRAMES = 30


def told(error: BaseException) -> str:
    """What of an error may be logged: its class, and its text where it is one of ours or of the operating system's."""
    text = _text(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text(error: BaseException) -> str:
    module = type(error).__module__
    # By its module: that of a library may be an OSError, and name the recipients of a mail.
    system = isinstance(error, OSError) and module == "builtins"
    ours = isinstance(error, ForecourtError) or module.partition(".")[0] == "forecourt"
    return str(error) if ours or system else ""


def _describe(exc_info: Any) -> list[dict[str, Any]]:
    """An error and what caused it, without local variables and without texts that may quote data."""
    return [_described(error) for error in _chain(exc_info[1])]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _described(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    found: dict[str, Any] = {
        "exc_type": type(error).__name__,
        "exc_value": _text(error) or "(not logged, it may quote data)",
        "frames": [{"filename": f.filename, "lineno": f.lineno, "name": f.name} for f in frames],
    }
    if isinstance(error, BaseExceptionGroup):
        found["exceptions"] = [[_described(one) for one in _chain(inner)] for inner in error.exceptions]
    return found


def _print(out: TextIO, exc_info: Any) -> None:
    """The same for people."""
    for stack in _describe(exc_info):
        out.writelines(
            f"  {frame['filename']}:{frame['lineno']} in {frame['name']}\n" for frame in stack["frames"]
        )
        out.write(f"{stack['exc_type']}: {stack['exc_value']}\n")


def _without_reprs(_logger: Any, _method: str, event: Any) -> Any:
    if event.get("logger") == "asyncio":
        # Its further lines show the objects at fault, errors with their texts among them.
        event["event"] = str(event.get("event", "")).partition("\n")[0]
    return event


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
