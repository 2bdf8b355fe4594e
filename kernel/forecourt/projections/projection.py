"""Declares read models: a table, and one pure function per event.

::

    class CustomerRow(msgspec.Struct, frozen=True):
        customer_id: UUID
        name: str
        dealer_id: str

    customers = Projection("customer", version=1, row=CustomerRow, key="customer_id", indexes=["dealer_id"])

    @customers.on(CustomerRegistered)
    def _(row: CustomerRow | None, e: CustomerRegistered, m: Meta) -> CustomerRow | None:
        return CustomerRow(customer_id=m.stream_id, name=e.name, dealer_id=m.dealer_id)

A handler gets the row that its key names (None where there is none) and answers the row to write; None
deletes it. It is pure: no clock, no I/O. The runner (``forecourt.projections.runner``) does the rest.
A change of table or handlers is a new ``version``: it is built beside the old one and then switched.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from forecourt.deciders import _annotated
from forecourt.events import AnyEvent, Meta, Recorded

R = TypeVar("R", bound=msgspec.Struct)
F = TypeVar("F", bound=Callable[..., Any])

Key = tuple[Any, ...]
"""The values of a row's key columns."""

KeyOf = Callable[[Any, Meta], Any]
"""From event and envelope to the key of the row it touches: a value, a tuple, or a list of them for many rows."""


@dataclass(frozen=True)
class Index:
    """An index on columns; ``kind`` is a PostgreSQL access method, ``trigram`` makes ILIKE searches fast."""

    columns: tuple[str, ...]
    unique: bool = False
    kind: str = "btree"
    trigram: bool = False


@dataclass(frozen=True)
class Owned:
    """Each row names its owner: the columns of dealer and brand, and of the dealers that it is shared with.

    Whoever sees the row that ``also`` leads to, in another read model, sees this one too, within the brand.
    With ``unbranded`` a row without a brand is the whole dealer's, whatever brands the caller is for; whoever is for
    some brands of all dealers does not see it.
    """

    dealer: str = "dealer_id"
    brand: str = "brand"
    shared: str | None = None
    also: "OwnedThrough | None" = None
    unbranded: bool = False


@dataclass(frozen=True)
class OwnedThrough:
    """Each row is seen by whoever sees the row of ``parent`` that ``column`` names; ``parent`` has one key column.

    A column ``brand`` limits it further: what concerns another brand is not seen along with the parent.
    """

    parent: "Projection[Any]"
    column: str


@dataclass(frozen=True)
class Unowned:
    """The rows are everybody's; ``reason`` says why that is right."""

    reason: str


Owner = Owned | OwnedThrough | Unowned


class UndeclaredOwner(ValueError):
    """A projection does not say whose its rows are: a mistake in the service, found when it starts."""

    def __init__(self, projection: "Projection[Any]") -> None:
        super().__init__(
            f"projection {projection.name}: has no columns dealer_id and brand, so declare owner="
            " (Owned, OwnedThrough, or Unowned with a reason)"
        )


@dataclass(frozen=True)
class Handler:
    """What one event does to one row."""

    fold: Callable[[Any, Any, Meta], Any]
    key: KeyOf | None
    """None: the row of the event's own aggregate."""


Sweep = tuple[str, Callable[[Any], Any]]
"""A column, and what becomes of each row that has the id of an event's aggregate in it."""


