"""Event base classes, the marks for personal data, and the typed record that readers get.

An event is a fact in the past tense, written once and never edited::

    class OrderPlaced(Event, name="OrderPlaced", version=1):
        customer_id: UUID
        lines: tuple[OrderLine, ...]

On the wire and in the store its type is ``<service>.<name>`` with an integer version beside it. A changed
shape is a new version: edit the class, raise ``version``, and add an upcaster from the old one
(see ``docs/changing-an-event.md``).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, TypeVar
from uuid import UUID

import msgspec
from pydantic import BaseModel, ConfigDict

from forecourt.eventstore.port import StoredEvent

T = TypeVar("T")


@dataclass(frozen=True)
class PersonalData:
    """Marks a field whose value belongs to a person and must be erasable."""


Personal = Annotated[T, PersonalData()]
"""``Personal[str]``: a string that belongs to the person the event is about (`Event.person`)."""


class Event(BaseModel):
    """Base class of the events that a service writes itself.

    Class arguments: ``name`` (past tense, unique in its service), ``version`` (1, 2, ...) and, where personal
    fields belong to somebody else than the aggregate itself, ``person``, the field with that person's id.
    ``erases`` marks events that say that personal data is gone: read models follow them whatever else they cannot.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    event_name: ClassVar[str] = ""
    event_version: ClassVar[int] = 0
    person: ClassVar[str | None] = None
    erases: ClassVar[bool] = False

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        version: int = 0,
        person: str | None = None,
        erases: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if name:
            cls.event_name, cls.event_version, cls.person, cls.erases = name, version, person, erases


class ForeignEvent(BaseModel):
    """An event of another service, as this one needs it: a tolerant reader of the published contract.

    ``class VehicleDelivered(ForeignEvent, type="sales.VehicleDelivered", category="order")`` names the fields
    that are used and ignores the rest. ``versions`` are those it can read; another one is refused, not guessed.
    ``person`` is that of the event as its own service declares it, where personal fields are read; so is ``erases``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_type: ClassVar[str] = ""
    category: ClassVar[str] = ""
    versions: ClassVar[tuple[int, ...]] = (1,)
    person: ClassVar[str | None] = None
    erases: ClassVar[bool] = False

    def __init_subclass__(
        cls,
        *,
        type: str = "",  # noqa: A002 - reads well where the class is declared
        category: str = "",
        versions: tuple[int, ...] = (1,),
        person: str | None = None,
        erases: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if type:
            cls.event_type, cls.category, cls.versions = type, category, versions
            cls.person, cls.erases = person, erases


class Envelope(ForeignEvent):
    """Any event of any service by its envelope alone, for read models that look at no data: it is not decoded."""


AnyEvent = Event | ForeignEvent
E = TypeVar("E", bound=AnyEvent, covariant=True)

Meta = StoredEvent
"""The envelope of an event: position, stream, sequence, ids, time, dealer, brand and actor."""


class Recorded(msgspec.Struct, Generic[E], frozen=True):
    """An event that was read back: the typed fact, and its envelope."""

    event: E
    meta: Meta

    @property
    def time(self) -> datetime:
        """When the fact was recorded, in UTC."""
        return self.meta.time

    @property
    def stream_id(self) -> UUID:
        """The id of the aggregate that the event belongs to."""
        return self.meta.stream_id
