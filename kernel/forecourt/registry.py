"""Names, versions and upcasters of events: the way from a stored record to a typed fact and back.

A service has one registry, filled from its deciders (own events) and its list of foreign events. ``check``
runs at start and refuses duplicates, gaps and dead ends in the chain of upcasters.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from pydantic import ValidationError

from forecourt.decoding import reader
from forecourt.events import AnyEvent, Event, ForeignEvent, Recorded
from forecourt.eventstore.port import StoredEvent
from forecourt.privacy.fields import Fields, PersonalFieldError, PersonalFields, personal_fields

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the data of one version into that of the next, on plain dicts, before pydantic sees it."""

_decode_json = msgspec.json.Decoder(dict[str, Any]).decode


class RegistryError(Exception):
    """The declarations of events contradict each other. Found at start, never while events flow."""


class UndecodableEvent(Exception):
    """A stored event cannot be read: unknown type or version, or data that does not fit."""

    slug = "event-undecodable"

    def __init__(self, event: StoredEvent, reason: str) -> None:
        super().__init__(f"{event.type} v{event.version} at position {event.position}: {reason}")
        self.event = event
        self.reason = reason


class TamperedEvent(UndecodableEvent):
    """The encrypted values of a stored event are not what was written."""

    slug = "ciphertext-tampered"


