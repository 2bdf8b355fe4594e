"""Traces: nothing where they are off; spans that belong together, and say nothing of persons, where they are on."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from amqp.serialization import loads
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY

from customer.customer import RegisterCustomer, customer
from customer.service import service
from forecourt import tracing
from forecourt.codec import Codec
from forecourt.command_handler import CommandHandler
from forecourt.config import Settings, load_from
from forecourt.deciders import Context
from forecourt.errors import InvalidInput
from forecourt.eventstore.memory import MemoryEventStore
from forecourt.eventstore.port import StoredEvent
from forecourt.messaging.cloudevents import from_cloudevent, to_cloudevent
from forecourt.messaging.publisher import Outgoing, publish_frames
from forecourt.privacy.keys import MemoryKeys
from forecourt.testing.probes import poll_async
from forecourt.tracing_export import QUEUE, CollectorExport
from forecourt.tracing_spans import LINKS, Tracer

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{CALLER}-01"
NOW = datetime(2027, 3, 1, 4, 0, tzinfo=UTC)


@pytest.fixture
def ended() -> Iterator[InMemorySpanExporter]:
    """Traces are on; the spans that have ended."""
    exporter = InMemorySpanExporter()
    tracing.tracer = Tracer(SimpleSpanProcessor(exporter), {})
    yield exporter
    tracing.tracer = None


def on() -> Tracer:
    """The tracer of this process."""
    assert tracing.tracer is not None
    return tracing.tracer


def event(metadata: str = "{}") -> StoredEvent:
    return StoredEvent(
        position=7,
        stream=f"order-{uuid4()}",
        sequence=1,
        id=uuid4(),
        type="sales.OrderPlaced",
        version=1,
        time=NOW,
        data="{}",
        correlation_id=uuid4(),
        causation_id=None,
        dealer_id="D001",
        brand="hongtong",
        actor_id="amy",
        metadata=metadata,
    )


def test_nothing_of_opentelemetry_is_imported_where_traces_are_off() -> None:
    modules = "forecourt.roles, forecourt.messaging.relay, notify.sender, notify.service"
    code = f"import sys, {modules}; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


async def test_they_stay_off_without_a_collector() -> None:
    await tracing.start(load_from(Settings, {}), "serve", ["sales"])
    assert tracing.tracer is None


async def test_a_commands_events_carry_its_span(ended: InMemorySpanExporter) -> None:
    store = MemoryEventStore()
    commands = CommandHandler(store, Codec(service.registry, MemoryKeys()))
    command = RegisterCustomer(kind="prospect", name="王伟")
    context = Context(now=NOW, command_id=uuid4(), correlation_id=uuid4(), metadata='{"note": "kept"}')
    with on().span("call", SpanKind.SERVER, {"traceparent": PARENT}, {}) as span:
        outcome = await commands.execute(customer, command, context)
        asked = await commands.origin(customer, outcome.id)
    spanned = span.get_span_context()
    assert on().carried(asked) == {"traceparent": f"00-{TRACE}-{spanned.span_id:016x}-01"}
    assert '"note":"kept"' in asked


async def test_without_a_span_metadata_stays_as_it_is(ended: InMemorySpanExporter) -> None:
    assert on().stamp('{"note": "kept"}') == '{"note": "kept"}'


async def test_there_is_no_origin_of_what_does_not_exist() -> None:
    commands = CommandHandler(MemoryEventStore(), Codec(service.registry, MemoryKeys()))
    assert await commands.origin(customer, UUID(int=1)) == "{}"


def test_the_message_says_in_a_header_who_published_it(ended: InMemorySpanExporter) -> None:
    stored = event(f'{{"traceparent": "{PARENT}"}}')
    found = on().published(stored)
    assert found is not None
    span, headers = found
    assert headers == {"traceparent": f"00-{TRACE}-{span.get_span_context().span_id:016x}-01"}
    arrived = on().received(from_cloudevent(to_cloudevent(stored)), headers)
    assert on().carried(arrived.metadata) == headers
    span.end()
    [publish] = ended.get_finished_spans()
    assert publish.name == "publish OrderPlaced"
    assert publish.parent is not None
    assert f"{publish.parent.span_id:016x}" == CALLER


def test_a_message_from_elsewhere_goes_on_from_its_body(ended: InMemorySpanExporter) -> None:
    stored = event(f'{{"traceparent": "{PARENT}"}}')
    assert on().received(stored, {"attempts": 2}) is stored
    assert on().received(stored, {"traceparent": 17}) is stored


def test_an_event_without_a_trace_begins_none(ended: InMemorySpanExporter) -> None:
    assert on().published(event()) is None


@pytest.mark.parametrize(
    "headers", [None, {"traceparent": PARENT}, {"traceparent": PARENT, "tracestate": "a=b"}]
)
def test_frames_hold_the_headers(headers: dict[str, str] | None) -> None:
    frames = publish_frames(1, Outgoing("sales.OrderPlaced.b.d", "an-id", b"{}", headers), 131_072)
    size = int.from_bytes(frames[3:7], "big")
    header = frames[7 + size + 1 :]
    flags = int.from_bytes(header[19:21], "big")
    values, _ = loads(
        "".join(kind for kind, bit in zip("sFos", (15, 13, 12, 7), strict=True) if flags >> bit & 1),
        header,
        21,
    )
    assert values == ["application/cloudevents+json", *([headers] if headers else []), 2, "an-id"]


async def test_a_failed_call_names_its_error_and_no_person(ended: InMemorySpanExporter) -> None:
    async def refuse(request: bytes, servicer: Any) -> bytes:
        raise InvalidInput("name: 王伟 is not a name", fields={"name": "王伟"})

    table: Any = on().handlers("crm.x.v1.X", {"Do": grpc.unary_unary_rpc_method_handler(refuse)})
    given = (("traceparent", PARENT), ("tracestate", "name=wang"), ("authorization", "Bearer secret"))
    servicer: Any = SimpleNamespace(
        invocation_metadata=lambda: given, code=lambda: grpc.StatusCode.INVALID_ARGUMENT
    )
    with pytest.raises(InvalidInput):
        await table["Do"].unary_unary(b"", servicer)
    [span] = ended.get_finished_spans()
    assert dict(span.attributes or {}) == {
        "rpc.system": "grpc",
        "rpc.service": "crm.x.v1.X",
        "rpc.method": "Do",
        "rpc.grpc.status_code": 3,
        "error.type": "invalid-input",
    }
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == CALLER
    assert not span.events
    told = span.to_json(indent=None).encode().decode("unicode_escape")
    assert not any(secret in told for secret in ("王伟", "wang", "secret"))


@pytest.mark.parametrize("garbage", ["", "00-1-1-1", "x" * 10_000, f"00-{'0' * 32}-{CALLER}-01"])
async def test_a_garbled_parent_begins_a_new_trace(ended: InMemorySpanExporter, garbage: str) -> None:
    written: list[bytes] = []

    async def answer(request: bytes, servicer: Any) -> None:
        await servicer.write(b"1")
        await servicer.write(b"2")

    async def write(message: bytes) -> None:
        written.append(message)

    table: Any = on().handlers("crm.x.v1.X", {"List": grpc.unary_stream_rpc_method_handler(answer)})
    servicer: Any = SimpleNamespace(
        invocation_metadata=lambda: (("traceparent", garbage),), code=lambda: None, write=write
    )
    await table["List"].unary_stream(b"", servicer)
    assert written == [b"1", b"2"]
    [span] = ended.get_finished_spans()
    assert span.parent is None
    assert (span.attributes or {})["rpc.grpc.status_code"] == 0


async def test_a_run_of_a_timer_is_told_where_something_came_of_it(ended: InMemorySpanExporter) -> None:
    async def idle() -> str:
        return "nothing to do"

    async def busy() -> str:
        return on().stamp("{}")

    async def failing() -> None:
        raise InvalidInput("name: 王伟 is wrong")

    assert await on().timed(idle(), "sales.expire") == "nothing to do"
    assert ended.get_finished_spans() == ()
    stamped = await on().timed(asyncio.wait_for(busy(), 5), "sales.expire")
    [span] = ended.get_finished_spans()
    assert (span.name, span.parent) == ("run sales.expire", None)
    assert f"{span.context.trace_id:032x}" in stamped
    with pytest.raises(InvalidInput):
        await on().timed(failing(), "sales.expire")
    *_, failed = ended.get_finished_spans()
    assert (failed.status.status_code, failed.attributes or {}) == (
        StatusCode.ERROR,
        {"crm.timer": "sales.expire", "error.type": "invalid-input"},
    )
    assert failed.events == ()


async def test_a_batch_names_the_traces_of_its_events(ended: InMemorySpanExporter) -> None:
    assert on().folded("sales", [event(), event()]) is None
    traces = [f"{number:032x}" for number in range(1, LINKS + 10)]
    events = [event(f'{{"traceparent": "00-{trace}-{CALLER}-01"}}') for trace in traces for _ in range(2)]
    written = on().folded("sales", [event(), event('{"traceparent": "nonsense"}'), *events])
    assert written is not None
    assert ended.get_finished_spans() == ()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.add_done_callback(written)
    done.set_result(None)
    await poll_async(ended.get_finished_spans, what="the batch's span")
    [span] = ended.get_finished_spans()
    assert [f"{link.context.trace_id:032x}" for link in span.links] == traces[:LINKS]
    assert (span.parent, dict(span.attributes or {})) == (
        None,
        {"crm.service": "sales", "crm.events": 2 + len(events)},
    )


@pytest.mark.parametrize("error", [None, InvalidInput("x")])
async def test_what_became_of_a_batch_is_in_its_span(
    ended: InMemorySpanExporter, error: Exception | None
) -> None:
    written = on().folded("sales", [event(f'{{"traceparent": "{PARENT}"}}')])
    assert written is not None
    writing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if error is None:
        writing.cancel()
    else:
        writing.set_exception(error)
    written(writing)
    failed = [span.status.status_code for span in ended.get_finished_spans()]
    assert failed == ([] if error is None else [StatusCode.ERROR])


async def test_a_collector_that_is_away_costs_spans_and_nothing_else() -> None:
    export = CollectorExport("http://127.0.0.1:9", {})
    tracer = Tracer(export, {})
    dropped = spans("dropped")
    for _ in range(QUEUE + 10):
        with tracer.span("call", SpanKind.SERVER, None, {}):
            pass
    assert spans("dropped") == dropped + 10
    tracer.start()

    async def gave_up() -> bool:
        return spans("dropped") > dropped + 10

    await poll_async(gave_up, what="a batch that cannot be sent")
    await asyncio.wait_for(tracer.stop(), 10)


def spans(outcome: str) -> float:
    """The counter of spans."""
    return REGISTRY.get_sample_value("forecourt_trace_spans_total", {"outcome": outcome}) or 0.0


@pytest.mark.parametrize(
    ("code", "failed"), [(grpc.StatusCode.NOT_FOUND, False), (grpc.StatusCode.INTERNAL, True)]
)
async def test_only_what_is_the_servers_fault_fails_a_call(
    ended: InMemorySpanExporter, code: grpc.StatusCode, failed: bool
) -> None:
    async def abort(request: bytes, servicer: Any) -> bytes:
        try:
            raise KeyError("王伟")
        except KeyError:
            raise grpc.aio.AbortError from None

    table: Any = on().handlers("crm.x.v1.X", {"Do": grpc.unary_unary_rpc_method_handler(abort)})
    servicer: Any = SimpleNamespace(invocation_metadata=lambda: None, code=lambda: code)
    with pytest.raises(grpc.aio.AbortError):
        await table["Do"].unary_unary(b"", servicer)
    [span] = ended.get_finished_spans()
    assert (span.status.status_code is StatusCode.ERROR) is failed
    assert (span.attributes or {})["error.type"] == "KeyError"
    assert not span.status.description
