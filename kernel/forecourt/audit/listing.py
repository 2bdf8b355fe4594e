"""``forecourt audit``: entries in a terminal, for who has the database's password anyway. Asking is itself an entry."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import get_args
from uuid import UUID

import msgspec
from rich.console import Console

from forecourt.audit.operators import OperatorNotes
from forecourt.audit.read_model import EntryRow, Outcome, entries
from forecourt.audit.trail import AuditTrail
from forecourt.clock import SystemClock
from forecourt.config import Settings
from forecourt.errors import InvalidInput
from forecourt.eventstore import open_store
from forecourt.projections.queries import PageRequest, ReadModels, Where, contains, eq, ge, gt, lt
from forecourt.runtime import open_pool

FOLLOW_SECONDS = 1.0
PAGE = 500
RPC = "forecourt audit"


@dataclass(frozen=True)
class Question:
    """Which entries are wanted; ``limit`` is how many of the newest."""

    actor_id: str | None = None
    subject: str | None = None
    rpc: str | None = None
    outcome: str | None = None
    dealer_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50

    def conditions(self) -> list[Where]:
        """What a row must fulfil. Raises `InvalidInput` naming the option."""
        if self.outcome is not None and self.outcome not in get_args(Outcome):
            raise _invalid("outcome", f"must be one of {', '.join(get_args(Outcome))}")
        where: list[Where] = [
            eq(column, value)
            for column in ("actor_id", "rpc", "outcome", "dealer_id")
            if (value := getattr(self, column)) is not None
        ]
        if self.subject is not None:
            where.append(contains("subjects", self.subject_id))
        if self.since is not None:
            where.append(ge("at", self.since))
        if self.until is not None:
            where.append(lt("at", self.until))
        return where

    @property
    def subject_id(self) -> str:
        """The id that is asked for. Raises `InvalidInput`."""
        try:
            return str(UUID(self.subject or ""))
        except ValueError:
            raise _invalid("subject", "must be a UUID") from None


def _invalid(option: str, reason: str) -> InvalidInput:
    return InvalidInput(f"--{option}: {reason}", fields={option: reason})


async def show_entries(
    question: Question, settings: Settings, out: Console, *, as_json: bool, follow: bool
) -> None:
    """Print the newest entries that fit, oldest first, and with ``follow`` those that come.

    Raises `InvalidInput`, and `forecourt.errors.Unavailable` where there is no audit yet.
    """
    where = question.conditions()
    pool = await open_pool(settings)
    try:
        read_models = ReadModels(pool, "audit", [entries])
        store = await open_store(settings.store)
        try:
            rows = await _newest(read_models, where, question.limit)
            notes = OperatorNotes(AuditTrail(store, SystemClock()), RPC)
            await notes.shown(_subjects(rows))
            _print(rows, out, as_json=as_json)
            last = max((row.position for row in rows), default=await read_models.position(entries))
            while follow:
                await asyncio.sleep(FOLLOW_SECONDS)
                page = await read_models.page(
                    entries,
                    where=[*where, gt("position", last)],
                    order=["position"],
                    page=PageRequest(PAGE),
                )
                if page.items:
                    last = page.items[-1].position
                    # Not those about looking here: following oneself would never end.
                    if others := [row for row in page.items if row.rpc != RPC]:
                        await notes.shown(_subjects(others))
                    _print(page.items, out, as_json=as_json)
        finally:
            await store.close()
    finally:
        await pool.close()


def _subjects(rows: Sequence[EntryRow]) -> list[UUID]:
    return [UUID(subject) for row in rows for subject in row.subjects]


async def _newest(read_models: ReadModels, where: Sequence[Where], limit: int) -> list[EntryRow]:
    rows: list[EntryRow] = []
    token = ""
    while len(rows) < limit:
        size = min(PAGE, limit - len(rows))
        page = await read_models.page(
            entries, where=where, order=["-position"], page=PageRequest(size, token)
        )
        rows += page.items
        token = page.next_page_token
        if not token:
            break
    return rows[::-1]


def _print(rows: Sequence[EntryRow], out: Console, *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            out.print(msgspec.json.encode(row).decode(), highlight=False, markup=False)
        return
    for row in rows:
        out.print(line_of(row), highlight=False, markup=False)


def line_of(row: EntryRow) -> str:
    """An entry in one line that `grep` and `cut` get along with: nothing is shortened."""
    more = row.subject_count - len(row.subjects)
    columns = (
        f"{row.at.isoformat(timespec='seconds')}",
        f"{row.outcome + (f' x{row.count}' if row.count > 1 else ''):<12}",
        f"{row.rpc:<36}",
        f"{row.actor_id or '-':<20}",
        f"{','.join(row.roles) or '-':<16}",
        f"{row.dealer_id or '-':<6}",
        f"{row.slug or row.event_type or row.purpose or '-':<28}",
        ",".join(row.subjects) + (f" +{more}" if more > 0 else ""),
    )
    return "  ".join(columns).rstrip()
