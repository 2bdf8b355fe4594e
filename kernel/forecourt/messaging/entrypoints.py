"""nameko entrypoints: `on_event` for events of the platform, `every` for timers.

::

    class CareReactions:
        name = "service_desk"
        database = Database()

        @on_event(VehicleDelivered)
        async def plan_return_visit(self, event: Recorded[VehicleDelivered]) -> None: ...

        @every(seconds=1)
        async def send_due(self) -> None: ...

What `on_event` promises:

* A handler runs at least once for every event, and what it writes through ``self.database.tx`` happens
  exactly once: the event's id is stored in the same transaction, and a message is acknowledged only after the
  commit.
* A handler that fails is tried again after each of the configured delays, and then its message is parked.
  What no further attempt can mend (`forecourt.messaging.retries.PERMANENT`) is parked at once.
* While the database, the event store, the keys or the read models that a handler waits for do not answer, messages
  are held back: an outage uses up no attempts.
* A process handles the events of one aggregate one after the other, in order. An event that is tried again
  later holds nothing back, so later ones of its aggregate overtake it; and two replicas may handle two events
  of one aggregate at once. ``event.meta.sequence`` tells the order: a handler that depends on it raises until
  its turn has come.
"""

import asyncio
import inspect
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import eventlet
import kombu
from nameko.exceptions import ConfigurationError, ContainerBeingKilled
from nameko.messaging import Consumer, QueueConsumer, QueueConsumerStopped
from prometheus_client import Gauge

from forecourt import logs, tracing
from forecourt.clock import monotonic
from forecourt.connections import LOST
from forecourt.errors import Unavailable
from forecourt.events import AnyEvent, Event, ForeignEvent, Recorded
from forecourt.eventstore.port import StoredEvent
from forecourt.messaging import retries, topology
from forecourt.messaging.cloudevents import MalformedCloudEvent, from_cloudevent
from forecourt.messaging.forwarder import BROKER_TROUBLE, BrokerUnavailable, Forwarder
from forecourt.metrics import HANDLED, HANDLER_SECONDS, PARKED, RETRIES
from forecourt.registry import Registry, RegistryError, UndecodableEvent
from forecourt.worker import bridge
from forecourt.worker.runtime import CONFIG_KEY, TRANSACTION, Runtime
from forecourt.worker.timers import every

__all__ = ["every", "on_event"]

log = logs.get(__name__)
_kombu: Any = kombu  # hardly typed
F = TypeVar("F", bound=Callable[..., Any])

HANDLER_TIMEOUT = 120.0
"""Seconds after which a handler is cancelled, which counts as a failed attempt."""

HOLD_SECONDS = 300.0
"""How long a message is held back by an outage before it goes to wait in a retry queue."""

PARKED_PROPERTIES = ("content_type", "message_id")

IN_HAND = Gauge("forecourt_handler_messages_in_hand", "Messages taken from the broker", ["service"])


class Outage(Exception):
    """A server that every handler needs does not answer; nothing is known to be wrong with the message."""


class HandlerTimeout(Exception):
    """A handler took too long and was cancelled."""


class UnexpectedEvent(MalformedCloudEvent):
    """A message is an event that its queue's handler does not handle."""


