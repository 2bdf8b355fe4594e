"""From protobuf messages to the models of the domain, by field name, compiled once per type.

For pydantic (`reader`): strings stay strings (pydantic makes ids, decimals and dates of them), enums lose
their prefix (``CUSTOMER_KIND_PROSPECT`` is ``"prospect"``), timestamps become aware datetimes. What the
caller did not give is absent, so that the model's default or its "Field required" applies: unset messages and
optional fields, UNSPECIFIED, empty strings; empty lists, maps and zeros where the model has a default.
The other way is `forecourt.rpc.convert_out`.
"""

import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from typing import Annotated, Any, cast, get_args, get_origin

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from forecourt.errors import InvalidInput

MAX_STRING = 10_000
"""Longest string, in characters, in a field whose model sets no ``max_length`` of its own."""

Convert = Callable[[Any], Any]

TEXT, BYTES, ENUM = FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_ENUM
MESSAGES = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP)
FLOATS = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)
WRAPPERS = {
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
}


class ConversionError(Exception):
    """A message and a model do not fit each other: a mistake in the program, found when compiling."""


class _BadValue(Exception):
    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason, self.path = reason, path

    def within(self, name: str) -> "_BadValue":
        """The same problem, seen from the enclosing field ``name``."""
        return _BadValue(self.reason, f"{name}.{self.path}" if self.path else name)


def reader(
    descriptor: Descriptor, model: type[BaseModel] | None = None
) -> Callable[[Message], dict[str, Any]]:
    """A function from a message to the dict that ``model`` validates.

    Raises `ConversionError` at once where a field of the message is unknown to the model, or a required field
    of the model has no counterpart. The function raises `forecourt.errors.InvalidInput`, naming the field,
    for values that no model may see: NUL characters, over-long strings, unknown enum numbers, impossible times.
    """
    read = _message_reader(descriptor, model)

    def checked(message: Message) -> dict[str, Any]:
        try:
            return read(message)
        except _BadValue as bad:
            raise InvalidInput(f"{bad.path}: {bad.reason}", fields={bad.path: bad.reason}) from None

    return checked


_compiling: set[tuple[Descriptor, type[BaseModel] | None]] = set()


def _nested_reader(descriptor: Descriptor, model: type[BaseModel] | None) -> Convert:
    """The reader of a nested message, which may be of the very kind that is being compiled."""
    if (descriptor, model) in _compiling:
        return partial(_read_recursive, descriptor, model)
    _compiling.add((descriptor, model))
    try:
        return _message_reader(descriptor, model)
    finally:
        _compiling.discard((descriptor, model))


def _read_recursive(
    descriptor: Descriptor, model: type[BaseModel] | None, message: Message
) -> dict[str, Any]:
    return _message_reader(descriptor, model)(message)


@cache
def _message_reader(
    descriptor: Descriptor, model: type[BaseModel] | None
) -> Callable[[Message], dict[str, Any]]:
    infos = _model_fields(descriptor, model)
    converters: dict[int, tuple[str, Convert]] = {}
    absent: dict[str, Any] = {}
    for field in descriptor.fields:
        info = infos.get(field.name)
        converters[field.number] = field.name, _field_reader(field, info)
        if not field.has_presence and (info is None or info.is_required()):
            _set_default(absent, field)

    def read(message: Message) -> dict[str, Any]:
        data = absent.copy()
        name = ""
        try:
            for field, value in message.ListFields():
                name, convert = converters[field.number]
                converted = convert(value)
                if converted is not _ABSENT:
                    data[name] = converted
        except _BadValue as bad:
            raise bad.within(name) from None
        return data

    return read


_ABSENT = object()


def _model_fields(descriptor: Descriptor, model: type[BaseModel] | None) -> dict[str, FieldInfo]:
    """The model's fields by the name they have in the message."""
    if model is None:
        return {}
    infos = {info.alias or name: info for name, info in model.model_fields.items()}
    given = {field.name for field in descriptor.fields}
    if model.model_config.get("extra") == "forbid" and (unknown := given - infos.keys()):
        raise ConversionError(f"{descriptor.full_name}: {model.__qualname__} has no field {sorted(unknown)}")
    required = {name for name, info in infos.items() if info.is_required()}
    if missing := required - given:
        raise ConversionError(
            f"{descriptor.full_name}: lacks {sorted(missing)}, required by {model.__qualname__}"
        )
    return infos


def _set_default(absent: dict[str, Any], field: FieldDescriptor) -> None:
    """What stands for a field without presence that the caller left at its zero."""
    if is_map(field):
        absent[field.name] = {}
    elif field.is_repeated:
        absent[field.name] = ()
    elif field.type == ENUM:
        label = enum_labels(enum_type(field)).get(0)
        if label is not None:
            absent[field.name] = label
    elif field.type not in (TEXT, BYTES):
        absent[field.name] = field.default_value