class Registry:
    """The events that a service knows, by stored type and version."""

    def __init__(self, service: str) -> None:
        self.service = service
        self._own: dict[str, type[Event]] = {}
        self._types: dict[type[AnyEvent], str] = {}
        self._categories: dict[type[AnyEvent], str] = {}
        self._upcasters: dict[tuple[str, int], Upcaster] = {}
        self._readers: dict[tuple[str, int], Callable[[dict[str, Any]], AnyEvent]] = {}
        self._personal: dict[tuple[str, int], PersonalFields] = {}
        self._personal_of: dict[type[AnyEvent], PersonalFields | None] = {}

    def add(self, cls: type[Event], *, category: str) -> None:
        """Register an event of this service, written to streams of ``category``."""
        if not cls.event_name or cls.event_version < 1:
            raise RegistryError(f"{cls.__qualname__}: needs name= and version=1 or higher")
        stored = f"{self.service}.{cls.event_name}"
        if self._own.setdefault(stored, cls) is not cls:
            raise RegistryError(f"{stored}: registered twice, by {self._own[stored]} and {cls}")
        self._types[cls] = stored
        if self._categories.setdefault(cls, category) != category:
            raise RegistryError(f"{stored}: belongs to two categories")

    def add_foreign(self, cls: type[ForeignEvent]) -> None:
        """Register an event of another service that this one reads."""
        if not cls.event_type or not cls.category:
            raise RegistryError(f"{cls.__qualname__}: needs type= and category=")
        if cls.event_type.partition(".")[0] == self.service:
            raise RegistryError(f"{cls.event_type}: is this service's own event, not a foreign one")
        for version in cls.versions:
            if (cls.event_type, version) in self._readers:
                raise RegistryError(f"{cls.event_type} v{version}: registered twice")
            self._readers[cls.event_type, version] = reader(cls)
            if (fields := _personal_fields(cls)) is not None:
                self._personal[cls.event_type, version] = fields
        self._types[cls] = cls.event_type
        self._categories[cls] = cls.category

    def add_upcaster(self, name: str, from_version: int, upcast: Upcaster) -> None:
        """Register the step of event ``name`` from ``from_version`` to the next version."""
        key = (f"{self.service}.{name}", from_version)
        if key in self._upcasters:
            raise RegistryError(f"{key[0]}: two upcasters from version {from_version}")
        self._upcasters[key] = upcast

    def check(self) -> None:
        """Raise `RegistryError` unless every version ever written leads to the class of today."""
        for stored, version in self._upcasters:
            cls = self._own.get(stored)
            if cls is None:
                raise RegistryError(f"{stored}: has an upcaster but no class")
            if version >= cls.event_version:
                raise RegistryError(f"{stored}: upcaster from version {version} leads past the class")
        for stored, cls in self._own.items():
            for version in range(1, cls.event_version):
                if (stored, version) not in self._upcasters:
                    raise RegistryError(f"{stored}: no upcaster from version {version}")
            for version in range(1, cls.event_version + 1):
                self._readers[stored, version] = self._upcasting_reader(stored, version, cls)
            self._note_personal(stored, cls)

    def _note_personal(self, stored: str, cls: type[Event]) -> None:
        fields = _personal_fields(cls)
        if fields is not None:
            self._personal[stored, cls.event_version] = fields
        for version in range(1, cls.event_version):
            # An older version may have had personal fields that are gone: the data tells.
            self._personal[stored, version] = fields or PersonalFields(cls.person, Fields(()))

    def _upcasting_reader(
        self, stored: str, version: int, cls: type[Event]
    ) -> Callable[[dict[str, Any]], Event]:
        steps = [self._upcasters[stored, step] for step in range(version, cls.event_version)]
        read = reader(cls)
        if not steps:
            return read

        def upcast_and_read(data: dict[str, Any]) -> Event:
            for step in steps:
                data = step(data)
            event: Event = read(data)
            return event

        return upcast_and_read

    def type_of(self, cls: type[AnyEvent]) -> str:
        """The stored type of an event class, ``<service>.<name>``."""
        try:
            return self._types[cls]
        except KeyError:
            raise RegistryError(f"{cls.__qualname__}: is not registered in service {self.service}") from None

    def category_of(self, cls: type[AnyEvent]) -> str:
        """The category of the streams that hold events of this class."""
        self.type_of(cls)
        return self._categories[cls]

    def knows(self, event: StoredEvent) -> bool:
        """Whether a stored event can be decoded here."""
        return (event.type, event.version) in self._readers

    def personal(self, stored: StoredEvent) -> PersonalFields | None:
        """The personal fields of a stored event, None where it has none."""
        return self._personal.get((stored.type, stored.version))

    def personal_fields(self, cls: type[AnyEvent]) -> PersonalFields | None:
        """The personal fields of an event class as it is today, None where it has none."""
        try:
            return self._personal_of[cls]
        except KeyError:
            version = cls.event_version if issubclass(cls, Event) else cls.versions[0]
            found = self._personal_of[cls] = self._personal.get((self.type_of(cls), version))
            return found

    def persons_of(self, category: str) -> frozenset[str | None]:
        """Whose personal data the streams of an own category hold: fields with ids, None for the stream's own."""
        classes = [cls for cls in self._own.values() if self._categories[cls] == category]
        return frozenset(cls.person for cls in classes if self.personal_fields(cls) is not None)

    def own_events(self) -> dict[str, type[Event]]:
        """The events that this service writes, by stored type."""
        return dict(self._own)

    def decode(self, stored: StoredEvent) -> Recorded[AnyEvent]:
        """The typed event. Raises `UndecodableEvent`."""
        return self.read(stored, None)

    def read(self, stored: StoredEvent, data: dict[str, Any] | None) -> Recorded[AnyEvent]:
        """The typed event, from its JSON as it was decoded (and decrypted) before. Raises `UndecodableEvent`."""
        read = self._readers.get((stored.type, stored.version))
        if read is None:
            raise UndecodableEvent(stored, "unknown type or version")
        try:
            return Recorded(read(_decode_json(stored.data) if data is None else data), stored)
        except (
            ValidationError,
            msgspec.DecodeError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
        ) as error:
            raise UndecodableEvent(stored, f"data does not fit: {type(error).__name__}") from error

    def decode_all(self, batch: Sequence[StoredEvent]) -> list[Recorded[AnyEvent]]:
        """The typed events of a batch, all of which must be known. Raises `UndecodableEvent`."""
        return [self.decode(stored) for stored in batch]


def _personal_fields(cls: type[AnyEvent]) -> PersonalFields | None:
    try:
        return personal_fields(cls)
    except PersonalFieldError as error:
        raise RegistryError(str(error)) from None


def build_registry(
    service: str,
    own: Iterable[tuple[str, Iterable[type[Event]]]],
    foreign: Iterable[type[ForeignEvent]] = (),
    upcasters: Iterable[tuple[str, int, Upcaster]] = (),
) -> Registry:
    """A checked registry from (category, event classes) pairs, foreign events and upcasters."""
    registry = Registry(service)
    for category, classes in own:
        for cls in classes:
            registry.add(cls, category=category)
    for foreign_cls in foreign:
        registry.add_foreign(foreign_cls)
    for name, from_version, upcast in upcasters:
        registry.add_upcaster(name, from_version, upcast)
    registry.check()
    return registry
