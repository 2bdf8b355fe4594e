"""What a process that traces does: spans of calls, published events, handlers and deliveries, and what carries them.

Names and attributes follow OpenTelemetry's semantic conventions for RPC and messaging. They hold names that the program
knows, ids and codes, never a person's data: so errors are named by class and slug, and no exception is recorded with
its message.
"""

import os
import uuid
from asyncio import Future
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import msgspec
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from forecourt.errors import ForecourtError
from forecourt.eventstore.port import StoredEvent
from forecourt.rpc.shapes import around
from forecourt.tracing import HEADER
from forecourt.tracing_export import CollectorExport, headers_of

T = TypeVar("T")
Attributes = Mapping[str, str | int]
Carrier = Mapping[str, str]

LINKS = 64
"""Most traces that the span of one batch of a read model names."""

_W3C = TraceContextTextMapPropagator()
_FIELDS = (HEADER, "tracestate")
_NOWHERE = contexts.Context()
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


@dataclass
class _Run:
    """A run of a timer, and whether anything came of it."""

    fruitful: bool = False


_RUN = contexts.create_key("forecourt.run")


class Tracer:
    """Makes the spans of one process."""

    def __init__(self, processor: SpanProcessor, resource: Mapping[str, str]) -> None:
        # The sampler is what OTEL_TRACES_SAMPLER says: all, unless a caller's trace decides otherwise.
        provider = TracerProvider(resource=_resource(resource), shutdown_on_exit=False)
        provider.add_span_processor(processor)
        self._processor = processor
        self._tracer = provider.get_tracer("forecourt")

    @classmethod
    def to_collector(cls, endpoint: str, role: str, services: Sequence[str]) -> "Tracer":
        """A tracer whose spans go to a collector."""
        (name,) = services if len(services) == 1 else ("forecourt",)
        resource = {
            "service.name": name,
            "service.namespace": "forecourt",
            "service.instance.id": str(uuid.uuid4()),
            "crm.role": role,
        }
        return cls(CollectorExport(endpoint, headers_of(os.environ)), resource)

    def start(self) -> None:
        """Send spans from now on, from the running loop."""
        if isinstance(self._processor, CollectorExport):
            self._processor.start()

    async def stop(self) -> None:
        """Send what is left."""
        if isinstance(self._processor, CollectorExport):
            await self._processor.stop()

    # --- what carries a trace from one process to the next

    def stamp(self, metadata: str) -> str:
        """An event's metadata with the present span in it; as it was where there is none."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier)
        if not carrier:
            return metadata
        run = contexts.get_value(_RUN)
        if isinstance(run, _Run):
            run.fruitful = True
        return _encode({**_decode(metadata), **carrier}).decode()

    @staticmethod
    def carried(metadata: str) -> Carrier:
        """The trace that an event's metadata carries, empty where there is none."""
        if metadata == "{}":
            return {}
        found = _decode(metadata)
        return {name: found[name] for name in _FIELDS if isinstance(found.get(name), str)}

    @staticmethod
    def received(event: StoredEvent, headers: Mapping[str, Any]) -> StoredEvent:
        """An event whose trace goes on from its message's header: from the publishing, not from the command."""
        carrier = {name: headers[name] for name in _FIELDS if isinstance(headers.get(name), str)}
        if HEADER not in carrier:
            return event
        return msgspec.structs.replace(event, metadata=_encode(carrier).decode())

    # --- spans

    @contextmanager
    def span(
        self, name: str, kind: SpanKind, carrier: Carrier | None, attributes: Attributes
    ) -> Iterator[Span]:
        """A span around what is done inside, a child of what ``carrier`` holds; what escapes is named in it."""
        parent = _NOWHERE if not carrier else _W3C.extract(carrier, context=_NOWHERE)
        with self._tracer.start_as_current_span(
            name,
            context=parent,
            kind=kind,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_attribute("error.type", _word(error))
                if kind is not SpanKind.SERVER:
                    span.set_status(StatusCode.ERROR)
                raise

    def published(self, event: StoredEvent) -> "tuple[Span, dict[str, str]] | None":
        """The span of an event's way to the broker and the headers of its message; None where it has no trace."""
        carrier = self.carried(event.metadata)
        if not carrier:
            return None
        name = event.type.rpartition(".")[2]
        span = self._tracer.start_span(
            f"publish {name}",
            context=_W3C.extract(carrier, context=_NOWHERE),
            kind=SpanKind.PRODUCER,
            attributes={**_MESSAGING, "messaging.operation.type": "send", **_event(event)},
        )
        headers: dict[str, str] = {}
        _W3C.inject(headers, context=trace.set_span_in_context(span, _NOWHERE))
        return span, headers

    async def handled(self, work: Awaitable[T], queue: str, event: StoredEvent) -> T:
        """Await a handler's work in a span that follows the event's."""
        attributes = {
            **_MESSAGING,
            "messaging.operation.type": "process",
            "messaging.destination.subscription.name": queue,
            **_event(event),
        }
        with self.span(f"process {queue}", SpanKind.CONSUMER, self.carried(event.metadata), attributes):
            return await work

    async def timed(self, work: Awaitable[T], timer: str) -> T:
        """Await a run of a timer in a span that begins a trace: sent where the run recorded events, or failed.

        Most runs find nothing to do, several times a second.
        """
        run = _Run()
        span = self._tracer.start_span(f"run {timer}", context=_NOWHERE, attributes={"crm.timer": timer})
        around = trace.set_span_in_context(span, contexts.set_value(_RUN, run, _NOWHERE))
        token = contexts.attach(around)
        try:
            return await work
        except Exception as error:
            run.fruitful = True
            _failed(span, error)
            raise
        finally:
            contexts.detach(token)
            if run.fruitful:
                span.end()

    def folded(self, service: str, events: Iterable[StoredEvent]) -> "Callable[[Future[None]], None] | None":
        """Begin the span of a batch that read models take in; what is called when it is written.

        It belongs to no trace and has links to those of its events, to `LINKS` of them. None where they have none.
        """
        links: dict[int, Link] = {}
        count = 0
        for event in events:
            count += 1
            if len(links) < LINKS and (carrier := self.carried(event.metadata)):
                of = trace.get_current_span(_W3C.extract(carrier, context=_NOWHERE)).get_span_context()
                if of.is_valid:
                    links.setdefault(of.trace_id, Link(of))
        if not links:
            return None
        attributes: Attributes = {"crm.service": service, "crm.events": count}
        span = self._tracer.start_span(
            f"project {service}", context=_NOWHERE, attributes=attributes, links=list(links.values())
        )

        def written(writing: "Future[None]") -> None:
            if writing.cancelled():
                return
            error = writing.exception()
            if error is not None:
                _failed(span, error)
            span.end()

        return written

    def delivery(self, channel: str, provider: str, message_id: str, metadata: str) -> Any:
        """A context manager: the span of one attempt to deliver a message that ``metadata`` asked for."""
        attributes = {
            "crm.channel": channel,
            "crm.provider": provider,
            "crm.message": message_id,
        }
        return self.span(f"send {channel}", SpanKind.CLIENT, self.carried(metadata), attributes)

    # --- gRPC

    def handlers(
        self, service: str, table: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
    ) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
        """The same handlers, each with a span around every call."""
        return {method: self._traced(service, method, handler) for method, handler in table.items()}

    def _traced(self, service: str, method: str, handler: Any) -> Any:
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        name = f"{service}/{method}"

        @contextmanager
        def call(servicer: Any) -> Iterator[None]:
            # Not the caller's tracestate: it is free text, and what is in an event's metadata stays for ever.
            carrier = {
                key: str(value) for key, value in servicer.invocation_metadata() or () if key == HEADER
            }
            with self.span(name, SpanKind.SERVER, carrier, attributes) as span:
                try:
                    yield
                finally:
                    code = _code(servicer.code())
                    span.set_attribute("rpc.grpc.status_code", code)
                    if code in _OURS:
                        span.set_status(StatusCode.ERROR)

        return around(handler, lambda function: _within(function, call))


_OURS = frozenset(
    status.value[0]
    for status in (
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    )
)
"""Statuses that are a failure of the server, by OpenTelemetry's conventions; others are the caller's doing."""

_MESSAGING = {"messaging.system": "rabbitmq", "messaging.destination.name": "crm.events"}


def _event(event: StoredEvent) -> dict[str, str]:
    return {"messaging.message.id": str(event.id), "cloudevents.event_type": event.type}


def _resource(own: Mapping[str, str]) -> Resource:
    """What the process is; what the operator says in OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES comes first."""
    return Resource(dict(own)).merge(OTELResourceDetector().detect())


def _word(error: BaseException) -> str:
    """Slug or class of an error, without its message, which may hold a person's data."""
    while isinstance(error, grpc.aio.AbortError) and error.__context__ is not None:
        error = error.__context__
    return error.slug if isinstance(error, ForecourtError) else type(error).__name__


def _failed(span: Span, error: BaseException) -> None:
    span.set_attribute("error.type", _word(error))
    span.set_status(StatusCode.ERROR)


def _code(code: Any) -> int:
    """The number of a status; an unset one is OK."""
    if isinstance(code, grpc.StatusCode):
        return int(code.value[0])
    return int(code or 0)


def _within(function: Callable[..., Any], call: Callable[[Any], Any]) -> Callable[..., Any]:
    """A handler within its span; one that streams writes to its servicer, and is awaited like any other."""

    async def traced(request: Any, servicer: Any) -> Any:
        with call(servicer):
            return await function(request, servicer)

    return traced
