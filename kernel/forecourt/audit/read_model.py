"""The audit as a table: one row per command of any service, and one per entry of what no other event shows."""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from forecourt.audit.entries import (
    CallsRejected,
    CommandRefused,
    CommandUnchanged,
    DataUnreadable,
    PartsRefused,
    PersonalDataRead,
    ReadRefused,
    decode_provenance,
)
from forecourt.events import Envelope, Meta
from forecourt.projections.projection import Index, Owned, Projection

Outcome = Literal["accepted", "unchanged", "refused", "read", "rejected", "unreadable"]


class EntryRow(msgspec.Struct, frozen=True):
    """One line of the audit. ``count`` is above one where calls were turned away, or parts of one were refused.

    See the proto for the rest.
    """

    position: int
    event_id: UUID
    at: datetime
    outcome: str
    rpc: str
    actor_id: str
    roles: tuple[str, ...]
    dealers: tuple[str, ...]
    brands: tuple[str, ...]
    dealer_id: str
    brand: str
    subjects: tuple[str, ...]
    subject_count: int
    event_type: str
    code: str
    slug: str
    count: int
    correlation_id: UUID
    causation_id: UUID | None
    purpose: str = ""


entries: Projection[EntryRow] = Projection(
    "entry",
    version=3,
    row=EntryRow,
    key="position",
    # Staff with several brands, and calls that were counted, are filed without one.
    owner=Owned(unbranded=True),
    indexes=[
        Index(("actor_id", "position")),
        Index(("dealer_id", "position")),
        "at",
        Index(("subjects",), kind="gin"),
    ],
)

_BEGINS_COMMAND = '"rpc"'
"""What the metadata of a command's first event has, and no other event's."""


def _position(_event: object, meta: Meta) -> int:
    return meta.position


def _first_of_command(_event: Envelope, meta: Meta) -> int | None:
    return meta.position if _BEGINS_COMMAND in meta.metadata else None


@entries.on(Envelope, key=_first_of_command)
def _accepted(_row: EntryRow | None, _event: Envelope, m: Meta) -> EntryRow:
    by = decode_provenance(m.metadata)
    subjects = tuple(dict.fromkeys((m.stream[-36:], *by.persons)))
    return EntryRow(
        m.position,
        m.id,
        m.time,
        "accepted",
        by.rpc,
        m.actor_id,
        by.roles,
        by.dealers,
        by.brands,
        m.dealer_id,
        m.brand,
        subjects,
        len(subjects),
        m.type,
        "",
        "",
        1,
        m.correlation_id,
        m.causation_id,
    )


def _entry(
    outcome: Outcome,
    e: CommandRefused | ReadRefused | PartsRefused | CommandUnchanged | PersonalDataRead,
    m: Meta,
) -> EntryRow:
    subjects = tuple(str(subject) for subject in e.subjects)
    return EntryRow(
        position=m.position,
        event_id=m.id,
        at=m.time,
        outcome=outcome,
        rpc=e.rpc,
        actor_id=m.actor_id,
        roles=e.roles,
        dealers=e.dealers,
        brands=e.brands,
        dealer_id=m.dealer_id,
        brand=m.brand,
        subjects=subjects,
        subject_count=getattr(e, "subject_count", len(subjects)),
        event_type="",
        code=getattr(e, "code", ""),
        slug=getattr(e, "slug", ""),
        count=getattr(e, "count", 1),
        correlation_id=m.correlation_id,
        causation_id=m.causation_id,
        purpose=getattr(e, "purpose", ""),
    )


@entries.on(key=_position)
def _refused(_row: EntryRow | None, e: CommandRefused | ReadRefused, m: Meta) -> EntryRow:
    return _entry("refused", e, m)


@entries.on(key=_position)
def _partly_refused(_row: EntryRow | None, e: PartsRefused, m: Meta) -> EntryRow:
    row = _entry("refused", e, m)
    return msgspec.structs.replace(row, slug=f"{e.slug}:{e.field}") if e.field else row


@entries.on(key=_position)
def _unchanged(_row: EntryRow | None, e: CommandUnchanged, m: Meta) -> EntryRow:
    return _entry("unchanged", e, m)


@entries.on(key=_position)
def _read(_row: EntryRow | None, e: PersonalDataRead, m: Meta) -> EntryRow:
    return _entry("read", e, m)


@entries.on(key=_position)
def _rejected(_row: EntryRow | None, e: CallsRejected, m: Meta) -> EntryRow:
    return EntryRow(
        position=m.position,
        event_id=m.id,
        at=m.time,
        outcome="rejected",
        rpc=e.rpc,
        actor_id=m.actor_id,
        roles=(),
        dealers=(),
        brands=(),
        dealer_id=m.dealer_id,
        brand=m.brand,
        subjects=(),
        subject_count=0,
        event_type="",
        code=e.code,
        slug=e.slug,
        count=e.count,
        correlation_id=m.correlation_id,
        causation_id=m.causation_id,
    )


@entries.on(key=_position)
def _unreadable(_row: EntryRow | None, e: DataUnreadable, m: Meta) -> EntryRow:
    return EntryRow(
        position=m.position,
        event_id=m.id,
        at=m.time,
        outcome="unreadable",
        rpc=e.service,
        actor_id=m.actor_id,
        roles=(),
        dealers=(),
        brands=(),
        dealer_id=m.dealer_id,
        brand=m.brand,
        subjects=tuple(str(subject) for subject in e.subjects),
        subject_count=e.subject_count,
        event_type=e.event_type,
        code="",
        slug=e.slug,
        count=1,
        correlation_id=m.correlation_id,
        causation_id=m.causation_id,
    )
