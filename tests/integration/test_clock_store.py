"""The shared virtual clock, on a real database: followed by others, never set back."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from forecourt.clock import ClockSetting, VirtualClock
from forecourt.clock_store import ClockFollower, ClockIsReal, ClockStore, TimeRunsForwardOnly
from forecourt.errors import InvalidInput
from forecourt.testing.probes import poll_async

pytestmark = pytest.mark.integration

FAR = datetime(2031, 12, 31, 23, 59, tzinfo=UTC)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=10) as pool:
        await ClockStore(pool).migrate()
        yield pool


async def test_a_new_clock_shows_real_time(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    setting = await ClockStore(pool).read()
    # The table's defaults read the server's clock twice.
    assert abs(setting.virtual - setting.real) < timedelta(milliseconds=10)
    assert setting.rate == 1.0


async def test_migrating_again_keeps_the_time(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    store = ClockStore(pool)
    await store.set(FAR, rate=0)
    await store.migrate()
    assert (await store.read()).virtual == FAR


async def test_followers_see_a_change_at_once(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    followers = [await ClockFollower.open(pool), await ClockFollower.open(pool)]
    try:
        await ClockStore(pool).set(FAR, rate=0)
        await poll_async(lambda: all(one.clock.now() == FAR for one in followers), timeout=5)
        await ClockStore(pool).advance(timedelta(minutes=1))
        await poll_async(lambda: followers[1].clock.now() == FAR + timedelta(minutes=1), timeout=5)
    finally:
        for one in followers:
            await one.close()


async def test_a_follower_survives_a_lost_connection(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    follower = await ClockFollower.open(pool)
    try:
        await pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await ClockStore(pool).set(FAR, rate=0)
        await poll_async(lambda: follower.clock.now() == FAR, timeout=10)
    finally:
        await follower.close()


async def test_a_follower_goes_on_after_an_error_that_nobody_foresaw(
    pool: "asyncpg.Pool[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = await ClockFollower.open(pool)
    await poll_async(lambda: follower.clock.setting.rate == 1.0, timeout=5)
    apply, failures = VirtualClock.apply, 0

    def fail_once(clock: VirtualClock, setting: ClockSetting) -> None:
        nonlocal failures
        failures += 1
        if failures == 1:
            raise LookupError("the setting is gone")
        apply(clock, setting)

    monkeypatch.setattr(VirtualClock, "apply", fail_once)
    try:
        await ClockStore(pool).set(FAR, rate=0)
        await poll_async(lambda: follower.clock.now() == FAR, timeout=10)
    finally:
        await follower.close()


@pytest.mark.parametrize("turns", range(5))
async def test_a_follower_ends_although_news_comes_at_that_moment(
    pool: "asyncpg.Pool[asyncpg.Record]", turns: int
) -> None:
    """Whoever waits with `asyncio.wait_for` in Python 3.11 may not notice that it was cancelled."""
    follower = await ClockFollower.open(pool)
    await poll_async(lambda: bool(follower._news._waiters), what="the follower to wait")
    follower._notified()
    for _ in range(turns):
        await asyncio.sleep(0)
    ending = asyncio.create_task(follower.close())
    done, _ = await asyncio.wait({ending}, timeout=5)
    ending.cancel()
    assert done


async def test_time_is_never_set_back(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    store = ClockStore(pool)
    await store.set(FAR)
    with pytest.raises(TimeRunsForwardOnly):
        await store.set(FAR - timedelta(seconds=1))
    with pytest.raises(TimeRunsForwardOnly):
        await store.advance(timedelta(seconds=-1))
    assert (await store.read()).virtual == FAR


async def test_of_many_who_set_the_clock_at_once_none_sets_it_back(
    pool: "asyncpg.Pool[asyncpg.Record]",
) -> None:
    store = ClockStore(pool)
    moments = [FAR + timedelta(days=(n * 7) % 20) for n in range(20)]
    results = await asyncio.gather(*(store.set(m, rate=0) for m in moments), return_exceptions=True)
    assert (await store.read()).virtual == max(moments)
    assert all(isinstance(r, TimeRunsForwardOnly) for r in results if isinstance(r, BaseException))


async def test_a_rate_changes_from_now_on_and_may_be_zero(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    store = ClockStore(pool)
    await store.set(FAR, rate=0)
    setting = await store.accelerate(3600)
    assert (setting.virtual, setting.rate) == (FAR, 3600)
    assert setting.at(setting.real + timedelta(seconds=1)) == FAR + timedelta(hours=1)


async def test_nonsense_is_refused(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    store = ClockStore(pool)
    for rate in (-1.0, 1e9, float("nan")):
        with pytest.raises(InvalidInput):
            await store.accelerate(rate)
    with pytest.raises(InvalidInput):
        await store.set(datetime(2031, 1, 1))  # noqa: DTZ001


async def test_in_production_time_cannot_be_changed(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    store = ClockStore(pool, production=True)
    before = await store.read()
    with pytest.raises(ClockIsReal):
        await store.advance(timedelta(days=1))
    assert await store.read() == before
