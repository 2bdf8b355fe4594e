"""Rebuilding read models on real PostgreSQL: complete, resumable, compared, switched under load."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forecourt import migrations
from forecourt.errors import Unavailable
from forecourt.events import Event
from forecourt.eventstore.memory import MemoryEventStore
from forecourt.projections import rebuild, tables
from forecourt.projections.folding import RowCache, load_target
from forecourt.projections.follower import Follower
from forecourt.projections.projection import Projection
from forecourt.projections.queries import NotYetThere, ReadModels
from forecourt.projections.rebuild import NothingBuilt, Rebuild, RebuildUnderWay
from tests.integration.projection_shop import (
    Bank,
    Closed,
    Deposited,
    Moved,
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


def rebuilding(shop: Bank, projection: Any) -> Rebuild:
    return Rebuild("bank", projection, shop.store, shop.codec, shop.pool)


async def test_progress_goes_up_to_the_end_of_the_store(shop: Bank) -> None:
    position = await tell_history(shop, range(1, 60))
    seen: list[tuple[int, int]] = []
    built = await rebuilding(shop, bank()).run(lambda done, total: seen.append((done, total)))
    assert seen[-1] == (position, position)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert (built.position, built.quarantined, built.difference) == (position, 0, None)
    ignored = sum(isinstance(event, Noted) for _, events in some_history(range(1, 60)) for event in events)
    assert built.events == position - ignored


async def test_a_killed_build_goes_on_where_it_was(shop: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = bank()
    await rebuilding(shop, accounts).run()
    position = await tell_history(shop, range(1, 400))
    seen: list[int] = []

    class Killed(Exception):
        pass

    def progress(done: int, _total: int) -> None:
        seen.append(done)
        if len(seen) == 3:
            raise Killed

    pages = _small_pages(shop, monkeypatch)
    with pytest.raises(Killed):
        await rebuilding(shop, accounts).build(progress)
    committed = await shop.position("account", "building")
    assert 0 < committed < position
    assert committed == seen[-1]
    pages.clear()
    await rebuilding(shop, accounts).run()
    assert min(pages) == committed, "what was committed is not read again"
    assert await shop.position("account") == position
    assert len(await shop.rows("account")) > 300


async def test_the_old_one_goes_on_while_the_new_one_is_built_and_switched_to(shop: Bank) -> None:
    """Readers always find a whole read model, and writers never wait for long."""
    accounts, entries = bank(), journal()
    read_models = ReadModels(shop.pool, "bank", [accounts, entries])
    await tell_history(shop, range(1, 200))
    counts: list[int] = []
    done = asyncio.Event()

    async def read() -> None:
        while not done.is_set():
            counts.append(await read_models.total(entries))
            await asyncio.sleep(0)

    async with running(shop.runner(accounts, entries)):
        await shop.reached(await tell_history(shop, range(200, 220)), "account", "entry")
        reader = asyncio.create_task(read())
        for start in (300, 400):
            builds = asyncio.gather(rebuilding(shop, entries).run(), rebuilding(shop, accounts).run())
            position = await tell_history(shop, range(start, start + 60))
            await builds
        position = await tell_history(shop, range(500, 520))
        await shop.reached(position, "account", "entry")
        await read_models.wait_for(entries, position, 10)
        done.set()
        await reader
    assert counts == sorted(counts), "a switch never goes back in time"
    before = await shop.rows("entry"), await shop.rows("account")
    await rebuilding(shop, entries).run()
    await rebuilding(shop, accounts).run()
    assert (await shop.rows("entry"), await shop.rows("account")) == before
    await read_models.close()


async def test_the_same_version_again_takes_the_name_and_the_indexes(shop: Bank) -> None:
    accounts = bank()
    await rebuilding(shop, accounts).run()
    before = await _indexes(shop)
    await tell_history(shop, range(1, 10))
    await rebuilding(shop, accounts).run()
    retired = (await tables.registered(shop.pool, "bank"))[0]
    assert (retired.state, retired.relation) == ("retired", f"account_v1_r{retired.id}")
    assert await rebuild.drop_retired(shop.pool, "bank", "account") == [retired.relation]
    assert await _indexes(shop) == before
    await tables.migrate(shop.pool, "bank", [accounts])
    assert await _indexes(shop) == before


async def test_equal_builds_show_no_difference(shop: Bank) -> None:
    accounts = bank()
    async with running(shop.runner(accounts)):
        position = await tell_history(shop, range(1, 80))
        await shop.reached(position, "account")
        again = rebuilding(shop, accounts)
        await again.build()
        await tell_history(shop, range(100, 110))
        difference = await again.diff()
    assert difference is not None
    assert difference.equal
    assert difference.rows_old == difference.rows_new > 0
    assert difference.keys == ()


async def test_a_difference_names_rows_and_counts(shop: Bank) -> None:
    accounts = bank()
    async with running(shop.runner(accounts)):
        await shop.reached(await tell_history(shop, range(1, 7)), "account")
    await shop.pool.execute("UPDATE bank.account_v1 SET balance = 999 WHERE account_id = $1", account(2))
    await shop.pool.execute("DELETE FROM bank.account_v1 WHERE account_id = $1", account(3))
    again = rebuilding(shop, accounts)
    await again.build()
    difference = await again.diff()
    assert difference is not None
    assert not difference.equal
    assert (difference.rows_old, difference.rows_new) == (5, 6)
    assert set(difference.keys) == {(account(2),), (account(3),)}
    await again.abandon()
    assert await shop.pool.fetchval("SELECT to_regclass('bank.account_v1_next')") is None
    with pytest.raises(NothingBuilt):
        await again.switch()


async def test_a_new_version_is_compared_by_the_columns_that_both_have(shop: Bank) -> None:
    await tell_history(shop, range(1, 7))
    await rebuilding(shop, bank()).run()
    await shop.pool.execute("ALTER TABLE bank.account_v1 DROP COLUMN brand CASCADE")
    second = rebuilding(shop, bank(version=2))
    await second.build()
    difference = await second.diff()
    assert difference is not None
    assert difference.equal
    assert "brand" not in difference.columns
    assert "balance" in difference.columns


async def _age(shop: Bank, state: str, days: int) -> None:
    await shop.pool.execute(
        "UPDATE bank.projection SET updated_at = updated_at - $2::interval WHERE state = $1",
        state,
        timedelta(days=days),
    )


async def _tables(shop: Bank) -> set[str]:
    rows = await shop.pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'bank'")
    return {row["tablename"] for row in rows if row["tablename"].startswith("account_v")}


async def test_old_versions_and_builds_given_up_are_dropped_when_they_have_stood_still_for_a_day(
    shop: Bank,
) -> None:
    await tell_history(shop, range(1, 10))
    await rebuilding(shop, bank()).run()
    # Nobody had moved it for long before it was replaced.
    await _age(shop, "active", 9)
    second = bank(version=2)
    await rebuilding(shop, second).run()
    given_up = rebuilding(shop, second)
    await given_up.build()
    assert await rebuild.drop_left_over(shop.pool, "bank") == []
    assert await _tables(shop) == {"account_v1", "account_v2", "account_v2_next"}

    await _age(shop, "building", 2)
    async with given_up._alone():
        assert await rebuild.drop_left_over(shop.pool, "bank") == []
    await _age(shop, "retired", 2)
    await _age(shop, "active", 9)

    async def dropped() -> bool:
        return await _tables(shop) == {"account_v2"}

    async with running(shop.runner(second)):
        await eventually(dropped)
    assert [entry.state for entry in await tables.registered(shop.pool, "bank")] == ["active"]


async def test_two_builders_at_once_are_refused(shop: Bank) -> None:
    accounts = bank()
    first = rebuilding(shop, accounts)
    async with first._alone():
        with pytest.raises(RebuildUnderWay):
            await rebuilding(shop, accounts).build()


async def test_a_version_that_is_not_built_is_not_read(shop: Bank) -> None:
    await tell_history(shop, range(1, 10))
    await rebuilding(shop, bank()).run()
    second = bank(version=2)
    await rebuilding(shop, second).build()
    read_models = ReadModels(shop.pool, "bank", [second])
    with pytest.raises(NotYetThere):
        await read_models.wait_for(second, 1, 0.1)
    with pytest.raises(Unavailable, match="not built yet"):
        await read_models.get(second, account(1))
    await read_models.close()


EVENTS = st.one_of(
    st.builds(
        Opened, owner=st.sampled_from(["a", "b", "poison"]), tags=st.sampled_from([(), ("x",), ("x", "y")])
    ),
    st.builds(Deposited, amount=st.integers(-100, 100)),
    st.builds(Moved, to=st.sampled_from([account(n) for n in range(4)]), amount=st.integers(1, 9)),
    st.just(Closed()),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    history=st.lists(st.tuples(st.integers(0, 3), EVENTS), min_size=1, max_size=25),
    page=st.integers(1, 7),
    cached=st.integers(1, 5),
)
def test_replay_determinism(
    database_url: str, history: Sequence[tuple[int, Event]], page: int, cached: int
) -> None:
    """In whatever batches the events come, and whatever is cached: rows and quarantine are those of a rebuild."""
    asyncio.run(_incremental_equals_rebuild(database_url, history, page, cached))


async def _incremental_equals_rebuild(
    database_url: str, history: Sequence[tuple[int, Event]], page: int, cached: int
) -> None:
    projections: list[Projection[Any]] = [bank(), journal(), flows()]
    async with open_bank(database_url) as shop:
        await shop.pool.execute("DROP SCHEMA IF EXISTS bank CASCADE")
        await shop.pool.execute("DELETE FROM forecourt.migration WHERE schema = 'bank'")
        await migrations.apply(shop.pool, [migrations.service("bank")])
        shop.store = MemoryEventStore()
        await tables.migrate(shop.pool, "bank", projections)
        for number, event in history:
            await shop.tell(account(number), event)
        async with shop.pool.acquire() as connection:
            known = await tables.registered(connection, "bank")
            for projection in projections:
                entry = tables.find(known, projection, "active")
                assert entry is not None
                target = await load_target(connection, shop.codec.registry, "bank", projection, entry)
                target.cache = RowCache(cached)
                one = Follower(shop.pool, "bank", shop.codec, [target])
                await one.follow(shop.store.read_all(categories=one.categories, page=page))
        for projection in projections:
            before = await shop.rows(projection.name), await _put_aside(shop, projection.name)
            await rebuilding(shop, projection).run()
            assert (await shop.rows(projection.name), await _put_aside(shop, projection.name)) == before


async def _put_aside(shop: Bank, name: str) -> list[tuple[int, str]]:
    found = await rebuild.quarantined(shop.pool, "bank")
    return [(each.position, each.reason) for each in found if each.projection == name]


async def _indexes(shop: Bank) -> list[str]:
    rows = await shop.pool.fetch(
        "SELECT indexname FROM pg_indexes WHERE schemaname = 'bank' AND tablename = 'account_v1' ORDER BY 1"
    )
    return [row["indexname"] for row in rows]


def _small_pages(shop: Bank, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the store hand out pages of 50; answers where reading began, each time."""
    starts: list[int] = []
    real = shop.store.read_all

    def read_all(*, after: int = 0, categories: Any = None, page: int = 50) -> Any:
        starts.append(after)
        return real(after=after, categories=categories, page=50)

    monkeypatch.setattr(shop.store, "read_all", read_all)
    return starts
