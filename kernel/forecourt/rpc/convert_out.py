"""From rows, dataclasses, pydantic models and dicts to protobuf messages, by field name, compiled once per type.

UUID and Decimal are spelled as strings, datetimes become timestamps, labels enum values; None is left out.
The other way is `forecourt.rpc.convert`.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache, lru_cache
from typing import Any, cast
from uuid import UUID

import msgspec
from google.protobuf import json_format, struct_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from pydantic import BaseModel

from forecourt.rpc.convert import (
    ENUM,
    FLOATS,
    MESSAGES,
    TEXT,
    WRAPPERS,
    ConversionError,
    Convert,
    enum_labels,
    enum_type,
    is_map,
    message_type,
    same,
)


@cache
def writer(descriptor: Descriptor) -> Callable[[Any], Message]:
    """A function from a row, dataclass, pydantic model, dict or ready message to a message of this type.

    It raises `ConversionError` for an object whose class lacks a field of the message, and for values that do
    not fit their field. Keys that a dict lacks, and None, are left unset.
    """
    cls = GetMessageClass(descriptor)
    fields = {field.name: _field_writer(field) for field in descriptor.fields}

    def write(value: Any) -> Message:
        if isinstance(value, cls):
            return value
        given: dict[str, Any] = {}
        name = ""
        try:
            if isinstance(value, Mapping):
                for name, inner in value.items():
                    if name not in fields:
                        raise ConversionError(f"{descriptor.full_name}: has no field {name!r}")
                    if inner is not None:
                        given[name] = fields[name](inner)
            else:
                _check_class(descriptor, cast(Hashable, type(value)))
                for name, convert in fields.items():
                    inner = getattr(value, name)
                    if inner is not None:
                        given[name] = convert(inner)
            return cls(**given)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            where = f"{descriptor.full_name}.{name}"
            raise ConversionError(f"{where}: {type(error).__name__} while writing it") from error

    return write


@lru_cache(maxsize=10_000)
def _check_class(descriptor: Descriptor, cls: Hashable) -> None:
    known = attributes(cast(type[Any], cls))
    if missing := [name for name in descriptor.fields_by_name if name not in known]:
        raise ConversionError(f"{descriptor.full_name}: {cls} has no {missing}")


def attributes(cls: type[Any]) -> set[str]:
    """The names of a class's fields and properties."""
    known = set(dir(cls))
    if issubclass(cls, msgspec.Struct):
        return known | set(cls.__struct_fields__)
    if issubclass(cls, BaseModel):
        return known | set(cls.model_fields)
    if dataclasses.is_dataclass(cls):
        return known | {field.name for field in dataclasses.fields(cls)}
    return known


def _field_writer(field: FieldDescriptor) -> Convert:
    if is_map(field):
        key = _value_writer(message_type(field).fields_by_name["key"])
        value = _value_writer(message_type(field).fields_by_name["value"])
        return lambda entries: {key(k): value(v) for k, v in entries.items()}
    convert = _value_writer(field)
    if not field.is_repeated:
        return convert
    return lambda values: [convert(value) for value in values]


def _value_writer(field: FieldDescriptor) -> Convert:
    if field.type == TEXT:
        return _spell
    if field.type == ENUM:
        return _enum_writer(enum_type(field))
    if field.type in FLOATS:
        return float
    if field.type in MESSAGES:
        special = _SPECIAL_WRITERS.get(message_type(field).full_name)
        if special is not None:
            return special
        if message_type(field).full_name in WRAPPERS:
            wrapper = GetMessageClass(message_type(field))
            return lambda value: wrapper(value=value)
        return _later(message_type(field))
    return same


def _later(descriptor: Descriptor) -> Convert:
    """The writer of a nested message, looked up when first needed: a message may hold its own kind."""

    def write(value: Any) -> Message:
        return writer(descriptor)(value)

    return write


def _spell(value: Any) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return value
    if isinstance(value, UUID | int):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"cannot spell {type(value).__name__}")


def _enum_writer(enum: EnumDescriptor) -> Convert:
    numbers = {label: number for number, label in enum_labels(enum).items()}

    def write(value: Any) -> int:
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, str):
            return numbers[value.lower()] if value else 0
        return int(value)

    return write


def _write_time(value: datetime | Timestamp) -> Timestamp:
    if isinstance(value, Timestamp):
        return value
    if value.tzinfo is None:
        raise ValueError("time without a zone")
    time = Timestamp()
    time.FromDatetime(value)
    return time


def _write_duration(value: timedelta | Duration) -> Duration:
    if isinstance(value, Duration):
        return value
    duration = Duration()
    duration.FromTimedelta(value)
    return duration


def _write_date(value: date | Date) -> Date:
    return value if isinstance(value, Date) else Date(year=value.year, month=value.month, day=value.day)


def _write_struct(value: Any) -> struct_pb2.Struct:
    return json_format.ParseDict(value, struct_pb2.Struct())


_SPECIAL_WRITERS: dict[str, Convert] = {
    "google.protobuf.Timestamp": _write_time,
    "google.protobuf.Duration": _write_duration,
    "google.type.Date": _write_date,
    "google.protobuf.Struct": _write_struct,
}
