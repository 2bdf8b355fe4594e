"""``forecourt events``: pages, filters and follows the event store from a terminal.

Works on every adapter, through the port, a page at a time. Personal fields are masked; where somebody asks for them,
with a reason and outside production, they are decrypted.
"""

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from forecourt import logs
from forecourt.codec import Codec
from forecourt.errors import InvalidInput
from forecourt.eventstore.port import EventStore, StoredEvent
from forecourt.privacy.fields import PersonalFields
from forecourt.privacy.keys import KeyStore
from forecourt.registry import UndecodableEvent
from forecourt.service import Service

log = logs.get(__name__)

MASK = "***"
"""What stands for a personal value."""

MAX_LAST = 10_000
"""Most events that `last` keeps in memory."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


@dataclass(frozen=True)
class Filter:
    """Which events are wanted; None or empty is any.

    ``type`` is the stored type (``sales.OrderPlaced``) or the name alone. ``after`` is a position, ``until`` and
    ``since`` are moments (aware), ``until`` is not included.
    """

    category: str = ""
    type: str = ""
    stream: str = ""
    dealer: str = ""
    brand: str = ""
    actor: str = ""
    correlation: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: int = 0

    def __post_init__(self) -> None:
        """Raises `forecourt.errors.InvalidInput` for a filter that cannot match."""
        if self.after < 0:
            raise InvalidInput("after: out of range", fields={"after": "must be 0 or a position"})
        if self.since and self.until and self.since >= self.until:
            raise InvalidInput("until: before since", fields={"until": "must be later than since"})
        if self.stream:
            category, _, identity = self.stream.partition("-")
            if not category or not _is_uuid(identity):
                raise InvalidInput("stream: must be <category>-<uuid>", fields={"stream": "malformed"})
            if self.category not in ("", category):
                raise InvalidInput(
                    f"category: the stream's is {category}", fields={"category": "is another one"}
                )

    def matches(self, event: StoredEvent) -> bool:
        """Whether an event is wanted, wherever it stands."""
        return (
            self.type in ("", event.type, event.type.partition(".")[2])
            and self.stream in ("", event.stream)
            and self.category in ("", event.category)
            and self.dealer in ("", event.dealer_id)
            and self.brand in ("", event.brand)
            and self.actor in ("", event.actor_id)
            and self.correlation in (None, event.correlation_id)
            and (self.since is None or event.time >= self.since)
            and (self.until is None or event.time < self.until)
        )

    @property
    def categories(self) -> list[str] | None:
        """What the store itself can filter by."""
        return [self.category] if self.category else None


async def matching(
    store: EventStore, wanted: Filter, *, follow: bool = False
) -> AsyncGenerator[StoredEvent, None]:
    """The events that are wanted, in order; with ``follow`` without end."""
    if wanted.stream and not follow:
        async for page in store.read_stream(wanted.stream):
            for event in page:
                if event.position > wanted.after and wanted.matches(event):
                    yield event
        return
    read = store.subscribe if follow else store.read_all
    batches = read(after=wanted.after, categories=wanted.categories)
    try:
        async for batch in batches:
            for event in batch.events:
                if wanted.matches(event):
                    yield event
    finally:
        if isinstance(batches, AsyncGenerator):
            await batches.aclose()


async def last(store: EventStore, wanted: Filter, count: int) -> list[StoredEvent]:
    """The last ``count`` events that are wanted; all that come before them are read and let go."""
    if not 1 <= count <= MAX_LAST:
        raise InvalidInput("last: out of range", fields={"last": f"must be 1 to {MAX_LAST}"})
    kept: deque[StoredEvent] = deque(maxlen=count)
    async for event in matching(store, wanted):
        kept.append(event)
    return list(kept)


def unknown(services: Sequence[Service], wanted: Filter) -> list[str]:
    """What of a filter no installed service has: events of it may be there, but a typing error is more likely."""
    found = []
    types = {stored for service in services for stored in service.registry.own_events()}
    if wanted.type and wanted.type not in types | {stored.partition(".")[2] for stored in types}:
        found.append(f"no installed service has events of type {wanted.type}")
    if wanted.category and not any(wanted.category in service.categories for service in services):
        found.append(f"no installed service has streams of category {wanted.category}")
    return found


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


class Display:
    """Turns stored events into what may be shown. With ``keys`` personal fields are decrypted."""

    def __init__(self, services: Sequence[Service], keys: KeyStore | None = None) -> None:
        self._registries = {service.name: service.registry for service in services}
        self._codecs = {
            service.name: Codec(service.registry, keys) for service in services if keys is not None
        }

    async def data(self, event: StoredEvent) -> Any:
        """The data of an event, masked or in clear; the mask alone where the event is not known here."""
        service = event.type.partition(".")[0]
        codec = self._codecs.get(service)
        if codec is not None:
            try:
                (recorded,) = await codec.decode([event])
            except UndecodableEvent:
                return MASK
            return recorded.event.model_dump(mode="json")
        registry = self._registries.get(service)
        if registry is None or not registry.knows(event):
            return MASK
        return masked(event, registry.personal(event))

    def person(self, event: StoredEvent) -> UUID | None:
        """Whose personal data is shown with an event; None where nothing of it is, or it is masked."""
        service = event.type.partition(".")[0]
        fields = self._registries[service].personal(event) if service in self._codecs else None
        if fields is None:
            return None
        try:
            return UUID(fields.person_of(_decode(event.data), event.stream))
        except (msgspec.DecodeError, ValueError):
            return None

    async def record(self, event: StoredEvent) -> dict[str, Any]:
        """The whole event, for scripts."""
        return {
            "position": event.position,
            "stream": event.stream,
            "sequence": event.sequence,
            "id": str(event.id),
            "type": event.type,
            "version": event.version,
            "time": event.time.isoformat(),
            "dealer_id": event.dealer_id,
            "brand": event.brand,
            "actor_id": event.actor_id,
            "correlation_id": str(event.correlation_id),
            "causation_id": str(event.causation_id) if event.causation_id else None,
            "data": await self.data(event),
        }


def masked(event: StoredEvent, personal: PersonalFields | None) -> Any:
    """The data of an event, with a mask in the place of every personal value, encrypted or not."""
    try:
        data = _decode(event.data)
    except msgspec.DecodeError:
        return MASK
    return data if personal is None else personal.masked(data, MASK)
