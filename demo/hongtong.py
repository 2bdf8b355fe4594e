"""The profile ``hongtong`` of ``forecourt simulate``: a real dealer group's months, the same ones for the same seed.

Seven stores, 20,000 customers, 500 cars sold a month and 150 repairs a day. Everything enters through the public gRPC
APIs of a platform of its own, on a virtual clock: when the work of a day is done, the next one begins.
"""

import asyncio
import random
import shutil
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import asyncpg
import grpc.aio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from crm.customer.v1 import customer_pb2 as customer
from demo.client import CHUNK_ROWS, Staff, Store, import_chunks, read_rows
from demo.generate import DEALERS, MODELS, customers, lead_document, make_vin
from demo.play import next_monday
from demo.servers import servers_of_its_own
from demo.showroom import Showroom, StockVehicle
from demo.workshop import Owner, Workshop
from forecourt.clock import monotonic
from forecourt.clock_store import ClockStore
from forecourt.config import ConfigError
from forecourt.discovery import find_services
from forecourt.operations import handler_queues
from forecourt.platform import Platform
from forecourt.testing.settled import settled

CUSTOMERS = 20_000
CARS_A_MONTH = 500
REPAIRS_A_DAY = 150
COMPLAINTS_A_DAY = 3
LEADS_A_CAR = 3
"""Leads for each car that is sold: the others are lost or no lead at all."""

AT_ONCE = 24
"""Stories told at the same time."""

SETTLE_SECONDS = 3_600.0


@dataclass
class Result:
    """What a simulation came to."""

    days: int
    commands_seconds: float
    settle_seconds: float
    events: int
    lag_events: int
    stories: dict[str, int] = field(default_factory=dict)


class Months:
    """The group at work, day by day."""

    def __init__(self, platform: Platform, channel: grpc.aio.Channel, seed: int, scale: float) -> None:
        self._platform = platform
        self._chance = random.Random(seed)
        self._scale = scale
        self._office = Staff(channel, platform, "head-office", DEALERS, "head_office")
        self._stores = {one: Store(channel, platform, one) for one in DEALERS}
        self._owners: list[Owner] = []
        self._import_id = str(uuid5(NAMESPACE_URL, f"simulate:{seed}:{scale}"))
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._number = 0
        self._cars_due = 0.0
        self.stories = {"customers": 0, "cars": 0, "repairs": 0, "complaints": 0, "return visits": 0}

    def _count(self, full: float) -> int:
        return max(1, round(full * self._scale))

    async def import_customers(self, progress: Progress) -> None:
        """The customers that the group has already."""
        rows = read_rows(customers(self._chance, self._count(CUSTOMERS)).splitlines())
        task = progress.add_task("customers", total=len(rows))
        chunks = import_chunks(self._import_id, "customers.csv", rows)
        async for answer in self._office.customer.ImportCustomers(chunks, seconds=SETTLE_SECONDS):
            for report in answer.rows:
                if report.outcome == customer.ROW_OUTCOME_CREATED:
                    self.stories["customers"] += 1
                    row = rows[report.row - 1]
                    if row.vin:
                        self._owners.append(Owner(report.customer_id, row.vin, row.dealer_id))
            progress.update(task, advance=CHUNK_ROWS)

    async def day(self, now: datetime) -> None:
        """A day's sales, repairs, complaints and calls."""
        showroom, workshop = Showroom(self._stores, now), Workshop(self._stores, now)
        self._cars_due += CARS_A_MONTH / 30 * self._scale
        cars, self._cars_due = int(self._cars_due), self._cars_due % 1
        jobs: list[Awaitable[None]] = [self._sale(showroom) for _ in range(cars)]
        repairs, complaints = self._count(REPAIRS_A_DAY), self._count(COMPLAINTS_A_DAY)
        brought = self._chance.sample(self._owners, min(repairs, len(self._owners)))
        jobs += [self._repair(workshop, owner) for owner in brought]
        jobs += [self._complaint(workshop, owner) for owner in brought[:complaints]]
        await asyncio.gather(*(self._in_turn(job) for job in jobs))
        self.stories["return visits"] += await workshop.answer_return_visits()

    async def _in_turn(self, job: Awaitable[None]) -> None:
        async with self._limit:
            await job

    async def _sale(self, showroom: Showroom) -> None:
        vehicle = StockVehicle(
            make_vin(self._chance), self._chance.choice(MODELS), self._chance.choice(DEALERS)
        )
        self._number += LEADS_A_CAR
        documents = [lead_document(self._chance, self._number + one) for one in range(LEADS_A_CAR)]
        await showroom.receive(vehicle)
        first, *others = [await showroom.capture(vehicle.dealer, document) for document in documents]
        await showroom.sell_one(vehicle, *first)
        for lead_id, _ in others:
            await showroom.disqualify(vehicle.dealer, lead_id)
        self.stories["cars"] += 1

    async def _repair(self, workshop: Workshop, owner: Owner) -> None:
        self._number += 1
        odometer = 12_000 + 40 * self._number
        await workshop.repair(owner, self._number, odometer_km=odometer, rework=self._number % 20 == 0)
        self.stories["repairs"] += 1

    async def _complaint(self, workshop: Workshop, owner: Owner) -> None:
        await workshop.complain(owner)
        self.stories["complaints"] += 1


