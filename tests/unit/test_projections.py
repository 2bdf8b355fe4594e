"""Read models without a database: what a projection declares, folds, and puts aside."""

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecourt.events import Event, Meta, Personal
from forecourt.eventstore.port import Batch
from forecourt.projections.columns import array_literal, columns_of
from forecourt.projections.folding import Changes, PutAside, RowCache, Target
from forecourt.projections.follower import halves
from forecourt.projections.projection import Index, Projection
from forecourt.projections.runner import grouped
from forecourt.projections.tables import Table
from forecourt.registry import UndecodableEvent
from forecourt.testing.given import an_id, given_rows, recorded
from forecourt.values import Money
from tests.integration.projection_shop import (
    AccountRow,
    Closed,
    Deposited,
    Moved,
    Noted,
    Opened,
    bank,
    flows,
    journal,
)

ONE, TWO = an_id("one"), an_id("two")


# given / when / then


def test_an_event_makes_a_row() -> None:
    accounts = given_rows(bank()).when(recorded(Opened(owner="one"), stream_id=ONE))
    row = accounts.rows[ONE,]
    assert (row.account_id, row.owner, row.dealer_id) == (ONE, "one", "D001")


def test_events_of_one_batch_build_on_each_other() -> None:
    accounts = given_rows(bank()).when(
        recorded(Opened(owner="one"), stream_id=ONE),
        recorded(Opened(owner="two"), stream_id=TWO),
        recorded(Deposited(amount=7), stream_id=ONE, sequence=2),
        recorded(Moved(to=TWO, amount=3), stream_id=ONE, sequence=3),
    )
    assert [accounts.rows[key,].balance for key in (ONE, TWO)] == [4, 3]


def test_none_deletes_the_row() -> None:
    accounts = given_rows(bank()).when(recorded(Opened(owner="one"), stream_id=ONE))
    accounts.when(recorded(Closed(), stream_id=ONE, sequence=2)).then_row(ONE, None)
    accounts.then_rows([])


def test_a_row_has_as_many_key_columns_as_it_likes() -> None:
    found = given_rows(flows()).when(
        recorded(Moved(to=TWO, amount=3), stream_id=ONE), recorded(Moved(to=TWO, amount=4), stream_id=ONE)
    )
    assert found.rows[ONE, TWO].total == 7


def test_an_event_that_is_not_handled_changes_nothing() -> None:
    given_rows(journal()).when(recorded(Noted(text="x"), stream_id=ONE)).then_rows([])


# columns


class Colour(StrEnum):
    RED = "red"


class WideRow(msgspec.Struct, frozen=True):
    key: UUID
    text: str
    number: int
    flag: bool
    ratio: float
    amount: Decimal
    day: date
    moment: datetime
    many: tuple[str, ...]
    colour: Colour
    choice: Literal["a", "b"]
    name: Personal[str]
    maybe: Personal[str] | None
    money: Money
    inner: dict[str, tuple[int, ...]]
    anything: Any
    either: int | str


def test_each_field_has_the_column_that_fits() -> None:
    found = {column.name: (column.sql, column.nullable) for column in columns_of(WideRow)}
    assert found == {
        "key": ("uuid", False),
        "text": ("text", False),
        "number": ("bigint", False),
        "flag": ("boolean", False),
        "ratio": ("double precision", False),
        "amount": ("numeric", False),
        "day": ("date", False),
        "moment": ("timestamptz", False),
        "many": ("text[]", False),
        "colour": ("text", False),
        "choice": ("text", False),
        "name": ("text", False),
        "maybe": ("text", True),
        "money": ("json", False),
        "inner": ("json", False),
        "anything": ("json", True),
        "either": ("json", False),
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("money", Money(amount=Decimal("1.10"), currency="CNY")),
        ("inner", {"b": (1, 2), "a": ()}),
        ("either", "x"),
        ("anything", [1, None]),
        ("colour", Colour.RED),
    ],
)
def test_a_value_crosses_and_comes_back(name: str, value: object) -> None:
    column = next(column for column in columns_of(WideRow) if column.name == name)
    assert column.encode is not None
    assert column.decode is not None
    assert column.decode(column.encode(value)) == value
    assert column.decode(column.encode(None)) is None


def test_equal_values_are_equal_json() -> None:
    column = next(column for column in columns_of(WideRow) if column.name == "inner")
    assert column.encode is not None
    assert column.encode({"b": (1,), "a": ()}) == column.encode({"a": (), "b": (1,)})


