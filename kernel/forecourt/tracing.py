"""Traces: off unless ``OTEL_EXPORTER_OTLP_ENDPOINT`` names a collector, and then nothing of OpenTelemetry is imported.

What may be traced asks ``if tracing.tracer is not None``: that is all it costs where nobody looks. What a tracer does
is in `forecourt.tracing_spans`.

A trace goes along with the facts: a command's span is in the metadata of its events (``traceparent``), the relay's in
the header of the message, a handler's in the events that its commands append. So a message to a customer, sent hours
later, belongs to the trace of the call that caused it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from forecourt.config import Settings

if TYPE_CHECKING:
    from forecourt.tracing_spans import Tracer

HEADER = "traceparent"
"""Of call metadata, event metadata and AMQP headers, as the W3C defines it."""

tracer: "Tracer | None" = None
"""What makes the spans of this process; None where it makes none."""


async def start(settings: Settings, role: str, services: Sequence[str]) -> None:
    """Trace from now on, where the settings name a collector. Must be called on the loop that will send spans."""
    global tracer
    endpoint = settings.otel_exporter_otlp_endpoint
    if endpoint is None or tracer is not None:
        return
    from forecourt.tracing_spans import Tracer

    found = Tracer.to_collector(endpoint, role, services)
    found.start()
    tracer = found


async def stop() -> None:
    """Send what is left, for a short while, and trace no more."""
    global tracer
    ending, tracer = tracer, None
    if ending is not None:
        await ending.stop()
