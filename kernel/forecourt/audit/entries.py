"""Entries of the audit: events about what no other event shows. They hold ids and words of the program, never values.

An accepted command needs none: its events carry the actor, and the first of them its `provenance`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any
from uuid import UUID

import msgspec
from pydantic import Field

from forecourt.deciders import Decider
from forecourt.events import Event

SERVICE = "audit"
CATEGORY = "audit"

MAX_SUBJECTS = 100
"""Ids that one entry names; of more there is only the number."""

MAX_LISTED = 20
"""Roles, dealers and brands that are named each; a token may hold hundreds."""

Word = Annotated[str, Field(max_length=200)]
Words = Annotated[tuple[Word, ...], Field(max_length=MAX_LISTED + 1)]
Subjects = Annotated[tuple[UUID, ...], Field(max_length=MAX_SUBJECTS)]


class CommandRefused(Event, name="CommandRefused", version=1):
    """A command was refused: ``code`` is the gRPC status, ``slug`` the reason."""

    rpc: Word
    subjects: Subjects
    roles: Words
    dealers: Words
    brands: Words
    code: Word
    slug: Word


class CommandUnchanged(Event, name="CommandUnchanged", version=1):
    """A command was accepted, and everything was so already."""

    rpc: Word
    subjects: Subjects
    roles: Words
    dealers: Words
    brands: Words


class ReadRefused(Event, name="ReadRefused", version=1):
    """Somebody asked for what is not theirs to see, or for a person that is not there."""

    rpc: Word
    subjects: Subjects
    roles: Words
    dealers: Words
    brands: Words
    code: Word
    slug: Word


class PersonalDataRead(Event, name="PersonalDataRead", version=2):
    """Personal data of ``subject_count`` persons was answered; ``subjects`` are the first of them.

    ``purpose`` is what it was asked for, where the RPC wants to know.
    """

    rpc: Word
    subjects: Subjects
    subject_count: int
    roles: Words
    dealers: Words
    brands: Words
    purpose: Word = ""


class CallsRejected(Event, name="CallsRejected", version=1):
    """So many calls were turned away for the same reason between two moments."""

    rpc: Word
    code: Word
    slug: Word
    count: int
    since: datetime
    until: datetime


class PartsRefused(Event, name="PartsRefused", version=1):
    """Of a call that went on, ``count`` parts were refused for the same reason: rows of a file, leads of a document.

    ``code``, ``slug`` and ``field`` (empty where it is none) say why; ``subjects`` are what those parts are about.
    """

    rpc: Word
    subjects: Subjects
    count: int
    roles: Words
    dealers: Words
    brands: Words
    code: Word
    slug: Word
    field: Word


class DataUnreadable(Event, name="DataUnreadable", version=1):
    """Something that is stored cannot be read: an event of ``event_type``, or the personal data of ``subjects``.

    ``slug`` says why. ``service`` is whose it is; ``event_type`` is empty where it is no single event.
    """

    service: Word
    subjects: Subjects
    subject_count: int
    slug: Word
    event_type: Word


Entry = (
    CommandRefused
    | CommandUnchanged
    | ReadRefused
    | PersonalDataRead
    | CallsRejected
    | PartsRefused
    | DataUnreadable
)

audit: Decider[None] = Decider(service=SERVICE, category=CATEGORY, initial=None, key="audit_id")
"""The streams of entries. Nothing is decided on them: they are written by `forecourt.audit.trail`."""

audit.ignores(
    CommandRefused,
    CommandUnchanged,
    ReadRefused,
    PersonalDataRead,
    CallsRejected,
    PartsRefused,
    DataUnreadable,
)


@audit.upcasts("PersonalDataRead", from_version=1)
def _without_purpose(data: dict[str, Any]) -> dict[str, Any]:
    """No RPC asked for a purpose yet."""
    return {**data, "purpose": ""}


class Provenance(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who was behind a command, beside the actor: the metadata of its first event."""

    rpc: str = ""
    roles: tuple[str, ...] = ()
    dealers: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()
    persons: tuple[str, ...] = ()
    """The persons that the request names, beside the aggregate that the command is for."""


decode_provenance = msgspec.json.Decoder(Provenance).decode


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as entries tell it. ``roles``, ``dealers`` and ``brands`` are shortened."""

    actor_id: str = ""
    roles: tuple[str, ...] = ()
    dealers: tuple[str, ...] = ()
    brands: tuple[str, ...] = ()


@lru_cache(maxsize=10_000)
def provenance(rpc: str, roles: frozenset[str], dealers: tuple[str, ...], brands: tuple[str, ...]) -> str:
    """The metadata of a command's first event, as JSON."""
    return msgspec.json.encode(
        Provenance(rpc, shortened(sorted(roles)), shortened(dealers), shortened(brands))
    ).decode()


def naming(metadata: str, persons: Sequence[UUID]) -> str:
    """A `provenance` with the persons that the request names."""
    ids = '","'.join(map(str, persons))
    return f'{metadata[:-1]},"persons":["{ids}"]}}'


def provenance_of_system(handler: str) -> str:
    """The same for what nobody called: a handler, a timer, a provider's report."""
    return provenance(handler, frozenset({"system"}), ("*",), ("*",))


def shortened(words: Iterable[str]) -> tuple[str, ...]:
    """At most `MAX_LISTED` words of at most 200 characters, and how many more there were."""
    found = tuple(word[:200] for word in words)
    return found if len(found) <= MAX_LISTED else (*found[:MAX_LISTED], f"+{len(found) - MAX_LISTED}")
