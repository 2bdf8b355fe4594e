"""What is stored and cannot be read, each noted down once: a damaged event is met by whoever reads its stream."""

import asyncio
from collections.abc import Collection
from functools import partial
from uuid import UUID, uuid4

from forecourt import logs
from forecourt.audit.entries import MAX_SUBJECTS, DataUnreadable
from forecourt.audit.trail import AuditTrail, AuditUnavailable, Origin
from forecourt.codec import Damage

log = logs.get(__name__)

MOST = 10_000
"""What one process notes down in its life at most: where everything is damaged, more lines would help nobody."""


class DamageReport:
    """Writes an entry for what is damaged, when a process meets it for the first time."""

    def __init__(self, trail: AuditTrail, *, most: int = MOST) -> None:
        self._trail = trail
        self._most = most
        self._known: set[tuple[str, str]] = set()

    def note(self, service: str, damage: Damage) -> None:
        """Have an entry written, unless there is one. Waits for nothing and raises nothing."""
        new = [(damage.slug, mark) for mark in damage.marks if (damage.slug, mark) not in self._known]
        if not new or len(self._known) >= self._most:
            return
        self._known.update(new)
        event = damage.event
        subjects = [mark for _, mark in new] if event is None else [event.stream.partition("-")[2]]
        log.error(
            "stored data cannot be read",
            service=service,
            reason=damage.slug,
            event_type=event.type if event is not None else None,
            position=event.position if event is not None else None,
            things=len(new),
        )
        entry = DataUnreadable(
            service=service,
            subjects=_ids(subjects[:MAX_SUBJECTS]),
            subject_count=len(subjects),
            slug=damage.slug,
            event_type=event.type if event is not None else "",
        )
        try:
            stored = self._trail.submit(entry, _origin(damage))
        except AuditUnavailable:
            self._known.difference_update(new)
        else:
            stored.add_done_callback(partial(self._settled, new))

    def _settled(self, noted: Collection[tuple[str, str]], stored: "asyncio.Future[None]") -> None:
        """What could not be noted down is, when it is met again."""
        if stored.cancelled() or stored.exception() is not None:
            self._known.difference_update(noted)


def _origin(damage: Damage) -> Origin:
    event = damage.event
    if event is None:
        return Origin(uuid4())
    return Origin(event.correlation_id, dealer_id=event.dealer_id, brand=event.brand, causation_id=event.id)


def _ids(texts: Collection[str]) -> tuple[UUID, ...]:
    return tuple(UUID(text) for text in texts if _is_id(text))


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
