"""Commands for those who run the platform; `add_to` puts them on the command line."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table

from forecourt import logs
from forecourt.config import ConfigError, Settings, load
from forecourt.console import answering, operate, out
from forecourt.discovery import find_profile, find_services
from forecourt.waiting import cancel_and_wait

log = logs.get(__name__)

DEFAULT_LIMIT = 50

NOTED_AT_ONCE = 100
"""Events of a page whose persons are noted before it is shown: as many as an entry names."""

_COLOURS = ("green", "yellow", "red")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(answering(doctor))
    app.command()(answering(events))
    app.command()(answering(simulate))
    app.command()(answering(export))


def moment(text: str, option: str) -> datetime:
    """An ISO 8601 time, UTC unless it says otherwise. Raises `typer.BadParameter`, which names the option."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        wanted = "must be an ISO 8601 time, such as 2026-03-01T09:00:00+08:00"
        raise typer.BadParameter(wanted, param_hint=option) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


# --- doctor


def doctor(
    services: Annotated[list[str] | None, typer.Argument(help="Services, all by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
    watch: Annotated[float, typer.Option(help="Seconds that a lag is watched.", min=0, max=60)] = 3.0,
) -> None:
    """Examine settings, servers, migrations, clocks, keys, queues and lag. Exit 0 well, 1 warnings, 2 problems."""
    from forecourt.doctor import Doctor, Finding, worst
    from forecourt.operations import handler_queues

    found: list[Finding] = []
    settings, chosen = load(Settings), find_services(services)
    queues = [queue for service in chosen for queue in handler_queues(service)]

    async def examine() -> None:
        found.extend(await Doctor(chosen, settings, handlers=queues, watch=watch).examine())

    operate(examine())
    state = worst(found)
    if as_json:
        answer = {"state": state.name.lower(), "findings": [finding.as_json() for finding in found]}
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    else:
        table = Table("check", "state", "finding", "what to do")
        for finding in found:
            colour = _COLOURS[finding.state]
            state_cell = f"[{colour}]{finding.state.name.lower()}[/{colour}]"
            table.add_row(finding.check, state_cell, finding.detail, finding.advice)
        # In a pipe nothing is broken into lines that a search would miss.
        (out if out.is_terminal else Console(width=400)).print(table)
    if state:
        raise typer.Exit(int(state))


# --- simulation


def simulate(
    profile: Annotated[str, typer.Option(help="The business to simulate, such as hongtong.")] = "hongtong",
    days: Annotated[int, typer.Option(help="Days of work.", min=1, max=3_660)] = 30,
    seed: Annotated[int, typer.Option(help="The same seed, the same business.")] = 1,
    scale: Annotated[float, typer.Option(help="Fraction of the business.", min=0.001, max=100)] = 1.0,
    data: Annotated[Path, typer.Option(help="Data folder, emptied first.")] = Path("var/simulate"),
) -> None:
    """Simulate a business on a platform of its own, through the public APIs; report events a second and the lag."""
    if load(Settings).forecourt_env == "production":
        raise ConfigError("FORECOURT_ENV: nothing is simulated in production")
    operate(find_profile(profile)(days=days, seed=seed, scale=scale, data=data, out=out))


# --- events


def events(
    category: Annotated[str, typer.Option(help="Streams of this category, such as order.")] = "",
    type_: Annotated[str, typer.Option("--type", help="sales.OrderPlaced, or OrderPlaced.")] = "",
    stream: Annotated[str, typer.Option(help="One stream, <category>-<uuid>.")] = "",
    dealer: Annotated[str, typer.Option(help="A dealer's id.")] = "",
    brand: Annotated[str, typer.Option(help="A brand.")] = "",
    actor: Annotated[str, typer.Option(help="Who caused it.")] = "",
    correlation: Annotated[str, typer.Option(help="A correlation id: one call with its consequences.")] = "",
    since: Annotated[str, typer.Option(help="An ISO 8601 time.")] = "",
    until: Annotated[str, typer.Option(help="An ISO 8601 time, itself not included.")] = "",
    after: Annotated[
        int | None, typer.Option(help="A position; the next page goes on from there.", min=0)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="At most so many, 50 by default, with --follow all; 0 is no limit.", min=0),
    ] = None,
    last: Annotated[
        int | None, typer.Option(help="The last so many instead of the first.", min=1, max=10_000)
    ] = None,
    follow: Annotated[
        bool, typer.Option(help="Stay, and show what is recorded from now on; after --last, if given.")
    ] = False,
    data: Annotated[bool, typer.Option(help="Show each event's data too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, with the data.")] = False,
    show_personal: Annotated[
        str,
        typer.Option(
            help="Decrypt personal fields, for this reason; it goes into the audit, so name nobody."
        ),
    ] = "",
) -> None:
    """Page, filter and follow the events. Personal fields are masked."""
    from forecourt.browsing import Filter, unknown

    settings = load(Settings)
    if limit is None:
        limit = 0 if follow or last else DEFAULT_LIMIT
    if show_personal and settings.forecourt_env == "production":
        raise ConfigError("--show-personal: personal fields are not shown in production")
    try:
        wanted = Filter(
            category=category,
            type=type_,
            stream=stream,
            dealer=dealer,
            brand=brand,
            actor=actor,
            correlation=UUID(correlation) if correlation else None,
            since=moment(since, "--since") if since else None,
            until=moment(until, "--until") if until else None,
            after=after or 0,
        )
    except ValueError:
        raise typer.BadParameter("must be a UUID", param_hint="--correlation") from None
    for line in unknown(find_services(), wanted):
        sys.stderr.write(f"{line}\n")
    with contextlib.suppress(BrokenPipeError):
        operate(
            _show(
                settings,
                wanted,
                limit=limit,
                last=last,
                follow=follow,
                from_now=follow and after is None and not since and not last,
                form="json" if as_json else "data" if data else "line",
                reason=show_personal,
            )
        )
        return
    # Whoever reads has read enough; nothing more may be written, not even at the end of the program.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _show(
    settings: Settings,
    wanted: Any,
    *,
    limit: int,
    last: int | None,
    follow: bool,
    from_now: bool,
    form: str,
    reason: str,
) -> None:
    from dataclasses import replace

    from forecourt import browsing

    async with _opened(settings, reason) as (store, display, notes):

        async def show(page: Sequence[Any]) -> None:
            persons = [person for event in page if (person := display.person(event)) is not None]
            if persons and form != "line":
                await notes.shown(persons)
            for event in page:
                await _print(display, event, form)

        if from_now:
            wanted = replace(wanted, after=await store.head())
        if last:
            head = await store.head()
            found = await browsing.last(store, wanted, last)
            for start in range(0, len(found), NOTED_AT_ONCE):
                await show(found[start : start + NOTED_AT_ONCE])
            head = max([head, *(event.position for event in found)])
            if not follow:
                return
            wanted = replace(wanted, after=head)
        shown, page = 0, list[Any]()
        # Where there is nothing to note, or somebody waits for what comes, each is shown when it is found.
        size = NOTED_AT_ONCE if reason and not follow else 1
        async with contextlib.aclosing(browsing.matching(store, wanted, follow=follow)) as coming:
            stopped = _until_signal()
            async for event in _until(coming, stopped):
                page.append(event)
                shown += 1
                if len(page) == size or shown == limit:
                    await show(page)
                    page.clear()
                if shown == limit:
                    if form != "json":
                        out.print(f"go on: --after {event.position}", highlight=False)
                    return
            await show(page)


