"""From the fields of a row struct to the columns of its table, and the values between them.

What PostgreSQL has a type for keeps it; everything else is one JSON document per column. JSON is written
in one canonical order, so that equal values are equal texts.
"""

import types
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import msgspec
from pydantic import BaseModel

Convert = Callable[[Any], Any]

_PLAIN: dict[Any, str] = {
    str: "text",
    int: "bigint",
    bool: "boolean",
    float: "double precision",
    Decimal: "numeric",
    UUID: "uuid",
    date: "date",
    datetime: "timestamptz",
}


@dataclass(frozen=True)
class Column:
    """One column: its SQL type, and how values cross to and from the database.

    ``python`` is the type of a value that is there. ``encode`` makes a parameter of a value (None: it is one
    already), ``decode`` a value of what the database answers. Arrays of arrays do not exist in PostgreSQL, so
    where many rows travel as one array per column, ``unnested`` makes the element and ``element`` is its type.
    """

    name: str
    sql: str
    nullable: bool
    python: Any
    encode: Convert | None = None
    decode: Convert | None = None
    unnested: Convert | None = None
    element: str = ""

    @property
    def quoted(self) -> str:
        """The name as SQL wants it."""
        return f'"{self.name}"'

    @property
    def definition(self) -> str:
        """The column's line in CREATE TABLE."""
        return f"{self.quoted} {self.sql}{'' if self.nullable else ' NOT NULL'}"


def columns_of(row: type[msgspec.Struct]) -> tuple[Column, ...]:
    """The columns of a row struct, in the order of its fields."""
    return tuple(_column(field.name, field.type) for field in msgspec.structs.fields(row))


def _column(name: str, annotation: Any) -> Column:
    python, nullable = _without_none(annotation)
    sql = _plain_type(python)
    if sql is not None:
        is_enum = isinstance(python, type) and issubclass(python, Enum)
        encode = _or_none(_enum_value) if is_enum else None
        decode = _or_none(python) if is_enum else None
        return Column(name, sql, nullable, python, encode, decode, encode, sql)
    if get_origin(python) is tuple and get_args(python) == (str, Ellipsis):
        return Column(
            name, "text[]", nullable, python, None, _or_none(tuple), _or_none(array_literal), "text"
        )
    encode = _or_none(_to_json)
    decoder = msgspec.json.Decoder(python, dec_hook=_from_builtins)
    return Column(name, "json", nullable, python, encode, _or_none(decoder.decode), encode, "text")


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """The type of a value that is there, and whether None may stand in its place."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation is Any:
        return annotation, True
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    members = get_args(annotation)
    rest = tuple(member for member in members if member is not type(None))
    if len(rest) == len(members):
        return annotation, False
    if len(rest) > 1:
        return Union[rest], True  # noqa: UP007  (a tuple of members)
    return _without_none(rest[0])[0], True


def _plain_type(python: Any) -> str | None:
    """The SQL type of what PostgreSQL stores as it is."""
    if get_origin(python) is Literal:
        kinds = {type(value) for value in get_args(python)}
        return _PLAIN.get(kinds.pop()) if len(kinds) == 1 else None
    if isinstance(python, type) and issubclass(python, Enum):
        kinds = {type(member.value) for member in python}
        return _PLAIN.get(kinds.pop()) if len(kinds) == 1 else None
    return _PLAIN.get(python)


def _or_none(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _enum_value(value: Enum) -> Any:
    return value.value


def array_literal(values: tuple[str, ...]) -> str:
    """A text[] as PostgreSQL writes it."""
    quoted = ['"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values]
    return "{" + ",".join(quoted) + "}"


def _to_builtins(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise NotImplementedError(f"a column cannot hold {type(value).__qualname__}")


def _from_builtins(python: type[Any], value: Any) -> Any:
    if issubclass(python, BaseModel):
        return python.model_validate(value)
    raise NotImplementedError(f"a column cannot hold {python.__qualname__}")


_encoder = msgspec.json.Encoder(enc_hook=_to_builtins, order="deterministic")


def _to_json(value: Any) -> str:
    return _encoder.encode(value).decode()
