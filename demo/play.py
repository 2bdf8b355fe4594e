"""Plays a dealer group's day on a platform of its own, and reports: ``python -m demo.play``.

Everything enters through the public gRPC APIs. The platform runs on a virtual clock, so that return visits and
reminders of the months to come fall due in seconds. Its servers and data are private and left stopped; on servers
that the environment names, a database and a virtual host of its own.
"""

import argparse
import asyncio
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from zoneinfo import ZoneInfo

import aiohttp
import asyncpg
import grpc.aio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from crm.customer.v1 import customer_pb2 as customer
from crm.notify.v1 import notify_pb2
from crm.sales.v1 import lead_pb2, opportunity_pb2, order_pb2
from crm.service_desk.v1 import care_pb2, complaint_pb2, repair_order_pb2
from demo.client import CHUNK_ROWS, Staff, Store, import_chunks, read_rows
from demo.generate import DEALERS, INPUT, LEADS
from demo.report import Report, once_per_reason
from demo.servers import servers_of_its_own
from demo.showroom import LOST, SOLD, Showroom
from demo.workshop import COMPLAINTS, REPAIRS, Owner, Workshop, owners_of
from forecourt.clock_store import ClockStore
from forecourt.config import ConfigError
from forecourt.platform import Platform
from forecourt.testing.settled import settled

SERVICES = ("customer", "sales", "service_desk", "notify", "audit")
SHANGHAI = ZoneInfo("Asia/Shanghai")
MALFORMED = 3
BAD_ROWS = 60
STAYING = "the day is over; press Enter to stop the platform"


