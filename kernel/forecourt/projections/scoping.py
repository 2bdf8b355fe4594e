"""The one place that limits queries to the caller's scope: the SQL that says which rows may be seen.

Each projection declares whose its rows are (`forecourt.projections.projection.Owned`, `OwnedThrough`, `Unowned`).
"""

from collections.abc import Callable, Iterable
from typing import Any

from forecourt.access.scope import UNRESTRICTED, Scope
from forecourt.projections.conditions import Parameters, column_of
from forecourt.projections.projection import Owned, OwnedThrough, Projection, UndeclaredOwner, Unowned
from forecourt.projections.tables import Table

TableOf = Callable[[Projection[Any]], Table]


def scope_sql(table: Table, scope: Scope, parameters: Parameters, table_of: TableOf) -> str:
    """The condition that rows of ``table`` within ``scope`` fulfil; ``table_of`` finds the tables of owners.

    Raises `UndeclaredOwner`.
    """
    if scope is UNRESTRICTED:
        return "TRUE"
    owner = table.projection.owner
    if isinstance(owner, Unowned):
        return "TRUE"
    if isinstance(owner, Owned):
        return _owned(table, owner, scope, parameters, table_of)
    if isinstance(owner, OwnedThrough):
        return _owned_through(table, owner, scope, parameters, table_of)
    raise UndeclaredOwner(table.projection)


def _owned(table: Table, owner: Owned, scope: Scope, parameters: Parameters, table_of: TableOf) -> str:
    # To the dealers of the scope alone: what has no brand is no matter of a manufacturer.
    without = owner.unbranded and scope.dealers is not None
    found = _brand(table, owner.brand, scope, parameters, or_none=without)
    if scope.dealers is not None:
        dealers = parameters.add(sorted(scope.dealers), "text[]")
        ways = [f"{column_of(table, owner.dealer).quoted} = ANY({dealers})"]
        if owner.shared is not None:
            ways.append(f"{column_of(table, owner.shared).quoted} && {dealers}")
        if owner.also is not None:
            ways.append(_with_parent(table, owner.also, scope, parameters, table_of))
        found.append(f"({' OR '.join(ways)})")
    return " AND ".join(found) or "TRUE"


def _owned_through(
    table: Table, owner: OwnedThrough, scope: Scope, parameters: Parameters, table_of: TableOf
) -> str:
    found = [_with_parent(table, owner, scope, parameters, table_of)]
    if "brand" in table.by_name:
        found += _brand(table, "brand", scope, parameters)
    return " AND ".join(found)


def _with_parent(
    table: Table, owner: OwnedThrough, scope: Scope, parameters: Parameters, table_of: TableOf
) -> str:
    parent = table_of(owner.parent)
    (key,) = parent.key
    within = scope_sql(parent, scope, parameters, table_of)
    column = column_of(table, owner.column).quoted
    return f"{column} IN (SELECT o.{key.quoted} FROM {parent.full_name} AS o WHERE {within})"


def _brand(
    table: Table, column: str, scope: Scope, parameters: Parameters, *, or_none: bool = False
) -> list[str]:
    if scope.brands is None:
        return []
    brands = sorted(scope.brands | {""} if or_none else scope.brands)
    return [f"{column_of(table, column).quoted} = ANY({parameters.add(brands, 'text[]')})"]


def with_owners(projections: Iterable[Projection[Any]]) -> tuple[Projection[Any], ...]:
    """The projections and those that say whose their rows are: all that an answer depends on."""
    found: dict[Projection[Any], None] = {}
    for projection in projections:
        present: Projection[Any] | None = projection
        while present is not None:
            found[present] = None
            owner = present.owner.also if isinstance(present.owner, Owned) else present.owner
            present = owner.parent if isinstance(owner, OwnedThrough) else None
    return tuple(found)