def test_an_array_is_written_as_postgresql_reads_it() -> None:
    assert array_literal(()) == "{}"
    assert array_literal(("a", 'b"c', "d\\e", "f,{g}", "")) == '{"a","b\\"c","d\\\\e","f,{g}",""}'


# declarations


class ThingRow(msgspec.Struct, frozen=True):
    thing_id: UUID
    tags: tuple[str, ...]
    note: str | None


@pytest.mark.parametrize("key", ["tags", "note"])
def test_a_key_must_be_a_plain_value(key: str) -> None:
    with pytest.raises(ValueError, match="a key column must be a plain value"):
        Table("shop", Projection("thing", version=1, row=ThingRow, key=key))


@pytest.mark.parametrize("name", ["", "Thing", "thing-1", "projection", 'a"b', "x" * 41, "1st"])
def test_a_name_must_fit_into_sql(name: str) -> None:
    with pytest.raises(ValueError, match="must be 1 to 40 of a-z"):
        Table("shop", Projection(name, version=1, row=ThingRow, key="thing_id"))


def test_a_key_or_index_on_an_unknown_column_is_refused() -> None:
    with pytest.raises(ValueError, match="nope"):
        Projection("thing", version=1, row=ThingRow, key="nope")
    things = Projection("thing", version=1, row=ThingRow, key="thing_id")
    with pytest.raises(ValueError, match="unknown columns"):
        Table("shop", things).index_sql(Index(("nope",)))


# folding


def target(projection: Projection[Any], *, position: int = 0) -> Target:
    return Target(
        id=1,
        table=Table("bank", projection),
        position=position,
        has_quarantine=False,
        handlers=projection.handlers,
        types=frozenset({"test.Opened", "test.Deposited"}),
        categories=frozenset({"account"}),
        serves=True,
        folded=position,
    )


def folded(one: Target, items: Iterable[Any], barred: Iterable[str] = ()) -> Changes:
    plan = one.plan(items)
    rows, aside = dict(plan.before), list[PutAside]()
    one.fold(plan.steps, rows, set(barred), aside)
    one.cache.put(rows)
    return one.changes(plan.before, rows, aside, len(plan.steps))


def test_a_batch_is_inserts_updates_and_deletes() -> None:
    one = target(bank())
    first = folded(one, [recorded(Opened(owner=o), stream_id=i) for o, i in (("one", ONE), ("two", TWO))])
    assert ([row.owner for row in first.inserted], first.updated, first.deleted) == (["one", "two"], [], [])
    second = folded(
        one,
        [
            recorded(Deposited(amount=1), stream_id=ONE, sequence=2),
            recorded(Closed(), stream_id=TWO, sequence=2),
        ],
    )
    assert (second.inserted, [row.balance for row in second.updated], second.deleted) == ([], [1], [(TWO,)])


def test_a_row_that_comes_and_goes_within_a_batch_is_not_written() -> None:
    changes = folded(
        target(bank()), [recorded(Opened(owner="one"), stream_id=ONE), recorded(Closed(), stream_id=ONE)]
    )
    assert (changes.inserted, changes.updated, changes.deleted) == ([], [], [])


def test_events_at_or_below_the_position_are_left_alone() -> None:
    old = recorded(Opened(owner="one"), stream_id=ONE, position=5)
    assert folded(target(bank(), position=5), [old]).events == 0
    assert folded(target(bank(), position=4), [old]).events == 1


def test_what_raises_is_put_aside_with_the_rest_of_its_stream() -> None:
    changes = folded(
        target(bank()),
        [
            recorded(Opened(owner="poison"), stream_id=ONE, position=1),
            recorded(Opened(owner="two"), stream_id=TWO, position=2),
            recorded(Deposited(amount=1), stream_id=ONE, position=3),
        ],
    )
    assert [row.owner for row in changes.inserted] == ["two"]
    assert [aside.event.position for aside in changes.put_aside] == [1, 3]


def test_an_undecodable_event_bars_its_stream_for_those_who_would_handle_it() -> None:
    meta = recorded(Opened(owner="x"), stream_id=ONE).meta
    later = recorded(Deposited(amount=1), stream_id=ONE, sequence=2, position=2)
    assert len(folded(target(bank()), [UndecodableEvent(meta, "data does not fit"), later]).put_aside) == 2
    unknown = msgspec.structs.replace(meta, type="test.Unknown")
    assert folded(target(bank()), [UndecodableEvent(unknown, "x"), later]).put_aside == []


