"""Golden files: one JSON file for every version of every event ever written, and the proof that it still loads.

A folder holds ``<Event>.v<N>.json`` (the ``data`` as it was stored) and ``SHA256SUMS``. A test calls `check`;
``write_missing`` adds files for new events and versions from samples, and never touches one that is there.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from forecourt.events import Event
from forecourt.eventstore.port import StoredEvent
from forecourt.registry import Registry

SUMS = "SHA256SUMS"
_ID = UUID("6f0f2c4e-0000-4000-8000-00000000901d")


def check(registry: Registry, folder: Path) -> None:
    """Fail unless every version of every event has a golden file that is unedited and loads today."""
    sums = _sums(folder)
    assert sorted(sums) == sorted(path.name for path in folder.glob("*.json")), "SHA256SUMS does not match"
    for name, expected in sums.items():
        assert _digest(folder / name) == expected, f"{name}: was edited; an event version is for ever"
    for type_, cls in registry.own_events().items():
        for version in range(1, cls.event_version + 1):
            name = f"{cls.event_name}.v{version}.json"
            assert name in sums, f"{name}: is missing in {folder}"
            data = (folder / name).read_text()
            event = registry.decode(_stored(type_, version, data)).event
            assert isinstance(event, cls)
            if version == cls.event_version:
                assert json.loads(event.model_dump_json()) == json.loads(data), f"{name}: reads differently"


def write_missing(registry: Registry, folder: Path, samples: Iterable[Event]) -> list[str]:
    """Write golden files of current versions that are missing; answer their names."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = _sums(folder)
    written = []
    for event in samples:
        registry.type_of(type(event))
        name = f"{event.event_name}.v{event.event_version}.json"
        if name not in sums:
            text = json.dumps(json.loads(event.model_dump_json()), ensure_ascii=False, indent=2) + "\n"
            (folder / name).write_text(text)
            sums[name] = _digest(folder / name)
            written.append(name)
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))
    return written


def _sums(folder: Path) -> dict[str, str]:
    path = folder / SUMS
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _stored(type_: str, version: int, data: str) -> StoredEvent:
    time = datetime(2026, 1, 1, tzinfo=UTC)
    return StoredEvent(1, f"golden-{_ID}", 1, _ID, type_, version, time, data, _ID, None, "", "", "", "{}")
