"""One trace from a call to the message that a customer gets, through processes of all roles."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio

from forecourt.testing.probes import poll_async
from forecourt.testing.servers import PostgresServer, RabbitMQServer
from tests.e2e import stories
from tests.e2e.collector import Collector, Seen, collecting
from tests.e2e.house import ENVIRONMENT, NOON, House, running

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

SECONDS = 30.0
CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: PostgresServer,
    rabbitmq_server: RabbitMQServer,
) -> AsyncIterator[House]:
    """A platform that sends its traces to the collector, each role a process of its own."""
    environment = {**ENVIRONMENT, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    database_url, amqp_uri = postgres_server.create_database(), rabbitmq_server.create_vhost()
    folder = tmp_path_factory.mktemp("tracing")
    try:
        async with running(folder, database_url, amqp_uri, together=False, environment=environment) as opened:
            yield opened
    finally:
        postgres_server.drop_database(database_url)
        rabbitmq_server.delete_vhost(amqp_uri)


async def test_one_trace_from_the_call_to_the_message(house: House, collector: Collector) -> None:
    seller = house.client("seller")
    customer_id = await stories.register(seller)
    trace, parent = CALLER
    await seller(
        "sales.PlaceOrder",
        metadata={"traceparent": f"00-{trace}-{parent}-01"},
        customer_id=customer_id,
        model=stories.MODEL,
        lines=stories.SALE_LINES,
    )

    async def connected() -> list[Seen]:
        """The deliveries, once everything of the trace hangs together below the caller's span."""
        await house.settled()
        spans = [span for span in collector.spans if span.trace == trace]
        loose = [span for span in spans if collector.way_to(span)[-1].parent != parent]
        return [] if loose else [span for span in spans if span.name.startswith("send ")]

    sends = await poll_async(connected, SECONDS, what="one connected trace")
    for send in sends:
        assert send.attributes["crm.outcome"] == "accepted"
        chain = [(span.process, span.name) for span in reversed(collector.way_to(send))]
        assert chain == [
            ("forecourt serve", "crm.sales.v1.SalesService/PlaceOrder"),
            ("forecourt relay", "publish OrderPlaced"),
            ("notify work", "process notify.notify"),
            ("notify work", send.name),
        ]
    [asked] = await house.sql(
        "SELECT count(*) AS sent FROM notify.notification WHERE customer_id::text = $1", customer_id
    )
    assert len(sends) == asked["sent"]


async def test_read_models_name_the_traces_that_they_take_in(house: House, collector: Collector) -> None:
    customer_id = await stories.register(house.client("seller"))

    async def projected() -> list[Seen]:
        calls = {span.trace for span in collector.named("crm.customer.v1.CustomerService/RegisterCustomer")}
        return [span for span in collector.named("project customer") if span.links & calls]

    for span in await poll_async(projected, SECONDS, what="the read model of customers"):
        assert (span.process, span.parent, span.failed) == ("forecourt project", "", False)
        assert span.trace not in span.links
    assert customer_id.encode() not in b"".join(collector.bodies)


async def test_a_timer_that_has_something_to_do_begins_a_trace(house: House, collector: Collector) -> None:
    seller = house.client("seller")
    await stories.repair(
        seller, house.client("inspector"), await stories.register(seller), next(stories.VINS)
    )
    await house.settled()
    await house.set_clock(NOON + timedelta(days=7))

    async def asked_for() -> list[list[Seen]]:
        """The ways of the deliveries that a timer asked for."""
        ways = [collector.way_to(span) for span in collector.spans if span.name.startswith("send ")]
        return [way for way in ways if way[-1].name.startswith("run ")]

    for way in await poll_async(asked_for, SECONDS, what="a message that a timer asked for"):
        first = way[-1]
        assert (first.process, first.parent) == ("service_desk work", "")
        assert first.attributes["crm.timer"] == "service_desk.act_on_due"
        assert "process notify.notify" in [span.name for span in way]
    # What runs all the time and finds nothing is not told.
    assert collector.named("run notify.count_dead_letters") == []


async def test_what_is_sent_names_no_person(house: House, collector: Collector) -> None:
    """Not even where a call is refused because of what it says."""
    seller = house.client("seller")
    await seller.refused(
        "customer.RegisterCustomer",
        kind="CUSTOMER_KIND_PROSPECT",
        name="王小明",
        source="walk-in",
        contact_points=[{"kind": "CONTACT_KIND_MOBILE", "value": "王小明 12"}],
    )

    async def refused() -> list[Seen]:
        return [
            span
            for span in collector.spans
            if span.name.endswith("/RegisterCustomer") and "error.type" in span.attributes
        ]

    [span] = await poll_async(refused, SECONDS, what="the span of the refused call")
    assert (span.attributes["rpc.grpc.status_code"], span.attributes["error.type"]) == ("3", "invalid-input")
    assert not span.failed  # the caller's mistake, not the server's
    assert collector.paths == {"/v1/traces"}
    told = b"".join(collector.bodies)
    [message] = [one for one in await house.arrived() if one["text"]][:1]
    number = message["to"].encode()
    assert len(number) > 5
    for secret in ("王".encode(), number, number.removeprefix(b"+86"), message["text"].encode()):
        assert secret not in told