class Day:
    """The day, step by step."""

    def __init__(self, platform: Platform, channel: grpc.aio.Channel, report: Report) -> None:
        self._platform = platform
        self._report = report
        self._out = report.out
        self._office = Staff(channel, platform, "head-office", DEALERS, "head_office")
        self._stores = {one: Store(channel, platform, one) for one in DEALERS}
        self._now = datetime.now(UTC)
        self._buyers: list[str] = []
        self._owners: list[Owner] = []
        self._quarantined: list[lead_pb2.QuarantinedLead] = []

    async def play(self) -> None:
        """Morning to evening, and the months after."""
        await self._set_clock(next_monday(self._now))
        await self._import_customers()
        await self._sell()
        await self._serve()
        await self._follow_up()
        await self._show()

    async def _set_clock(self, moment: datetime) -> None:
        pool = await asyncpg.create_pool(self._platform.environment["DATABASE_URL"], min_size=1, max_size=1)
        try:
            await ClockStore(pool).set(moment)
        finally:
            await pool.close()
        self._now = moment

    async def _settle(self) -> int:
        environment = self._platform.environment
        return await settled(environment["DATABASE_URL"], environment["AMQP_URI"], SERVICES, timeout=180)

    async def _import_customers(self) -> None:
        rows = read_rows((INPUT / "customers.csv").read_bytes().splitlines())
        import_id = str(uuid5(NAMESPACE_URL, f"demo:import:{self._now.isoformat()}"))
        reports: list[customer.RowReport] = []
        position = 0
        with _progress(self._out) as progress:
            task = progress.add_task("importing customers", total=len(rows))
            chunks = import_chunks(import_id, "customers.csv", rows)
            async for answer in self._office.customer.ImportCustomers(chunks):
                reports += answer.rows
                position = answer.position
                progress.update(task, advance=CHUNK_ROWS)
        created = [row for row in reports if row.outcome == customer.ROW_OUTCOME_CREATED]
        refused = [row for row in reports if row.outcome != customer.ROW_OUTCOME_CREATED]
        dealers = {row.customer_id: rows[row.row - 1].dealer_id for row in created}
        self._report.figures(
            "Customers", [("rows", len(rows)), ("imported", len(created)), ("not", len(refused))]
        )
        samples = {(row.field, row.reason): row for row in reversed(refused)}
        counts = {key: sum((row.field, row.reason) == key for row in refused) for key in samples}
        self._report.rows(
            "Rows that were not imported",
            ("field", "reason", "rows", "first"),
            [(*key, counts[key], samples[key].row) for key in sorted(counts)],
        )
        self._report.expect("rows reported", len(reports), len(rows))
        self._report.expect("rows not imported", len(refused), BAD_ROWS)
        stored = await self._office.customer.GetImport(
            customer.GetImportRequest(import_id=import_id, page_size=100), after=position
        )
        self._report.expect("stored import report", (stored.created, stored.rows), (len(created), len(rows)))
        with_vehicle = [row.customer_id for row in created if rows[row.row - 1].vin][: REPAIRS + 5]
        self._owners = await owners_of(self._office, with_vehicle, dealers)

    async def _sell(self) -> None:
        showroom = Showroom(self._stores, self._now)
        with self._out.status("receiving vehicles, capturing leads"):
            vehicles = await showroom.receive_stock()
            leads = await showroom.capture_leads()
        await self._settle()
        # Looked at now: quarantined documents expire in the months to come.
        listed = await self._office.sales.ListQuarantinedLeads(lead_pb2.ListQuarantinedLeadsRequest())
        self._quarantined = list(listed.leads)
        with self._out.status("selling and delivering"):
            self._buyers = await showroom.sell(vehicles, leads)
        self._report.expect("leads", len(leads), LEADS - MALFORMED)
        self._report.expect("cars sold", len(self._buyers), SOLD)

    async def _serve(self) -> None:
        workshop = Workshop(self._stores, self._now)
        with self._out.status("repairing"):
            repaired = await workshop.repair_all(self._owners)
        with self._out.status("handling complaints"):
            complaints = await workshop.complain_all(self._owners[REPAIRS - COMPLAINTS :])
        self._report.expect("repair orders", len(repaired), REPAIRS)
        self._report.expect("complaints", len(complaints), COMPLAINTS)
        await self._settle()

    async def _follow_up(self) -> None:
        """Let time pass: a week for return visits, then the months until maintenance and insurance."""
        answered = 0
        with _progress(self._out) as progress:
            steps = (4, 5, 83, 245)
            task = progress.add_task("letting months pass", total=len(steps))
            for days in steps:
                await self._set_clock(self._now + timedelta(days=days))
                await self._settle_after_timers()
                answered += await Workshop(self._stores, self._now).answer_return_visits()
                await self._settle()
                progress.advance(task)
        self._report.expect("return visits answered", answered, SOLD + REPAIRS + COMPLAINTS + 1)

    async def _settle_after_timers(self) -> None:
        """Timers look every second; what they start settles after that."""
        await asyncio.sleep(2.5)
        await self._settle()

    async def _show(self) -> None:
        with self._out.status("waiting for the last receipts"):
            await self._settle()
        await self._show_sales()
        await self._show_service()
        await self._show_messages()
        await self._show_history()
        # What was shown is noted down in the audit, as every look at personal data.
        await self._settle()
        await self._show_store()

    async def _show_sales(self) -> None:
        sales = self._office.sales
        funnel = await sales.GetFunnel(opportunity_pb2.GetFunnelRequest())
        delivered = await sales.ListOrders(
            order_pb2.ListOrdersRequest(state=order_pb2.ORDER_STATE_DELIVERED, page_size=100)
        )
        stages = {opportunity_pb2.Stage.Name(line.stage): line.count for line in funnel.stages}
        self._report.figures(
            "Sales",
            [
                ("leads in", funnel.leads.total),
                ("leads quarantined", len(self._quarantined)),
                ("leads converted", funnel.leads.converted),
                ("opportunities won", stages.get("STAGE_WON", 0)),
                ("opportunities lost", stages.get("STAGE_LOST", 0)),
                ("cars sold and delivered", len(delivered.orders)),
            ],
        )
        self._report.rows(
            "Quarantined leads",
            ("store", "reason"),
            [(lead.dealer_id, lead.reason) for lead in self._quarantined],
        )
        self._report.expect("leads quarantined", len(self._quarantined), MALFORMED)
        self._report.expect("won", stages.get("STAGE_WON", 0), SOLD)
        self._report.expect("lost", stages.get("STAGE_LOST", 0), LOST)
        self._report.expect("delivered", len(delivered.orders), SOLD)

    async def _show_service(self) -> None:
        desk = self._office.desk
        orders = await desk.ListRepairOrders(repair_order_pb2.ListRepairOrdersRequest(page_size=500))
        done = [
            o for o in orders.repair_orders if o.status == repair_order_pb2.REPAIR_ORDER_STATUS_HANDED_BACK
        ]
        reworked = sum(order.failed_inspections for order in done)
        open_complaints = await desk.ListOpenComplaints(complaint_pb2.ListOpenComplaintsRequest())
        visits = await desk.ListReturnVisits(care_pb2.ListReturnVisitsRequest(page_size=500))
        reminders = await desk.ListReminders(care_pb2.ListRemindersRequest(page_size=500))
        due = [one for one in reminders.reminders if one.became_due_at.seconds]
        kinds = {kind: sum(one.kind == kind for one in due) for kind in {one.kind for one in due}}
        self._report.figures(
            "Service",
            [
                ("repair orders handed back", len(done)),
                ("inspections failed and reworked", reworked),
                ("complaints closed", COMPLAINTS - len(open_complaints.complaints)),
                ("return visits", len(visits.return_visits)),
                *((_words(care_pb2.ReminderKind.Name(kind)), count) for kind, count in sorted(kinds.items())),
            ],
        )
        self._report.expect("handed back", len(done), REPAIRS)
        self._report.expect("reworked", reworked, 1)
        self._report.expect("open complaints", len(open_complaints.complaints), 0)
        self._report.expect(
            "first maintenance due", kinds.get(care_pb2.REMINDER_KIND_FIRST_MAINTENANCE, 0), SOLD
        )
        self._report.expect("insurance due", kinds.get(care_pb2.REMINDER_KIND_INSURANCE_RENEWAL, 0), SOLD)

    async def _show_messages(self) -> None:
        counted = await self._office.notify.CountNotifications(notify_pb2.CountNotificationsRequest())
        self._report.rows(
            "Messages",
            ("channel", "state", "messages"),
            [
                (
                    _words(notify_pb2.Channel.Name(line.channel)),
                    _words(notify_pb2.State.Name(line.state)),
                    line.count,
                )
                for line in counted.counts
            ],
        )
        arrived = await self._arrived()
        sent = sum(
            line.count
            for line in counted.counts
            if line.state in (notify_pb2.STATE_ACCEPTED, notify_pb2.STATE_DELIVERED)
        )
        unfinished = (notify_pb2.STATE_QUEUED, notify_pb2.STATE_DEFERRED, notify_pb2.STATE_ATTEMPTING)
        self._report.expect("messages sent and arrived", len(arrived), sent)
        self._report.expect("messages twice", once_per_reason(arrived), [])
        self._report.expect("requests repeated", sum(message["repeats"] for message in arrived), 0)
        self._report.expect("unsent", sum(c.count for c in counted.counts if c.state in unfinished), 0)
        dead = sum(c.count for c in counted.counts if c.state == notify_pb2.STATE_DEAD)
        self._report.expect("dead letters", dead, 0)
        for channel in ("sms", "email"):
            of_channel = [message for message in arrived if message["channel"] == channel]
            self._report.expect_true(f"no {channel} arrived", bool(of_channel))
            if of_channel:
                self._report.message(of_channel[-1])

    async def _arrived(self) -> list[dict[str, Any]]:
        url = f"http://{self._platform.addresses['http']}/messages"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            found: dict[str, list[dict[str, Any]]] = await response.json()
            return found["messages"]

    async def _show_history(self) -> None:
        buyer = self._buyers[0]
        history = await self._office.customer.GetCustomerHistory(
            customer.GetCustomerHistoryRequest(customer_id=buyer, page_size=200)
        )
        profile = await self._office.customer.GetCustomer(customer.GetCustomerRequest(customer_id=buyer))
        self._report.rows(
            f"The history of {profile.name}",
            ("time", "history", "event", "detail"),
            [
                (
                    entry.time.ToDatetime(UTC).astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M"),
                    _words(customer.HistoryKind.Name(entry.kind)),
                    entry.event_type,
                    entry.detail,
                )
                for entry in history.entries
            ],
        )
        kinds = {_words(customer.HistoryKind.Name(entry.kind)) for entry in history.entries}
        wanted = {"profile", "intention", "test drive", "purchase", "insurance", "return visit", "reminder"}
        self._report.expect("histories missing", sorted(wanted - kinds), [])

    async def _show_store(self) -> None:
        connection = await asyncpg.connect(self._platform.environment["DATABASE_URL"])
        try:
            types = await connection.fetch(
                "SELECT type, count(*) AS n FROM events.event GROUP BY 1 ORDER BY 1"
            )
            head = await connection.fetchval("SELECT max(position) FROM events.event")
            lags = []
            for service in SERVICES:
                read = await connection.fetchval(
                    f"SELECT min(position) FROM \"{service}\".projection WHERE state = 'active'"
                )
                lags.append((f"projection {service}", head - read))
            relays = await connection.fetch(
                "SELECT name, position FROM messaging.relay_checkpoint ORDER BY 1"
            )
            lags += [(f"relay {row['name']}", head - row["position"]) for row in relays]
        finally:
            await connection.close()
        counts = {row["type"]: row["n"] for row in types}
        self._report.rows("Events in the store", ("type", "events"), list(counts.items()))
        self._report.expect("reserved, then ordered", counts.get("sales.ReservationConfirmed", 0), SOLD)
        self._report.figures("Lag at the end, in events", [("events in the store", head), *lags])
        self._report.expect("lag", [lag for lag in lags if lag[1]], [])
        self._report.expect_true("fewer relays than services", len(lags) >= 2 * len(SERVICES))


