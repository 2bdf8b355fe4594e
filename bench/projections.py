"""Rebuilding the customer read model: against a bare insert of the same rows, and against a peer."""

import os
import time

import asyncpg
import uvloop

from bench.harness import Bench, output_of
from bench.store import fill
from customer.read_models import CustomerRow, customers
from customer.service import service
from forecourt.codec import Codec
from forecourt.eventstore.postgres import PostgresEventStore
from forecourt.projections.rebuild import Rebuild

BATCH = 5_000


async def rebuild(url: str) -> float:
    """Events per second of a rebuild of the customer read model, its indexes and the switch included."""
    store = await PostgresEventStore.open(url)
    async with asyncpg.create_pool(url, server_settings={"jit": "off"}) as pool:
        total = await store.head()
        work = Rebuild("customer", customers, store, Codec(service.registry), pool)
        start = time.perf_counter()
        built = await work.run()
        rate = total / (time.perf_counter() - start)
    await store.close()
    if built.position != total:
        raise RuntimeError(f"built to {built.position} of {total}")
    return rate


async def bare(url: str) -> float:
    """Rows per second of ``INSERT … SELECT unnest … ON CONFLICT`` of the same rows into the same kind of table."""
    columns = CustomerRow.__struct_fields__
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(f"SELECT {', '.join(columns)} FROM customer.customer")
        relation = await connection.fetchval(
            "SELECT relation FROM customer.projection WHERE name = 'customer' AND state = 'active'"
        )
        await connection.execute("DROP TABLE IF EXISTS bare")
        await connection.execute(f'CREATE TABLE bare (LIKE customer."{relation}" INCLUDING ALL)')
        described = await connection.fetch(
            "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute"
            " WHERE attrelid = 'bare'::regclass AND attnum > 0"
        )
        types: dict[str, str] = {row["attname"]: row["type"] for row in described}
        # unnest would flatten an array of arrays: that column goes in as text and is cast.
        arrays = {name: f"${number}::{_array(types[name])}" for number, name in enumerate(columns, start=1)}
        picked = ", ".join(f"u.{name}::{types[name]}" for name in columns)
        updates = ", ".join(f"{name} = EXCLUDED.{name}" for name in columns[1:])
        statement = await connection.prepare(
            f"INSERT INTO bare ({', '.join(columns)}) SELECT {picked}"
            f" FROM unnest({', '.join(arrays.values())}) AS u({', '.join(columns)})"
            f" ON CONFLICT (customer_id) DO UPDATE SET {updates}"
        )
        batches = [_transposed(rows[start : start + BATCH], types) for start in range(0, len(rows), BATCH)]
        start = time.perf_counter()
        for batch in batches:
            await statement.fetch(*batch)
        return len(rows) / (time.perf_counter() - start)
    finally:
        await connection.close()


def _array(type_: str) -> str:
    return "text[]" if type_.endswith("[]") else f"{type_}[]"


def _transposed(rows: list[asyncpg.Record], types: dict[str, str]) -> list[list[object]]:
    return [
        ["{" + ",".join(row[name]) + "}" if types[name].endswith("[]") else row[name] for row in rows]
        for name in CustomerRow.__struct_fields__
    ]


async def run(bench: Bench) -> None:
    """``project_vs_raw`` and ``project_vs_eventsourcing``."""
    url = await bench.fresh_database()
    await output_of("forecourt.cli", "migrate", "customer", env={"DATABASE_URL": url})
    store = await PostgresEventStore.open(url)
    await fill(store, bench.count(100_000))
    await store.close()

    async def ours() -> float:
        return float(await output_of("bench.projections", env={"BENCH_URL": url}))

    async def peer() -> float:
        fresh = await bench.fresh_database()
        return float(
            await output_of("bench.peer", "project", str(bench.count(2_000)), env={"BENCH_URL": fresh})
        )

    await ours()
    await bench.ratio("project_vs_raw", ours, lambda: bare(url))
    await bench.ratio("project_vs_eventsourcing", ours, peer)


if __name__ == "__main__":
    print(uvloop.run(rebuild(os.environ["BENCH_URL"])))
