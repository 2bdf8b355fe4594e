"""The runner of projections on real PostgreSQL: what it writes, what it survives, what it puts aside."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from forecourt.eventstore.memory import MemoryEventStore
from forecourt.projections import folding, follower, tables
from forecourt.projections.checkpoint import Moved, Standing, classify, move
from forecourt.projections.projection import Projection
from forecourt.projections.rebuild import Rebuild, drop_retired, quarantined
from forecourt.projections.runner import ProjectionRunner
from forecourt.projections.tables import TableMismatch
from forecourt.testing.probes import poll_async
from tests.integration.projection_shop import (
    Bank,
    Closed,
    Deposited,
    Noted,
    Opened,
    account,
    bank,
    eventually,
    flows,
    journal,
    open_bank,
    running,
    some_history,
)

pytestmark = pytest.mark.integration


@pytest.fixture
async def shop(database_url: str) -> AsyncIterator[Bank]:
    async with open_bank(database_url) as opened:
        yield opened


async def tell_history(shop: Bank, accounts: range) -> int:
    position = 0
    for account_id, events in some_history(accounts):
        position = await shop.tell(account_id, *events)
    return position


async def equals_a_rebuild(shop: Bank, *projections: Any) -> None:
    """Every read model is exactly what a fresh rebuild makes of the events."""
    for projection in projections:
        before = await shop.rows(projection.name)
        await Rebuild("bank", projection, shop.store, shop.codec, shop.pool).run()
        assert await shop.rows(projection.name) == before


async def test_events_become_rows_and_the_checkpoint_moves_with_them(shop: Bank) -> None:
    async with running(shop.runner(bank(), journal(), flows())):
        position = await tell_history(shop, range(1, 30))
        await shop.reached(position, "account", "entry", "flow")
    assert len(await shop.rows("account")) == 25
    row = await shop.pool.fetchrow("SELECT * FROM bank.account WHERE account_id = $1", account(3))
    assert (row["owner"], row["balance"], row["tags"]) == ("owner 3", 3, ["a,b", 'c"d\\e', "中文"])
    assert row["limit"] == '{"amount":"10.50","currency":"CNY"}'
    # 5 sent 3 to 4.
    assert await shop.pool.fetchval("SELECT balance FROM bank.account WHERE account_id = $1", account(4)) == 7


async def test_a_backlog_is_taken_in_as_well_as_single_events(shop: Bank) -> None:
    await tell_history(shop, range(1, 400))
    async with running(shop.runner(bank(), journal(), flows())):
        position = await tell_history(shop, range(400, 420))
        await shop.reached(position, "account", "entry", "flow")
    await equals_a_rebuild(shop, bank(), journal(), flows())


async def test_the_memory_store_feeds_read_models_too(shop: Bank) -> None:
    memory = Bank(shop.pool, MemoryEventStore())
    async with running(memory.runner(bank())):
        position = await memory.tell(account(1), Opened(owner="one"), Deposited(amount=5))
        await memory.reached(position, "account")
    assert len(await memory.rows("account")) == 1


async def test_an_event_of_no_interest_moves_the_checkpoint_too(shop: Bank) -> None:
    async with running(shop.runner(bank())):
        await shop.tell(account(1), Opened(owner="one"))
        position = await shop.tell(account(1), Noted(text="x"))
        await shop.reached(position, "account")


async def test_nothing_is_applied_twice_or_left_out_when_a_commit_fails(
    shop: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the write of the rows and the commit, every third time."""
    attempts = 0
    real = folding.write

    async def failing(connection: Any, changes: folding.Changes, *, bulk: bool) -> None:
        nonlocal attempts
        await real(connection, changes, bulk=bulk)
        attempts += 1
        if attempts % 3 == 1:
            raise ConnectionError("killed before the commit")

    monkeypatch.setattr(follower, "write", failing)
    async with running(shop.runner(bank(), journal())):
        for number in range(1, 12):
            position = await tell_history(shop, range(number * 10, number * 10 + 10))
            await shop.reached(position, "account", "entry")
    assert attempts > 10
    monkeypatch.undo()
    await equals_a_rebuild(shop, bank(), journal())


