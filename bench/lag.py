"""From a command's answer to what others see of it, at a steady rate of commands: reported, no goal."""

import asyncio
import os
import statistics
import threading
import time
from uuid import uuid4

import grpc.aio
from kombu import Connection, Consumer, Exchange, Queue

from bench.harness import Bench, address, output_of, process
from bench.load import customer
from crm.customer.v1 import customer_pb2
from crm.customer.v1.customer_pb2_grpc import CustomerServiceStub
from forecourt.config import Settings, load_from
from forecourt.messaging.cloudevents import from_cloudevent
from forecourt.rpc.wiring import token_issuer

RATE = 200
"""Commands per second."""


class Listener(threading.Thread):
    """An AMQP consumer that notes when each customer's event arrives."""

    def __init__(self, uri: str) -> None:
        super().__init__(daemon=True)
        self.arrived: dict[str, float] = {}
        self.stopping = threading.Event()
        self._uri = uri
        exchange = Exchange("crm.events", "topic", durable=True)
        self._queue = Queue(
            f"bench-{uuid4()}", exchange, "#", exclusive=True, durable=False, auto_delete=True
        )
        self.ready = threading.Event()

    def run(self) -> None:
        """Consume until told to stop."""
        with Connection(self._uri) as connection, Consumer(connection, [self._queue], callbacks=[self._take]):
            self.ready.set()
            while not self.stopping.is_set():
                try:
                    connection.drain_events(timeout=0.2)
                except TimeoutError:
                    continue

    def _take(self, body: object, message: object) -> None:
        event = from_cloudevent(message.body if isinstance(message.body, bytes) else message.body.encode())  # type: ignore[attr-defined]
        self.arrived.setdefault(str(event.stream_id), time.perf_counter())
        message.ack()  # type: ignore[attr-defined]


async def measure(target: str, token: str, uri: str, total: int) -> tuple[list[float], list[float]]:
    """Seconds from answer to visible, and from answer to received, of ``total`` commands."""
    listener = Listener(uri)
    listener.start()
    await asyncio.to_thread(listener.ready.wait, 30)
    metadata = (("authorization", f"Bearer {token}"),)
    answered: dict[str, float] = {}
    visible: list[float] = []

    async with grpc.aio.insecure_channel(target) as channel:
        stub = CustomerServiceStub(channel)

        async def command(number: int) -> None:
            result = await stub.RegisterCustomer(customer(number), metadata=metadata)
            answered[result.id] = start = time.perf_counter()
            fresh = (*metadata, ("after-position", str(result.position)))
            await stub.GetCustomer(customer_pb2.GetCustomerRequest(customer_id=result.id), metadata=fresh)
            visible.append(time.perf_counter() - start)

        begin, tasks = time.perf_counter(), []
        for number in range(total):
            await asyncio.sleep(max(0.0, begin + number / RATE - time.perf_counter()))
            tasks.append(asyncio.create_task(command(number)))
        await asyncio.gather(*tasks)
    for _ in range(300):
        if len(listener.arrived.keys() & answered.keys()) == len(answered):
            break
        await asyncio.sleep(0.1)
    listener.stopping.set()
    await asyncio.to_thread(listener.join)
    return visible, [max(0.0, listener.arrived[one] - answered[one]) for one in answered]


def p99(seconds: list[float]) -> float:
    """The 99th percentile, in milliseconds."""
    return round(statistics.quantiles(seconds, n=100)[98] * 1000, 1)


async def run(bench: Bench) -> None:
    """``lag_ms_p99.read_model`` and ``lag_ms_p99.amqp``."""
    url = await bench.fresh_database()
    target, http = address(), address()
    env = {
        "DATABASE_URL": url,
        "GRPC_LISTEN": target,
        "HTTP_LISTEN": http,
        "FORECOURT_DATA": str(bench.data),
        "AMQP_URI": bench.amqp_uri,
    }
    tokens = token_issuer(load_from(Settings, {**os.environ, **env}))
    token = tokens.issue("bench", roles=["salesperson"], dealers=["D001"], brands=["hongtong"])
    await output_of("forecourt.cli", "migrate", "customer", env=env)
    roles = ("forecourt.cli", "serve", "--with=project", "--with=relay", "customer")
    log = bench.data / "lag.log"
    async with process(*roles, env=env, health=f"http://{http}/readyz", log=log):
        await measure(target, token, bench.amqp_uri, RATE)
        read_model, amqp = await measure(target, token, bench.amqp_uri, bench.count(4_000))
    bench.results["lag_ms_p99.read_model"] = p99(read_model)
    bench.results["lag_ms_p99.amqp"] = p99(amqp)
