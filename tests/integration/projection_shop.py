"""A small bank whose read models the projection tests run: events, projections, a store, and ways to fail."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID, uuid4, uuid5

import asyncpg
import msgspec
from msgspec.structs import replace

from forecourt.codec import Codec
from forecourt.events import Event, Meta
from forecourt.eventstore.port import EventStore, NewEvent
from forecourt.eventstore.postgres import PostgresEventStore
from forecourt.projections.projection import Index, Projection
from forecourt.projections.runner import ProjectionRunner
from forecourt.registry import Registry, build_registry
from forecourt.values import Money

T = TypeVar("T")
SPACE = UUID("0b9f8f14-6a1c-4a53-9a4e-6d9d3c9f9d10")
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


class Opened(Event, name="Opened", version=1):
    owner: str
    tags: tuple[str, ...] = ()


class Deposited(Event, name="Deposited", version=1):
    amount: int


class Moved(Event, name="Moved", version=1):
    to: UUID
    amount: int


class Closed(Event, name="Closed", version=1):
    pass


class Noted(Event, name="Noted", version=1):
    """Not of any interest to a read model."""

    text: str


class AccountRow(msgspec.Struct, frozen=True):
    account_id: UUID
    owner: str
    balance: int
    tags: tuple[str, ...]
    limit: Money | None
    rate: Decimal
    opened_at: datetime | None
    dealer_id: str
    brand: str


class EntryRow(msgspec.Struct, frozen=True):
    event_id: UUID
    account_id: UUID
    kind: str
    position: int


class FlowRow(msgspec.Struct, frozen=True):
    source: UUID
    target: UUID
    total: int


def bank(name: str = "account", *, version: int = 1, factor: int = 1) -> Projection[AccountRow]:
    """Accounts with their balance. An owner of "poison" makes the handler raise, "\\0" the database refuse."""
    accounts = Projection(
        name,
        version=version,
        row=AccountRow,
        key="account_id",
        indexes=["dealer_id", Index(("owner",), trigram=True), Index(("tags",), kind="gin")],
    )

    @accounts.on()
    def _opened(row: AccountRow | None, e: Opened, m: Meta) -> AccountRow:
        if e.owner == "poison":
            raise RuntimeError(e.owner)
        balance = 0 if row is None else row.balance
        limit = Money(amount=Decimal("10.50"), currency="CNY") if e.tags else None
        return AccountRow(
            m.stream_id, e.owner, balance, e.tags, limit, Decimal("1.10"), m.time, m.dealer_id, m.brand
        )

    @accounts.on()
    def _deposited(row: AccountRow | None, e: Deposited, m: Meta) -> AccountRow | None:
        return row and replace(row, balance=row.balance + e.amount * factor)

    @accounts.on(key=lambda e, m: [m.stream_id, e.to])
    def _moved(row: AccountRow | None, e: Moved, m: Meta) -> AccountRow | None:
        if row is None:
            return None
        amount = e.amount if row.account_id == e.to else -e.amount
        return replace(row, balance=row.balance + amount * factor)

    @accounts.on()
    def _closed(row: AccountRow | None, e: Closed, m: Meta) -> None:
        return None

    return accounts


def journal() -> Projection[EntryRow]:
    """One row per event."""
    entries = Projection("entry", version=1, row=EntryRow, key="event_id", indexes=["account_id"])

    @entries.on(Opened, Deposited, Closed, key=lambda e, m: m.id)
    def _entry(row: EntryRow | None, e: Event, m: Meta) -> EntryRow:
        return EntryRow(m.id, m.stream_id, e.event_name, m.position)

    return entries


def flows() -> Projection[FlowRow]:
    """What went from one account to another: a key of two columns."""
    found = Projection("flow", version=1, row=FlowRow, key=("source", "target"))

    @found.on(key=lambda e, m: (m.stream_id, e.to))
    def _flow(row: FlowRow | None, e: Moved, m: Meta) -> FlowRow:
        return FlowRow(m.stream_id, e.to, e.amount + (0 if row is None else row.total))

    return found


def bank_registry() -> Registry:
    return build_registry("bank", [("account", [Opened, Deposited, Moved, Closed, Noted])])


def account(number: int) -> UUID:
    return uuid5(SPACE, f"account {number}")


async def eventually(probe: Callable[[], Awaitable[T]], *, seconds: float = 30.0) -> T:
    """The first true answer of ``probe``, asked again and again."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"still {answer!r} after {seconds} s"
        await asyncio.sleep(0.02)


