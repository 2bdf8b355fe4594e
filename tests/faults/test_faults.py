"""Real faults on real processes, each in the middle of a load of commands that go on while it lasts.

The platform of this module is started once: its processes die and come back as they would in production. After each
test everything that was ever accepted is checked, not only what this test sent.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
import pytest_asyncio

from forecourt.discovery import find_services
from forecourt.eventstore.port import Batch
from forecourt.messaging.cloudevents import CONTENT_TYPE, EXCHANGE
from forecourt.messaging.forwarder import Forwarder, connect
from forecourt.messaging.parked import discard, list_parked, replay
from forecourt.runtime import Runtime
from forecourt.testing.probes import poll_async
from tests.e2e import stories
from tests.e2e.client import Client
from tests.e2e.house import SECONDS, SERVICES
from tests.faults.checks import assert_nothing_lost_or_doubled, quiet, unhandled
from tests.faults.house import POISON, Fortress, open_fortress, tapped
from tests.faults.load import load

pytestmark = [
    pytest.mark.faults,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(240),
]

SLOW = "test.slow"
PAGE = 10
"""Events that a slow reader of the store takes before it stops."""

WORKERS = tuple(f"work-{service}" for service in SERVICES)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fortress]:
    async with open_fortress(tmp_path_factory.mktemp("faults")) as opened:
        yield opened


@pytest.mark.parametrize("name", ["serve", "project", "relay"])
async def test_a_process_is_killed_in_the_middle_of_a_load(house: Fortress, name: str) -> None:
    async with load(house) as sent:
        await sent.hit(lambda: house.kill(name))
    assert bool(sent.retried) == (name == "serve")
    await assert_nothing_lost_or_doubled(house, sent)


async def test_no_refusal_that_was_answered_is_missing_in_the_audit(house: Fortress) -> None:
    """Whoever was told "no" before the kill is in the log after it, once."""
    told: list[UUID] = []
    stopping = False

    async def try_in_vain(client: Client) -> None:
        while not stopping:
            correlation_id = uuid4()
            try:
                await client(
                    "customer.ChangeCategory",
                    metadata={"correlation-id": str(correlation_id)},
                    customer_id=str(uuid4()),
                    category="CUSTOMER_KIND_BUYER",
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    told.append(correlation_id)
                elif error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise

    client = house.client("in-vain")
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(try_in_vain(client))
        for _ in range(2):
            before = len(told)
            await poll_async(lambda: len(told) > before + 100, SECONDS, what="refusals")  # noqa: B023
            await house.kill("serve")
        stopping = True
    rows = await house.sql("SELECT correlation_id FROM events.event WHERE type = 'audit.CommandRefused'")
    noted = Counter(row["correlation_id"] for row in rows)
    assert len(told) > 200
    assert [one for one in told if noted[one] != 1] == []


async def test_all_workers_are_killed_in_the_middle_of_their_work(house: Fortress) -> None:
    async def kill() -> None:
        await poll_async(lambda: _some_unhandled(house), SECONDS, what="events in hand")
        await asyncio.gather(*map(house.kill, WORKERS))

    async with load(house) as sent:
        await sent.hit(kill)
    assert not sent.retried, sent.reasons
    await assert_nothing_lost_or_doubled(house, sent)


async def _some_unhandled(house: Fortress) -> bool:
    return any((await unhandled(house)).values())


async def test_the_broker_is_stopped_and_started(house: Fortress) -> None:
    async def stop_and_start() -> None:
        await asyncio.to_thread(house.rabbitmq.stop)
        await sent.accepted(40)
        await asyncio.to_thread(house.rabbitmq.start)

    async with load(house) as sent:
        await sent.hit(stop_and_start)
    assert not sent.retried, "commands do not need the broker"
    await house.all_ready()
    await assert_nothing_lost_or_doubled(house, sent)


async def test_the_database_is_restarted(house: Fortress) -> None:
    async with load(house) as sent:
        await sent.hit(lambda: asyncio.to_thread(house.postgres.restart))
    await house.all_ready()
    await assert_nothing_lost_or_doubled(house, sent)


async def test_the_database_crashes(house: Fortress) -> None:
    async def crash() -> None:
        await asyncio.to_thread(house.postgres.kill)
        await asyncio.to_thread(house.postgres.start)

    async with load(house) as sent:
        await sent.hit(crash)
    await house.all_ready()
    await assert_nothing_lost_or_doubled(house, sent)


@pytest.mark.parametrize(("kind", "taken"), [("error", False), ("timeout", True), ("garbage", True)])
async def test_the_sms_provider_answers_500_or_late_or_nonsense(
    house: Fortress, kind: str, taken: bool
) -> None:
    """Where it does not answer, or not so that it can be understood, it has ``taken`` the message all the same."""
    before = len(await house.arrived())

    async def fail() -> None:
        await house.fault(provider="generic", kind=kind, times=12, taken=taken)
        await poll_async(lambda: _all_met(house), SECONDS, what="the fault to be met")

    async with load(house) as sent:
        await sent.hit(fail)
    await assert_nothing_lost_or_doubled(house, sent)
    assert len(await house.arrived()) > before


async def _all_met(house: Fortress) -> bool:
    return not await house.faults()


async def test_a_poisoned_message_is_parked_and_stops_nobody_else(house: Fortress) -> None:
    """One that is no event at all, and one that no attempt can handle until a human has mended its cause."""
    stranger = str(uuid4())
    handler = "notify.notify"

    async def poison() -> None:
        with Forwarder(house.amqp_uri) as forwarder:
            key = "service_desk.RepairQuoted.hongtong.D001"
            properties = {"content_type": CONTENT_TYPE, "message_id": POISON}
            forwarder.send(EXCHANGE, key, b"\xff{nonsense", properties=properties, headers={})
        await sent.do("service_desk.OpenRepairOrder", **_order_of(stranger))
        opened = sent.answers[-1].id
        await sent.do("service_desk.QuoteRepair", repair_order_id=opened, lines=stories.REPAIR_LINES)
        await poll_async(lambda: len(list_parked(house.amqp_uri, f"{handler}.parked")) == 2, SECONDS)

    async with load(house) as sent:
        await sent.hit(poison)
    await quiet(house)
    nonsense, quoted = sorted(
        list_parked(house.amqp_uri, f"{handler}.parked"), key=lambda message: message.type
    )
    assert (nonsense.reason, quoted.type) == ("malformed", "service_desk.RepairQuoted v1")
    discard(house.amqp_uri, f"{handler}.parked", nonsense.id, reason="is no event")
    await assert_nothing_lost_or_doubled(house, sent, parked=1)
    before = len(await house.arrived())
    async with load(house) as sent:
        await stories.register(sent.do, customer_id=stranger)
        assert replay(house.amqp_uri, f"{handler}.parked", [quoted.id]) == 1
        await sent.accepted(1)
    await assert_nothing_lost_or_doubled(house, sent)
    assert len(await house.arrived()) > before


def _order_of(customer_id: str) -> dict[str, object]:
    return {
        "customer_id": customer_id,
        "vin": next(stories.VINS),
        "odometer_km": 1,
        "kind": "WORK_KIND_REPAIR",
        "symptoms": ["noise"],
        "adviser_id": "A-01",
    }


async def test_two_relays_and_two_projectors_at_once_and_the_leader_killed(house: Fortress) -> None:
    for name in ("relay", "project"):
        await house.replicate(name)
    try:
        async with load(house) as sent:
            await sent.accepted(40)
            for name in ("relay", "project"):
                assert await _works(house, name) > 0
                assert await _works(house, f"{name}-2") == 0
            await sent.hit(lambda: asyncio.gather(house.kill("relay"), house.kill("project")))
        await assert_nothing_lost_or_doubled(house, sent)
        for name in ("relay-2", "project-2"):
            assert await _works(house, name) > 0
    finally:
        for name in ("relay-2", "project-2"):
            await house.platform.supervisor.stop(name)


async def _works(house: Fortress, process: str) -> float:
    """Events that a relay or projector has dealt with."""
    relayed = await house.metric(process, "forecourt_relay_confirmed_events_total")
    return relayed + await house.metric(process, "forecourt_projection_events_total")


async def test_subscribers_are_slow_and_nobody_waits_for_them(house: Fortress) -> None:
    """One takes a message from the broker and keeps it; one stops reading the event store after a page."""
    async with _slow_subscribers(house) as slow:
        async with load(house) as sent:
            await sent.hit(slow.begin)
        await assert_nothing_lost_or_doubled(house, sent)
        events = await house.sql("SELECT id, position FROM events.event WHERE position > $1", slow.start)
        assert len(events) > 3 * PAGE
        assert await slow.read_on(len(events)) == sorted(event["position"] for event in events)
        assert set(slow.consume_on()) >= {event["id"] for event in events}


@dataclass
class _Slow:
    """A consumer of the broker with one message unanswered, and a reader of the store that has stopped."""

    channel: Any
    batches: AsyncIterator[Batch]
    start: int
    positions: list[int]
    message: Any = None

    async def begin(self) -> None:
        """Take one message and one page, and stop."""
        self.message = await poll_async(lambda: self.channel.basic_get(SLOW), SECONDS, what="a message")
        await self.read_on(1)

    async def read_on(self, count: int) -> list[int]:
        """Read the store until so many events were read; the positions of all that were."""
        while len(self.positions) < count:
            batch = await anext(self.batches)
            self.positions += [event.position for event in batch.events]
        return self.positions

    def consume_on(self) -> Iterator[UUID]:
        """Answer the message, and take the rest one by one; the ids of all."""
        while self.message is not None:
            yield tapped(self.message)[0]
            self.channel.basic_ack(self.message.delivery_tag)
            self.message = self.channel.basic_get(SLOW)


@asynccontextmanager
async def _slow_subscribers(house: Fortress) -> AsyncIterator[_Slow]:
    runtime = await Runtime.open(find_services(["customer"]), house.platform.settings)
    with connect(house.amqp_uri) as connection:
        channel = connection.channel()
        channel.queue_declare(SLOW, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(SLOW, EXCHANGE, "#")
        start = await runtime.store.head()
        batches = runtime.store.subscribe(after=start, page=PAGE)
        try:
            yield _Slow(channel, batches, start, [])
        finally:
            channel.queue_delete(SLOW)
            assert isinstance(batches, AsyncGenerator)
            await batches.aclose()
            await runtime.close()


async def test_the_checks_notice_what_is_lost_or_doubled(house: Fortress) -> None:
    """Runs last: each kind of evidence is tampered with in turn."""
    async with load(house) as sent:
        await sent.accepted(20)
    await assert_nothing_lost_or_doubled(house, sent)
    answers, tapped_events = list(sent.answers), list(house.tapped)

    sent.answers[0] = replace(answers[0], version=99)
    with pytest.raises(AssertionError, match="is not in the store"):
        await assert_nothing_lost_or_doubled(house, sent)
    sent.answers[:] = answers

    del house.tapped[7]
    with pytest.raises(AssertionError, match="never reached the broker"):
        await assert_nothing_lost_or_doubled(house, sent)
    _, stream, sequence = tapped_events[-1]
    house.tapped[:] = [*tapped_events, (uuid4(), stream, sequence)]
    with pytest.raises(AssertionError, match="came after"):
        await assert_nothing_lost_or_doubled(house, sent)
    house.tapped[:] = tapped_events

    some = "SELECT customer_id FROM customer.customer ORDER BY customer_id LIMIT 1"
    [(customer_id,)] = await house.sql(some)
    await house.sql("UPDATE customer.customer SET name = name || '!' WHERE customer_id = $1", customer_id)
    with pytest.raises(AssertionError, match=r"customer\.customer"):
        await assert_nothing_lost_or_doubled(house, sent)
    await house.sql(
        "UPDATE customer.customer SET name = rtrim(name, '!') WHERE customer_id = $1", customer_id
    )

    one = "SELECT event_id FROM notify.processed_event LIMIT 1"
    forget = f"DELETE FROM notify.processed_event WHERE event_id IN ({one}) RETURNING event_id"
    [(event_id,)] = await house.sql(forget)
    found = await unhandled(house)
    assert found["notify.notify"] == {event_id}
    remember = "INSERT INTO notify.processed_event (handler, event_id) VALUES ('notify.notify', $1)"
    await house.sql(remember, event_id)
    await assert_nothing_lost_or_doubled(house, sent)
