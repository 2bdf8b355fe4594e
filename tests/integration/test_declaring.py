"""What is published after ``forecourt migrate`` waits for workers that have never run."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from kombu import Connection

from customer.customer import RegisterCustomer, customer
from customer.service import service
from forecourt.config import ConfigError, Settings, load_from
from forecourt.deciders import Context
from forecourt.embedded.process import free_port
from forecourt.messaging.declaring import NotDeclared, declare_queues
from forecourt.runtime import Runtime
from forecourt.supervisor import ProcessSpec, Supervisor
from forecourt.testing.given import NOW
from forecourt.testing.probes import poll_async

pytestmark = pytest.mark.integration

QUEUE = "customer.suspect_duplicates"


def waiting(amqp_uri: str) -> int:
    """Messages that wait for the handler. Raises where there is no queue."""
    with Connection(amqp_uri) as connection:
        count: int = connection.channel().queue_declare(QUEUE, passive=True).message_count
        return count


async def test_an_event_before_the_first_worker_is_handled(
    database_url: str, amqp_uri: str, tmp_path: Path
) -> None:
    variables = {
        "DATABASE_URL": database_url,
        "AMQP_URI": amqp_uri,
        "FORECOURT_DATA": str(tmp_path),
    }
    migrate = [sys.executable, "-m", "forecourt.cli", "migrate", "customer"]
    for _ in range(2):
        done = await asyncio.to_thread(
            subprocess.run, migrate, env={**os.environ, **variables}, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, b"migrate: ok\n"), done.stderr

    runtime = await Runtime.open([service], load_from(Settings, variables))
    try:
        register = RegisterCustomer(kind="prospect", name="王伟")
        context = Context(NOW, uuid4(), uuid4(), actor_id="amy", dealer_id="D001", brand="hongtong")
        await runtime.services[0].commands.execute(customer, register, context)
        async with Supervisor(tmp_path / "log", restart=False) as supervisor:
            await supervisor.start_all([_role("relay", variables), _role("project", variables)])
            await poll_async(lambda: waiting(amqp_uri) == 1, 20, what="the event in the queue")
            await supervisor.start_all([_role("work", variables)])
            await poll_async(lambda: _handled(runtime), 20, what="the event to be handled")
    finally:
        await runtime.close()


def _role(name: str, variables: dict[str, str]) -> ProcessSpec:
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "forecourt.cli", name, "customer"]
    return ProcessSpec(
        name, command, {**variables, "HTTP_LISTEN": address}, health=f"http://{address}/readyz"
    )


async def _handled(runtime: Runtime) -> bool:
    sql = "SELECT count(*) FROM customer.processed_event WHERE handler = $1"
    return bool(await runtime.pool.fetchval(sql, QUEUE))


async def test_all_handlers_of_all_services_are_declared(amqp_uri: str) -> None:
    queues = await declare_queues([], {"AMQP_URI": amqp_uri})
    assert {"notify.notify", QUEUE} <= set(queues)
    assert {queue.partition(".")[0] for queue in queues} == {"customer", "sales", "service_desk", "notify"}
    with Connection(amqp_uri) as connection:
        channel = connection.channel()
        for queue in [*queues, *(f"{queue}.parked" for queue in queues), "notify.retry.600s"]:
            channel.queue_declare(queue, passive=True)


async def test_a_broker_that_is_away_or_has_another_queue_is_named(amqp_uri: str) -> None:
    with pytest.raises(NotDeclared, match=r"^broker: ConnectionRefusedError"):
        await declare_queues(["customer"], {"AMQP_URI": f"amqp://127.0.0.1:{free_port()}/"})
    with pytest.raises(ConfigError, match="AMQP_URI"):
        await declare_queues(["customer"], {"AMQP_URI": "http://nowhere"})
    with Connection(amqp_uri) as connection:
        connection.channel().queue_declare(QUEUE, durable=True, auto_delete=False)
    with pytest.raises(NotDeclared, match=QUEUE):
        await declare_queues(["customer"], {"AMQP_URI": amqp_uri})