class Bank:
    """A store and a pool on one database, and what is known of the streams written so far."""

    def __init__(self, pool: Any, store: EventStore) -> None:
        self.pool = pool
        self.store = store
        self.codec = Codec(bank_registry())
        self._versions: dict[UUID, int] = {}

    async def tell(self, account_id: UUID, *events: Event, dealer: str = "D001") -> int:
        """Append events to an account's stream; answers the position."""
        data = await self.codec.encode(
            f"account-{account_id}", events, after=self._versions.get(account_id, 0)
        )
        rows = [(f"bank.{event.event_name}", text) for event, text in zip(events, data, strict=True)]
        return await self.tell_raw(account_id, *rows, dealer=dealer)

    async def tell_raw(
        self, account_id: UUID, *events: tuple[str, str], dealer: str = "D001", version: int = 1
    ) -> int:
        """Append (type, data) pairs as they are."""
        known = self._versions.get(account_id, 0)
        new = [
            NewEvent(
                id=uuid4(),
                type=kind,
                version=version,
                time=START + timedelta(seconds=known + index),
                data=data,
                correlation_id=SPACE,
                dealer_id=dealer,
                brand="hongtong",
                actor_id="tester",
            )
            for index, (kind, data) in enumerate(events)
        ]
        result = await self.store.append(f"account-{account_id}", new, expected=known)
        self._versions[account_id] = result.sequence
        return result.position

    async def rows(self, name: str) -> list[tuple[Any, ...]]:
        """All rows of a read model, by its view, as text in a fixed order."""
        found = await self.pool.fetch(f'SELECT t::text AS row FROM bank."{name}" AS t ORDER BY 1')
        return [tuple(row) for row in found]

    async def position(self, name: str, state: str = "active") -> int:
        try:
            found = await self.pool.fetchval(
                "SELECT position FROM bank.projection WHERE name = $1 AND state = $2", name, state
            )
        except (asyncpg.UndefinedTableError, asyncpg.PostgresConnectionError, OSError):
            return 0
        return int(found or 0)

    async def reached(self, position: int, *names: str) -> None:
        """Wait until read models are folded up to ``position``."""

        async def there() -> bool:
            return all([await self.position(name) >= position for name in names])

        await eventually(there)

    def runner(self, *projections: Projection[Any], store: EventStore | None = None) -> ProjectionRunner:
        return ProjectionRunner("bank", projections, store or self.store, self.codec, self.pool)


@contextlib.asynccontextmanager
async def open_bank(database_url: str, *, connections: int = 12) -> AsyncIterator[Bank]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=connections) as pool:
        store = await PostgresEventStore.open(database_url)
        await store.migrate()
        try:
            yield Bank(pool, store)
        finally:
            await store.close()


@contextlib.asynccontextmanager
async def running(*runners: ProjectionRunner) -> AsyncIterator[None]:
    """Runners at work; stopped, politely, at the end."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(runner.run(stop)) for runner in runners]
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 20)


def some_history(accounts: Sequence[int]) -> list[tuple[UUID, list[Event]]]:
    """A few events for each account."""
    found: list[tuple[UUID, list[Event]]] = []
    for number in accounts:
        tags = ("a,b", 'c"d\\e', "中文") if number % 3 == 0 else ()
        events: list[Event] = [Opened(owner=f"owner {number}", tags=tags), Deposited(amount=number)]
        if number % 5 == 0:
            events.append(Moved(to=account(max(0, number - 1)), amount=3))
        if number % 7 == 0:
            events += [Noted(text="x"), Closed()]
        found.append((account(number), events))
    return found
