"""Keeps the read models of a service up to date: the loop of the ``project`` role.

One process at a time does the work (a lease); the others stand by. All read models that stand at about the
same position share one subscription; one that is far behind catches up on its own first. A version that is
new beside an older one is built in the background and switched to when it is complete.

There is one answer to everything unexpected, a database restart as well as a checkpoint that somebody moved:
drop what is in memory, wait a little, and start again from what the database says.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import structlog

from forecourt import logs
from forecourt.clock import Clock, SystemClock
from forecourt.codec import Codec
from forecourt.eventstore.port import Batch, EventStore, age_after, close_batches
from forecourt.lease import lease
from forecourt.projections import metrics, tables
from forecourt.projections.checkpoint import CheckpointMoved
from forecourt.projections.collecting import collecting_rarely
from forecourt.projections.folding import Changes, Target, load_target
from forecourt.projections.follower import Follower
from forecourt.projections.projection import Projection
from forecourt.projections.rebuild import Rebuild, RebuildUnderWay, drop_left_over
from forecourt.waiting import cancel_and_wait, end_if_cancelled, wait

TOGETHER = 5_000
"""Positions that read models may be apart and still share a subscription."""

RETRY_DELAYS = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between tries after something unexpected; the last one goes on for ever."""

REPORT_SECONDS = 2.0
"""How often lag is measured."""

TIDY_SECONDS = 600.0
"""How often tables that are out of use are looked for."""

log = structlog.get_logger(__name__)


