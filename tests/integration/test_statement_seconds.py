"""How long statements may take: what serves others a bounded time, what is as long as a table as long as it takes."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from forecourt import migrations
from forecourt.clock import SystemClock
from forecourt.config import Settings, load_from
from forecourt.connections import open_pool
from forecourt.discovery import find_services
from forecourt.eventstore import open_store
from forecourt.runtime import Runtime, migrate
from forecourt.testing.probes import poll_async
from forecourt.worker.runtime import open_runtime

pytestmark = pytest.mark.integration

LONG = "SELECT pg_sleep(60)"


async def test_the_statements_of_every_process_end_after_the_seconds_of_the_setting(
    tmp_path: Path, database_url: str
) -> None:
    given = {
        "DATABASE_URL": database_url,
        "FORECOURT_DATA": str(tmp_path),
        "FORECOURT_STATEMENT_SECONDS": "0.3",
    }
    (notify,) = find_services(["notify"])
    await migrate([notify], load_from(Settings, {**given, "FORECOURT_STATEMENT_SECONDS": ""}))
    settings = load_from(Settings, given)
    served = await Runtime.open([notify], settings)
    worker = await open_runtime(notify, settings, store=await open_store(settings.store), clock=SystemClock())
    for pool in (served.pool, served.sessions, worker.pool, worker.transactions):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.execute(LONG), 30)
        assert await pool.fetchval("SELECT 1") == 1
    await worker.close()
    await served.close()


async def test_a_migration_waits_for_another_one_longer_than_that(database_url: str) -> None:
    other = await asyncpg.connect(database_url)
    pool = await open_pool(database_url, 2, statement_seconds=0.3)
    await other.execute("SELECT pg_advisory_lock(hashtextextended('forecourt.migration', 0))")
    applying = asyncio.create_task(migrations.apply(pool, [migrations.KEYS]))

    async def waits_for_long() -> bool:
        return bool(
            await other.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND wait_event_type = 'Lock' AND now() - query_start > interval '1 s'"
            )
        )

    try:
        await poll_async(waits_for_long)
        await other.execute("SELECT pg_advisory_unlock_all()")
        assert await applying
    finally:
        applying.cancel()
        await pool.close()
        await other.close()