async def simulate(*, days: int, seed: int, scale: float, data: Path, out: Console) -> None:
    """Play ``days`` days on a platform of its own below ``data``, which is emptied first, and report.

    Raises `ConfigError` for a folder with the data of a platform that was not simulated.
    """
    _empty(data)
    out.print("starting PostgreSQL, RabbitMQ and the platform ...")
    async with (
        servers_of_its_own() as environment,
        Platform(data, together=True, clock="virtual", environment=environment) as platform,
        grpc.aio.insecure_channel(platform.addresses["grpc"]) as channel,
    ):
        _report(out, await _play(Months(platform, channel, seed, scale), platform, days, out))


def _empty(data: Path) -> None:
    """Remove what an earlier simulation has left there."""
    servers, mark = [data / "postgres", data / "rabbitmq"], data / "simulated"
    if any(server.exists() for server in servers) and not mark.exists():
        raise ConfigError(
            f"--data: {data} holds the data of another platform; name another folder, or remove it"
        )
    for server in servers:
        shutil.rmtree(server, ignore_errors=True)
    data.mkdir(parents=True, exist_ok=True)
    mark.touch()


async def _play(months: Months, platform: Platform, days: int, out: Console) -> Result:
    url = platform.environment["DATABASE_URL"]
    began = monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        clock = ClockStore(pool)
        morning = next_monday((await clock.read()).virtual)
        await clock.set(morning)
        with Progress(*columns, console=out) as progress:
            await months.import_customers(progress)
            task = progress.add_task("days", total=days)
            for number in range(days):
                now = morning + timedelta(days=number + 1)
                await clock.set(now)
                await months.day(now)
                progress.update(task, advance=1)
        commands_seconds = monotonic() - began
        lag = await _lag(pool)
        queues = [queue for service in find_services() for queue in handler_queues(service)]
        amqp_uri = platform.environment["AMQP_URI"]
        await settled(url, amqp_uri, _projecting(), queues=queues, timeout=SETTLE_SECONDS)
        events = await pool.fetchval("SELECT count(*) FROM events.event")
    return Result(
        days, commands_seconds, monotonic() - began - commands_seconds, events, lag, dict(months.stories)
    )


async def _lag(pool: "asyncpg.Pool[asyncpg.Record]") -> int:
    """How many events the slowest projection or relay is behind, right after the last command."""
    head: int = await pool.fetchval("SELECT coalesce(max(position), 0) FROM events.event")
    slowest = head
    for service in _projecting():
        position = await pool.fetchval(
            f"SELECT min(position) FROM \"{service}\".projection WHERE state = 'active'"
        )
        slowest = min(slowest, head if position is None else position)
    position = await pool.fetchval("SELECT min(position) FROM messaging.relay_checkpoint")
    return head - min(slowest, head if position is None else position)


def _projecting() -> list[str]:
    return [service.name for service in find_services() if service.projections]


def _report(out: Console, result: Result) -> None:
    table = Table(title=f"Hongtong, {result.days} days", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(justify="right")
    seconds = result.commands_seconds + result.settle_seconds
    rows: Sequence[tuple[str, float]] = [
        *result.stories.items(),
        ("events", result.events),
        ("seconds until the last command", round(result.commands_seconds, 1)),
        (
            "events a second, with all consequences",
            round(result.events / seconds),
        ),
        ("lag after the last command, in events", result.lag_events),
        ("seconds until nothing was left to do", round(result.settle_seconds, 1)),
    ]
    for name, value in rows:
        table.add_row(name, f"{value:,}")
    out.print(table)
    out.print("simulate: ok")
