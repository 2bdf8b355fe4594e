"""Memory of projecting and relaying a long store: the peak of each process, at a fifth of the way and at the end."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import psutil

from bench.harness import Bench, address, output_of, process
from bench.relaying import bind, unbind

EVENTS = 1_000_000

FILL = """
INSERT INTO events.event (position, stream, sequence, category, id, type, version, time, correlation_id, causation_id,
                          dealer_id, brand, actor_id, metadata, data)
SELECT n, 'customer-' || gen_random_uuid(), 1, 'customer', gen_random_uuid(), 'customer.CustomerRegistered', 1, now(),
       gen_random_uuid(), NULL, 'D001', 'hongtong', 'bench', '{}',
       json_build_object('kind', 'prospect', 'name', '王 ' || n, 'language', 'zh', 'time_zone', 'Asia/Shanghai',
                         'source', 'bench', 'contact_points', json_build_array(), 'consents', json_build_array())
FROM generate_series($1::bigint, $2::bigint) AS n
"""


async def fill(url: str, total: int) -> None:
    """Write ``total`` registrations straight into the table."""
    connection = await asyncpg.connect(url)
    try:
        for start in range(1, total + 1, 100_000):
            await connection.execute(FILL, start, min(total, start + 99_999))
    finally:
        await connection.close()


async def peaks(pid: int, position: Callable[[], Awaitable[int]], total: int) -> tuple[float, float]:
    """The resident peak in MiB until a fifth is done, and until all is."""
    watched, peak, early = psutil.Process(pid), 0.0, 0.0
    while (done := await position()) < total:
        peak = max(peak, watched.memory_info().rss / 2**20)
        if done < total // 5:
            early = peak
        await asyncio.sleep(0.05)
    return early or peak, max(peak, watched.memory_info().rss / 2**20)


async def run(bench: Bench) -> None:
    """``memory_mib.project`` and ``memory_mib.relay``, each with the growth after the first fifth."""
    url = await bench.fresh_database()
    total = bench.count(EVENTS)
    base = {"DATABASE_URL": url, "FORECOURT_DATA": str(bench.data), "AMQP_URI": bench.amqp_uri}
    await output_of("forecourt.cli", "migrate", "customer", env=base)
    await fill(url, total)
    queue = bind(bench.amqp_uri)
    questions = {
        "project": "SELECT min(position) FROM customer.projection WHERE state = 'active'",
        "relay": "SELECT coalesce(max(position), 0) FROM messaging.relay_checkpoint",
    }
    connection = await asyncpg.connect(url)
    try:
        for role, question in questions.items():
            http = address()
            env = base | {"HTTP_LISTEN": http}
            log = bench.data / f"{role}.log"
            async with process(
                "forecourt.cli", role, "customer", env=env, health=f"http://{http}/healthz", log=log
            ) as child:
                early, peak = await peaks(child.pid, lambda q=question: connection.fetchval(q), total)  # type: ignore[misc]
            bench.results[f"memory_mib.{role}"] = round(peak)
            bench.results[f"memory_mib.{role}_growth"] = round(peak - early)
    finally:
        await connection.close()
        unbind(bench.amqp_uri, queue)
