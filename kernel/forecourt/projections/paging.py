"""Pages of a query: keyset paging with an opaque token.

The token holds the last row's order values, encrypted: they may be names of persons, and tokens end up in logs of
clients and proxies. It belongs to the query that answered it. Its values become parameters of the same query under the
same scope, so one of somebody else shows nothing that an honest query would not.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from forecourt.errors import InvalidInput
from forecourt.privacy.cipher import NONCE_BYTES, new_key
from forecourt.privacy.keys import Hashes
from forecourt.projections.columns import Column
from forecourt.projections.conditions import Parameters, UnknownColumn, checked, column_of, invalid
from forecourt.projections.tables import Table

R = TypeVar("R")

DEFAULT_SIZE = 50
MAX_SIZE = 500
MAX_TOKEN = 4_000


@dataclass(frozen=True)
class PageRequest:
    """Which page is wanted: rows per page (0: the default, 50; at most 500) and the token of the page before."""

    size: int = 0
    token: str = ""

    @property
    def rows(self) -> int:
        """The checked size. Raises `InvalidInput` naming ``page_size``."""
        if not 0 <= self.size <= MAX_SIZE:
            raise invalid("page_size", f"must be 0 to {MAX_SIZE}, is {self.size}")
        return self.size or DEFAULT_SIZE


@dataclass(frozen=True)
class Page(Generic[R]):
    """Rows, and the token of the page after them: empty on the last one."""

    items: list[R]
    next_page_token: str = ""


@dataclass(frozen=True)
class Order:
    """One column to order by."""

    column: Column
    descending: bool

    @property
    def sql(self) -> str:
        """For ORDER BY; what is not there comes last in either direction."""
        direction = " DESC" if self.descending else ""
        nulls = " NULLS LAST" if self.column.nullable and self.descending else ""
        return f"{self.column.quoted}{direction}{nulls}"


def orders_of(table: Table, names: Sequence[str]) -> list[Order]:
    """The order, ``-`` meaning descending, made unique by the key. Raises `UnknownColumn`."""
    orders: list[Order] = []
    for name in (*names, *table.projection.key):
        column = column_of(table, name.removeprefix("-"))
        if column.sql in ("json", "text[]"):
            raise UnknownColumn(f"projection {table.projection.name}: cannot be ordered by {column.name}")
        if all(order.column is not column for order in orders):
            orders.append(Order(column, name.startswith("-")))
    return orders


def after_sql(orders: Sequence[Order], values: Sequence[Any], parameters: Parameters) -> str:
    """The condition for rows that come after one with these order values."""
    if _uniform(orders):
        columns = ", ".join(order.column.quoted for order in orders)
        marks = ", ".join(
            parameters.add(value, order.column.sql) for order, value in zip(orders, values, strict=True)
        )
        return f"({columns}) {'<' if orders[0].descending else '>'} ({marks})"
    alternatives: list[str] = []
    for index, order in enumerate(orders):
        beyond = _beyond(order, values[index], parameters)
        if beyond is None:
            continue
        same = [_same(o, v, parameters) for o, v in zip(orders[:index], values[:index], strict=True)]
        alternatives.append("(" + " AND ".join([*same, beyond]) + ")")
    return "(" + " OR ".join(alternatives) + ")"


def _uniform(orders: Sequence[Order]) -> bool:
    """Whether one comparison of rows does, which an index can answer."""
    return len({order.descending for order in orders}) == 1 and not any(o.column.nullable for o in orders)


def _beyond(order: Order, value: Any, parameters: Parameters) -> str | None:
    if value is None:
        return None
    mark = parameters.add(value, order.column.sql)
    beyond = f"{order.column.quoted} {'<' if order.descending else '>'} {mark}"
    return f"({beyond} OR {order.column.quoted} IS NULL)" if order.column.nullable else beyond


def _same(order: Order, value: Any, parameters: Parameters) -> str:
    if value is None:
        return f"{order.column.quoted} IS NULL"
    return f"{order.column.quoted} = {parameters.add(value, order.column.sql)}"


def fingerprint(*parts: object) -> str:
    """A digest of a query: a token belongs to the query that it came from."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


class PageTokens:
    """Writes and reads tokens. Whoever has the same ``hashes`` reads them; without, nobody but this object."""

    def __init__(self, hashes: Hashes | None = None) -> None:
        self._hashes = hashes
        self._own = new_key()

    async def write(self, query: str, values: Sequence[Any]) -> str:
        """The token for the page after a row with these order values. Raises `forecourt.errors.Unavailable`."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = (await self._cipher()).encrypt(nonce, msgspec.json.encode(values), query.encode())
        return base64.urlsafe_b64encode(nonce + sealed).decode().rstrip("=")

    async def read(self, token: str, query: str, orders: Sequence[Order]) -> list[Any]:
        """The order values in a token. Raises `InvalidInput` naming ``page_token``, `forecourt.errors.Unavailable`."""
        problem = invalid("page_token", "is not a token that this query has answered")
        if len(token) > MAX_TOKEN:
            raise problem
        cipher = await self._cipher()
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            values = msgspec.json.decode(
                cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], query.encode()), type=list[Any]
            )
            return [_token_value(order, value) for order, value in zip(orders, values, strict=True)]
        except (binascii.Error, InvalidTag, InvalidInput, ValueError, TypeError, ArithmeticError):
            raise problem from None

    async def _cipher(self) -> AESGCM:
        if self._hashes is None:
            return AESGCM(self._own)
        return AESGCM(bytes.fromhex((await self._hashes.keyed_hash("page_token")).of("key")))


def _token_value(order: Order, value: Any) -> Any:
    if value is None:
        if not order.column.nullable:
            raise ValueError(order.column.name)
        return None
    return checked(order.column, value)
