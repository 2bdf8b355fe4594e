"""Sends spans to a collector: OTLP over HTTP with protobuf, from the loop that the process runs on.

The exporters that come with OpenTelemetry block a thread of their own. In a worker threads are green and share the one
that the handlers run in, so both roles send with aiohttp instead, which works on either loop. Spans are a help and
not a record: a collector that is away costs spans, never a call.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress

import aiohttp
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_HEADERS
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.util.re import parse_env_headers

from forecourt import logs
from forecourt.metrics import SPANS
from forecourt.waiting import cancel_and_wait

log = logs.get(__name__)

QUEUE = 10_000
"""Spans that wait at most; the oldest are dropped."""

BATCH = 128
"""Spans in one request: few, because they are encoded between two calls."""

SECONDS = 1.0
"""Between two looks at what waits."""

TIMEOUT = 5.0
"""Seconds that a collector may take to answer, also the last time."""


class CollectorExport(SpanProcessor):
    """Keeps ended spans until the loop has sent them. ``headers`` go along with every request."""

    def __init__(self, endpoint: str, headers: dict[str, str]) -> None:
        self._url = f"{endpoint.rstrip('/')}/v1/traces"
        self._headers = {**headers, "Content-Type": "application/x-protobuf"}
        self._waiting: deque[ReadableSpan] = deque()
        self._task: asyncio.Task[None] | None = None
        self._away = False

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that has ended; called by the SDK."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if len(self._waiting) >= QUEUE:
            self._waiting.popleft()
            SPANS.labels("dropped").inc()
        self._waiting.append(span)

    def start(self) -> None:
        """Send from now on."""
        self._task = asyncio.get_running_loop().create_task(self._send_often())

    async def stop(self) -> None:
        """Send what is left, if the collector answers in time."""
        if self._task is not None:
            await cancel_and_wait(self._task)
        with suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT):
                await self._send_all()

    async def _send_often(self) -> None:
        while True:
            await asyncio.sleep(SECONDS)
            if self._waiting:
                await self._send_all()

    async def _send_all(self) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        async with aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                if not await self._sent(session, batch):
                    return

    async def _sent(self, session: aiohttp.ClientSession, batch: list[ReadableSpan]) -> bool:
        try:
            body = encode_spans(batch).SerializeToString()
            async with session.post(self._url, data=body) as response:
                problem = "" if response.status < 400 else f"status {response.status}"
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            problem = type(error).__name__
        SPANS.labels("dropped" if problem else "sent").inc(len(batch))
        if problem and not self._away:
            log.warning("traces cannot be sent", error=problem)
        self._away = bool(problem)
        return not problem


def headers_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The headers that ``OTEL_EXPORTER_OTLP_HEADERS`` asks for."""
    return dict(parse_env_headers(environment.get(OTEL_EXPORTER_OTLP_HEADERS, ""), liberal=True))