class EventConsumer(QueueConsumer):  # type: ignore[misc]  # nameko has no types
    """The connection from which all handlers of a service class take their messages, each on its own channel.

    nameko's own closes the connection as soon as the last consumer is cancelled, and the acknowledgements of
    running handlers are lost; this one waits for them.
    """

    _pending_remove_providers: dict[Any, Any]

    def __init__(self) -> None:
        super().__init__()
        self.in_hand = 0

    def setup(self) -> None:
        """Called by nameko before the handlers start."""
        self.forwarder = Forwarder(self.runtime.settings.broker)

    @property
    def runtime(self) -> Runtime:
        """What the process shares."""
        runtime: Runtime = self.container.config[CONFIG_KEY]
        return runtime

    def get_consumers(self, consumer_cls: Any, channel: Any) -> Any:
        """Declare queues and start consuming; called after every (re)connection."""
        topology.declare_retries(channel, self.container.service_name, self.runtime.delays)
        self._consumers.clear()
        for provider in self._providers:
            own = channel.connection.channel()
            topology.declare_handler(own, provider.queue_name, provider.stored_types)
            self._consumers[provider] = _kombu.Consumer(
                own,
                queues=[_kombu.Queue(provider.queue_name, no_declare=True)],
                auto_declare=False,
                prefetch_count=provider.prefetch,
                on_message=partial(self._deliver, provider),
            )
        return list(self._consumers.values())

    def consumes(self, provider: "OnEvent") -> bool:
        """Whether a handler's queue was declared and bound."""
        return provider in self._consumers

    def on_iteration(self) -> None:
        """Stop consuming when asked to, and leave when the last message in hand is answered."""
        self._cancel_consumers_if_requested()
        if not self._consumers and not self.in_hand:
            self.should_stop = True

    def run(self, *arguments: Any, **options: Any) -> None:
        """Consume until stopped, through any number of connections."""
        try:
            super().run(*arguments, **options)
        except QueueConsumerStopped:
            log.warning("stopped while the broker was away", service=self.container.service_name)

    @contextmanager
    def establish_connection(self) -> Iterator[Any]:
        """Connect, however long that takes, with shorter pauses than kombu's, which grow to half a minute."""
        with self.create_connection() as connection:
            connection.ensure_connection(
                self.on_connection_error, interval_start=0.2, interval_step=0.4, interval_max=3.0
            )
            yield connection

    def on_connection_error(self, error: Exception, interval: float) -> None:
        """Called before another attempt to connect, which there is not once all handlers are to stop."""
        log.warning("broker does not answer", error=type(error).__name__, retry_in=interval)
        if self._pending_remove_providers.keys() >= self._providers:
            for removed in self._pending_remove_providers.values():
                removed.send()
            self._pending_remove_providers = {}
            raise QueueConsumerStopped

    def _deliver(self, provider: "OnEvent", message: Any) -> None:
        self.in_hand += 1
        IN_HAND.labels(self.container.service_name).set(self.in_hand)
        self.container.spawn_managed_thread(
            partial(provider.handle_message, message), identifier=provider.queue_name
        )

    def answered(self, message: Any, *, requeue: bool = False) -> None:
        """Acknowledge a message, or give it back; where its connection is gone the broker has done so."""
        self.in_hand -= 1
        IN_HAND.labels(self.container.service_name).set(self.in_hand)
        try:
            if requeue:
                message.requeue()
            else:
                message.ack()
        except BROKER_TROUBLE as error:
            log.info("broker has taken a message back", error=type(error).__name__)


