"""What the command line does beyond starting roles: rebuild, clock, parked messages, the whole platform."""

import asyncio
import contextlib
import importlib
import re
import signal
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from forecourt.access.development import CLIENT_URI, development_authority
from forecourt.access.development import write as write_certificate
from forecourt.clock import ClockSetting, SystemClock
from forecourt.clock_store import ClockStore
from forecourt.config import ConfigError, Settings
from forecourt.eventstore import open_store
from forecourt.eventstore.port import EventStore
from forecourt.messaging import parked, topology
from forecourt.platform import Platform
from forecourt.privacy import erasures
from forecourt.privacy.keys_postgres import PostgresKeys, UnknownMasterKey, open_keys
from forecourt.projections.projection import Projection
from forecourt.projections.rebuild import Difference, Rebuild, drop_retired
from forecourt.runtime import Runtime, open_pool
from forecourt.service import Service
from forecourt.waiting import cancel_and_wait


async def rebuild(
    service: Service, name: str, settings: Settings, out: Console, *, compare: bool, switch: bool
) -> None:
    """Rebuild a read model with a progress bar; say how it differs from the one in use. Raises `ConfigError`.

    Without ``switch`` nothing of it stays: nobody would follow it, and it would keep those who are erased later.
    """
    projection = _projection(service, name)
    runtime = await Runtime.open([service], settings)
    try:
        (part,) = runtime.services
        work = Rebuild(service.name, projection, runtime.store, part.codec, runtime.sessions)
        with _bar(out) as bar:
            task = bar.add_task(f"{service.name} {projection.name} v{projection.version}", total=None)
            await work.build(lambda done, total: bar.update(task, completed=done, total=total))
        difference = await work.diff() if compare else None
        if difference is not None:
            _report(out, difference)
        if switch:
            built = await work.switch()
            await drop_retired(runtime.pool, service.name, projection.name)
            out.print(f"switched at position {built.position}, {built.quarantined} events in quarantine")
        else:
            await work.abandon()
    finally:
        await runtime.close()


def _projection(service: Service, name: str) -> Projection[Any]:
    for projection in service.projections:
        if projection.name == name:
            return projection
    known = ", ".join(projection.name for projection in service.projections)
    raise ConfigError(f"PROJECTION: {service.name} has no {name}; there are {known}")


def _bar(out: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=out,
    )


def _report(out: Console, difference: Difference) -> None:
    verdict = "the same as" if difference.equal else "different from"
    out.print(
        f"{difference.rows_new} rows, {verdict} the {difference.rows_old} in use "
        f"(at position {difference.position})"
    )
    for key in difference.keys:
        out.print(f"  differs: {', '.join(map(str, key))}")


# --- the clock


@contextlib.asynccontextmanager
async def _clock_store(settings: Settings) -> AsyncIterator[ClockStore]:
    pool = await open_pool(settings)
    try:
        store = ClockStore(pool, production=settings.forecourt_env == "production")
        await store.migrate()
        yield store
    finally:
        await pool.close()


async def show_clock(settings: Settings, out: Console) -> None:
    """Print the shared time and its rate."""
    async with _clock_store(settings) as store:
        _print_clock(out, await store.read())


async def change_clock(
    settings: Settings, out: Console, change: Callable[[ClockStore], Awaitable[ClockSetting]]
) -> None:
    """Change the shared clock and print it. Raises what `ClockStore` raises."""
    async with _clock_store(settings) as store:
        _print_clock(out, await change(store))


def _print_clock(out: Console, setting: ClockSetting) -> None:
    out.print(f"{setting.virtual.isoformat(timespec='seconds')} at rate {setting.rate:g}", highlight=False)


# --- parked messages


def handler_queues(service: Service) -> list[str]:
    """The queues of a service's handlers, read from its nameko classes."""
    queues = []
    for path in service.workers:
        module, _, name = path.partition(":")
        with warnings.catch_warnings():
            # eventlet tells every process that imports it that it is old; a user can do nothing about that.
            warnings.simplefilter("ignore")
            cls = getattr(importlib.import_module(module), name)
        for method, member in vars(cls).items():
            kinds = {type(entrypoint).__name__ for entrypoint in getattr(member, "nameko_entrypoints", ())}
            if "OnEvent" in kinds:
                queues.append(topology.handler_queue(cls.name, method))
    return sorted(queues)


def _parked_of(handler: str) -> str:
    return handler if handler.endswith(".parked") else topology.parking_queue(handler)


def list_parked(services: Sequence[Service], settings: Settings, out: Console) -> None:
    """Print how many messages each handler has given up."""
    queues = [topology.parking_queue(queue) for service in services for queue in handler_queues(service)]
    counts = {queue: count for queue, count in parked.count_parked(settings.broker, queues).items() if count}
    if not counts:
        out.print("no parked messages")
        return
    table = Table("handler", "parked", title="Parked messages")
    for queue, count in counts.items():
        table.add_row(topology.home_of(queue), str(count))
    out.print(table)


def show_parked(handler: str, settings: Settings, out: Console, *, limit: int) -> None:
    """Print a handler's parked messages. Raises `forecourt.errors.NotFound` for an unknown handler."""
    messages = parked.list_parked(settings.broker, _parked_of(handler), limit=limit)
    if not messages:
        out.print(f"{handler}: no parked messages", highlight=False)
        return
    table = Table("id", "event", "time", "attempts", "reason", "last error", title=handler)
    for message in messages:
        what = f"{message.type} {message.subject}"
        table.add_row(
            message.id, what, message.time, str(message.attempts), message.reason, message.last_error
        )
    out.print(table)