async def test_two_runners_at_once_do_the_work_once(shop: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where both believe that they hold the lease: the checkpoint decides."""
    monkeypatch.setattr("forecourt.projections.runner.lease", NoLease)
    first, second = shop.runner(bank(), journal()), shop.runner(bank(), journal())
    async with running(first, second):
        for number in range(1, 20):
            position = await tell_history(shop, range(number * 10, number * 10 + 10))
        await shop.reached(position, "account", "entry")
    await equals_a_rebuild(shop, bank(), journal())


async def test_a_standby_takes_over(shop: Bank) -> None:
    first, second = shop.runner(bank()), shop.runner(bank())
    stop = asyncio.Event()
    leader = asyncio.create_task(first.run(stop))
    await asyncio.wait_for(first.leading.wait(), 10)
    async with running(second):
        position = await shop.tell(account(1), Opened(owner="one"))
        await shop.reached(position, "account")
        assert not second.leading.is_set()
        leader.cancel()
        await asyncio.wait([leader])
        await asyncio.wait_for(second.leading.wait(), 10)
        position = await shop.tell(account(1), Deposited(amount=4))
        await shop.reached(position, "account")


def leading(schema: str = "bank") -> float | None:
    return REGISTRY.get_sample_value("forecourt_projection_leading", {"service": schema})


def measured() -> list[str]:
    """What is known of the read model of accounts."""
    names = [f"forecourt_projection_{name}" for name in ("lag_events", "lag_seconds", "quarantined")]
    labels = {"service": "bank", "projection": "account"}
    return [name for name in names if REGISTRY.get_sample_value(name, labels) is not None]


async def test_a_runner_that_never_led_says_so(shop: Bank) -> None:
    ProjectionRunner("idle", (), shop.store, shop.codec, shop.pool)
    ProjectionRunner("standby", (bank(),), shop.store, shop.codec, shop.pool)
    assert (leading("idle"), leading("standby")) == (None, 0)


async def test_what_was_measured_is_forgotten_with_the_lease(shop: Bank) -> None:
    """One that leads no more would report its last lag for as long as it lives."""
    async with running(shop.runner(bank())):
        await poll_async(lambda: leading() == 1, what="a leader")
        await poll_async(lambda: len(measured()) == 3, what="measures")
    assert (leading(), measured()) == (0, [])


async def test_a_runner_that_cannot_begin_does_not_lead(shop: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*_: Any) -> None:
        assert not leading()
        raise TableMismatch("account: has other columns")

    monkeypatch.setattr(ProjectionRunner, "_load", failing)
    runner = shop.runner(bank())
    async with running(runner):
        await poll_async(lambda: runner.problem, what="a problem")
        assert leading() == 0


async def test_a_runner_whose_connections_are_cut_goes_on(shop: Bank) -> None:
    async with running(shop.runner(bank(), journal())):
        for number in range(1, 6):
            position = await tell_history(shop, range(number * 10, number * 10 + 10))
            await shop.reached(position, "account", "entry")
            await _cut_connections(shop)
        position = await tell_history(shop, range(100, 110))
        await shop.reached(position, "account", "entry")
    await equals_a_rebuild(shop, bank(), journal())


async def test_a_runner_is_well_again_as_soon_as_it_works_again(shop: Bank) -> None:
    runner = shop.runner(bank())
    async with running(runner):
        await asyncio.wait_for(runner.leading.wait(), 10)
        await _cut_connections(shop)
        for wanted in (True, False):

            async def found(ill: bool = wanted) -> bool:
                return (runner.problem is not None) is ill

            await eventually(found)


async def test_what_stopped_a_runner_is_told_without_its_text(
    shop: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    def subscribe(**_: object) -> None:
        raise ValueError("Ouyang Fenshu")

    monkeypatch.setattr(shop.store, "subscribe", subscribe)
    runner = shop.runner(bank())

    async def problem() -> str | None:
        return runner.problem

    async with running(runner):
        assert await eventually(problem) == "ValueError"


async def test_an_event_that_makes_a_handler_raise_is_put_aside_alone(shop: Bank) -> None:
    async with running(shop.runner(bank(), journal())):
        await shop.tell(account(1), Opened(owner="one"))
        poisoned = await shop.tell(account(2), Opened(owner="poison"))
        await shop.tell(account(2), Deposited(amount=1))
        position = await shop.tell(account(1), Deposited(amount=7))
        await shop.reached(position, "account", "entry")
    assert len(await shop.rows("account")) == 1
    assert len(await shop.rows("entry")) == 4, "the other read model takes it in"
    aside = await quarantined(shop.pool, "bank")
    assert [(each.projection, each.position) for each in aside] == [
        ("account", poisoned),
        ("account", poisoned + 1),
    ]
    assert aside[0].reason.startswith("RuntimeError in _opened, line ")
    assert "poison" not in aside[0].reason, "a message may hold a person's data"
    assert aside[1].reason == "follows an event of its stream that was put aside"


async def test_later_events_of_a_stream_in_quarantine_are_put_aside_after_a_restart_too(shop: Bank) -> None:
    async with running(shop.runner(bank())):
        position = await shop.tell(account(2), Opened(owner="poison"))
        await shop.reached(position, "account")
    async with running(shop.runner(bank())):
        position = await shop.tell(account(2), Opened(owner="fine"), Deposited(amount=3))
        await shop.reached(position, "account")
    assert await shop.rows("account") == []
    assert len(await quarantined(shop.pool, "bank")) == 3


@pytest.mark.parametrize(
    ("kind", "data", "version"),
    [
        ("bank.Deposited", '{"amount":', 1),
        ("bank.Deposited", '{"amount":"many"}', 1),
        ("bank.Deposited", '{"sum":1}', 1),
        ("bank.Deposited", '{"amount":1}', 99),
    ],
)
async def test_an_event_that_cannot_be_decoded_is_put_aside(
    shop: Bank, kind: str, data: str, version: int
) -> None:
    memory = Bank(shop.pool, MemoryEventStore())
    async with running(memory.runner(bank())):
        await memory.tell(account(1), Opened(owner="one"))
        await memory.tell_raw(account(1), (kind, data), version=version)
        position = await memory.tell(account(2), Opened(owner="two"))
        await memory.reached(position, "account")
    assert [each.type for each in await quarantined(shop.pool, "bank")] == ["bank.Deposited"]
    assert len(await shop.rows("account")) == 2


async def test_a_row_that_no_column_can_hold_is_put_aside_alone(shop: Bank) -> None:
    await tell_history(shop, range(1, 200))
    await shop.tell(account(500), Opened(owner="five"), Deposited(amount=2**62), Deposited(amount=2**62))
    await shop.tell(account(501), Opened(owner="six"), Deposited(amount=2**62), Deposited(amount=2**63))
    position = await tell_history(shop, range(201, 400))
    async with running(shop.runner(bank(), journal())):
        await shop.reached(position, "account", "entry")
    aside = await quarantined(shop.pool, "bank")
    assert [each.stream for each in aside] == [f"account-{account(500)}", f"account-{account(501)}"]
    assert all(each.reason.startswith("row refused: ") for each in aside)
    assert (
        await shop.pool.fetchval("SELECT balance FROM bank.account WHERE account_id = $1", account(500))
        == 2**62
    )
    await equals_a_rebuild(shop, bank(), journal())


async def test_a_handler_with_many_rows_does_all_or_nothing(shop: Bank) -> None:
    accounts = bank()

    @accounts.on(key=lambda e, m: [account(1), account(2), account(3)])
    def _noted(row: Any, e: Noted, m: Any) -> Any:
        if row is not None and row.account_id == account(3):
            raise RuntimeError
        return None

    async with running(shop.runner(accounts)):
        for number in (1, 2, 3):
            await shop.tell(account(number), Opened(owner=str(number)))
        position = await shop.tell(account(4), Noted(text="x"))
        await shop.reached(position, "account")
    assert len(await shop.rows("account")) == 3


async def test_a_fix_and_a_rebuild_empty_the_quarantine(shop: Bank) -> None:
    async with running(shop.runner(bank())):
        position = await shop.tell(account(1), Opened(owner="poison"), Deposited(amount=3))
        await shop.reached(position, "account")
    fixed = bank()
    fixed.handlers[Opened] = bank("account").handlers[Opened][:0]

    @fixed.on()
    def _opened(row: Any, e: Opened, m: Any) -> Any:
        template = bank().handlers[Opened][0].fold
        return template(row, Opened(owner="cured"), m)

    built = await Rebuild("bank", fixed, shop.store, shop.codec, shop.pool).run()
    assert built.quarantined == 0
    assert await quarantined(shop.pool, "bank") == []
    assert await shop.pool.fetchval("SELECT balance FROM bank.account") == 3


async def test_a_new_projection_catches_up_beside_the_others(
    shop: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forecourt.projections.runner.TOGETHER", 10)
    position = await tell_history(shop, range(1, 50))
    async with running(shop.runner(bank())):
        await shop.reached(position, "account")
    async with running(shop.runner(bank(), journal())):
        position = await tell_history(shop, range(50, 60))
        await shop.reached(position, "account", "entry")
    await equals_a_rebuild(shop, bank(), journal())


async def test_a_new_version_is_built_and_switched_to(shop: Bank) -> None:
    async with running(shop.runner(bank())):
        position = await shop.tell(account(1), Opened(owner="one"), Deposited(amount=5))
        await shop.reached(position, "account")

    async def switched() -> bool:
        return bool(
            await shop.pool.fetchval(
                "SELECT count(*) FROM bank.projection WHERE name = 'account' AND version = 2 AND state = 'active'"
            )
        )

    async with running(shop.runner(bank(version=2, factor=10))):
        await eventually(switched)
        position = await shop.tell(account(1), Deposited(amount=1))
        await shop.reached(position, "account")
    assert await shop.pool.fetchval("SELECT balance FROM bank.account") == 60
    assert await shop.pool.fetchval("SELECT balance FROM bank.account_v1") == 5
    assert await drop_retired(shop.pool, "bank") == ["account_v1"]
    assert await shop.pool.fetchval("SELECT to_regclass('bank.account_v1')") is None


async def test_a_runner_stops_in_time_although_the_store_is_silent(shop: Bank) -> None:
    runner = shop.runner(bank())
    async with running(runner):
        await asyncio.wait_for(runner.leading.wait(), 10)
    assert not runner.leading.is_set()


async def test_migrating_twice_and_at_once_is_harmless(shop: Bank) -> None:
    projections: list[Projection[Any]] = [bank(), journal(), flows()]
    await asyncio.gather(*(tables.migrate(shop.pool, "bank", projections) for _ in range(4)))
    await tables.migrate(shop.pool, "bank", projections)
    assert len(await tables.registered(shop.pool, "bank")) == 3


async def test_a_table_with_other_columns_wants_a_new_version(shop: Bank) -> None:
    await tables.migrate(shop.pool, "bank", [bank()])
    await shop.pool.execute("ALTER TABLE bank.account_v1 RENAME COLUMN owner TO holder")
    with pytest.raises(TableMismatch, match=r"holder.*raise the projection's version"):
        await tables.migrate(shop.pool, "bank", [bank()])


async def test_a_checkpoint_moves_only_from_where_it_is_expected(shop: Bank) -> None:
    await tables.migrate(shop.pool, "bank", [bank()])
    entry = (await tables.registered(shop.pool, "bank"))[0]

    async def attempt(expected: int, position: int, relation: str = "account_v1") -> Moved:
        async with shop.pool.acquire() as connection, connection.transaction():
            return await move(connection, "bank", [Standing(entry.id, relation, expected)], position, "news")

    assert await attempt(0, 10) is Moved.OK
    assert await attempt(0, 10) is Moved.IGNORED
    assert await attempt(0, 5) is Moved.AHEAD
    assert await attempt(0, 20) is Moved.MISMATCH
    assert await attempt(10, 20, "account_v1_r7") is Moved.MISMATCH
    assert await attempt(10, 20) is Moved.OK


def test_checkpoints_of_several_read_models_are_judged_together() -> None:
    assert classify([7, 7], 2, 7) is Moved.IGNORED
    assert classify([8, 9], 2, 7) is Moved.AHEAD
    assert classify([7, 9], 2, 7) is Moved.MISMATCH
    assert classify([7], 2, 7) is Moved.MISMATCH


async def _cut_connections(shop: Bank) -> None:
    """End every other session of the database, as a restart does."""
    await shop.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


class NoLease:
    """A lease that everybody gets at once."""

    def __init__(self, pool: Any, name: str, stop: asyncio.Event) -> None:
        self._lost = asyncio.Event()

    async def __aenter__(self) -> asyncio.Event:
        return self._lost

    async def __aexit__(self, *_: object) -> None:
        return None


def swept_journal() -> Projection[Any]:
    """Every entry of an account is rewritten when the account is closed."""
    entries = journal()

    @entries.on_all(Closed, "account_id")
    def _forgotten(row: Any) -> Any:
        return msgspec.structs.replace(row, kind="forgotten")

    return entries


async def test_all_rows_of_somebody_are_rewritten_whether_in_the_database_in_memory_or_in_the_batch(
    shop: Bank,
) -> None:
    one, two, kept = account(1), account(2), account(3)
    for owner in (one, two, kept):
        await shop.tell(owner, Opened(owner="x"), Deposited(amount=1))
    async with running(shop.runner(swept_journal())):
        position = await shop.tell(one, Closed())
        await shop.reached(position, "entry")
    # A process that has none of the rows in memory, and a row that is new in the same batch.
    await shop.tell(two, Deposited(amount=2))
    position = await shop.tell(two, Closed())
    async with running(shop.runner(swept_journal())):
        await shop.reached(position, "entry")
        # Rows in memory are those of the database.
        position = await shop.tell(two, Deposited(amount=3))
        await shop.reached(position, "entry")
    rows = await shop.pool.fetch("SELECT account_id, kind, count(*) FROM bank.entry GROUP BY 1, 2")
    assert {(row["account_id"], row["kind"]): row["count"] for row in rows} == {
        (one, "forgotten"): 3,
        (two, "forgotten"): 4,
        (two, "Deposited"): 1,
        (kept, "Opened"): 1,
        (kept, "Deposited"): 1,
    }