class OnEvent(Consumer):  # type: ignore[misc]  # nameko has no types
    """Entrypoint for events: classes (own or foreign) or stored types (``"sales.VehicleDelivered"``).

    ``permanent`` are further errors for which a message is parked at once. ``prefetch`` and ``timeout``
    (seconds) override the defaults.
    """

    queue_consumer = EventConsumer()

    def __init__(
        self,
        *events: str | type[AnyEvent],
        permanent: tuple[type[Exception], ...] = (),
        prefetch: int | None = None,
        timeout: float = HANDLER_TIMEOUT,
    ) -> None:
        super().__init__(queue=None)
        self._events = events
        self._permanent = (*retries.PERMANENT, *permanent)
        self._prefetch = prefetch
        self._timeout = timeout
        self._stopping = False
        self._waiting: dict[str, deque[tuple[Any, Recorded[AnyEvent]]]] = {}
        self.stored_types: frozenset[str] = frozenset()
        self.queue_name = ""

    @property
    def runtime(self) -> Runtime:
        """What the process shares."""
        runtime: Runtime = self.container.config[CONFIG_KEY]
        return runtime

    @property
    def consuming(self) -> bool:
        """Whether the handler's queue is there and bound."""
        return bool(self.queue_consumer.consumes(self))

    @property
    def prefetch(self) -> int:
        """Messages that the broker hands out ahead."""
        return self._prefetch or self.runtime.worker.forecourt_worker_prefetch

    def setup(self) -> None:
        """Check the declaration. Raises nameko's `ConfigurationError`."""
        service = self.container.service_name
        self.queue_name = topology.handler_queue(service, self.method_name)
        if not inspect.iscoroutinefunction(getattr(self.container.service_cls, self.method_name)):
            raise ConfigurationError(f"{self.queue_name}: a handler must be async")
        self.stored_types = self.types_in(self.runtime.service.registry, self.queue_name)
        self._seconds = HANDLER_SECONDS.labels(service, self.method_name)
        # From the start, so that Prometheus sees the first event that is put off or parked as an increase.
        for counter in (RETRIES, PARKED):
            counter.labels(service, self.method_name)
        super().setup()

    def types_in(self, registry: Registry, queue: str) -> frozenset[str]:
        """The stored types that the handler of ``queue`` is for. Raises nameko's `ConfigurationError`."""
        if not self._events:
            raise ConfigurationError(f"{queue}: handles no event")
        return frozenset(_stored_type(event, registry, queue) for event in self._events)

    def stop(self) -> None:
        """Take no more messages; those in hand that no handler has begun go back to the queue."""
        self._stopping = True
        super().stop()

    def handle_message(self, message: Any) -> None:
        """Take a message, in a green thread of its own: start a worker, or let it wait for its aggregate."""
        if self._stopping:
            self.queue_consumer.answered(message, requeue=True)
            return
        try:
            recorded = self._decoded(message)
        except (MalformedCloudEvent, UndecodableEvent) as error:
            self._forward(message, retries.malformed(message.headers, error), None)
            return
        except (*LOST, Unavailable) as error:
            self._put_off(message, error)
            return
        stream = recorded.meta.stream
        if stream in self._waiting:
            self._waiting[stream].append((message, recorded))
        else:
            self._waiting[stream] = deque()
            self._spawn(message, recorded)

    def _spawn(self, message: Any, recorded: Recorded[AnyEvent]) -> None:
        try:
            self.container.spawn_worker(
                self, (recorded,), {}, handle_result=partial(self.handle_result, message)
            )
        except ContainerBeingKilled:
            self.queue_consumer.answered(message, requeue=True)

    def _next(self, stream: str) -> None:
        """Go on with the aggregate's next message, or give back what waits when we are stopping."""
        waiting = self._waiting[stream]
        while self._stopping and waiting:
            self.queue_consumer.answered(waiting.popleft()[0], requeue=True)
        if not waiting:
            del self._waiting[stream]
            return
        # Spawning waits for a free worker, which a worker itself must never do.
        self.container.spawn_managed_thread(partial(self._spawn, *waiting.popleft()))

    def _decoded(self, message: Any) -> Recorded[AnyEvent]:
        stored = from_cloudevent(_body(message))
        if stored.type not in self.stored_types:
            raise UnexpectedEvent("type: is not handled here", fields={"type": "is not handled here"})
        if tracing.tracer is not None:
            stored = tracing.tracer.received(stored, message.headers)
        return bridge.wait(self.runtime.codec.decode([stored]))[0]

    def handle_result(self, message: Any, worker_ctx: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        """Run the coroutine that calling the handler gave, and answer the message. Called by nameko."""
        meta: StoredEvent = worker_ctx.args[0].meta
        # The call itself only fails where it does not fit the handler's parameters.
        error = exc_info[1] if exc_info else self._run_through(worker_ctx, result, meta)
        if error is None:
            self.queue_consumer.answered(message)
        elif isinstance(error, Outage):
            self._put_off(message, error)
        else:
            self._failed(message, meta, error)
        self._next(meta.stream)
        return None, None

    def _run_through(
        self, worker_ctx: Any, coroutine: Coroutine[Any, Any, None], meta: StoredEvent
    ) -> Exception | None:
        """Run a handler, again and again while an outage lasts; the error with which it failed."""
        started, pause = monotonic(), 0.2
        while isinstance(error := self._run(coroutine, meta), Outage):
            if self._stopping or monotonic() - started > HOLD_SECONDS:
                return error
            log.warning("held back by an outage", handler=self.queue_name, error=str(error))
            eventlet.sleep(pause)
            pause = min(pause * 2, 5.0)
            coroutine = getattr(worker_ctx.service, self.method_name)(*worker_ctx.args)
        self._seconds.observe(monotonic() - started)
        return error

    def _run(self, coroutine: Coroutine[Any, Any, None], meta: StoredEvent) -> Exception | None:
        """Run a handler to its commit; the error with which it failed."""
        work = self._transact(coroutine, meta)
        if tracing.tracer is not None:
            work = tracing.tracer.handled(work, self.queue_name, meta)
        try:
            done = bridge.wait(work)
        except Exception as error:  # noqa: BLE001  # whatever a handler raises is a failed attempt
            return error
        finally:
            coroutine.close()
        self._count("done" if done else "duplicate")
        return None

    async def _transact(self, coroutine: Coroutine[Any, Any, None], meta: StoredEvent) -> bool:
        """Run a handler in a transaction that also notes the event's id. False where it was noted before.

        Raises `Outage` where what failed is the platform itself, which says so by `Unavailable`, or the database.
        """
        logs.bind(correlation_id=str(meta.correlation_id), event_id=str(meta.id))
        failure: Exception | None = None
        try:
            async with self.runtime.transactions.acquire() as connection, connection.transaction():
                noted = await connection.fetchval(
                    f'INSERT INTO "{self.runtime.service.name}".processed_event (handler, event_id)'
                    " VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true",
                    self.queue_name,
                    meta.id,
                )
                if not noted:
                    return False
                try:
                    await self._limited(coroutine, connection)
                except Exception as error:
                    failure = None if connection.is_closed() else error
                    raise
        except (*LOST, Unavailable) as error:
            if not retries.is_outage(error, failure):
                raise
            raise Outage(type(error).__name__) from error
        return True

    async def _limited(self, coroutine: Coroutine[Any, Any, None], connection: Any) -> None:
        """Run a handler within its transaction and its time."""
        token = TRANSACTION.set(connection)
        try:
            async with asyncio.timeout(self._timeout) as limit:
                await coroutine
        except TimeoutError as error:
            if limit.expired():
                raise HandlerTimeout(f"took longer than {self._timeout} s") from error
            raise
        finally:
            TRANSACTION.reset(token)

    def _failed(self, message: Any, meta: StoredEvent, error: Exception) -> None:
        decision = retries.after_failure(message.headers, error, self.runtime.delays, self._permanent)
        log.warning(
            "handler failed",
            handler=self.queue_name,
            event_id=str(meta.id),
            event_type=meta.type,
            error=retries.describe(error),
            at=retries.place(error),
            attempts=decision.headers[retries.ATTEMPTS],
        )
        self._forward(message, decision, meta)

    def _put_off(self, message: Any, error: Exception) -> None:
        """Try again later without counting an attempt: nothing is known to be wrong with the message."""
        if self._stopping:
            self.queue_consumer.answered(message, requeue=True)
            return
        delay = self.runtime.delays[-1] if len(self.runtime.delays) < 2 else self.runtime.delays[1]
        self._forward(message, retries.Retry(delay, dict(message.headers)), None)

    def _forward(
        self, message: Any, decision: retries.Retry | retries.Park, meta: StoredEvent | None
    ) -> None:
        """Hand a message on to a retry or parking queue, and only then acknowledge it."""
        service = self.container.service_name
        if isinstance(decision, retries.Retry):
            exchange, key = topology.retry_exchange(service, decision.delay), self.queue_name
        else:
            exchange, key = "", topology.parking_queue(self.queue_name)
        properties = {k: v for k, v in message.properties.items() if k in PARKED_PROPERTIES and v}
        while True:
            try:
                self.queue_consumer.forwarder.send(
                    exchange, key, _body(message), properties=properties, headers=decision.headers
                )
                break
            except BrokerUnavailable:
                if self._stopping or not message.channel.connection:
                    self.queue_consumer.answered(message, requeue=True)
                    return
                eventlet.sleep(1.0)
        self._report(decision, meta)
        self.queue_consumer.answered(message)

    def _report(self, decision: retries.Retry | retries.Park, meta: StoredEvent | None) -> None:
        labels = (self.container.service_name, self.method_name)
        if isinstance(decision, retries.Retry):
            RETRIES.labels(*labels).inc()
            self._count("retry")
            return
        PARKED.labels(*labels).inc()
        self._count("parked")
        log.error(
            "message parked",
            handler=self.queue_name,
            event_id=str(meta.id) if meta else None,
            reason=decision.reason,
            error=decision.headers.get(retries.LAST_ERROR),
        )

    def _count(self, outcome: str) -> None:
        HANDLED.labels(self.container.service_name, self.method_name, outcome).inc()


def _stored_type(event: str | type[AnyEvent], registry: Registry, queue: str) -> str:
    if isinstance(event, str):
        return event
    if not issubclass(event, Event | ForeignEvent):
        raise ConfigurationError(f"{queue}: {event!r} is no event")
    try:
        return registry.type_of(event)
    except RegistryError as error:
        raise ConfigurationError(f"{queue}: {error}") from error


def _body(message: Any) -> bytes:
    return message.body.encode() if isinstance(message.body, str) else bytes(message.body)


on_event: Callable[..., Callable[[F], F]] = OnEvent.decorator