class Projection(Generic[R]):
    """A read model of one service.

    ``name`` and ``version`` name its table; ``row`` is a frozen `msgspec.Struct` whose fields are the columns
    (str text, int bigint, bool, float, Decimal numeric, UUID, date, datetime timestamptz, tuple[str, ...] text[],
    anything else json; ``X | None`` nullable); ``key`` is the primary key, one column or several. ``indexes`` are
    column names or `Index`. ``owner`` says whose the rows are; without it, rows with the columns ``dealer_id`` and
    ``brand`` are `Owned` by them, and shared with the dealers in a column ``shared_with``.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int,
        row: type[R],
        key: str | Sequence[str],
        indexes: Iterable[str | Index] = (),
        owner: Owner | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.row = row
        self.key: tuple[str, ...] = (key,) if isinstance(key, str) else tuple(key)
        self.columns: tuple[str, ...] = row.__struct_fields__
        self.indexes = tuple(Index((i,)) if isinstance(i, str) else i for i in indexes)
        fields = set(self.columns)
        if owner is None and {"dealer_id", "brand"} <= fields:
            owner = Owned(shared="shared_with" if "shared_with" in fields else None)
        self.owner = owner
        self.handlers: dict[type[AnyEvent], list[Handler]] = {}
        self.sweeps: dict[type[AnyEvent], Sweep] = {}
        self._key_values: Any = _getter(self.key)
        missing = set(self.key) - fields
        if missing:
            raise ValueError(
                f"projection {name}: key columns {sorted(missing)} are not fields of {row.__name__}"
            )

    def on(self, *classes: type[AnyEvent], key: KeyOf | None = None) -> Callable[[F], F]:
        """Register a handler ``(row | None, event, meta) -> row | None`` for event classes.

        Without ``classes`` they are read from the annotation of ``event``. An event may have several handlers,
        for rows with different keys.
        """

        def register(function: F) -> F:
            for cls in classes or tuple(_annotated(function, 1)):
                self.handlers.setdefault(cls, []).append(Handler(function, key))
            return function

        return register

    def on_all(self, cls: type[AnyEvent], column: str) -> Callable[[F], F]:
        """Register ``row -> row`` for all rows that have the id of the event's aggregate in ``column``.

        For what concerns everything about somebody, such as their erasure: it is applied after all other events of
        the batch, and must not mind being applied again. What is found in the database costs a query an event.
        """
        if column not in self.columns:
            raise ValueError(f"projection {self.name}: on_all: there is no column {column}")

        def register(function: F) -> F:
            self.sweeps[cls] = column, function
            self.handlers.setdefault(cls, []).append(Handler(_untouched, _no_key))
            return function

        return register

    @property
    def events(self) -> tuple[type[AnyEvent], ...]:
        """The events that this read model is made of."""
        return tuple(self.handlers)

    def key_of(self, row: R) -> Key:
        """The key values of a row."""
        values: Key = self._key_values(row)
        return values

    def keys(self, handler: Handler, recorded: Recorded[AnyEvent]) -> list[Key]:
        """The keys of the rows that an event touches through a handler."""
        if handler.key is None:
            return [(recorded.meta.stream_id,)]
        found = handler.key(recorded.event, recorded.meta)
        if found is None:
            return []
        keys = found if isinstance(found, list) else [found]
        return [key if isinstance(key, tuple) else (key,) for key in keys]

    def fold(self, rows: dict[Key, R | None], batch: Sequence[Recorded[AnyEvent]]) -> None:
        """Apply a batch to ``rows`` in place: rows by key, None for one that is gone or never was."""
        handlers = self.handlers
        for recorded in batch:
            for handler in handlers.get(type(recorded.event), ()):
                for key in self.keys(handler, recorded):
                    rows[key] = handler.fold(rows.get(key), recorded.event, recorded.meta)
        for cls, ids in self.swept(batch).items():
            self.sweep(cls, ids, rows)

    def swept(self, batch: Iterable[Recorded[AnyEvent]]) -> dict[type[AnyEvent], set[UUID]]:
        """The ids whose rows a batch sweeps, by event."""
        found: dict[type[AnyEvent], set[UUID]] = {}
        if self.sweeps:
            for recorded in batch:
                if type(recorded.event) in self.sweeps:
                    found.setdefault(type(recorded.event), set()).add(recorded.meta.stream_id)
        return found

    def sweep(self, cls: type[AnyEvent], ids: set[UUID], rows: dict[Key, R | None]) -> None:
        """Apply a sweep to those of ``rows`` that have one of ``ids``."""
        column, function = self.sweeps[cls]
        for key, row in rows.items():
            if row is not None and getattr(row, column) in ids:
                rows[key] = function(row)

    def touched(self, batch: Iterable[Recorded[AnyEvent]]) -> set[Key]:
        """The keys of all rows that a batch touches."""
        return {
            key
            for recorded in batch
            for handler in self.handlers.get(type(recorded.event), ())
            for key in self.keys(handler, recorded)
        }


def _no_key(event: Any, meta: Meta) -> None:
    """No row in particular."""


def _untouched(row: Any, event: Any, meta: Meta) -> Any:
    return row


def _getter(names: tuple[str, ...]) -> Callable[[Any], Key]:
    """A fast function from a row to the values of these fields."""
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda row: (get(row),)


def row_id(meta: Meta) -> UUID:
    """The key of an append-only read model with one row per event."""
    return meta.id