@contextlib.asynccontextmanager
async def _opened(settings: Settings, reason: str) -> AsyncIterator[Any]:
    """The store, a display that masks, or decrypts for a reason, and what notes whose data it shows."""
    import asyncpg

    from forecourt.audit.operators import OperatorNotes
    from forecourt.audit.trail import AuditTrail
    from forecourt.browsing import Display
    from forecourt.clock import SystemClock
    from forecourt.eventstore import open_store
    from forecourt.privacy.keys_postgres import open_keys
    from forecourt.runtime import open_pool

    async with contextlib.AsyncExitStack() as stack:
        store = await open_store(settings.store)
        stack.push_async_callback(store.close)
        keys = None
        if reason:
            log.warning("personal data shown", reason=reason)
            pool = await open_pool(settings)
            stack.push_async_callback(pool.close)
            keys = await open_keys(pool, settings)
            stack.push_async_callback(keys.close)
        try:
            notes = OperatorNotes(AuditTrail(store, SystemClock()), "forecourt events", purpose=reason)
            yield store, Display(find_services(), keys), notes
        except asyncpg.UndefinedTableError:
            raise ConfigError("DATABASE_URL: holds no events; run 'forecourt migrate'") from None


def _until_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _until(found: AsyncIterator[Any], stop: asyncio.Event) -> AsyncIterator[Any]:
    """What is found, until told to stop."""
    stopped = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            coming = asyncio.ensure_future(anext(found))
            await asyncio.wait([coming, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                await cancel_and_wait(coming)
                return
            try:
                yield coming.result()
            except StopAsyncIteration:
                return
    finally:
        stopped.cancel()


async def _print(display: Any, event: Any, form: str) -> None:
    if form == "json":
        sys.stdout.write(json.dumps(await display.record(event), ensure_ascii=False) + "\n")
        sys.stdout.flush()
        return
    who = f"{event.dealer_id or '-'} {event.actor_id or '-'}"
    when = event.time.isoformat(timespec="milliseconds")
    sys.stdout.write(
        f"{event.position:>9} {when} {event.type} v{event.version} {event.stream} {event.sequence} {who}\n"
    )
    if form == "data":
        sys.stdout.write(f"          {json.dumps(await display.data(event), ensure_ascii=False)}\n")
    sys.stdout.flush()


# --- export


def export(
    person: Annotated[str, typer.Argument(help="The person's id, a UUID.")],
    actor: Annotated[
        str, typer.Option(help="Who asks for it: the staff id. It goes into the audit, beside the account.")
    ],
    form: Annotated[str, typer.Option("--format", help="json or csv.")] = "json",
    to: Annotated[
        Path | None, typer.Option(help="A new file, for its owner only; else standard output.")
    ] = None,
) -> None:
    """Write out all that is recorded about one person, with the event that each value is from."""
    if form not in ("json", "csv"):
        raise typer.BadParameter("--format must be json or csv")
    try:
        person_id = UUID(person)
    except ValueError:
        raise typer.BadParameter("the person's id must be a UUID") from None
    if not actor.strip():
        raise typer.BadParameter("--actor must not be empty")
    if to is not None and to.exists():
        raise typer.BadParameter("--to must be a new file")
    from forecourt.privacy.export import Entry, as_csv, as_json

    entries: list[Entry] = []
    operate(_export(load(Settings), person_id, actor.strip(), entries))
    text = as_json(person_id, entries) + "\n" if form == "json" else as_csv(entries)
    if to is None:
        sys.stdout.write(text)
        return
    to.touch(mode=0o600, exist_ok=False)
    to.write_text(text, encoding="utf-8", newline="")
    out.print(f"export: {len(entries)} events in {to}", highlight=False)


async def _export(settings: Settings, person: UUID, actor: str, entries: list[Any]) -> None:
    from forecourt.audit.operators import OperatorNotes
    from forecourt.errors import NotFound
    from forecourt.privacy.export import Export, links_of
    from forecourt.runtime import Runtime

    services = find_services()
    runtime = await Runtime.open(services, settings)
    try:
        export = Export(runtime.store, runtime.keys, links_of(services))
        console = Console(stderr=True)
        with console.status("reading the whole log"):
            entries += await export.of(person)
        if not entries:
            raise NotFound("person: nothing is recorded")
        if (erased := await export.erased_at(person)) is not None:
            console.print(
                f"export: erased since {erased.isoformat()}; personal values are gone", soft_wrap=True
            )
        # Before anything is handed out: what could not be noted down is not shown.
        notes = OperatorNotes(runtime.audit.trail, "forecourt export", claimed=actor)
        await notes.shown([person])
    finally:
        await runtime.close()
