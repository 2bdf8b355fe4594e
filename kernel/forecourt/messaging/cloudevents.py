"""Stored events as CloudEvents 1.0 in JSON (``application/cloudevents+json``), and back.

The event's data is already JSON text: it is spliced into the message as it is, never parsed on the way out.
Extension attributes have lower-case names and simple values, as the specification wants them. ``sequence``
and ``position`` may pass the specification's 32-bit integers, so they are strings of fixed width, which also
sort as text.
"""

import re
from datetime import datetime
from functools import lru_cache
from uuid import UUID

import msgspec

from forecourt.errors import InvalidInput
from forecourt.eventstore.port import StoredEvent

CONTENT_TYPE = "application/cloudevents+json"
EXCHANGE = "crm.events"
MAX_ROUTING_KEY = 255
"""Bytes that AMQP allows in a routing key."""

_TYPE = re.compile(r"crm\.([a-z][a-z0-9_]*)\.([A-Za-z][A-Za-z0-9]*)\.v([1-9][0-9]{0,5})")
_UNROUTABLE = re.compile(r"[.\s*#\x00-\x1f]")
_ZERO = UUID(int=0)


class MalformedCloudEvent(InvalidInput):
    """A message is not a CloudEvent of ours; ``fields`` names the attribute and the reason."""


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The message as it goes over the wire."""

    specversion: str
    id: UUID
    type: str
    source: str
    subject: str
    time: datetime
    sequence: str
    position: str
    correlationid: UUID
    datacontenttype: str = ""
    causationid: UUID = _ZERO
    dealerid: str = ""
    brand: str = ""
    actorid: str = ""
    traceparent: str = ""
    tracestate: str = ""
    data: msgspec.Raw


class _Trace(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of an event's metadata that travels with it."""

    traceparent: str = ""
    tracestate: str = ""


_NO_TRACE = _Trace()
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CloudEvent).decode
_decode_trace = msgspec.json.Decoder(_Trace).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@lru_cache(maxsize=10_000)
def _names(stored_type: str, version: int) -> tuple[str, str]:
    """Type and source of the CloudEvent."""
    return f"crm.{stored_type}.v{version}", f"/crm/{stored_type.partition('.')[0]}"


def to_cloudevent(event: StoredEvent) -> bytes:
    """The message body of a stored event."""
    event_type, source = _names(event.type, event.version)
    trace = _NO_TRACE if event.metadata == "{}" else _decode_trace(event.metadata)
    return _encode(
        CloudEvent(
            specversion="1.0",
            id=event.id,
            type=event_type,
            source=source,
            subject=event.stream,
            time=event.time,
            sequence=f"{event.sequence:010d}",
            position=f"{event.position:019d}",
            correlationid=event.correlation_id,
            datacontenttype="application/json",
            causationid=event.causation_id or _ZERO,
            dealerid=event.dealer_id,
            brand=event.brand,
            actorid=event.actor_id,
            traceparent=trace.traceparent,
            tracestate=trace.tracestate,
            data=msgspec.Raw(event.data),
        )
    )


def from_cloudevent(body: bytes) -> StoredEvent:
    """The stored event that a message body was made of. Raises `MalformedCloudEvent`."""
    try:
        message = _decode(body)
        data = bytes(message.data).decode()
        _decode_object(message.data)
    except msgspec.ValidationError as error:
        raise _malformed("attribute", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _malformed("body", "is not JSON in UTF-8") from None
    if message.specversion != "1.0":
        raise _malformed("specversion", "must be 1.0")
    if message.datacontenttype not in ("", "application/json"):
        raise _malformed("datacontenttype", "must be application/json")
    if message.time.tzinfo is None:
        raise _malformed("time", "must have a time zone")
    if (matched := _TYPE.fullmatch(message.type)) is None:
        raise _malformed("type", "must be crm.<service>.<Event>.v<N>")
    service, name, version = matched.groups()
    return StoredEvent(
        position=_number("position", message.position),
        stream=message.subject,
        sequence=_number("sequence", message.sequence),
        id=message.id,
        type=f"{service}.{name}",
        version=int(version),
        time=message.time,
        data=data,
        correlation_id=message.correlationid,
        causation_id=None if message.causationid == _ZERO else message.causationid,
        dealer_id=message.dealerid,
        brand=message.brand,
        actor_id=message.actorid,
        metadata=_metadata(message),
    )


def _number(field: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise _malformed(field, "must be a decimal number of at most 19 digits")
    return int(text)


def _metadata(message: CloudEvent) -> str:
    if not (message.traceparent or message.tracestate):
        return "{}"
    return _encode(_Trace(message.traceparent, message.tracestate)).decode()


def _malformed(field: str, reason: str) -> MalformedCloudEvent:
    return MalformedCloudEvent(f"{field}: {reason}", fields={field: reason})


@lru_cache(maxsize=10_000)
def routing_key(stored_type: str, brand: str, dealer_id: str) -> str:
    """``<service>.<Event>.<brand>.<dealer>``: brand and dealer without what AMQP gives a meaning to.

    Empty ones become ``_``. Cut to 255 bytes, which only absurdly long names reach.
    """
    key = f"{stored_type}.{_routable(brand)}.{_routable(dealer_id)}"
    if len(key.encode()) <= MAX_ROUTING_KEY:
        return key
    return key.encode()[:MAX_ROUTING_KEY].decode(errors="ignore")


def _routable(word: str) -> str:
    return _UNROUTABLE.sub("_", word) or "_"


def binding_key(stored_type: str) -> str:
    """The binding that catches an event of any brand and dealer."""
    return f"{stored_type}.#"