def next_monday(now: datetime) -> datetime:
    """Nine in the morning of the next Monday in Shanghai, so that a day of work lies ahead."""
    local = now.astimezone(SHANGHAI) + timedelta(days=1)
    local += timedelta(days=-local.weekday() % 7)
    return local.replace(hour=9, minute=0, second=0, microsecond=0).astimezone(UTC)


def _words(enum_name: str) -> str:
    """``HISTORY_KIND_TEST_DRIVE`` as ``test drive``."""
    for prefix in ("HISTORY_KIND_", "REMINDER_KIND_", "CHANNEL_", "STATE_"):
        enum_name = enum_name.removeprefix(prefix)
    return enum_name.lower().replace("_", " ")


def _progress(out: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=out
    )


async def _stay(platform: Platform, out: Console) -> None:
    """Say where to look, and wait until somebody has."""
    for name, page in platform.pages.items():
        out.print(f"{name}: {page}")
    out.print(STAYING)
    await asyncio.to_thread(sys.stdin.readline)


async def main() -> int:
    """Start the platform, play the day, report. The exit status."""
    parser = argparse.ArgumentParser(prog="demo", description="Plays a dealer group's day and reports.")
    parser.add_argument("--data", type=Path, default=Path("var/demo"), help="data folder, emptied first")
    parser.add_argument(
        "--stay", action="store_true", help="in the end wait for Enter, so that one can look around"
    )
    options = parser.parse_args()
    out = Console(width=None if sys.stdout.isatty() else 110)
    shutil.rmtree(options.data / "postgres", ignore_errors=True)
    shutil.rmtree(options.data / "rabbitmq", ignore_errors=True)
    report = Report(out)
    out.print("starting PostgreSQL, RabbitMQ and the platform ...")
    async with (
        servers_of_its_own() as environment,
        Platform(options.data, together=True, clock="virtual", environment=environment) as platform,
        grpc.aio.insecure_channel(
            platform.addresses["grpc"], options=[("grpc.max_receive_message_length", 16_000_000)]
        ) as channel,
    ):
        await Day(platform, channel, report).play()
        if options.stay:
            await _stay(platform, out)
    return report.finish()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except ConfigError as error:
        print(f"configuration: {error}", file=sys.stderr)
        sys.exit(2)
