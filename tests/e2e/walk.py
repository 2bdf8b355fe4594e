"""Walks the proto contract: a message for every RPC that could be meant, and the same message with one thing wrong.

Nothing here knows a service: a new RPC is walked by itself. Where a field's name does not say what fits into it,
`PLAUSIBLE` does. What is wrong with a message is wrong in one field only, so the answer has to name that field.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid5

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel

from tests.e2e.house import NOON
from tests.e2e.stories import a_card, a_vin

TEXT, BYTES, ENUM, BOOL = (
    FieldDescriptor.TYPE_STRING,
    FieldDescriptor.TYPE_BYTES,
    FieldDescriptor.TYPE_ENUM,
    FieldDescriptor.TYPE_BOOL,
)
MESSAGE = FieldDescriptor.TYPE_MESSAGE

TIME = "google.protobuf.Timestamp"

AN_ID = str(uuid5(NAMESPACE_URL, "nobody"))
VIN = a_vin(900_000)
CODES = (
    *(
        "adviser_id",
        "technician_id",
        "inspector_id",
        "owner_id",
        "responsible_id",
        "salesperson_id",
        "actor_id",
    ),
    *("invoice_number", "claim_number", "part_number", "bay"),
)
DATES = ("day", "since", "until", "valid_until", "insurance_until", "expected_on", "expires_on")

PLAUSIBLE: dict[str, Any] = {
    "vin": VIN,
    "amount": "100.00",
    "currency": "CNY",
    "phone": "13912345678",
    "mobile": "13912345678",
    "email": "a@example.com",
    "time_zone": "Asia/Shanghai",
    "language": "zh",
    "dealer_id": "D001",
    "store": "D001",
    "to_store": "D002",
    "page_token": "",
    "xml": b"<adf/>",
    "template": "vehicle_arrived",
    "question": "advice",
    "model_year": 2026,
    "minutes": 60,
    "crm.audit.v1.ListEntriesRequest.subject": VIN,
    "crm.customer.v1.ContactPoint.value": "13912345678",
    "crm.customer.v1.AddContactPointRequest.value": "13912345678",
    "crm.customer.v1.RecordIdentityDocumentRequest.number": a_card(999_999),
    "crm.customer.v1.RecordIdentityDocumentRequest.issuing_country": "",
    "crm.service_desk.v1.RepairLine.quantity": "1.5",
    "crm.notify.v1.ListDeadLettersRequest.reason": "refused",
    "crm.notify.v1.PreviewTemplateRequest.version": 1,
}
"""What fits into a field, by its full name or its own."""

TOO_LONG = "x" * 20_000
MARK = "~mark~"
NOT_UTF8 = b"\xff\xfe\xc0\xc1\x80~"
NOT_A_TIME = Timestamp(seconds=10**14)
COUNTS = (
    "page_size",
    "odometer_km",
    "minutes",
    "technicians",
    "bays",
    "pieces",
    "quantity",
    "model_year",
    "score",
)


@dataclass(frozen=True)
class Wrong:
    """A message with one thing wrong: what, in which field, and its bytes."""

    what: str
    path: str
    wire: bytes
    must: bool = True
    """Whether it can only be INVALID_ARGUMENT; else it may also be fine, or refused for another reason."""


def inner(field: FieldDescriptor) -> Descriptor:
    """The message type of a field of messages."""
    return cast(Descriptor, field.message_type)


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map."""
    return field.type == MESSAGE and bool(inner(field).GetOptions().map_entry)


def plausible(descriptor: Descriptor) -> Message:
    """A message that could be meant, with every field set."""
    message = GetMessageClass(descriptor)()
    _fill(message)
    return message


def _fill(message: Message) -> None:
    for field in cast(Descriptor, message.DESCRIPTOR).fields:
        if is_map(field):
            getattr(message, field.name)["vin"] = VIN
        elif field.type == MESSAGE and inner(field).full_name == TIME:
            moment = NOON + timedelta(days=1, hours=field.number)
            getattr(message, field.name).FromDatetime(moment)
        elif field.type == MESSAGE:
            value = getattr(message, field.name)
            _fill(value.add() if field.is_repeated else value)
        elif field.is_repeated:
            getattr(message, field.name).append(_scalar(field))
        else:
            setattr(message, field.name, _scalar(field))


