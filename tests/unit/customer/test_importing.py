"""The streamed import: what its answers say about chunks that are written at the same time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from customer import importing

POSITIONS = (12, 40, 25, 31)


class LaterFirst:
    """Writes the first chunk last."""

    def __init__(self, _call: object) -> None:
        self._written = asyncio.Event()

    async def take(self, chunk: int) -> Awaitable[dict[str, Any]]:
        """A chunk is its number."""
        return self._write(chunk)

    async def _write(self, chunk: int) -> dict[str, Any]:
        if chunk == len(POSITIONS) - 1:
            self._written.set()
        await self._written.wait()
        return {"chunk": chunk, "position": POSITIONS[chunk]}


async def _chunks() -> AsyncIterator[Any]:
    for chunk in range(len(POSITIONS)):
        yield chunk


async def test_who_waits_for_the_last_position_sees_all_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "Importer", LaterFirst)
    call: Any = None
    answers = [answer async for answer in importing.import_customers(_chunks(), call)]
    assert [answer["chunk"] for answer in answers] == [0, 1, 2, 3]
    assert [answer["position"] for answer in answers] == [12, 40, 40, 40]
