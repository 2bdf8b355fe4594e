"""The connections of a worker: those who hold one for long leave the others what the setting says."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from forecourt.clock import SystemClock
from forecourt.clock_store import ClockFollower
from forecourt.config import Settings, load_from
from forecourt.discovery import find_services
from forecourt.eventstore import open_store
from forecourt.projections.queries import NotYetThere, ReadModels
from forecourt.runtime import migrate
from forecourt.testing.probes import poll_async
from forecourt.worker.runtime import open_runtime
from notify.claims import Claims
from notify.read_models import contacts

pytestmark = pytest.mark.integration


async def test_a_worker_with_one_connection_works_beside_all_that_hold_some(
    tmp_path: Path, database_url: str
) -> None:
    settings = load_from(
        Settings,
        {"DATABASE_URL": database_url, "FORECOURT_DATA": str(tmp_path), "FORECOURT_POOL_SIZE": "1"},
    )
    (notify,) = find_services(["notify"])
    await migrate([notify], settings)
    store = await open_store(settings.store)
    runtime = await open_runtime(notify, settings, store=store, clock=SystemClock())
    read_models, claims = ReadModels(runtime.pool, "notify", [contacts]), Claims(runtime.pool)
    async with asyncio.timeout(20):
        follower = await ClockFollower.open(runtime.pool)
        with pytest.raises(NotYetThere):
            await read_models.wait_for(contacts, 1, 0.1)
        await poll_async(lambda: read_models._positions._listening)
        assert await runtime.timers.try_acquire()
        assert await claims.take([uuid4()])
        await runtime.check_database()
    await claims.close()
    await follower.close()
    await read_models.close()
    await runtime.close()