class ProjectionRunner:
    """Runs the projections of one service; ``schema`` is the service's name.

    The pool must have four connections to spare, eight while a new version is built, besides those of the store.
    """

    def __init__(
        self,
        schema: str,
        projections: Sequence[Projection[Any]],
        store: EventStore,
        codec: Codec,
        pool: Any,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.schema = schema
        self.projections = tuple(projections)
        self.leading = asyncio.Event()
        """Set while this process holds the lease."""
        self.problem: str | None = None
        """What stopped the work last, None while it goes well; for health checks."""
        self._store = store
        self._codec = codec
        self._pool = pool
        self._clock = clock or SystemClock()
        self._targets: list[Target] = []
        if self.projections:
            # From the start, so that it is seen where none leads.
            metrics.LEADING.labels(schema)

    async def run(self, stop: asyncio.Event) -> None:
        """Work, or stand by, until ``stop`` is set."""
        if not self.projections:
            await stop.wait()
            return
        failures = 0
        while not stop.is_set():
            try:
                async with lease(self._pool, f"project.{self.schema}", stop) as lost:
                    if lost is not None:
                        await tables.migrate(self._pool, self.schema, self.projections)
                        with collecting_rarely():
                            await self._lead(stop, lost)
                failures = 0
            except Exception as error:  # noqa: BLE001
                end_if_cancelled(error)
                # The supervising loop: whatever it was, this process must go on. It is logged and counted as ill.
                if self.problem is None:
                    failures = 0
                self.problem = logs.told(error)[:300]
                delay = RETRY_DELAYS[min(failures, len(RETRY_DELAYS) - 1)]
                log.warning("projection.interrupted", service=self.schema, error=self.problem, retry_in=delay)
                failures += 1
                await wait(stop, delay)
            finally:
                self._stand_down()

    async def _lead(self, stop: asyncio.Event, lost: asyncio.Event) -> None:
        self.leading.set()
        while not (stop.is_set() or lost.is_set()):
            await self._until_regrouped(stop, lost)
        if lost.is_set():
            raise ConnectionError("the connection that holds the lease was lost")

    def _stand_down(self) -> None:
        """What was measured while leading is not true for long."""
        self.leading.clear()
        metrics.LEADING.labels(self.schema).set(0)
        for projection in self.projections:
            for gauge in (metrics.LAG_EVENTS, metrics.LAG_SECONDS, metrics.QUARANTINED):
                gauge.remove(self.schema, projection.name)

    async def _until_regrouped(self, stop: asyncio.Event, lost: asyncio.Event) -> None:
        """Follow with today's groups until one of them has caught up with another, or the work has to end."""
        self._targets, unbuilt = await self._load()
        # Not before: one that cannot even load does no work, however often it gets the lease.
        metrics.LEADING.labels(self.schema).set(1)
        groups = grouped(self._targets)
        jobs: list[Coroutine[Any, Any, Any]] = [self._report(), self._tidy(), stop.wait(), lost.wait()]
        # One that is behind, and one build, at a time: each wants its share of the connections.
        jobs += [
            self._follow(group, groups[0][0] if index else None) for index, group in enumerate(groups[:2])
        ]
        jobs += [self._build(projection) for projection in unbuilt[:1]]
        tasks = [asyncio.create_task(job) for job in jobs]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait(*tasks)
        for task in done:
            try:
                await task
            except CheckpointMoved as moved:
                log.info("projection.checkpoint_moved", service=self.schema, answer=moved.answer.value)

    async def _load(self) -> tuple[list[Target], list[Projection[Any]]]:
        """The targets to follow, and the projections that have to be built first."""
        targets: list[Target] = []
        unbuilt: list[Projection[Any]] = []
        async with self._pool.acquire() as connection:
            known = await tables.registered(connection, self.schema)
            for projection in self.projections:
                entry = tables.find(known, projection, "active", "retired")
                if entry is None:
                    unbuilt.append(projection)
                    continue
                targets.append(
                    await load_target(connection, self._codec.registry, self.schema, projection, entry)
                )
        return targets, unbuilt

    async def _follow(self, group: Sequence[Target], ahead: Target | None) -> None:
        """Follow for ever, or until ``ahead`` is near enough to share its subscription."""
        follower = Follower(
            self._pool, self.schema, self._codec, group, on_written=self._written, traced=True
        )
        after = min(target.position for target in group)
        batches = self._store.subscribe(after=after, categories=follower.categories)
        await follower.follow(batches if ahead is None else _until_near(batches, ahead))

    async def _build(self, projection: Projection[Any]) -> None:
        """Build a version that is new beside an older one, and switch to it."""
        rebuild = Rebuild(self.schema, projection, self._store, self._codec, self._pool)
        log.info(
            "projection.building", service=self.schema, projection=projection.name, version=projection.version
        )
        while True:
            try:
                await rebuild.run()
                return
            except RebuildUnderWay:
                await asyncio.sleep(REPORT_SECONDS)
                async with self._pool.acquire() as connection:
                    known = await tables.registered(connection, self.schema, projection.name)
                if tables.find(known, projection, "active") is not None:
                    return

    def _written(self, batch: Batch, changes: list[Changes]) -> None:
        self.problem = None
        if batch.events:
            metrics.BATCH_EVENTS.labels(self.schema).observe(len(batch.events))
        for change in changes:
            name = change.target.projection.name
            metrics.EVENTS.labels(self.schema, name).inc(change.events)
            if change.put_aside:
                metrics.QUARANTINED.labels(self.schema, name).inc(len(change.put_aside))
                first = change.put_aside[0]
                log.error(
                    "projection.quarantined",
                    service=self.schema,
                    projection=name,
                    events=len(change.put_aside),
                    position=first.event.position,
                    type=first.event.type,
                    reason=first.reason,
                )

    async def _report(self) -> None:
        """Measure lag and quarantine, for ever."""
        while True:
            for target in self._targets:
                labels = (self.schema, target.projection.name)
                count = await self._pool.fetchval(
                    f'SELECT count(*) FROM "{self.schema}".projection_quarantine WHERE target = $1', target.id
                )
                metrics.QUARANTINED.labels(*labels).set(count)
                # The target first: what is appended between the two must not look like work already done.
                position = target.position
                behind = max(0, await self._store.head() - position)
                metrics.LAG_EVENTS.labels(*labels).set(behind)
                now, categories = self._clock.now(), target.categories
                age = await age_after(self._store, position, categories, now) if behind else 0.0
                metrics.LAG_SECONDS.labels(*labels).set(age)
            await asyncio.sleep(REPORT_SECONDS)

    async def _tidy(self) -> None:
        """Drop tables that have been out of use for long, for ever."""
        while True:
            await drop_left_over(self._pool, self.schema)
            await asyncio.sleep(TIDY_SECONDS)


async def _until_near(batches: AsyncIterator[Batch], ahead: Target) -> AsyncIterator[Batch]:
    try:
        async for batch in batches:
            yield batch
            if batch.caught_up and ahead.position - batch.position <= TOGETHER:
                return
    finally:
        await close_batches(batches)


def grouped(targets: Sequence[Target]) -> list[list[Target]]:
    """Targets that stand near each other, those that stand furthest first."""
    groups: list[list[Target]] = []
    for target in sorted(targets, key=lambda one: -one.position):
        if groups and groups[-1][0].position - target.position <= TOGETHER:
            groups[-1].append(target)
        else:
            groups.append([target])
    return groups
