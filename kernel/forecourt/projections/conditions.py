"""Conditions on read models: what the services may ask, and the SQL it becomes.

::

    where=[eq("dealer_id", "D001"), any_(ilike("name", "%王%"), contains("vins", vin))]

Columns are looked up among the declared ones, values are checked against the column's type and always
travel as parameters.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from forecourt.errors import InvalidInput
from forecourt.projections.columns import Column
from forecourt.projections.tables import Table


class UnknownColumn(ValueError):
    """A query names a column that the read model does not have: a mistake in the service."""


@dataclass(frozen=True)
class Condition:
    """``column operator value``. Made by the functions of this module."""

    column: str
    operator: str
    value: Any = None


@dataclass(frozen=True)
class AnyOf:
    """True where one of its conditions is."""

    conditions: tuple["Where", ...]


@dataclass(frozen=True)
class AllOf:
    """True where each of its conditions is."""

    conditions: tuple["Where", ...]


Where = Condition | AnyOf | AllOf


def eq(column: str, value: Any) -> Condition:
    """Equal; never true for a value that is not there."""
    return Condition(column, "=", value)


def ne(column: str, value: Any) -> Condition:
    """Different, or not there."""
    return Condition(column, "IS DISTINCT FROM", value)


def lt(column: str, value: Any) -> Condition:
    """Less."""
    return Condition(column, "<", value)


def le(column: str, value: Any) -> Condition:
    """Less or equal."""
    return Condition(column, "<=", value)


def gt(column: str, value: Any) -> Condition:
    """Greater."""
    return Condition(column, ">", value)


def ge(column: str, value: Any) -> Condition:
    """Greater or equal."""
    return Condition(column, ">=", value)


def any_of(column: str, values: Iterable[Any]) -> Condition:
    """Equal to one of ``values``; never true for none."""
    ordered = sorted(values, key=repr) if isinstance(values, set | frozenset) else values
    return Condition(column, "= ANY", tuple(ordered))


def is_null(column: str) -> Condition:
    """Not there."""
    return Condition(column, "IS NULL")


def not_null(column: str) -> Condition:
    """There."""
    return Condition(column, "IS NOT NULL")


def ilike(column: str, pattern: str) -> Condition:
    """Text like ``pattern`` (``%`` and ``_`` as in SQL), whatever the case. See `like_literal`."""
    return Condition(column, "ILIKE", pattern)


def contains(column: str, value: str) -> Condition:
    """A column of many texts has ``value`` among them."""
    return Condition(column, "@>", value)


def any_(*conditions: Where) -> AnyOf:
    """At least one of the conditions."""
    return AnyOf(conditions)


def all_(*conditions: Where) -> AllOf:
    """All of the conditions."""
    return AllOf(conditions)


def like_literal(text: str) -> str:
    """Text from outside, so that `ilike` takes its ``%``, ``_`` and ``\\`` for what they are."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


class Parameters:
    """The parameters of one query, in the order in which the SQL names them."""

    def __init__(self) -> None:
        self.values: list[Any] = []

    def add(self, value: Any, sql_type: str) -> str:
        """Take a value; answers its placeholder."""
        self.values.append(value)
        return f"${len(self.values)}::{sql_type}"


def column_of(table: Table, name: str) -> Column:
    """The declared column ``name``. Raises `UnknownColumn`."""
    column = table.by_name.get(name)
    if column is None:
        raise UnknownColumn(f"projection {table.projection.name}: has no column {name!r}")
    return column


def checked(column: Column, value: Any) -> Any:
    """The value as the column's type. Raises `InvalidInput` naming the column."""
    try:
        found = msgspec.convert(value, column.python, strict=False) if not _is_exact(column, value) else value
    except (msgspec.ValidationError, ValueError, TypeError):
        raise invalid(column.name, f"is not a {_type_name(column)}") from None
    if isinstance(found, str):
        _check_text(column, found)
    if column.sql == "bigint" and not -(2**63) <= found < 2**63:
        raise invalid(column.name, "is out of range")
    if column.sql == "timestamptz" and found.tzinfo is None:
        raise invalid(column.name, "must have a time zone")
    return column.encode(found) if column.encode else found


def shape(condition: Where) -> object:
    """What a condition asks, without the bounds of ranges: "until now" is the same question a second later."""
    if isinstance(condition, Condition):
        return (
            condition if condition.operator not in ("<", "<=", ">", ">=") else replace(condition, value=None)
        )
    return type(condition).__name__, tuple(shape(each) for each in condition.conditions)


def _is_exact(column: Column, value: Any) -> bool:
    return isinstance(column.python, type) and isinstance(value, column.python)


def _type_name(column: Column) -> str:
    return {"bigint": "number", "numeric": "number", "double precision": "number", "timestamptz": "time"}.get(
        column.sql, column.sql
    )


def invalid(field: str, reason: str) -> InvalidInput:
    """`InvalidInput` for one field."""
    return InvalidInput(f"{field}: {reason}", fields={field: reason})


def where_sql(table: Table, conditions: Sequence[Where], parameters: Parameters) -> str:
    """The conditions, all of which must hold, as SQL; ``TRUE`` for none."""
    return " AND ".join(_sql(table, condition, parameters) for condition in conditions) or "TRUE"


def _sql(table: Table, condition: Where, parameters: Parameters) -> str:
    if isinstance(condition, AnyOf):
        return "(" + (" OR ".join(_sql(table, c, parameters) for c in condition.conditions) or "FALSE") + ")"
    if isinstance(condition, AllOf):
        return "(" + (" AND ".join(_sql(table, c, parameters) for c in condition.conditions) or "TRUE") + ")"
    column = column_of(table, condition.column)
    operator = condition.operator
    if operator in ("IS NULL", "IS NOT NULL"):
        return f"{column.quoted} {operator}"
    if operator == "@>":
        if column.sql != "text[]":
            raise UnknownColumn(
                f"projection {table.projection.name}: {column.name} is not a column of many texts"
            )
        return f"{column.quoted} @> {parameters.add([_text(column, condition.value)], 'text[]')}"
    if column.sql in ("json", "text[]"):
        raise UnknownColumn(f"projection {table.projection.name}: {column.name} cannot be compared")
    if operator == "= ANY":
        values = [checked(column, value) for value in condition.value]
        return f"{column.quoted} = ANY({parameters.add(values, column.sql + '[]')})"
    if operator == "ILIKE":
        if column.sql != "text":
            raise UnknownColumn(f"projection {table.projection.name}: {column.name} is not text")
        return f"{column.quoted} ILIKE {parameters.add(_pattern(column, condition.value), 'text')}"
    if condition.value is None:
        if operator == "IS DISTINCT FROM":
            return f"{column.quoted} IS NOT NULL"
        # As in SQL: nothing is equal to, less or greater than what is not there.
        return "FALSE"
    return f"{column.quoted} {operator} {parameters.add(checked(column, condition.value), column.sql)}"


def _text(column: Column, value: Any) -> str:
    if not isinstance(value, str):
        raise invalid(column.name, "is not a text")
    _check_text(column, value)
    return value


def _check_text(column: Column, value: str) -> None:
    if "\x00" in value:
        raise invalid(column.name, "must not hold the character U+0000")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise invalid(column.name, "is not valid Unicode") from None


def _pattern(column: Column, value: Any) -> str:
    pattern = _text(column, value)
    trailing = len(pattern) - len(pattern.rstrip("\\"))
    if trailing % 2:
        raise invalid(column.name, "must not end with a lone backslash")
    return pattern
