"""A collector of traces in the test's own process: takes OTLP over HTTP, and keeps what it was sent."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Seen:
    """A span as it arrived. Ids are in hexadecimal; ``parent`` is empty for the first span of a trace."""

    trace: str
    id: str
    parent: str
    name: str
    process: str
    failed: bool
    attributes: dict[str, str]
    links: frozenset[str] = frozenset()
    """The traces that it names, and does not belong to."""


@dataclass
class Collector:
    """What was sent so far."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    paths: set[str] = field(default_factory=set)

    async def take(self, request: web.Request) -> web.Response:
        """A request of an exporter."""
        self.paths.add(request.path)
        body = await request.read()
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {one.key: one.value.string_value for one in resource.resource.attributes}
            process = f"{about['service.name']} {about['crm.role']}"
            for scope in resource.scope_spans:
                self.spans += [_seen(span, process) for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    def named(self, name: str) -> list[Seen]:
        """The spans of a name."""
        return [span for span in self.spans if span.name == name]

    def way_to(self, span: Seen) -> list[Seen]:
        """A span and those above it, up to the first one that has no parent here."""
        by_id = {(each.trace, each.id): each for each in self.spans}
        way = [span]
        while (above := by_id.get((span.trace, way[-1].parent))) is not None:
            way.append(above)
        return way


def _seen(span: object, process: str) -> Seen:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

    assert isinstance(span, Span)
    return Seen(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        process,
        span.status.code == Status.STATUS_CODE_ERROR,
        {one.key: one.value.string_value or str(one.value.int_value) for one in span.attributes},
        frozenset(link.trace_id.hex() for link in span.links),
    )


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector at a free port, by a name that has to be looked up: in a worker that, too, runs on the hub."""
    collector = Collector()
    app = web.Application()
    app.router.add_post("/{path:.*}", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://localhost:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()
