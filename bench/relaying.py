"""The relay from store to confirmed in RabbitMQ, against a bare pipelined publisher with the same messages."""

import asyncio
import os
import time
from uuid import uuid4

import asyncpg
import uvloop
from kombu import Connection

from bench.bare_amqp import BarePublisher
from bench.harness import Bench, output_of
from bench.store import fill
from forecourt import migrations
from forecourt.eventstore.postgres import PostgresEventStore
from forecourt.messaging.cloudevents import routing_key, to_cloudevent
from forecourt.messaging.relay import Relay

EXCHANGE = "crm.events"


async def relay(url: str, uri: str) -> float:
    """Events per second from the first read to the last confirm."""
    store = await PostgresEventStore.open(url)
    async with asyncpg.create_pool(url) as pool:
        await migrations.apply(pool, [migrations.MESSAGING])
        name, stop = f"bench-{uuid4()}", asyncio.Event()
        running = Relay(name=name, store=store, pool=pool, amqp_uri=uri, categories=["customer"])
        total = await store.head()
        start = time.perf_counter()
        task = asyncio.create_task(running.run(stop))
        while running.confirmed < total:  # noqa: ASYNC110 - the relay tells nobody of a confirm
            await asyncio.sleep(0.005)
        rate = total / (time.perf_counter() - start)
        stop.set()
        await task
    await store.close()
    return rate


async def bare(url: str, uri: str) -> float:
    """The same messages over a bare socket, read and written beforehand; confirmed messages per second."""
    store = await PostgresEventStore.open(url)
    events = [event async for batch in store.read_all() for event in batch.events]
    await store.close()
    bodies = [to_cloudevent(event) for event in events]
    publisher = BarePublisher(uri)
    first = events[0]
    start = time.perf_counter()
    publisher.publish(EXCHANGE, routing_key(first.type, first.brand, first.dealer_id), bodies)
    rate = len(bodies) / (time.perf_counter() - start)
    publisher.close()
    return rate


def bind(uri: str) -> str:
    """A durable quorum queue that gets everything; its name."""
    name = f"bench-{uuid4()}"
    with Connection(uri) as connection:
        channel = connection.channel()
        channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
        channel.queue_declare(name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(name, EXCHANGE, "#")
    return name


def unbind(uri: str, name: str) -> int:
    """Delete the queue; how many messages it held."""
    with Connection(uri) as connection:
        return int(connection.channel().queue_delete(name))


async def run(bench: Bench) -> None:
    """``relay_vs_raw``."""
    url = await bench.fresh_database()
    store = await PostgresEventStore.open(url)
    await store.migrate()
    total = bench.count(20_000)
    await fill(store, total)
    await store.close()

    async def measured(kind: str) -> float:
        queue = bind(bench.amqp_uri)
        env = {"BENCH_URL": url, "BENCH_AMQP": bench.amqp_uri, "BENCH_KIND": kind}
        rate = float(await output_of("bench.relaying", env=env))
        held = unbind(bench.amqp_uri, queue)
        if held < total:
            raise RuntimeError(f"{kind}: {held} of {total} messages arrived")
        return rate

    await bench.ratio("relay_vs_raw", lambda: measured("relay"), lambda: measured("bare"))


if __name__ == "__main__":
    kinds = {"relay": relay, "bare": bare}
    print(uvloop.run(kinds[os.environ["BENCH_KIND"]](os.environ["BENCH_URL"], os.environ["BENCH_AMQP"])))