def test_a_stream_in_quarantine_stays_there() -> None:
    event = recorded(Opened(owner="one"), stream_id=ONE)
    assert len(folded(target(bank()), [event], barred=[event.meta.stream]).put_aside) == 1


class Forgotten(Event, name="Forgotten", version=1, erases=True):
    """The owner's data is erased."""


def with_forgetting(fold: Any) -> Projection[Any]:
    accounts = bank()
    accounts.on(Forgotten)(fold)
    return accounts


def forget(row: AccountRow | None, e: Forgotten, m: Meta) -> AccountRow | None:
    return row and msgspec.structs.replace(row, owner="[erased]")


def test_what_erases_is_taken_in_by_a_stream_in_quarantine_too() -> None:
    """Otherwise the data would stay until somebody rebuilds."""
    one = target(with_forgetting(forget))
    opened = recorded(Opened(owner="one"), stream_id=ONE, position=1)
    folded(one, [opened])
    changes = folded(
        one,
        [
            recorded(Forgotten(), stream_id=ONE, sequence=3, position=3),
            recorded(Deposited(amount=1), stream_id=ONE, sequence=4, position=4),
        ],
        barred=[opened.meta.stream],
    )
    assert [(row.owner, row.balance) for row in changes.updated] == [("[erased]", 0)]
    assert [aside.event.position for aside in changes.put_aside] == [3, 4]


def test_what_erases_and_does_not_fit_what_is_left_is_only_put_aside() -> None:
    def careless(row: AccountRow | None, e: Forgotten, m: Meta) -> AccountRow:
        assert row is not None
        return row

    event = recorded(Forgotten(), stream_id=ONE)
    changes = folded(target(with_forgetting(careless)), [event], barred=[event.meta.stream])
    assert (len(changes.put_aside), changes.updated, changes.inserted) == (1, [], [])


def bad_projection(row: Any, key: Any) -> Projection[Any]:
    found = Projection("bad", version=1, row=ThingRow, key="thing_id")

    @found.on(Opened, key=key)
    def _opened(before: Any, e: Opened, m: Any) -> Any:
        return row

    return found


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (ThingRow(TWO, (), None), None),
        ("no row", None),
        (None, lambda e, m: ("one", "two")),
        (None, lambda e, m: [m.stream_id, (None,)]),
        (None, lambda e, m: ({},)),
        (None, lambda e, m: e.nothing),
    ],
    ids=["other key", "no row", "too many columns", "none", "unhashable", "raises"],
)
def test_a_handler_that_breaks_the_rules_hurts_only_its_event(row: Any, key: Any) -> None:
    changes = folded(target(bad_projection(row, key)), [recorded(Opened(owner="x"), stream_id=ONE)])
    assert len(changes.put_aside) == 1
    assert (changes.inserted, changes.updated, changes.deleted) == ([], [], [])


def test_a_key_of_none_touches_nothing() -> None:
    changes = folded(
        target(bad_projection("x", lambda e, m: None)), [recorded(Opened(owner="x"), stream_id=ONE)]
    )
    assert (changes.put_aside, changes.inserted) == ([], [])


@given(st.lists(st.lists(st.integers(0, 30), max_size=10), max_size=30), st.integers(1, 8))
def test_the_cache_knows_only_what_was_put_and_always_the_last_batch(
    batches: list[list[int]], size: int
) -> None:
    cache, truth = RowCache(size), dict[Any, Any]()
    previous: list[int] = []
    for number, batch in enumerate(batches):
        cache.turn()
        for key in previous:
            assert cache.get((key,), "missing") == truth[key]
        for key in range(31):
            assert cache.get((key,), "missing") in ("missing", truth.get(key, "missing"))
        truth.update(dict.fromkeys(batch, number))
        cache.put({(key,): number for key in batch})
        previous = batch


@given(st.integers(2, 40))
def test_halves_are_the_whole_in_order(count: int) -> None:
    events = [recorded(Noted(text=""), stream_id=ONE, position=n).meta for n in range(1, count + 1)]
    first, second = halves(Batch(events, 99, True))
    assert first.events + second.events == events
    assert first.events
    assert second.events
    assert (first.position, first.caught_up) == (first.events[-1].position, False)
    assert (second.position, second.caught_up) == (99, True)


def test_read_models_that_stand_together_are_followed_together() -> None:
    targets = [target(bank(), position=position) for position in (0, 90_000, 3, 93_000, 50_000)]
    assert [[one.position for one in group] for group in grouped(targets)] == [
        [93_000, 90_000],
        [50_000],
        [3, 0],
    ]
    assert grouped([]) == []
