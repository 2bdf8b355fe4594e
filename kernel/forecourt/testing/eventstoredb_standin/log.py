"""The stand-in's log: records in order, streams over them, the server's rules for appending and deleting."""

import asyncio
import json
import os
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

ANY, NO_STREAM, STREAM_EXISTS = -2, -1, -4
"""Expected revisions that are not a number of an event, as the server numbers them."""

_DELETED = 2**63 - 1
_RECORD_OVERHEAD = 80
_FRAME_HEAD = 8


class Proposed(msgspec.Struct, frozen=True):
    """An event as a client proposes it."""

    id: str
    type: str
    content_type: str
    data: bytes
    metadata: bytes


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A record of the log. ``position`` is where it begins, ``next_position`` where the one after it will."""

    position: int
    next_position: int
    stream: str
    revision: int
    created: int
    event: Proposed


class WrongRevision(Exception):
    """The stream is not where it was expected; ``actual`` is its last revision or `NO_STREAM`."""

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(f"expected {expected}, actual {actual}")
        self.expected = expected
        self.actual = actual


class StreamDeleted(Exception):
    """The stream has a tombstone, or is deleted and was expected to exist."""


class InvalidPosition(Exception):
    """No record begins at the position."""


class EventLog:
    """All records, in memory and, where a path is given, in a file.

    An append is one frame (length, checksum, records) written at once: after a kill it is there whole or not
    at all. The file is not synced to the disk: what the operating system has, survives the process.
    """

    def __init__(self, path: Path | None = None, *, deduplicate: bool = True) -> None:
        self.records: list[Record] = []
        self._positions: list[int] = []
        self._streams: dict[str, list[Record]] = {}
        self._changed = asyncio.Event()
        self._deduplicate = deduplicate
        self._file: BinaryIO | None = None
        if path is not None:
            self._file = path.open("a+b")
            self._load(self._file)
        if not self.records:
            # A real server's log begins with records of its own, which no reader of ours may ever see.
            self._write(
                "$settings", [Proposed("00000000-0000-0000-0000-000000000001", "$update", "", b"{}", b"")], 0
            )

    def _load(self, file: BinaryIO) -> None:
        file.seek(0)
        content = file.read()
        start = 0
        while start + _FRAME_HEAD <= len(content):
            size = int.from_bytes(content[start : start + 4])
            checksum = int.from_bytes(content[start + 4 : start + 8])
            frame = content[start + _FRAME_HEAD : start + _FRAME_HEAD + size]
            if len(frame) < size or zlib.crc32(frame) != checksum:
                break
            for record in msgspec.msgpack.decode(frame, type=list[Record]):
                self._index(record)
            start += _FRAME_HEAD + size
        file.truncate(start)

    @property
    def end(self) -> int:
        """Where the next record will begin."""
        return self.records[-1].next_position if self.records else 0

    @property
    def last_position(self) -> int:
        """Where the last record begins."""
        return self.records[-1].position

    def append(self, stream: str, events: Sequence[Proposed], expected: int, created: int) -> tuple[int, int]:
        """Append all of ``events`` or none; answer the last one's revision and position.

        A repeat of what follows ``expected`` already is answered like the first time. Raises `WrongRevision`
        or `StreamDeleted`.
        """
        actual = self.revision(stream)
        self._check_not_deleted(stream, expected)
        gone = self._is_soft_deleted(stream)
        if not (gone and expected == NO_STREAM):
            repeated = self._repeated(stream, events, expected, actual)
            if repeated is not None:
                return repeated.revision, repeated.position
            self._check_expected(stream, expected, actual)
        if gone:
            self._write_metadata(stream, {"$tb": actual + 1}, created)
        if events:
            self._write(stream, events, created)
        written = self._streams.get(stream)
        return (written[-1].revision, written[-1].position) if written else (NO_STREAM, -1)

    def delete(self, stream: str, expected: int, created: int, *, hard: bool) -> int:
        """Hide a stream's events, or with ``hard`` end it for ever; answer the position of the record.

        Raises `WrongRevision` or `StreamDeleted`.
        """
        actual = self.revision(stream)
        if self._is_soft_deleted(stream) and not hard:
            raise StreamDeleted
        self._check_not_deleted(stream, expected)
        self._check_expected(stream, expected, actual)
        if hard:
            tombstone = Proposed("00000000-0000-0000-0000-000000000002", "$streamDeleted", "", b"{}", b"")
            self._write(stream, [tombstone], created, revision=_DELETED)
        else:
            self._write_metadata(stream, {"$tb": _DELETED}, created)
        return self.last_position

    def revision(self, stream: str) -> int:
        """The last revision of a stream, `NO_STREAM` where there is none."""
        records = self._streams.get(stream)
        return records[-1].revision if records else NO_STREAM

    def visible(self, stream: str) -> list[Record]:
        """The records of a stream that a reader may see, in order. Raises `StreamDeleted`."""
        records = self._streams.get(stream, [])
        if records and records[-1].revision == _DELETED:
            raise StreamDeleted
        metadata = self._metadata(stream)
        first = metadata.get("$tb", 0)
        if "$maxCount" in metadata:
            first = max(first, len(records) - metadata["$maxCount"])
        return records[first:]

    def index_at(self, position: int) -> int:
        """The index of the record that begins at ``position``. Raises `InvalidPosition` where none does."""
        index = bisect_left(self._positions, position)
        if position < self.end and (index == len(self.records) or self._positions[index] != position):
            raise InvalidPosition
        return index

    def index_after(self, position: int) -> int:
        """The index of the first record that begins after ``position``."""
        return bisect_right(self._positions, position)

    async def changed(self) -> None:
        """Wait until something is appended."""
        await self._changed.wait()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _repeated(self, stream: str, events: Sequence[Proposed], expected: int, actual: int) -> Record | None:
        if not self._deduplicate or not events or not NO_STREAM <= expected < actual:
            return None
        present = self._streams[stream][expected + 1 : expected + 1 + len(events)]
        same = [record.event.id for record in present] == [event.id for event in events]
        return present[-1] if same else None

    def _check_expected(self, stream: str, expected: int, actual: int) -> None:
        exists = actual != NO_STREAM or self.revision(f"$${stream}") != NO_STREAM
        if expected in (ANY, actual) or (expected == STREAM_EXISTS and exists):
            return
        raise WrongRevision(expected, actual)

    def _check_not_deleted(self, stream: str, expected: int) -> None:
        if self.revision(stream) == _DELETED:
            raise StreamDeleted
        if expected == STREAM_EXISTS and self._is_soft_deleted(stream):
            raise StreamDeleted

    def _is_soft_deleted(self, stream: str) -> bool:
        return self._metadata(stream).get("$tb") == _DELETED

    def _metadata(self, stream: str) -> dict[str, int]:
        records = self._streams.get(f"$${stream}")
        if stream.startswith("$$") or not records:
            return {}
        content: dict[str, int] = json.loads(records[-1].event.data)
        return content

    def _write_metadata(self, stream: str, content: dict[str, int], created: int) -> None:
        number = len(self.records)
        event = Proposed(
            f"00000000-0000-0000-0001-{number:012x}",
            "$metadata",
            "application/json",
            json.dumps(content).encode(),
            b"",
        )
        self._write(f"$${stream}", [event], created)

    def _write(
        self, stream: str, events: Sequence[Proposed], created: int, *, revision: int | None = None
    ) -> None:
        records = list(self._numbered(stream, events, created, revision))
        if self._file is not None:
            frame = msgspec.msgpack.encode(records)
            head = len(frame).to_bytes(4) + zlib.crc32(frame).to_bytes(4)
            os.write(self._file.fileno(), head + frame)
        for record in records:
            self._index(record)
        self._changed.set()
        self._changed = asyncio.Event()

    def _numbered(
        self, stream: str, events: Sequence[Proposed], created: int, revision: int | None
    ) -> Iterator[Record]:
        position = self.end
        first = self.revision(stream) + 1 if revision is None else revision
        for number, event in enumerate(events, start=first):
            after = position + _RECORD_OVERHEAD + len(stream) + len(event.data) + len(event.metadata)
            yield Record(position, after, stream, number, created, event)
            position = after

    def _index(self, record: Record) -> None:
        self.records.append(record)
        self._positions.append(record.position)
        self._streams.setdefault(record.stream, []).append(record)