def _field_reader(field: FieldDescriptor, info: FieldInfo | None) -> Convert:
    if is_map(field):
        key = _value_reader(message_type(field).fields_by_name["key"], info)
        value = _value_reader(message_type(field).fields_by_name["value"], info)
        return lambda entries: {key(k): _entry(value, str(k), v) for k, v in entries.items()}
    convert = _value_reader(field, info)
    if not field.is_repeated:
        return convert

    return lambda values: [_entry(convert, str(index), value) for index, value in enumerate(values)]


def _entry(convert: Convert, key: str, value: Any) -> Any:
    try:
        converted = convert(value)
    except _BadValue as bad:
        raise bad.within(key) from None
    if converted is _ABSENT:
        raise _BadValue("must not be unspecified", key)
    return converted


def _value_reader(field: FieldDescriptor, info: FieldInfo | None) -> Convert:
    if field.type == TEXT:
        return _bounded_text if info is None or not _sets_length(info, of_items=field.is_repeated) else _text
    if field.type == ENUM:
        return _enum_reader(enum_type(field))
    if field.type in FLOATS:
        return _finite
    if field.type in MESSAGES:
        special = _SPECIAL_READERS.get(message_type(field).full_name)
        if special is not None:
            return special
        return _nested_reader(message_type(field), _nested_model(info))
    return same


def same(value: Any) -> Any:
    return value


def _text(value: str) -> str:
    if "\0" in value:
        raise _BadValue("must not hold the character U+0000")
    return value


def _bounded_text(value: str) -> str:
    if len(value) > MAX_STRING:
        raise _BadValue(f"must have at most {MAX_STRING} characters, has {len(value)}")
    return _text(value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise _BadValue("must be a finite number")
    return value


def _enum_reader(enum: EnumDescriptor) -> Convert:
    labels = enum_labels(enum)

    def read(number: int) -> Any:
        label = labels.get(number, _ABSENT)
        if label is _ABSENT and number != 0:
            raise _BadValue(f"has no value {number}")
        return label

    return read


@cache
def enum_labels(enum: EnumDescriptor) -> dict[int, str]:
    """The labels of an enum by number, without prefix, in small letters; UNSPECIFIED has none."""
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", enum.name).upper() + "_"
    names = {value.number: value.name.removeprefix(prefix) for value in reversed(enum.values)}
    return {number: name.lower() for number, name in names.items() if name != "UNSPECIFIED"}


def _read_time(value: Timestamp) -> datetime:
    try:
        return value.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise _BadValue("is not a time between the years 1 and 9999") from None


def _read_duration(value: Duration) -> timedelta:
    try:
        return value.ToTimedelta()
    except (ValueError, OverflowError):
        raise _BadValue("is not a duration") from None


def _read_date(value: Date) -> date:
    try:
        return date(value.year, value.month, value.day)
    except ValueError:
        raise _BadValue("is not a date") from None


def _read_struct(value: Message) -> Any:
    try:
        return json_format.MessageToDict(value)
    except (ValueError, json_format.Error):
        raise _BadValue("is not a JSON value") from None


def _read_wrapper(value: Any) -> Any:
    inner = value.value
    return _bounded_text(inner) if isinstance(inner, str) else inner


_SPECIAL_READERS: dict[str, Convert] = {
    "google.protobuf.Timestamp": _read_time,
    "google.protobuf.Duration": _read_duration,
    "google.type.Date": _read_date,
    "google.protobuf.Struct": _read_struct,
    "google.protobuf.Value": _read_struct,
    "google.protobuf.ListValue": _read_struct,
    **dict.fromkeys(WRAPPERS, _read_wrapper),
}


def message_type(field: FieldDescriptor) -> Descriptor:
    """The message type of a message field."""
    return cast(Descriptor, field.message_type)


def enum_type(field: FieldDescriptor) -> EnumDescriptor:
    """The enum type of an enum field."""
    return cast(EnumDescriptor, field.enum_type)


def is_map(field: FieldDescriptor) -> bool:
    return field.type in MESSAGES and bool(message_type(field).GetOptions().map_entry)


def _parts(annotation: Any) -> Iterable[Any]:
    """An annotation and everything inside it, metadata included."""
    yield annotation
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from annotation.__metadata__
    if origin is not None:
        for inner in get_args(annotation):
            if inner is not Ellipsis and not isinstance(inner, str):
                yield from _parts(inner)


def _sets_length(info: FieldInfo, *, of_items: bool) -> bool:
    """Whether a model limits the length of a string, or of the strings in a list (not the list's own length)."""
    metadata = [*([] if of_items else info.metadata), *_parts(info.annotation)]
    nested = [inner for item in metadata if isinstance(item, FieldInfo) for inner in item.metadata]
    return any(getattr(item, "max_length", None) is not None for item in [*metadata, *nested])


def _nested_model(info: FieldInfo | None) -> type[BaseModel] | None:
    """The one model that a field holds; None where there is none, or several to choose from."""
    if info is None:
        return None
    models = {
        part for part in _parts(info.annotation) if isinstance(part, type) and issubclass(part, BaseModel)
    }
    return models.pop() if len(models) == 1 else None
