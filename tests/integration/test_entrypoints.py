"""`on_event` and `every` in a real worker process, on a real broker and database."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec
import pytest

from forecourt.embedded import EmbeddedPostgres, EmbeddedRabbitMQ
from forecourt.embedded.process import free_port
from forecourt.eventstore.postgres import PostgresEventStore
from tests.integration.messaging_tools import (
    Probe,
    asked,
    depth,
    eventually,
    our_headers,
    probe_service,
    publish,
    take_all,
)

pytestmark = pytest.mark.integration


@pytest.fixture
async def probe(amqp_uri: str, database_url: str) -> AsyncIterator[Probe]:
    async with probe_service(amqp_uri, database_url) as opened:
        await PostgresEventStore(opened.pool).migrate()
        yield opened


async def parked(probe: Probe, count: int) -> list[Any]:
    """The parked messages, once there are ``count`` of them."""

    async def enough() -> bool:
        return depth(probe.amqp_uri, probe.parked) >= count

    await eventually(enough)
    return take_all(probe.amqp_uri, probe.parked)


async def test_every_event_has_its_effect_once_although_it_comes_twice(probe: Probe) -> None:
    await probe.start()
    numbers = list(range(200))
    publish(probe.amqp_uri, *(asked(number) for number in numbers))
    publish(probe.amqp_uri, *(asked(number) for number in numbers))
    await eventually(lambda: probe.has_effects(numbers))
    await probe.drained()
    assert await probe.effects() == numbers


async def test_what_goes_wrong_is_counted_from_nought(probe: Probe) -> None:
    """So that Prometheus sees the first parked event, and a timer that never succeeds."""
    address = f"127.0.0.1:{free_port()}"
    await probe.start(HTTP_LISTEN=address)
    async with aiohttp.ClientSession() as http, http.get(f"http://{address}/metrics") as answer:
        exposed = await answer.text()
    handler, timer = f'{{handler="react",service="{probe.name}"}}', f'service="{probe.name}",timer="tick"'
    assert f"forecourt_parked_events_total{handler} 0.0" in exposed
    assert f"forecourt_handler_retries_total{handler} 0.0" in exposed
    assert f'forecourt_timer_runs_total{{outcome="error",{timer}}} 0.0' in exposed
    assert f'forecourt_timer_runs_total{{outcome="ok",{timer}}}' in exposed


async def test_events_of_one_aggregate_are_handled_in_order(probe: Probe) -> None:
    await probe.start()
    streams = [uuid4() for _ in range(5)]
    events = [
        asked(number, "slow" if number < 5 else "ok", stream=streams[number % 5], sequence=number // 5 + 1)
        for number in range(100)
    ]
    publish(probe.amqp_uri, *events)
    await eventually(lambda: probe.has_effects(list(range(100))))
    rows = await probe.pool.fetch(f'SELECT stream, sequence FROM "{probe.name}".effect ORDER BY n')
    for stream in streams:
        assert [r["sequence"] for r in rows if r["stream"] == f"request-{stream}"] == list(range(1, 21))


async def test_a_failing_message_is_retried_then_parked_and_blocks_no_other(probe: Probe) -> None:
    await probe.start()
    publish(probe.amqp_uri, asked(1, "fail"), asked(2), asked(3, "fail-once"), asked(4))
    await eventually(lambda: probe.has_effects([2, 3, 4]))
    [message] = await parked(probe, 1)
    assert our_headers(message) == {
        "attempts": 3,
        "reason": "attempts-exhausted",
        "first-error": "TooEarly (too-early)",
        "last-error": "TooEarly (too-early)",
    }
    assert message.properties["message_id"] == str(asked(1).id)
    assert await probe.attempts(1) == 3
    assert await probe.attempts(3) == 2
    assert await probe.effects() == [2, 3, 4]


async def test_a_provider_that_times_out_counts_as_an_attempt_and_leaves_no_personal_data(
    probe: Probe,
) -> None:
    await probe.start()
    publish(probe.amqp_uri, asked(1, "provider-timeout"))
    [message] = await parked(probe, 1)
    assert our_headers(message)["attempts"] == 3
    assert our_headers(message)["last-error"] == "TimeoutError"


async def test_while_a_read_model_stands_still_messages_wait_and_no_attempt_is_counted(probe: Probe) -> None:
    await probe.pool.execute(
        f'INSERT INTO "{probe.name}".projection (name, version, state, relation)'
        " VALUES ('request', 1, 'active', 'request_v1')"
    )
    await probe.start()
    publish(probe.amqp_uri, asked(1, "read"))

    async def tried_more_often_than_there_are_attempts() -> bool:
        return await probe.attempts(1) >= 5

    await eventually(tried_more_often_than_there_are_attempts)
    assert depth(probe.amqp_uri, probe.parked) == 0
    await probe.pool.execute(f'UPDATE "{probe.name}".projection SET position = $1', asked(1).position)
    await eventually(lambda: probe.has_effects([1]))
    await probe.drained()
    assert await probe.effects() == [1]
    assert depth(probe.amqp_uri, probe.parked) == 0


async def test_what_no_retry_can_mend_is_parked_at_once_with_the_reason(probe: Probe) -> None:
    await probe.start()
    unknown_version = msgspec.structs.replace(asked(7), version=9)
    unfit = msgspec.structs.replace(asked(8), data='{"number":"many"}')
    publish(probe.amqp_uri, b"\xff{", b'{"specversion":"1.0"}', unknown_version, unfit, asked(1, "invalid"))
    publish(probe.amqp_uri, asked(2))
    await eventually(lambda: probe.has_effects([2]))
    found = sorted(
        (our_headers(m)["reason"], our_headers(m)["last-error"], our_headers(m)["attempts"])
        for m in await parked(probe, 5)
    )
    assert found == [
        ("malformed", "MalformedCloudEvent (malformed-cloud-event)", 1),
        ("malformed", "MalformedCloudEvent (malformed-cloud-event)", 1),
        ("malformed", "UndecodableEvent", 1),
        ("malformed", "UndecodableEvent", 1),
        ("permanent-error", "InvalidInput (invalid-input)", 1),
    ]


async def test_a_command_is_executed_once_although_the_handler_runs_twice(probe: Probe) -> None:
    await probe.start()
    store = PostgresEventStore(probe.pool)
    stream = uuid4()
    publish(probe.amqp_uri, asked(1, "command", stream=stream))
    await eventually(lambda: probe.has_effects([1]))
    await probe.pool.execute(f'DELETE FROM "{probe.name}".processed_event')
    publish(probe.amqp_uri, asked(1, "command", stream=stream))

    async def twice() -> bool:
        return await probe.effects() == [1, 1]

    await eventually(twice)
    answers = [event async for page in store.read_stream(f"answer-{stream}") for event in page]
    assert [event.type for event in answers] == [f"{probe.name}.Answered"]
    assert answers[0].causation_id == asked(1).id
    assert answers[0].correlation_id == asked(1).correlation_id
    assert (answers[0].dealer_id, answers[0].brand) == ("D1", "B1")


async def test_a_command_that_is_refused_to_a_handler_is_one_entry_of_the_audit(probe: Probe) -> None:
    await probe.start()
    stream = uuid4()
    publish(probe.amqp_uri, asked(1, "command", stream=stream))
    await eventually(lambda: probe.has_effects([1]))
    publish(probe.amqp_uri, asked(2, "command", stream=stream))
    [message] = await parked(probe, 1)
    assert our_headers(message)["last-error"] == "AlreadyExists (already-exists)"
    assert await probe.attempts(2) == 3
    [entry] = await audited(probe, "audit.CommandRefused")
    assert (entry["actor_id"], entry["dealer_id"]) == (f"system:{probe.name}.react", "D1")
    assert (entry["causation_id"], entry["correlation_id"]) == (asked(2).id, asked(2).correlation_id)
    said = msgspec.json.decode(entry["data"])
    assert (said["rpc"], said["roles"], said["slug"]) == (f"{probe.name}.react", ["system"], "already-exists")
    assert said["subjects"] == [str(stream)]


async def test_an_event_that_cannot_be_read_is_one_entry_of_the_audit_of_each_process(probe: Probe) -> None:
    await probe.start()
    unfit = msgspec.structs.replace(asked(8), data='{"number":"many"}')
    publish(probe.amqp_uri, unfit, unfit, unfit)
    await parked(probe, 3)

    async def noted() -> list[Any]:
        return await audited(probe, "audit.DataUnreadable")

    [entry] = await eventually(noted)
    said = msgspec.json.decode(entry["data"])
    assert (said["slug"], said["event_type"], said["service"]) == (
        "event-undecodable",
        "shop.Asked",
        probe.name,
    )
    assert entry["causation_id"] == asked(8).id


async def audited(probe: Probe, kind: str) -> list[Any]:
    """The entries of the audit of a kind."""
    return list(await probe.pool.fetch("SELECT * FROM events.event WHERE type = $1", kind))


@pytest.mark.faults
async def test_sigkill_in_the_middle_of_a_load_loses_and_repeats_nothing(probe: Probe) -> None:
    numbers = list(range(1500))
    process = await probe.start()
    for start in range(0, len(numbers), 500):
        before = len(await probe.effects())
        publish(probe.amqp_uri, *(asked(number) for number in numbers[start : start + 500]))

        async def moved(before: int = before) -> bool:
            return len(await probe.effects()) > before + 50

        await eventually(moved)
        await probe.kill(process)
        process = await probe.start()
    await eventually(lambda: probe.has_effects(numbers), seconds=60)
    await probe.drained()
    assert await probe.effects() == numbers


async def test_sigterm_lets_running_handlers_finish_and_acknowledge(probe: Probe) -> None:
    process = await probe.start()
    publish(probe.amqp_uri, *(asked(number, "slow") for number in range(5)))

    async def begun() -> bool:
        return all([await probe.attempts(number) for number in range(5)])

    await eventually(begun)
    assert await probe.kill(process, signal.SIGTERM) == 0
    assert await probe.effects() == list(range(5))
    assert depth(probe.amqp_uri, probe.queue) == 0
    assert [await probe.attempts(number) for number in range(5)] == [1] * 5


@pytest.mark.faults
async def test_a_restart_of_broker_and_database_loses_and_repeats_nothing(tmp_path: Path) -> None:
    broker, database = EmbeddedRabbitMQ(tmp_path / "broker"), EmbeddedPostgres(tmp_path / "database")
    uri, url = await asyncio.gather(asyncio.to_thread(broker.start), asyncio.to_thread(database.start))
    try:
        async with probe_service(uri, url) as probe:
            await PostgresEventStore(probe.pool).migrate()
            await probe.start()
            numbers = list(range(900))
            publish(uri, *(asked(number) for number in numbers[:300]))
            await asyncio.to_thread(database.restart)
            publish(uri, *(asked(number) for number in numbers[300:600]))
            await asyncio.to_thread(broker.restart)
            publish(uri, *(asked(number) for number in numbers[600:]))
            await eventually(lambda: probe.has_effects(numbers), seconds=60)
            await probe.drained()
            assert await probe.effects() == numbers
            assert depth(uri, probe.parked) == 0
    finally:
        await asyncio.to_thread(broker.stop)
        await asyncio.to_thread(database.stop)


@pytest.mark.faults
async def test_a_timer_runs_in_one_replica_and_moves_when_that_is_killed(probe: Probe) -> None:
    processes = {process.pid: process for process in (await probe.start(), await probe.start())}

    async def ticks() -> dict[int, int]:
        rows = await probe.pool.fetch(f'SELECT pid, count(*) FROM "{probe.name}".tick GROUP BY pid')
        return {row["pid"]: row["count"] for row in rows}

    async def enough() -> dict[int, int] | None:
        counted = await ticks()
        return counted if max(counted.values(), default=0) >= 20 else None

    await probe.pool.execute(f'DELETE FROM "{probe.name}".tick')
    counted = await eventually(enough)
    assert counted is not None
    [leader] = counted
    await probe.kill(processes.pop(leader))
    [successor] = processes

    async def moved() -> bool:
        return (await ticks()).get(successor, 0) >= 20

    await eventually(moved)