def replay_parked(handler: str, ids: Sequence[str] | None, settings: Settings, out: Console) -> None:
    """Send parked messages to their handler again."""
    sent = parked.replay(settings.broker, _parked_of(handler), list(ids) if ids else None)
    out.print(f"{sent} sent to {handler}")


def drop_parked(handler: str, event_id: str, settings: Settings, out: Console, *, reason: str) -> None:
    """Drop a parked message for good."""
    dropped = parked.discard(settings.broker, _parked_of(handler), event_id, reason=reason)
    out.print(f"dropped {dropped.id} {dropped.type}")


# --- keys of persons


async def rotate_master_key(settings: Settings, out: Console) -> None:
    """Wrap every person's key with the present master key. Raises `ConfigError`."""
    async with _keys(settings) as keys:
        try:
            out.print(f"{await keys.rotate()} keys wrapped anew")
        except UnknownMasterKey as error:
            raise ConfigError(f"FORECOURT_MASTER_KEY: {error}") from None


async def show_keys(settings: Settings, out: Console) -> None:
    """Say how many keys each master key wraps, and whether somebody whom the log says to be erased has one."""
    async with _keys(settings) as keys, _store(settings) as store:
        for name, number in await keys.status():
            out.print(f"{number:>10}  {name}", highlight=False)
        left = 0
        async for found in erasures.recorded(store):
            left += len(await erasures.standing(keys, found))
    if left:
        out.print(f"{left} erased persons have a key again: run 'forecourt keys destroy'", highlight=False)


async def destroy_keys(listed: Path | None, settings: Settings, out: Console) -> None:
    """Destroy the keys of those whom a list, else the log, says to be erased. Raises `ConfigError`."""
    count = 0
    if listed is not None:
        wanted = _listed(listed)
        async with _keys(settings) as keys:
            count = await erasures.destroy_again(keys, wanted)
    else:
        async with _keys(settings) as keys, _store(settings) as store:
            async for found in erasures.recorded(store):
                count += await erasures.destroy_again(keys, found)
    out.print(f"{count} keys destroyed", highlight=False)


def _listed(path: Path) -> list[erasures.Erasure]:
    try:
        return list(erasures.listed(path.read_text(encoding="utf-8").splitlines(), SystemClock().now()))
    except OSError as error:
        raise ConfigError(f"FILE: cannot be read ({type(error).__name__})") from None
    except ValueError as error:
        raise ConfigError(f"FILE: {error}") from None


@contextlib.asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[EventStore]:
    store = await open_store(settings.store)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def _keys(settings: Settings) -> AsyncIterator[PostgresKeys]:
    pool = await open_pool(settings)
    try:
        keys = await open_keys(pool, settings)
        try:
            yield keys
        finally:
            await keys.close()
    finally:
        await pool.close()


# --- the platform


async def run_platform(data: Path, *, together: bool, clock: str, out: Console) -> None:
    """Start everything, say where it is, and stay until Ctrl-C or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    out.print("starting …")
    starting = asyncio.ensure_future(_started(data, together=together, clock=clock))
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        await cancel_and_wait(starting, insist=False)
        return
    platform = await starting
    try:
        _say_where(platform, out)
        await stopped
    finally:
        out.print("stopping …")
        await platform.__aexit__()
    out.print("stopped")


async def _started(data: Path, *, together: bool, clock: str) -> Platform:
    return await Platform(data, together=together, clock=clock).__aenter__()


_NEEDED = ("DATABASE_URL", "AMQP_URI", "FORECOURT_DATA", "FORECOURT_CLOCK")


def _say_where(platform: Platform, out: Console) -> None:
    grpc = platform.addresses["grpc"]
    table = Table(title="Forecourt is running", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("gRPC", grpc)
    for name, page in platform.pages.items():
        table.add_row(name, page)
    table.add_row("logs", str(platform.data / "log"))
    # In a pipe no address is broken into lines.
    out.print(table, width=None if out.is_terminal else 200)
    environment = " ".join(f"{name}={platform.environment[name]}" for name in _NEEDED)
    transport = "-plaintext" if platform.settings.forecourt_tls_cert is None else "-cacert CA.pem"
    out.print(
        f"A shell for the other commands: export {environment}\n"
        "A token: TOKEN=$(forecourt token --actor amy --dealer D001 --brand hongtong --role salesperson)\n"
        f'A call:  grpcurl {transport} -H "authorization: Bearer $TOKEN" {grpc} list\n'
        "Ctrl-C stops everything.",
        highlight=False,
        markup=False,
    )


def make_certificates(
    settings: Settings,
    out: Console,
    *,
    folder: Path | None,
    hosts: Sequence[str] | None,
    clients: Sequence[str],
) -> None:
    """Make an authority where there is none, and certificates of it. Raises `ConfigError` in production."""
    if settings.forecourt_env == "production":
        raise ConfigError("FORECOURT_ENV: certificates are not made in production")
    target = folder or settings.forecourt_data / "tls"
    try:
        authority = development_authority(target)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--folder: cannot be used ({error})") from None
    write_certificate(
        target, "server", authority.issue("forecourt", hosts=hosts or ("localhost", "127.0.0.1", "::1"))
    )
    for client in clients:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", client) or client in ("server", "ca"):
            raise ConfigError(f"--client: {client!r} must be small letters, digits, dots and hyphens")
        write_certificate(target, client, authority.issue(client, uris=[f"{CLIENT_URI}{client}"]))
    for name in ("server", *clients):
        out.print(f"{target / name}.pem")
