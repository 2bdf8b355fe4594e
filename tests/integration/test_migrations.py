"""``forecourt.migrations``: the first release's database comes up to date, beside processes that go on."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from forecourt import migrations
from forecourt.config import Settings, load_from
from forecourt.discovery import find_services
from forecourt.embedded.postgres import run_sql
from forecourt.eventstore.port import NewEvent
from forecourt.eventstore.postgres import PostgresEventStore
from forecourt.runtime import Runtime
from forecourt.testing.servers import PostgresServer

pytestmark = pytest.mark.integration

FIRST_RELEASE = Path(__file__).parents[1] / "golden/schema/first_release.sql"
STREAM = "lead-00000000-0000-0000-0000-000000000007"
SALES = [migrations.events("events"), *migrations.components_of(["sales"])]
EVERY = [found for component in SALES for found in migrations.migrations(component)]

CONTENT = """
SELECT (SELECT json_agg(e ORDER BY position) FROM events.event e)::text AS events,
       (SELECT json_agg(c) FROM messaging.relay_checkpoint c)::text AS checkpoints,
       (SELECT json_agg(k) FROM keys.person_key k)::text AS keys,
       (SELECT json_agg(k) FROM keys.master_key k)::text AS masters,
       (SELECT json_agg(p) FROM sales.processed_event p)::text AS processed,
       (SELECT json_agg(s) FROM sales.snapshot s)::text AS snapshots,
       (SELECT json_agg(p ORDER BY id) FROM sales.projection p)::text AS projections,
       (SELECT json_agg(c) FROM events.clock_setting c)::text AS clock
"""

SHAPE = """
SELECT table_schema, table_name, column_name, data_type, is_nullable, column_default, collation_name
FROM information_schema.columns
WHERE table_schema IN ('events', 'keys', 'messaging', 'forecourt', 'sales') AND table_name !~ '_v[0-9]+$'
  AND table_name NOT IN (SELECT viewname FROM pg_views WHERE schemaname = 'sales')
UNION ALL SELECT schemaname, tablename, indexname, indexdef, '', '', '' FROM pg_indexes
WHERE schemaname IN ('events', 'keys', 'messaging', 'forecourt', 'sales') AND tablename !~ '_v[0-9]+$'
UNION ALL SELECT 'events', p.proname, md5(p.prosrc), p.proargtypes::text, '', '', '' FROM pg_proc p
WHERE p.pronamespace = 'events'::regnamespace ORDER BY 1, 2, 3
"""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator["asyncpg.Pool[asyncpg.Record]"]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=5) as opened:
        yield opened


@pytest.fixture
def first_release(database_url: str) -> str:
    """A database of the first release with data in it."""
    run_sql(database_url, FIRST_RELEASE.read_text())
    return database_url


async def test_the_first_release_comes_up_to_date_and_keeps_its_data(
    first_release: str, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    before = await pool.fetchrow(CONTENT)
    assert await migrations.apply(pool, SALES) == EVERY
    after = await pool.fetchrow(CONTENT)
    assert before is not None
    assert before["events"] is not None
    assert before == after
    assert await migrations.pending(pool, SALES) == []

    store = PostgresEventStore(pool)
    event = NewEvent(
        id=uuid4(), type="crm.sales.LeadQualified", version=1, time=datetime(2026, 1, 3, tzinfo=UTC), data="{}",
        correlation_id=UUID(int=1), causation_id=None, dealer_id="D001", brand="aurora", actor_id="amy",
    )  # fmt: skip
    try:
        assert (await store.append(STREAM, [event], expected=3)).position == 4
    finally:
        await store.close()


async def test_an_upgraded_database_has_the_shape_of_a_new_one(
    first_release: str, pool: "asyncpg.Pool[asyncpg.Record]", postgres_server: PostgresServer
) -> None:
    await migrations.apply(pool, SALES)
    upgraded = await pool.fetch(SHAPE)
    url = postgres_server.create_database()
    try:
        async with asyncpg.create_pool(url, min_size=1, max_size=2) as other:
            await migrations.apply(other, SALES)
            assert await other.fetch(SHAPE) == upgraded
    finally:
        postgres_server.drop_database(url)


async def test_twice_and_by_many_at_once_each_file_is_applied_once(
    pool: "asyncpg.Pool[asyncpg.Record]",
) -> None:
    results = await asyncio.gather(*(migrations.apply(pool, SALES) for _ in range(5)))
    assert sorted(map(str, (found for done in results for found in done))) == sorted(map(str, EVERY))
    assert await migrations.apply(pool, SALES) == []
    rows = await pool.fetch("SELECT schema, component, version, checksum FROM forecourt.migration")
    assert len(rows) == len(EVERY)


async def test_a_database_restored_without_the_record_is_taken_in_again(
    pool: "asyncpg.Pool[asyncpg.Record]",
) -> None:
    await migrations.apply(pool, SALES)
    shape = await pool.fetch(SHAPE)
    await pool.execute("DROP SCHEMA forecourt CASCADE")
    assert await migrations.apply(pool, SALES) == EVERY
    assert await pool.fetch(SHAPE) == shape


async def test_a_changed_file_is_refused_and_a_newer_release_is_not(
    pool: "asyncpg.Pool[asyncpg.Record]",
) -> None:
    await migrations.apply(pool, SALES)
    newer = "INSERT INTO forecourt.migration VALUES ('sales', 'service', 99, '0099_later.sql', 'x')"
    await pool.execute(newer)
    assert await migrations.pending(pool, SALES) == []
    await pool.execute("UPDATE forecourt.migration SET checksum = 'other' WHERE component = 'keys'")
    with pytest.raises(migrations.MigrationChanged, match=r"keys: keys/0001_person_key\.sql"):
        await migrations.apply(pool, SALES)


async def test_a_file_that_fails_leaves_nothing_behind(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    broken = migrations.Migration(
        migrations.KEYS, 1, "0001_x.sql", "CREATE TABLE public.half (); SELECT 1/0", "x"
    )
    async with pool.acquire() as connection:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrations._apply(connection, broken)
    assert await pool.fetchval("SELECT to_regclass('public.half')") is None
    assert await pool.fetchval("SELECT to_regclass('forecourt.migration')") is None


async def test_a_table_in_use_is_waited_for_without_holding_others_up(
    first_release: str, pool: "asyncpg.Pool[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_SECONDS", 0.2)
    monkeypatch.setattr(migrations, "PAUSE_SECONDS", 0.01)
    async with pool.acquire() as user:
        transaction = user.transaction()
        await transaction.start()
        await user.execute("LOCK TABLE sales.snapshot IN ACCESS SHARE MODE")
        applying = asyncio.create_task(migrations.apply(pool, SALES))
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while not await pool.fetchval(waits):
            assert not applying.done()
        # A reader that comes behind the waiting change gets its turn.
        assert await asyncio.wait_for(pool.fetchval("SELECT count(*) FROM sales.snapshot"), 10) == 1
        assert not applying.done()
        await transaction.commit()
    await applying
    assert await migrations.pending(pool, SALES) == []


def command(url: str, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the platform as a user does."""
    environment = {**os.environ, "DATABASE_URL": url, **more}
    program = [sys.executable, "-m", "forecourt.cli", *arguments]
    return subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=60)


