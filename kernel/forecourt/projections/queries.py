"""The one way to read a read model. All SQL on their tables is built here.

::

    rm = ReadModels(pool, "customer")
    row = await rm.get(customers, customer_id)
    page = await rm.page(customers, where=[eq("dealer_id", "D001")], order=["-registered_at"], page=PageRequest(20))
    funnel = await rm.count(opportunities, by=["stage"], sum=["amount"])
    await rm.wait_for(customers, position, timeout=2.0)

A read model belongs to one service and only that service reads it; others ask over gRPC or keep their own.
The scope of the caller (`forecourt.access.scope.Scope`) is applied to every query in one place.
"""

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from copy import copy
from typing import Any, Self, TypeVar

import asyncpg
import msgspec

from forecourt.access.scope import UNRESTRICTED, Scope
from forecourt.errors import Refused, Unavailable
from forecourt.privacy.keys import Hashes
from forecourt.projections.conditions import (
    AllOf,
    AnyOf,
    Condition,
    Parameters,
    UnknownColumn,
    Where,
    all_,
    any_,
    any_of,
    checked,
    column_of,
    contains,
    eq,
    ge,
    gt,
    ilike,
    is_null,
    le,
    like_literal,
    lt,
    ne,
    not_null,
    shape,
    where_sql,
)
from forecourt.projections.freshness import NotYetThere, Positions
from forecourt.projections.paging import (
    MAX_SIZE,
    Page,
    PageRequest,
    PageTokens,
    after_sql,
    fingerprint,
    orders_of,
)
from forecourt.projections.projection import Projection
from forecourt.projections.scoping import scope_sql
from forecourt.projections.tables import Table, checked_name

__all__ = [
    "AllOf",
    "AnyOf",
    "Condition",
    "NotYetThere",
    "Page",
    "PageRequest",
    "ReadModels",
    "TooManyGroups",
    "UnknownColumn",
    "Where",
    "all_",
    "any_",
    "any_of",
    "contains",
    "eq",
    "ge",
    "gt",
    "ilike",
    "is_null",
    "le",
    "like_literal",
    "lt",
    "ne",
    "not_null",
]

R = TypeVar("R", bound=msgspec.Struct)

MAX_GROUPS = 1_000
"""Most groups that `ReadModels.count` answers unless told otherwise."""

MAX_ROWS = 1_000
"""Rows that `ReadModels.all` answers unless told otherwise: nothing reads a whole table by accident."""

_SUMMABLE = ("bigint", "numeric", "double precision")


class TooManyGroups(Refused):
    """A count has more groups than can be answered, and a part of them would be wrong: ask for less, with a filter."""


