"""The configuration reference: every variable of the environment, from the settings classes."""

from dataclasses import fields, is_dataclass
from datetime import time, timedelta
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from forecourt.config import ServiceSettings, Settings
from forecourt.discovery import find_services
from forecourt.worker.runtime import WorkerSettings

HEAD = """\
# Configuration

<!-- Made by `make reference` from the settings classes. Change those. -->

By environment only, checked at start. A wrong value ends the process with exit code 2, the variable's name and the
reason. An empty variable counts as not set. Lists are separated by commas.

Tests also read `EVENTSTOREDB_URI` (a real server for the [EventStoreDB suite](eventstoredb.md)), tests and the demo
`RABBITMQ_MANAGEMENT_URL`. `EVENTLET_HUB` is set by `work` itself.
"""

WORDS = {int: "whole number", float: "number", str: "text", SecretStr: "secret"}


def settings_classes() -> dict[str, type[ServiceSettings]]:
    """The settings classes by the title of their section: all processes, workers, then each service."""
    own = {s.name: s.settings for s in find_services() if s.settings is not None}
    return {
        "Every process": Settings,
        "Workers": WorkerSettings,
        **{f"The {name} service": found for name, found in sorted(own.items())},
    }


def render() -> str:
    """The page. Raises `ValueError` for a variable that nobody has described."""
    told: set[str] = set()
    sections = [HEAD]
    for title, found in settings_classes().items():
        rows = [row(name, info) for name, info in found.model_fields.items() if name not in told]
        told.update(found.model_fields)
        lines = [f"\n## {title}\n", "| variable | default | values | meaning |", "|---|---|---|---|", *rows]
        sections.append("\n".join(lines) + "\n")
    return "".join(sections)


def row(name: str, info: FieldInfo) -> str:
    """A variable's line in the table. Raises `ValueError` where it is not described."""
    if not info.description:
        raise ValueError(f"{name}: has no text below its definition")
    meaning = " ".join(info.description.replace("``", "`").split())
    default = shown(info.get_default(call_default_factory=True, validated_data={}))
    return f"| `{name.upper()}` | {default} | {_values(info)} | {meaning} |"


def shown(value: Any) -> str:
    """A default as one would write it into the variable."""
    if value is None or value is PydanticUndefined or value == ():
        return "none"
    if isinstance(value, SecretStr):
        return "the sandbox's"
    return f"`{_text(value)}`"


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_text, value))
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    if isinstance(value, time):
        return f"{value:%H:%M}"
    if is_dataclass(value) and not isinstance(value, type):
        return "-".join(_text(getattr(value, field.name)) for field in fields(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _values(info: FieldInfo) -> str:
    annotation = info.annotation
    several = get_origin(annotation) is tuple
    if get_args(annotation) and get_origin(annotation) is not Literal:
        annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
    if get_origin(annotation) is Literal:
        words = ", ".join(f"`{word}`" for word in get_args(annotation))
        return f"some of {words}" if several else words
    word = WORDS.get(annotation, "") if isinstance(annotation, type) else ""
    return " ".join(filter(None, [f"list of {word}s" if several and word else word, *_bounds(info)]))


def _bounds(info: FieldInfo) -> list[str]:
    found = []
    for rule in info.metadata:
        if isinstance(rule, Ge):
            found.append(f"from {rule.ge}")
        elif isinstance(rule, Gt):
            found.append(f"above {rule.gt}")
        elif isinstance(rule, Le):
            found.append(f"to {rule.le}")
        elif isinstance(rule, MinLen):
            found.append(f"at least {rule.min_length}")
    return found
