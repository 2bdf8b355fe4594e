"""Events of the port as records of EventStoreDB, and back."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
from kurrentdbclient import NewEvent as ProposedEvent
from kurrentdbclient import RecordedEvent

from forecourt.errors import ForecourtError
from forecourt.eventstore.port import InvalidAppend, NewEvent, StoredEvent


class ForeignEvent(ForecourtError):
    """An event in one of our streams was not written by this adapter and cannot be read."""


class _Envelope(msgspec.Struct, omit_defaults=True):
    """The metadata of an event in the server. ``metadata`` is kept as the very text that was given."""

    version: int
    time: datetime
    correlation_id: UUID = msgspec.field(name="$correlationId")
    causation_id: UUID | None = msgspec.field(name="$causationId", default=None)
    dealer_id: str = ""
    brand: str = ""
    actor_id: str = ""
    metadata: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Envelope).decode


def proposed(index: int, event: NewEvent) -> ProposedEvent:
    """An event as the server takes it. Raises `InvalidAppend`, naming the event by ``index``."""
    try:
        msgspec.json.decode(event.metadata, type=dict)
    except msgspec.DecodeError:
        field, reason = f"events[{index}].metadata", "must be a JSON object"
        raise InvalidAppend(f"{field}: {reason}", fields={field: reason}) from None
    envelope = _Envelope(
        version=event.version,
        time=event.time.astimezone(UTC),
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        dealer_id=event.dealer_id,
        brand=event.brand,
        actor_id=event.actor_id,
        metadata=msgspec.Raw(event.metadata.encode()),
    )
    return ProposedEvent(type=event.type, data=event.data.encode(), metadata=_encode(envelope), id=event.id)


def stored(event: RecordedEvent) -> StoredEvent:
    """An event as the port hands it out. Raises `ForeignEvent`."""
    try:
        envelope = _decode(event.metadata)
    except msgspec.DecodeError as error:
        raise ForeignEvent(
            f"{event.stream_name} at {event.stream_position}: not one of our events: {error}"
        ) from None
    return StoredEvent(
        position=event.commit_position,
        stream=event.stream_name,
        sequence=event.stream_position + 1,
        id=event.id,
        type=event.type,
        version=envelope.version,
        time=envelope.time,
        data=event.data.decode(),
        correlation_id=envelope.correlation_id,
        causation_id=envelope.causation_id,
        dealer_id=envelope.dealer_id,
        brand=envelope.brand,
        actor_id=envelope.actor_id,
        metadata=bytes(envelope.metadata).decode(),
    )
