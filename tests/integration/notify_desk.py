"""The parts of notify on real servers: PostgreSQL, the sandbox's sockets, the projection runner; a clock by hand."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import asyncpg

from forecourt.clock import ManualClock
from forecourt.codec import Codec
from forecourt.command_handler import CommandHandler
from forecourt.deciders import Context
from forecourt.eventstore.port import NewEvent
from forecourt.eventstore.postgres import PostgresEventStore
from forecourt.projections import tables
from forecourt.projections.queries import ReadModels, eq
from forecourt.projections.runner import ProjectionRunner
from forecourt.testing.given import an_id
from forecourt.testing.probes import poll_async
from notify.composition import make_sender
from notify.notification import RequestNotification, notification
from notify.read_models import HistoryRow, NotificationRow, contacts, history, notifications
from notify.sandbox.faults import Fault
from notify.sandbox.server import Sandbox
from notify.sender import Sender
from notify.service import service
from notify.settings import SANDBOX_KEY, SANDBOX_SID, SANDBOX_TOKEN, NotifySettings

NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
CUSTOMER = an_id("customer")
NUMBER, MAIL = "+8613800000001", "wang@example.com"


@dataclass
class Desk:
    """Asks for messages and looks what became of them."""

    pool: Any
    store: PostgresEventStore
    sandbox: Sandbox
    clock: ManualClock
    codec: Codec
    commands: CommandHandler
    read_models: ReadModels
    environment: Mapping[str, Any]
    position: int = 0

    def sender(self, **settings: Any) -> Sender:
        """A sender as a process of its own would have it: own command handler, own claims."""
        return make_sender(
            NotifySettings(**{**self.environment, **settings}),
            commands=CommandHandler(self.store, self.codec),
            read_models=self.read_models,
            pool=self.pool,
            clock=self.clock,
        )

    async def ask(self, label: str, channel: Any = "sms", **changes: Any) -> UUID:
        """Ask for a message; its id."""
        values: dict[str, Any] = {
            "notification_id": an_id(label),
            "customer_id": CUSTOMER,
            "category": "contract",
            "channel": channel,
            "rule": "vehicle_arrived",
            "reason_event_id": an_id(f"reason {label}"),
            "reason_event_type": "sales.VehicleArrived",
            "reason_stream": f"order-{an_id('order')}",
            "consent": "contract",
            "template": "vehicle_arrived",
            "template_version": 1,
            "language": "zh",
            "time_zone": "Asia/Shanghai",
            "address": NUMBER if channel == "sms" else MAIL,
            "subject": "" if channel == "sms" else "您的爱车已到店",
            "text": f"message {label}",
            "html": "" if channel == "sms" else f"<p>message {label}</p>",
            "lifetime_hours": 48,
            "expires_at": changes.get("defer_until", self.clock.now()) + timedelta(hours=48),
        }
        await self.run(RequestNotification(**{**values, **changes}))
        return an_id(label)

    async def run(self, command: Any) -> None:
        """Execute a command, and wait until the read models show it."""
        context = Context(
            self.clock.now(), uuid4(), uuid4(), actor_id="test", dealer_id="D001", brand="hongtong"
        )
        outcome = await self.commands.execute(notification, command, context)
        self.position = max(self.position, outcome.position)
        await self.fresh()

    async def customer(self, event: str, customer_id: UUID = CUSTOMER, **data: Any) -> None:
        """Have the customer service tell something."""
        stream = f"customer-{customer_id}"
        sequence = 0
        async for page in self.store.read_stream(stream):
            sequence = page[-1].sequence
        new = NewEvent(
            id=uuid5(customer_id, f"{event}{sequence}"),
            type=f"customer.{event}",
            version=1,
            time=self.clock.now(),
            data=json.dumps(data, ensure_ascii=False),
            correlation_id=uuid4(),
            dealer_id="D001",
            brand="hongtong",
        )
        self.position = (await self.store.append(stream, [new], expected=sequence)).position
        await self.fresh()

    async def fresh(self) -> None:
        """Wait until the read models have taken in everything."""
        head = await self.store.head()
        for projection in (notifications, history, contacts):
            await self.read_models.wait_for(projection, head, 10)

    async def row(self, label: str) -> NotificationRow:
        """A message as it stands."""
        await self.fresh()
        row = await self.read_models.get(notifications, an_id(label))
        assert row is not None
        return row

    async def events(self, label: str) -> list[str]:
        """What happened to a message, with details."""
        await self.fresh()
        rows: list[HistoryRow] = await self.read_models.all(
            history, where=[eq("notification_id", an_id(label))], order=["sequence"]
        )
        return [f"{row.event}({row.provider})" if row.provider else row.event for row in rows]

    async def drain(self, *senders: Sender) -> None:
        """Run senders until nothing is due any more at the present time."""
        for _ in range(20):
            handled = await asyncio.gather(*(sender.run(0.05) for sender in senders))
            await self.fresh()
            if not any(handled):
                return
        raise AssertionError("senders do not come to rest")

    def fault(self, provider: Any, kind: Any, **more: Any) -> None:
        """Have the sandbox misbehave."""
        self.sandbox.faults.set(Fault(provider=provider, kind=kind, **more))

    def arrived(self, **filters: str) -> list[str]:
        """Texts that arrived."""
        return sorted(message.text for message in self.sandbox.evidence.find(**filters))

    async def until(self, label: str, state: str) -> NotificationRow:
        """Wait for a state, which comes by itself."""

        async def there() -> NotificationRow | None:
            row = await self.row(label)
            return row if row.state == state else None

        found = await poll_async(there, what=f"{label} to be {state}")
        assert found is not None
        return found


@contextlib.asynccontextmanager
async def open_desk(database_url: str, callback_url: str = "") -> AsyncIterator[Desk]:
    """A desk on an empty database."""
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(asyncpg.create_pool(database_url, min_size=1, max_size=16))
        store = await PostgresEventStore.open(database_url)
        stack.push_async_callback(store.close)
        await store.migrate()
        sandbox = await stack.enter_async_context(
            Sandbox(SANDBOX_KEY, SANDBOX_SID, SANDBOX_TOKEN, receipt_seconds=0.02)
        )
        codec = Codec(service.registry)
        read_models = ReadModels(pool, "notify")
        stack.push_async_callback(read_models.close)
        await stack.enter_async_context(_projecting(pool, store, codec))
        gateway = f"http://127.0.0.1:{sandbox.sms_port}"
        environment = {
            "notify_sms_generic_url": gateway,
            "notify_twilio_url": gateway,
            "notify_smtp_urls": (f"smtp://127.0.0.1:{sandbox.smtp_port}",),
            "notify_callback_url": callback_url or "http://127.0.0.1:9",
            "notify_timeout_seconds": 1.0,
            "notify_retry_delays": tuple(timedelta(seconds=s) for s in (10, 60, 300)),
        }
        desk = Desk(
            pool,
            store,
            sandbox,
            ManualClock(NOON),
            codec,
            CommandHandler(store, codec),
            read_models,
            environment,
        )
        yield desk


@contextlib.asynccontextmanager
async def _projecting(pool: Any, store: PostgresEventStore, codec: Codec) -> AsyncIterator[None]:
    await tables.migrate(pool, "notify", service.projections)
    stop = asyncio.Event()
    runner = ProjectionRunner("notify", service.projections, store, codec, pool)
    task = asyncio.create_task(runner.run(stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


def every(texts: Sequence[str]) -> list[str]:
    """Texts in the order that `Desk.arrived` answers them in."""
    return sorted(texts)
