"""Compiles a fast reader for a pydantic class: typed objects from JSON data without validating it again.

Data was validated when it was written, so a bulk reader only converts what JSON cannot express (decimals,
times, ids, tuples, nested models). Data that does not have exactly the fields of the class goes through
pydantic's full validation instead, which fills defaults or names what is wrong.
"""

import types
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from uuid import UUID

import msgspec
from pydantic import BaseModel, TypeAdapter

M = TypeVar("M", bound=BaseModel)
Convert = Callable[[Any], Any]

_AS_IT_IS = (str, int, float, bool, type(None), Any, object)
_BY_CALL: dict[Any, Convert] = {
    Decimal: Decimal,
    UUID: UUID,
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
}


@cache
def reader(cls: type[M]) -> Callable[[dict[str, Any]], M]:
    """A function that makes an instance of ``cls`` from decoded JSON; it may use up the dict it is given.

    Raises `pydantic.ValidationError` where the data does not fit the class.
    """
    names = frozenset(cls.model_fields)
    fields_set = set(names)
    converters = [
        (name, convert)
        for name, field in cls.model_fields.items()
        if (convert := _converter(field.annotation)) is not None
    ]
    new, put = cls.__new__, object.__setattr__
    keep_extra = cls.model_config.get("extra") == "ignore"

    def read(data: dict[str, Any]) -> M:
        if data.keys() != names:
            if keep_extra and data.keys() > names:
                data = {name: data[name] for name in names}
            else:
                return cls.model_validate_json(msgspec.json.encode(data))
        for name, convert in converters:
            data[name] = convert(data[name])
        instance = new(cls)
        put(instance, "__dict__", data)
        put(instance, "__pydantic_fields_set__", fields_set)
        put(instance, "__pydantic_extra__", None)
        put(instance, "__pydantic_private__", None)
        return instance

    return read


def _converter(annotation: Any) -> Convert | None:
    """What turns a JSON value into the annotated type; None where it is that already."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _converter(args[0])
    if annotation in _AS_IT_IS or origin is Literal:
        return None
    if annotation in _BY_CALL:
        return _BY_CALL[annotation]
    if origin in (Union, types.UnionType):
        return _optional(annotation, args)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return _sequence(_converter(args[0]))
    if origin is dict and args[0] is str:
        return _mapping(_converter(args[1]))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return reader(annotation)
    return _validated(annotation)


def _optional(annotation: Any, args: tuple[Any, ...]) -> Convert | None:
    inner = [arg for arg in args if arg is not type(None)]
    if len(inner) != 1:
        return _validated(annotation)
    convert = _converter(inner[0])
    if convert is None:
        return None
    return lambda value: None if value is None else convert(value)


def _sequence(convert: Convert | None) -> Convert:
    if convert is None:
        return tuple
    return lambda values: tuple(map(convert, values))


def _mapping(convert: Convert | None) -> Convert | None:
    if convert is None:
        return None
    return lambda values: {key: convert(value) for key, value in values.items()}


def _validated(annotation: Any) -> Convert:
    validate = TypeAdapter(annotation).validate_json
    return lambda value: validate(msgspec.json.encode(value))
