"""Timers of a worker: coroutines that run every so many seconds, in one replica at a time."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from nameko.exceptions import ConfigurationError
from nameko.timer import Timer

from forecourt import logs, tracing
from forecourt.clock import monotonic
from forecourt.connections import LOST
from forecourt.messaging import retries
from forecourt.metrics import TIMER_RUNS
from forecourt.worker import bridge
from forecourt.worker.runtime import CONFIG_KEY, Runtime

log = logs.get(__name__)
F = TypeVar("F", bound=Callable[..., Any])

TIMEOUT = 120.0
"""Seconds after which a run is cancelled."""

SAY_AGAIN = 300.0
"""Seconds after which the log names a failure again that goes on: within the time that its alert looks back."""


class Every(Timer):  # type: ignore[misc]  # nameko has no types
    """Entrypoint for timers: every ``seconds``, in one replica of the service unless ``all_replicas``.

    The replica is the one that holds the service's timer lease; when it dies another one takes over. A run
    that fails is counted, and the next one comes at its time. Of failures one after the other the first is logged, and
    again one every `SAY_AGAIN` seconds. Runs never overlap.
    """

    def __init__(self, *, seconds: float, all_replicas: bool = False, timeout: float = TIMEOUT) -> None:
        super().__init__(interval=seconds)
        self._all_replicas = all_replicas
        self._timeout = timeout
        self._said: float | None = None

    @property
    def runtime(self) -> Runtime:
        """What the process shares."""
        runtime: Runtime = self.container.config[CONFIG_KEY]
        return runtime

    def setup(self) -> None:
        """Check the declaration. Raises nameko's `ConfigurationError`."""
        name = f"{self.container.service_name}.{self.method_name}"
        if not inspect.iscoroutinefunction(getattr(self.container.service_cls, self.method_name)):
            raise ConfigurationError(f"{name}: a timer must be async")
        self._name = name
        # From the start, so that Prometheus sees the first run of each outcome, and a timer that never runs.
        for outcome in ("ok", "error"):
            TIMER_RUNS.labels(self.container.service_name, self.method_name, outcome)

    def handle_timer_tick(self) -> None:
        """Start a run, where it is this process's turn. Called by nameko."""
        if self._is_ours():
            super().handle_timer_tick()
        else:
            self.worker_complete.send()

    def _is_ours(self) -> bool:
        if self._all_replicas:
            return True
        try:
            return bridge.wait(self.runtime.timers.try_acquire())
        except LOST as error:
            self._finished(error)
            return False

    def handle_result(self, worker_ctx: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        """Run the coroutine that calling the timer's method gave. Called by nameko."""
        error: BaseException | None = exc_info[1] if exc_info else None
        if exc_info is None:
            try:
                work = asyncio.wait_for(result, self._timeout)
                if tracing.tracer is not None:
                    work = tracing.tracer.timed(work, self._name)
                bridge.wait(work)
            except Exception as failure:  # noqa: BLE001  # whatever a run raises, the next one comes
                error = failure
        self._finished(error)
        self.worker_complete.send()
        return None, None

    def _finished(self, error: BaseException | None) -> None:
        TIMER_RUNS.labels(self.container.service_name, self.method_name, "error" if error else "ok").inc()
        if error is not None:
            self._say(error)
        elif self._said is not None:
            log.info("timer works again", timer=self._name)
            self._said = None

    def _say(self, error: BaseException) -> None:
        now = monotonic()
        if self._said is None or now - self._said >= SAY_AGAIN:
            log.error("timer fails", timer=self._name, error=retries.describe(error), at=retries.place(error))
            self._said = now


every: Callable[..., Callable[[F], F]] = Every.decorator