def _scalar(field: FieldDescriptor) -> Any:
    if field.type == ENUM:
        return next(value.number for value in cast(EnumDescriptor, field.enum_type).values if value.number)
    for name in (field.full_name, field.name):
        if name in PLAUSIBLE:
            return PLAUSIBLE[name]
    if field.type == BOOL:
        return True
    if field.type == BYTES:
        return b"bytes"
    if field.type != TEXT:
        return 1
    if field.name in CODES:
        return "S-01"
    if field.name in DATES:
        return (NOON + timedelta(days=30)).date().isoformat()
    return AN_ID if field.name.endswith("_id") else "some words"


def wrongs(descriptor: Descriptor) -> Iterator[Wrong]:
    """The plausible message, with one thing wrong at a time."""
    yield Wrong("no protobuf", "message", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
    yield Wrong("empty", "", b"", must=False)
    for path, field in leaves(descriptor):
        for what, value, must in _values(field):
            message = plausible(descriptor)
            put(message, path, value)
            wire = message.SerializeToString()
            if value == MARK:
                yield Wrong(what, "message", wire.replace(MARK.encode(), NOT_UTF8))
            else:
                yield Wrong(what, ".".join(path), wire, must)


def omissions(descriptor: Descriptor, model: type[BaseModel]) -> Iterator[Wrong]:
    """The plausible message, each time without a field that ``model`` requires and that cannot be meant as zero."""
    for field in descriptor.fields:
        info = model.model_fields.get(field.name)
        absent = field.is_repeated or field.has_presence or field.type in (TEXT, BYTES, ENUM)
        if info is not None and info.is_required() and absent:
            message = plausible(descriptor)
            message.ClearField(field.name)
            yield Wrong("missing", field.name, message.SerializeToString())


def leaves(
    descriptor: Descriptor, before: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldDescriptor]]:
    """Every field that holds a value itself, with the path to it."""
    for field in descriptor.fields:
        path = (*before, field.name, "0") if field.is_repeated else (*before, field.name)
        if is_map(field):
            continue
        if field.type == MESSAGE and inner(field).full_name != TIME:
            yield from leaves(inner(field), path)
        else:
            yield path, field


def _values(field: FieldDescriptor) -> Iterator[tuple[str, Any, bool]]:
    """What is wrong with a value, the value, and whether it can only be wrong."""
    if field.type == TEXT:
        yield "over-long", TOO_LONG, True
        yield "NUL", "a\0b", True
        yield "control character", "a\x1b[2Jb", True
        yield "not UTF-8", MARK, True
        yield "empty", "", False
        yield "unusual", "\u202e𝕏 '; DROP TABLE x; -- %s {{7*7}} \ud7ff\ufeff", False
        yield from ((what, value, True) for what, value in _misspelt(field))
    elif field.type == ENUM:
        yield "unknown value", 9_999, True
        yield "unspecified", 0, False
    elif field.type == MESSAGE:
        yield "no time", NOT_A_TIME, True
        yield "the year 1", Timestamp(seconds=-62_135_596_800), False
        yield "the year 9999", Timestamp(seconds=253_402_300_799), False
    elif field.type == BYTES:
        yield "empty", b"", False
        yield "not UTF-8", NOT_UTF8, False
    elif field.type != BOOL:
        yield "negative", -1, field.name in COUNTS
        yield "zero", 0, False
        yield "huge", 2**31 - 1, field.name in COUNTS


def _misspelt(field: FieldDescriptor) -> Iterator[tuple[str, str]]:
    """Texts that are not what the field's name says."""
    if field.name == "vin":
        yield "too short", "LHT"
        yield "check digit", VIN[:8] + ("0" if VIN[8] != "0" else "1") + VIN[9:]
    elif field.name in DATES:
        yield "no date", "2027-02-30"
        yield "other date format", "30/01/2027"
    elif field.name == "amount":
        yield "decimal comma", "12,5"
        yield "not a number", "NaN"
        yield "exponent", "1e400"
        yield "unit in it", "100 CNY"
    elif field.name == "currency":
        yield "unknown currency", "RMBX"
    elif field.name.endswith("_id") and field.name not in (*CODES, "dealer_id"):
        yield "no UUID", "12345"


def put(message: Any, path: tuple[str, ...], value: Any) -> None:
    """Set the field at a path of `leaves`."""
    *parents, last = path
    for part in parents:
        message = message[int(part)] if part.isdigit() else getattr(message, part)
    if last.isdigit():
        message[int(last)] = value
    elif isinstance(value, Message):
        getattr(message, last).CopyFrom(value)
    else:
        setattr(message, last, value)