class ReadModels:
    """Queries on the read models of one service, within a scope.

    ``schema`` is the service's name; ``projections``, if given, are the only ones that may be asked. Objects with the
    same ``hashes`` read each other's page tokens.
    Raises `forecourt.errors.Unavailable` where the database or a read model is not there (yet),
    `forecourt.errors.InvalidInput` for values that do not fit a column, and `UnknownColumn` for a mistake.
    """

    def __init__(
        self,
        pool: Any,
        schema: str,
        projections: Iterable[Projection[Any]] | None = None,
        *,
        scope: Scope = UNRESTRICTED,
        hashes: Hashes | None = None,
    ) -> None:
        self._pool = pool
        self._tokens = PageTokens(hashes)
        self._schema = checked_name("schema", schema)
        self._declared = None if projections is None else frozenset(projections)
        self._tables: dict[Projection[Any], Table] = {}
        self._scope = scope
        self._positions = Positions(pool, schema)

    def within(self, scope: Scope) -> Self:
        """The same read models, seen within another scope."""
        other = copy(self)
        other._scope = scope  # noqa: SLF001
        return other

    @property
    def scope(self) -> Scope:
        """What these queries are limited to."""
        return self._scope

    async def get(self, projection: Projection[R], key: Any) -> R | None:
        """The row with this key (a tuple for several columns), or None."""
        values = key if isinstance(key, tuple) else (key,)
        where = [eq(name, value) for name, value in zip(projection.key, values, strict=True)]
        return await self.first(projection, where=where)

    async def get_many(self, projection: Projection[R], keys: Iterable[Any]) -> dict[Any, R]:
        """The rows with these keys, by key, without those that are not there."""
        table = self._table(projection)
        wanted = [key if isinstance(key, tuple) else (key,) for key in keys]
        if not wanted:
            return {}
        parameters = Parameters()
        arrays = ", ".join(
            parameters.add([checked(column, value) for value in values], f"{column.sql}[]")
            for column, values in zip(table.key, zip(*wanted, strict=True), strict=True)
        )
        names = ", ".join(column.quoted for column in table.key)
        sql = f"({names}) IN (SELECT * FROM unnest({arrays}))"
        rows = await self._rows(table, sql, [], parameters)
        found = {projection.key_of(row): row for row in rows}
        return {key[0] if len(key) == 1 else key: row for key, row in found.items()}

    async def first(
        self, projection: Projection[R], *, where: Sequence[Where] = (), order: Sequence[str] = ()
    ) -> R | None:
        """The first row that fits, or None."""
        rows = await self.all(projection, where=where, order=order, limit=1)
        return rows[0] if rows else None

    async def all(
        self,
        projection: Projection[R],
        *,
        where: Sequence[Where] = (),
        order: Sequence[str] = (),
        limit: int = MAX_ROWS,
    ) -> list[R]:
        """The rows that fit, the first ``limit`` of them; for more see `page` and `scan`."""
        table, parameters = self._table(projection), Parameters()
        sql = where_sql(table, where, parameters)
        return await self._rows(table, sql, order, parameters, limit=limit)

    async def page(
        self,
        projection: Projection[R],
        *,
        where: Sequence[Where] = (),
        order: Sequence[str] = (),
        page: PageRequest | None = None,
    ) -> Page[R]:
        """A page of the rows that fit, in order (``-column`` is descending; the key makes it unique)."""
        wanted = page or PageRequest()
        table, parameters = self._table(projection), Parameters()
        orders = orders_of(table, order)
        query = fingerprint(projection.name, projection.version, tuple(order), *map(shape, where))
        sql = where_sql(table, where, parameters)
        if wanted.token:
            values = await self._tokens.read(wanted.token, query, orders)
            sql += f" AND {after_sql(orders, values, parameters)}"
        rows = await self._rows(table, sql, order, parameters, limit=wanted.rows + 1)
        if len(rows) <= wanted.rows:
            return Page(rows)
        last = rows[wanted.rows - 1]
        values = [getattr(last, order.column.name) for order in orders]
        return Page(rows[: wanted.rows], await self._tokens.write(query, values))

    async def scan(
        self, projection: Projection[R], *, where: Sequence[Where] = (), order: Sequence[str] = ()
    ) -> AsyncIterator[R]:
        """All rows that fit, fetched page by page, however many they are."""
        request = PageRequest(MAX_SIZE)
        while True:
            page = await self.page(projection, where=where, order=order, page=request)
            for row in page.items:
                yield row
            if not page.next_page_token:
                return
            request = PageRequest(MAX_SIZE, page.next_page_token)

    async def count(
        self,
        projection: Projection[Any],
        *,
        by: Sequence[str] = (),
        where: Sequence[Where] = (),
        sum: Sequence[str] = (),  # noqa: A002
        limit: int = MAX_GROUPS,
    ) -> list[dict[str, Any]]:
        """Rows per group, as ``{column: value, ..., "count": n, summed column: total}``, ordered by group.

        Without ``by`` it is one group of all rows. Sums of nothing are 0. Raises `TooManyGroups` above ``limit``.
        """
        table, parameters = self._table(projection), Parameters()
        groups = [column_of(table, name) for name in by]
        summed = [column_of(table, name) for name in sum]
        if any(column.sql not in _SUMMABLE for column in summed):
            raise UnknownColumn(f"projection {projection.name}: sum wants columns of numbers")
        names = ", ".join(column.quoted for column in groups)
        answers = [c.quoted for c in groups] + ['count(*) AS "count"']
        answers += [f"coalesce(sum({c.quoted}), 0) AS {c.quoted}" for c in summed]
        condition = self._scoped(table, where_sql(table, where, parameters), parameters)
        grouping = f" GROUP BY {names} ORDER BY {names} LIMIT {limit + 1}" if groups else ""
        sql = f"SELECT {', '.join(answers)} FROM {table.full_name} WHERE {condition}{grouping}"
        records = await self._fetch(sql, parameters)
        if len(records) > limit:
            raise TooManyGroups(f"more than {limit} groups: ask for less, with a filter")
        return [self._group(record, [*groups, *summed]) for record in records]

    async def total(self, projection: Projection[Any], *, where: Sequence[Where] = ()) -> int:
        """How many rows fit."""
        return int((await self.count(projection, where=where))[0]["count"])

    async def wait_for(self, projection: Projection[Any], position: int, timeout: float = 5.0) -> None:
        """Return when the read model has taken in the event at ``position``; ``timeout`` in seconds.

        Raises `NotYetThere` (an `forecourt.errors.Unavailable`) when that takes too long.
        """
        self._table(projection)
        with _translated():
            await self._positions.wait_for(projection, position, timeout)

    async def position(self, projection: Projection[Any]) -> int:
        """The position up to which a read model is folded."""
        self._table(projection)
        with _translated():
            return await self._positions.present(projection)

    async def close(self) -> None:
        """Stop listening for news of read models."""
        await self._positions.close()

    def _table(self, projection: Projection[Any]) -> Table:
        table = self._tables.get(projection)
        if table is None:
            if self._declared is not None and projection not in self._declared:
                raise ValueError(f"projection {projection.name}: is not one of service {self._schema}")
            table = self._tables[projection] = Table(self._schema, projection)
        return table

    def _scoped(self, table: Table, condition: str, parameters: Parameters) -> str:
        """The condition within the scope: the one place that applies it."""
        return f"({condition}) AND ({scope_sql(table, self._scope, parameters, self._table)})"

    async def _rows(
        self,
        table: Table,
        condition: str,
        order: Sequence[str],
        parameters: Parameters,
        *,
        limit: int | None = None,
    ) -> list[Any]:
        names = ", ".join(column.quoted for column in table.columns)
        condition = self._scoped(table, condition, parameters)
        ordering = ", ".join(each.sql for each in orders_of(table, order))
        sql = f"SELECT {names} FROM {table.full_name} WHERE {condition} ORDER BY {ordering}"
        if limit is not None:
            sql += f" LIMIT {parameters.add(limit, 'bigint')}"
        return [table.make_row(record) for record in await self._fetch(sql, parameters)]

    async def _fetch(self, sql: str, parameters: Parameters) -> list[Any]:
        with _translated():
            return list(await self._pool.fetch(sql, *parameters.values))

    @staticmethod
    def _group(record: Any, columns: Sequence[Any]) -> dict[str, Any]:
        decoders = {column.name: column.decode for column in columns if column.decode}
        return {name: decoders[name](value) if name in decoders else value for name, value in record.items()}


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn what a missing server or table raises into what callers may see."""
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        raise Unavailable("the read model is not built yet") from error
    except (
        asyncpg.PostgresConnectionError,
        asyncpg.InterfaceError,
        # What asyncpg makes of a connection that the server has ended while it was idle.
        asyncpg.InternalClientError,
        asyncpg.OperatorInterventionError,
        asyncpg.TooManyConnectionsError,
        TimeoutError,
        OSError,
    ) as error:
        raise Unavailable(f"read models: {type(error).__name__}") from error
