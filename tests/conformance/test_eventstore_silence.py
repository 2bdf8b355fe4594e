"""A PostgreSQL server that falls silent without closing a connection, and answers again."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from forecourt.embedded.postgres import EmbeddedPostgres
from forecourt.eventstore import postgres
from forecourt.eventstore.port import AppendResult, NewEvent, StoreUnavailable
from forecourt.eventstore.postgres import PostgresEventStore
from forecourt.testing.eventstore_samples import new_event
from forecourt.testing.probes import poll_async

pytestmark = [pytest.mark.integration, pytest.mark.faults]

STATEMENT_SECONDS = 0.5
PATIENCE = 10.0
"""Seconds within which a busy machine has told every caller; several times two of the above."""


def processes(parent: int) -> list[int]:
    """A process and its children."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            children.append(int(stat.parent.name))
    return [parent, *children]


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


@contextmanager
def silent(server: EmbeddedPostgres) -> Iterator[None]:
    """The server stands still; its connections stay open, and new ones are accepted by the system but not answered."""
    assert server.pid is not None
    # First the one that could make more of them.
    os.kill(server.pid, signal.SIGSTOP)
    stopped = processes(server.pid)
    send(stopped[1:], signal.SIGSTOP)
    try:
        yield
    finally:
        send(stopped, signal.SIGCONT)


class Writer:
    """Appends to a stream of its own, one event after the other, each again until it is accepted."""

    def __init__(self, store: PostgresEventStore) -> None:
        self._store = store
        self.stream = f"order-{uuid4()}"
        self.accepted: list[UUID] = []
        self.refused = 0

    async def write(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            event = new_event()
            while await self._append(event) is None:
                self.refused += 1
            self.accepted.append(event.id)

    async def _append(self, event: NewEvent) -> AppendResult | None:
        try:
            return await self._store.append(self.stream, [event], expected=len(self.accepted))
        except StoreUnavailable:
            return None


async def test_appends_to_a_silent_server_fail_in_time_and_each_accepted_one_is_there_once(
    tmp_path: Path,
) -> None:
    with EmbeddedPostgres(tmp_path, durable=False) as server:
        store = await PostgresEventStore.open(server.url, statement_seconds=STATEMENT_SECONDS)
        await store.migrate()
        writers = [Writer(store) for _ in range(5)]
        stop = asyncio.Event()
        tasks = [asyncio.create_task(writer.write(stop)) for writer in writers]
        try:
            await poll_async(lambda: all(len(writer.accepted) > 20 for writer in writers))
            with silent(server):
                await poll_async(lambda: all(writer.refused for writer in writers), PATIENCE)
                with pytest.raises(StoreUnavailable):
                    await asyncio.wait_for(store.head(), PATIENCE)
            before = [len(writer.accepted) for writer in writers]
            await poll_async(
                lambda: all(len(writer.accepted) > n + 20 for writer, n in zip(writers, before, strict=True)),
                PATIENCE,
            )
        finally:
            stop.set()
            await asyncio.gather(*tasks)
        for writer in writers:
            stored = [event.id async for page in store.read_stream(writer.stream) for event in page]
            assert stored == writer.accepted
        await store.close()


async def test_no_more_appends_wait_for_a_silent_server_than_there_is_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "MAX_WAITING", 10)
    with EmbeddedPostgres(tmp_path, durable=False) as server:
        store = await PostgresEventStore.open(server.url, statement_seconds=STATEMENT_SECONDS)
        await store.migrate()
        with silent(server):
            appends = [
                asyncio.create_task(store.append(f"order-{uuid4()}", [new_event()], expected=0))
                for _ in range(30)
            ]
            answers = await asyncio.wait_for(asyncio.gather(*appends, return_exceptions=True), PATIENCE)
        assert all(isinstance(answer, StoreUnavailable) for answer in answers)
        assert sum("too many" in str(answer) for answer in answers) == 20
        await store.append(f"order-{uuid4()}", [new_event()], expected=0)
        await store.close()
