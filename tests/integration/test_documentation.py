"""What the documentation tells readers to run against a platform: it is run against one."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from kombu import Connection
from kombu.exceptions import OperationalError

from forecourt.eventstore import open_store
from forecourt.eventstore.port import NewEvent
from forecourt.platform import Platform
from forecourt.testing.probes import poll_async
from tests.unit.docs.test_docs import ROOT, commands, document

pytestmark = [
    pytest.mark.integration,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="function"),
    pytest.mark.timeout(240),
]


@pytest_asyncio.fixture
async def platform(
    tmp_path: Path, database_url: str, amqp_uri: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    """Customer and sales; serve, project and relay in one process."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("AMQP_URI", amqp_uri)
    async with Platform(tmp_path, together=True, services=["customer", "sales"], sandboxes=False) as platform:
        yield platform


def program(tmp_path: Path, name: str) -> Path:
    """The one Python program among a document's blocks, as a file."""
    (block,) = (block for block in document(name).blocks_in("python") if "__main__" in block.text)
    path = tmp_path / f"example_{Path(name).stem}.py"
    path.write_text(block.text)
    return path


async def test_what_the_documentation_runs(platform: Platform, tmp_path: Path) -> None:
    """One test for all of it: a platform takes a while to start."""
    token = platform.token("amy", roles=["salesperson"], dealers=["D001"], brands=["hongtong"])
    await the_python_client(platform, tmp_path, token)
    await the_calls_of_grpcurl(platform, token)
    await the_consumer(platform, tmp_path)
    await the_sql(platform)


async def the_python_client(platform: Platform, tmp_path: Path, token: str) -> None:
    said = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(program(tmp_path, "README.md"))],
        env={**os.environ, "TOKEN": token, "TARGET": platform.addresses["grpc"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert lines[0] == "王伟 +8613800138000 version 1"
    assert lines[1].startswith("INVALID_ARGUMENT invalid-input value:")


async def the_calls_of_grpcurl(platform: Platform, token: str) -> None:
    """As grpcurl does it: everything that is known about messages comes by reflection."""
    calls = [words for words in commands("README.md") if words[0] == "grpcurl" and words[1:]]
    assert len(calls) >= 4
    channel = grpc.insecure_channel(platform.addresses["grpc"])
    found = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(found)
    async with grpc.aio.insecure_channel(platform.addresses["grpc"]) as asynchronous:
        for words in calls:
            if words[-1] == "list":
                assert "crm.customer.v1.CustomerService" in await asyncio.to_thread(found.get_services)
            elif words[-2] == "describe":
                assert await asyncio.to_thread(pool.FindServiceByName, words[-1])
            else:
                assert await _call(asynchronous, pool, words, token) is not None
    channel.close()


async def _call(channel: grpc.aio.Channel, pool: DescriptorPool, words: list[str], token: str) -> object:
    service, _, rpc = words[-1].partition("/")
    method = (await asyncio.to_thread(pool.FindServiceByName, service)).FindMethodByName(rpc)
    answer = GetMessageClass(method.output_type)
    call: grpc.aio.UnaryUnaryMultiCallable[Message, Message] = channel.unary_unary(
        f"/{words[-1]}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    headers = [words[at + 1] for at, word in enumerate(words) if word == "-H"]
    metadata = [
        (key, value) for key, _, value in (h.replace("$TOKEN", token).partition(": ") for h in headers)
    ]
    request = json_format.ParseDict(
        json.loads(words[words.index("-d") + 1]), GetMessageClass(method.input_type)()
    )
    return await call(request, metadata=metadata, timeout=30)


async def the_consumer(platform: Platform, tmp_path: Path) -> None:
    consumer = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program(tmp_path, "docs/amqp.md")),
        env={
            **os.environ,
            "AMQP_URI": platform.environment["AMQP_URI"],
            "DELIVERIES": str(tmp_path / "deliveries.sqlite"),
        },
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await poll_async(
            lambda: asyncio.to_thread(_has_consumer, platform.environment["AMQP_URI"]),
            90,
            what="the consumer",
        )
        await _deliver(platform)
        assert consumer.stdout is not None
        line = await asyncio.wait_for(consumer.stdout.readline(), 90)
        vin = _delivered()["vin"]
        assert line.decode().strip() == f"crm.sales.VehicleDelivered.v1 D001 {vin}"
    finally:
        consumer.kill()
        await consumer.communicate()


def _has_consumer(amqp_uri: str) -> bool:
    with Connection(amqp_uri, connect_timeout=5) as connection:
        try:
            queue = connection.channel().queue_declare("acme.deliveries", passive=True)
        except (*connection.channel_errors, OperationalError):
            return False
        return bool(queue.consumer_count)


def _delivered() -> dict[str, object]:
    data: dict[str, object] = json.loads((ROOT / "tests/golden/sales/VehicleDelivered.v1.json").read_text())
    return data


async def _deliver(platform: Platform) -> None:
    event = NewEvent(
        id=uuid4(),
        type="sales.VehicleDelivered",
        version=1,
        time=datetime.now(UTC),
        data=json.dumps(_delivered()),
        correlation_id=uuid4(),
        dealer_id="D001",
        brand="hongtong",
        actor_id="amy",
    )
    store = await open_store(platform.environment["DATABASE_URL"])
    await store.append(f"order-{uuid4()}", [event], expected=0)
    await store.close()


async def the_sql(platform: Platform) -> None:
    """Every statement is accepted; nothing of it stays."""
    statements = [block.text for block in document("docs/operating.md").blocks_in("sql")]
    assert statements
    connection = await asyncpg.connect(platform.environment["DATABASE_URL"])
    try:
        for statement in statements:
            transaction = connection.transaction()
            await transaction.start()
            done = await connection.execute(statement)
            await transaction.rollback()
            assert re.fullmatch(r"SELECT \d+|UPDATE 1", done), statement
    finally:
        await connection.close()
