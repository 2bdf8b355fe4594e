"""The catalogue of all events, ``docs/events.md``: run this file with Python to write it anew."""

import sys
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from forecourt.discovery import find_services
from forecourt.events import PersonalData

FILE = Path(__file__).resolve().parents[3] / "docs/events.md"
HEAD = """\
# All events

Generated from the services' registries. `tests/unit/docs/catalogue.py` writes this page, and a test checks that it is
up to date.

An event is stored as `<service>.<Event>` with its version, and goes over [AMQP](amqp.md) as
`crm.<service>.<Event>.v<version>`. A star marks a field with personal data. Every event also has an envelope: id,
stream, sequence, position, time, correlation, causation, dealer, brand, actor. The last column says which other
services read it.
"""
TABLE = "| event | version | fields | read by |\n|---|---|---|---|"


def catalogue() -> str:
    """The text of the page."""
    services = sorted(find_services(), key=lambda one: one.name)
    readers: dict[str, list[str]] = {}
    for service in services:
        for foreign in service.foreign:
            readers.setdefault(foreign.event_type, []).append(service.name)
    parts = [HEAD]
    for service in services:
        for decider in sorted(service.deciders, key=lambda one: one.category):
            parts.append(f"## {service.name}: {decider.category}\n\n{TABLE}")
            for cls in decider.events:
                read_by = ", ".join(sorted(readers.get(f"{service.name}.{cls.event_name}", [])))
                fields = ", ".join(_shown(name, info) for name, info in cls.model_fields.items())
                parts.append(f"| `{cls.event_name}` | {cls.event_version} | {fields} | {read_by} |")
            parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _shown(name: str, info: FieldInfo) -> str:
    return f"`{name}`*" if _is_personal(info) else f"`{name}`"


def _is_personal(info: FieldInfo) -> bool:
    """Whether a field, or anything in it, is marked as personal."""
    return any(isinstance(mark, PersonalData) for mark in info.metadata) or _holds_personal(info.annotation)


def _holds_personal(annotation: Any) -> bool:
    if isinstance(annotation, PersonalData):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(_is_personal(info) for info in annotation.model_fields.values())
    inner = [*get_args(annotation), *getattr(annotation, "__metadata__", ())]
    return any(_holds_personal(part) for part in inner)


if __name__ == "__main__":
    FILE.write_text(catalogue())
    sys.stdout.write(f"{FILE.name} is written\n")