async def test_check_says_what_is_pending_and_changes_nothing(
    first_release: str, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    checked = await asyncio.to_thread(command, first_release, "migrate", "sales", "--check", AMQP_URI="")
    assert checked.returncode == 1
    assert "pending: sales: service/0001_projection.sql" in checked.stdout
    assert await pool.fetchval("SELECT to_regclass('forecourt.migration')") is None
    await migrations.apply(pool, SALES)
    checked = await asyncio.to_thread(command, first_release, "migrate", "sales", "--check", AMQP_URI="")
    assert (checked.returncode, checked.stdout) == (0, "migrate: ok\n")


async def test_a_role_that_may_not_create_schemas_is_told_so_in_one_line(
    database_url: str, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    role = f"nobody_{uuid4().hex}"
    await pool.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        server = urlsplit(database_url).netloc.rpartition("@")[2]
        url = urlsplit(database_url)._replace(netloc=f"{role}:x@{server}").geturl()
        ended = await asyncio.to_thread(command, url, "migrate", "sales", AMQP_URI="")
    finally:
        await pool.execute(f"DROP ROLE {role}")
    said = "database: InsufficientPrivilegeError: permission denied for database "
    assert (ended.returncode, ended.stderr.startswith(said)) == (1, True), ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("role", ["serve", "work"])
async def test_roles_refuse_an_older_schema_and_name_the_command(
    role: str, first_release: str, tmp_path: Path
) -> None:
    away = {"AMQP_URI": "amqp://guest:guest@127.0.0.1:1/", "FORECOURT_DATA": str(tmp_path)}
    ended = await asyncio.to_thread(command, first_release, role, "sales", **away)
    assert ended.returncode == 2, ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("configuration: DATABASE_URL: the schema is older than this release (events:")
    assert last.endswith("run 'forecourt migrate' first")


async def test_a_process_of_this_release_opens_what_a_newer_one_has_changed(
    first_release: str, pool: "asyncpg.Pool[asyncpg.Record]", tmp_path: Path
) -> None:
    await migrations.apply(pool, SALES)
    await pool.execute(
        "INSERT INTO forecourt.migration VALUES ('sales', 'service', 99, '0099_later.sql', 'x')"
    )
    await pool.execute("TRUNCATE keys.person_key, keys.hash_key, keys.master_key")
    settings = load_from(Settings, {"DATABASE_URL": first_release, "FORECOURT_DATA": str(tmp_path)})
    runtime = await Runtime.open(find_services(["sales"]), settings)
    await runtime.close()
