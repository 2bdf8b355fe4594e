"""Queries on read models: conditions, pages, groups, scope, freshness, and what they refuse."""

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from itertools import product
from typing import Any, Literal
from unittest.mock import Mock
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forecourt import connections
from forecourt.access.scope import Scope
from forecourt.errors import InvalidInput, Unavailable
from forecourt.privacy.keys import MemoryKeys
from forecourt.projections import freshness, tables
from forecourt.projections.paging import PageTokens, orders_of
from forecourt.projections.projection import Index, Owned, OwnedThrough, Projection, UndeclaredOwner, Unowned
from forecourt.projections.queries import (
    NotYetThere,
    PageRequest,
    ReadModels,
    TooManyGroups,
    UnknownColumn,
    Where,
    all_,
    any_,
    any_of,
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
)
from forecourt.projections.scoping import with_owners
from forecourt.service import Service
from forecourt.testing.probes import poll_async
from forecourt.values import Money
from tests.integration.projection_shop import Opened, account, bank, open_bank, running

pytestmark = pytest.mark.integration

DAY = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class CarRow(msgspec.Struct, frozen=True):
    car_id: UUID
    name: str
    note: str | None
    doors: int
    price: Decimal
    weight: float | None
    sold: bool
    since: date
    seen_at: datetime
    tags: tuple[str, ...]
    deposit: Money | None
    stage: Literal["new", "won", "lost"]
    size: Size | None
    dealer_id: str
    brand: str


cars = Projection("car", version=1, row=CarRow, key="car_id", indexes=[Index(("name",), trigram=True)])


class PairRow(msgspec.Struct, frozen=True):
    left: UUID
    right: str
    order: int


pairs = Projection(
    "pair", version=1, row=PairRow, key=("left", "right"), owner=Unowned("a pair says nothing about anybody")
)


class SharedRow(msgspec.Struct, frozen=True):
    box_id: UUID
    dealer_id: str
    brand: str
    shared_with: tuple[str, ...]


class ThingRow(msgspec.Struct, frozen=True):
    thing_id: UUID
    box_id: UUID
    brand: str


boxes = Projection("box", version=1, row=SharedRow, key="box_id")
things = Projection("thing", version=1, row=ThingRow, key="thing_id", owner=OwnedThrough(boxes, "box_id"))
parts = Projection("part", version=1, row=ThingRow, key="thing_id", owner=OwnedThrough(things, "box_id"))


class RemarkRow(msgspec.Struct, frozen=True):
    remark_id: UUID
    dealer_id: str
    brand: str


remarks = Projection("remark", version=1, row=RemarkRow, key="remark_id", owner=Owned(unbranded=True))

NAMES = ("Audi", "audi", "BMW 100%", "Bulli_2", "Chery", "红旗", "红 旗", "O'Hara", 'Q"7', "back\\slash")


def car(number: int, **changed: Any) -> CarRow:
    row = CarRow(
        account(number),
        NAMES[number % len(NAMES)],
        None if number % 3 else f"note {number}",
        number % 4,
        Decimal(number) / 4,
        None if number % 5 == 0 else number / 8,
        number % 2 == 0,
        date(2026, 1, 1 + number % 28),
        DAY + timedelta(hours=number % 7),
        ("a,b", 'c"d') if number % 4 == 0 else (),
        Money(amount=Decimal("9.50"), currency="CNY") if number % 6 == 0 else None,
        ("new", "won", "lost")[number % 3],
        (Size.SMALL, Size.LARGE, None)[number % 3],
        f"D00{number % 3}",
        "hongtong" if number % 2 else "chery",
    )
    return msgspec.structs.replace(row, **changed)


ROWS = [car(number) for number in range(60)]
REMARKS = [
    RemarkRow(account(number), dealer, brand)
    for number, (dealer, brand) in enumerate(product(("", "D000", "D001", "D002"), ("", "hongtong", "chery")))
]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Any]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as opened:
        await tables.migrate(opened, "lot", [cars, pairs, remarks])
        await _stored(opened, cars, *ROWS)
        await _stored(opened, remarks, *REMARKS)
        yield opened


@pytest.fixture
async def rm(pool: Any) -> AsyncIterator[ReadModels]:
    read_models = ReadModels(pool, "lot", [cars, pairs, remarks])
    yield read_models
    await read_models.close()


async def test_a_row_comes_back_as_it_was_written(rm: ReadModels) -> None:
    for row in ROWS[:12]:
        assert await rm.get(cars, row.car_id) == row
    assert await rm.get(cars, account(999)) is None


async def test_a_row_is_found_by_a_key_that_was_text(rm: ReadModels) -> None:
    assert await rm.get(cars, str(ROWS[3].car_id)) == ROWS[3]
    with pytest.raises(InvalidInput) as refused:
        await rm.get(cars, "no-such-id")
    assert refused.value.fields == {"car_id": "is not a uuid"}


async def test_many_rows_by_key(rm: ReadModels) -> None:
    found = await rm.get_many(cars, [ROWS[1].car_id, ROWS[2].car_id, account(999)])
    assert found == {ROWS[1].car_id: ROWS[1], ROWS[2].car_id: ROWS[2]}
    assert await rm.get_many(cars, []) == {}


async def test_a_key_of_two_columns(rm: ReadModels, pool: Any) -> None:
    rows = [PairRow(account(1), "x", 1), PairRow(account(1), "y", 2), PairRow(account(2), "x", 3)]
    table = tables.Table("lot", pairs)
    await pool.execute(table.upsert_sql, *table.upsert_arrays(rows))
    assert await rm.get(pairs, (account(1), "y")) == rows[1]
    found = await rm.get_many(pairs, [(account(1), "x"), (account(2), "y"), (account(2), "x")])
    assert found == {(account(1), "x"): rows[0], (account(2), "x"): rows[2]}


def _like(pattern: str) -> Any:
    return lambda row: pattern.lower() in row.name.lower()


CASES: list[tuple[Where, Any]] = [
    (eq("name", "Audi"), lambda r: r.name == "Audi"),
    (eq("name", "O'Hara"), lambda r: r.name == "O'Hara"),
    (eq("note", None), lambda r: False),
    (ne("note", "note 3"), lambda r: r.note != "note 3"),
    (ne("note", None), lambda r: r.note is not None),
    (lt("doors", 2), lambda r: r.doors < 2),
    (le("price", Decimal("2.5")), lambda r: r.price <= Decimal("2.5")),
    (gt("seen_at", DAY + timedelta(hours=3)), lambda r: r.seen_at > DAY + timedelta(hours=3)),
    (ge("since", date(2026, 1, 20)), lambda r: r.since >= date(2026, 1, 20)),
    (any_of("doors", [1, 3]), lambda r: r.doors in (1, 3)),
    (any_of("doors", []), lambda r: False),
    (any_of("dealer_id", frozenset({"D001"})), lambda r: r.dealer_id == "D001"),
    (is_null("weight"), lambda r: r.weight is None),
    (not_null("weight"), lambda r: r.weight is not None),
    (eq("size", Size.LARGE), lambda r: r.size is Size.LARGE),
    (eq("size", "large"), lambda r: r.size is Size.LARGE),
    (eq("stage", "won"), lambda r: r.stage == "won"),
    (eq("sold", True), lambda r: r.sold),
    (contains("tags", "a,b"), lambda r: "a,b" in r.tags),
    (contains("tags", "a"), lambda r: False),
    (ilike("name", "%udi%"), _like("udi")),
    (ilike("name", "%红%"), _like("红")),
    (ilike("name", f"%{like_literal('100%')}%"), _like("100%")),
    (ilike("name", f"%{like_literal('i_')}%"), _like("i_")),
    (ilike("name", f"%{like_literal(chr(92))}%"), _like("\\")),
    (any_(eq("doors", 1), eq("doors", 2)), lambda r: r.doors in (1, 2)),
    (any_(), lambda r: False),
    (all_(), lambda r: True),
    (
        any_(all_(eq("doors", 1), eq("sold", True)), is_null("note")),
        lambda r: (r.doors == 1 and r.sold) or not r.note,
    ),
]


@pytest.mark.parametrize(("condition", "expected"), CASES, ids=[str(number) for number in range(len(CASES))])
async def test_a_condition_finds_what_it_says(rm: ReadModels, condition: Where, expected: Any) -> None:
    found = await rm.all(cars, where=[condition])
    assert {row.car_id for row in found} == {row.car_id for row in ROWS if expected(row)}
    assert await rm.total(cars, where=[condition]) == len(found)


@pytest.mark.parametrize(
    ("condition", "column"),
    [
        (eq("doors", "many"), "doors"),
        (eq("doors", 2**63), "doors"),
        (eq("name", "a\x00b"), "name"),
        (eq("name", "\ud800"), "name"),
        (eq("seen_at", "yesterday"), "seen_at"),
        (eq("seen_at", datetime(2026, 1, 1)), "seen_at"),  # noqa: DTZ001
        (eq("stage", "gone"), "stage"),
        (any_of("car_id", ["x"]), "car_id"),
        (contains("tags", "\x00"), "tags"),
        (ilike("name", "100\\"), "name"),
    ],
)
async def test_a_value_that_fits_no_column_is_refused_by_name(
    rm: ReadModels, condition: Where, column: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await rm.all(cars, where=[condition])
    assert set(refused.value.fields) == {column}


@pytest.mark.parametrize(
    "condition",
    [
        eq("nope", 1),
        eq("tags", "a"),
        eq("deposit", 1),
        contains("name", "a"),
        ilike("doors", "%"),
        eq('a" OR 1=1', 1),
    ],
)
async def test_a_query_that_the_table_cannot_answer_is_a_mistake(rm: ReadModels, condition: Where) -> None:
    with pytest.raises(UnknownColumn):
        await rm.all(cars, where=[condition])


async def test_unknown_columns_in_order_groups_and_sums_are_a_mistake(rm: ReadModels) -> None:
    for query in (
        rm.page(cars, order=["-nope"]),
        rm.page(cars, order=["deposit"]),
        rm.count(cars, by=["nope"]),
        rm.count(cars, sum=["name"]),
    ):
        with pytest.raises(UnknownColumn):
            await query


async def test_another_services_read_model_is_a_mistake(rm: ReadModels) -> None:
    with pytest.raises(ValueError, match="is not one of service lot"):
        await rm.get(bank(), account(1))


ORDERS = st.lists(
    st.sampled_from(
        ["name", "note", "doors", "price", "weight", "sold", "since", "seen_at", "stage", "size"]
    ).flatmap(lambda name: st.sampled_from([name, f"-{name}"])),
    max_size=3,
    unique_by=lambda name: name.removeprefix("-"),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(order=ORDERS, size=st.integers(1, 25), key=st.sampled_from(["car_id", "-car_id", ""]))
def test_pages_are_all_rows_once_in_order(database_url: str, order: list[str], size: int, key: str) -> None:
    asyncio.run(_pages_are_all_rows(database_url, [*order, *([key] if key else [])], size))


async def _pages_are_all_rows(database_url: str, order: list[str], size: int) -> None:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool:
        await tables.migrate(pool, "lot", [cars])
        table = tables.Table("lot", cars)
        await pool.execute(table.upsert_sql, *table.upsert_arrays(ROWS))
        rm = ReadModels(pool, "lot", [cars])
        whole = await rm.all(cars, order=order)
        found: list[CarRow] = []
        token = ""
        while True:
            page = await rm.page(cars, order=order, page=PageRequest(size, token))
            assert len(page.items) <= size
            found += page.items
            token = page.next_page_token
            if not token:
                break
            assert len(page.items) == size
        assert found == whole
        assert len(found) == len(ROWS)


async def test_pages_hold_under_writes_between_them(rm: ReadModels, pool: Any) -> None:
    first = await rm.page(cars, order=["-price"], page=PageRequest(10))
    await pool.execute(
        "DELETE FROM lot.car_v1 WHERE car_id = ANY($1::uuid[])", [r.car_id for r in first.items]
    )
    second = await rm.page(cars, order=["-price"], page=PageRequest(10, first.next_page_token))
    assert [row.price for row in second.items] == [Decimal(n) / 4 for n in range(49, 39, -1)]


async def test_a_page_has_50_rows_by_default_and_500_at_most(rm: ReadModels) -> None:
    assert len((await rm.page(cars)).items) == 50
    for size in (-1, 501):
        with pytest.raises(InvalidInput) as refused:
            await rm.page(cars, page=PageRequest(size))
        assert set(refused.value.fields) == {"page_size"}


async def test_scan_goes_through_all_rows(rm: ReadModels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forecourt.projections.queries.MAX_SIZE", 7)
    found = [row async for row in rm.scan(cars, where=[ge("doors", 1)], order=["name"])]
    assert len(found) == 45


async def test_a_token_goes_on_with_the_bound_that_moved(rm: ReadModels) -> None:
    """What is due until now stays the same question a second later."""
    page = await rm.page(cars, where=[le("seen_at", DAY + timedelta(hours=5))], page=PageRequest(5))
    request = PageRequest(5, page.next_page_token)
    assert (await rm.page(cars, where=[le("seen_at", DAY + timedelta(hours=6))], page=request)).items


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    token=st.one_of(
        st.text(min_size=1), st.binary(min_size=1).map(lambda b: b.hex()), st.text("AZaz09-_=", min_size=1)
    )
)
async def test_a_malformed_token_is_refused(rm: ReadModels, token: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await rm.page(cars, page=PageRequest(5, token))
    assert set(refused.value.fields) == {"page_token"}


@pytest.mark.parametrize(
    "values",
    [
        ["x"],
        ["x", "no uuid"],
        [None, str(account(1))],
        ["x\x00", str(account(1))],
        [{"a": 1}, str(account(1))],
    ],
)
async def test_a_token_with_values_that_do_not_fit_is_refused(values: list[Any]) -> None:
    tokens, orders = PageTokens(), orders_of(tables.Table("lot", cars), ["name"])
    fitting = await tokens.write("query", ["x", account(1)])
    assert await tokens.read(fitting, "query", orders) == ["x", account(1)]
    with pytest.raises(InvalidInput) as refused:
        await tokens.read(await tokens.write("query", values), "query", orders)
    assert set(refused.value.fields) == {"page_token"}


async def test_a_token_is_read_by_all_processes_with_the_same_keys_and_by_nobody_else(pool: Any) -> None:
    keys, others = MemoryKeys(), MemoryKeys()
    one, same, another = (ReadModels(pool, "lot", [cars], hashes=each) for each in (keys, keys, others))
    first = await one.page(cars, order=["name"], page=PageRequest(5))
    request = PageRequest(5, first.next_page_token)
    found = await same.page(cars, order=["name"], page=request)
    assert [*first.items, *found.items] == await one.all(cars, order=["name"], limit=10)
    for elsewhere in (another, ReadModels(pool, "lot", [cars])):
        with pytest.raises(InvalidInput) as refused:
            await elsewhere.page(cars, order=["name"], page=request)
        assert set(refused.value.fields) == {"page_token"}


async def test_a_token_tells_nothing_of_its_row(rm: ReadModels) -> None:
    """Tokens are written into logs of clients, and rows may be ordered by names of persons."""
    page = await rm.page(cars, order=["name"], page=PageRequest(5))
    last, token = page.items[-1], page.next_page_token
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert last.name.encode() not in raw
    assert str(last.car_id).encode() not in raw
    again = await rm.page(cars, order=["name"], page=PageRequest(5))
    assert again.next_page_token != token


async def test_a_token_that_was_altered_or_is_of_another_query_is_refused(rm: ReadModels) -> None:
    page = await rm.page(cars, order=["name"], page=PageRequest(5))
    token = page.next_page_token
    altered = token[:20] + ("A" if token[20] != "A" else "B") + token[21:]
    for forged in (altered, token[:-4], token[:8], "A" * 5_000):
        with pytest.raises(InvalidInput) as refused:
            await rm.page(cars, order=["name"], page=PageRequest(5, forged))
        assert set(refused.value.fields) == {"page_token"}
    for query in ({"order": ["-name"]}, {"order": ["name"], "where": [eq("doors", 1)]}):
        with pytest.raises(InvalidInput):
            await rm.page(cars, page=PageRequest(5, page.next_page_token), **query)


async def test_groups_and_sums(rm: ReadModels) -> None:
    found = await rm.count(cars, by=["stage", "size"], sum=["price", "doors"], where=[eq("sold", True)])
    wanted: dict[tuple[str, Any], list[Any]] = {}
    for row in ROWS:
        if row.sold:
            group = wanted.setdefault((row.stage, row.size), [0, Decimal(0), 0])
            wanted[row.stage, row.size] = [group[0] + 1, group[1] + row.price, group[2] + row.doors]
    assert {(g["stage"], g["size"]): [g["count"], g["price"], g["doors"]] for g in found} == wanted
    assert await rm.count(cars, sum=["price"], where=[eq("name", "nobody")]) == [{"count": 0, "price": 0}]


async def test_a_count_of_more_groups_than_fit_is_refused_instead_of_cut_off(rm: ReadModels) -> None:
    assert len(await rm.count(cars, by=["car_id"], limit=len(ROWS))) == len(ROWS)
    with pytest.raises(TooManyGroups):
        await rm.count(cars, by=["car_id"], limit=len(ROWS) - 1)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    dealers=st.none() | st.frozensets(st.sampled_from(["D000", "D001", "D002", "D999"])),
    brands=st.none() | st.frozensets(st.sampled_from(["hongtong", "chery"])),
)
async def test_a_scope_hides_what_is_others(
    rm: ReadModels, dealers: frozenset[str] | None, brands: frozenset[str] | None
) -> None:
    """By every query: nothing of another store is readable, listable or countable."""
    scope = Scope(dealers, brands)
    mine = rm.within(scope)
    seen = {
        row.car_id: row
        for row in ROWS
        if (dealers is None or row.dealer_id in dealers) and (brands is None or row.brand in brands)
    }
    keys = [row.car_id for row in ROWS]
    assert await mine.get_many(cars, keys) == seen
    assert {
        row.car_id for row in await mine.all(cars, where=[any_(eq("sold", True), eq("sold", False))])
    } == set(seen)
    assert await mine.total(cars) == len(seen)
    assert [row async for row in mine.scan(cars)] == sorted(seen.values(), key=lambda row: row.car_id)
    for row in ROWS[:6]:
        assert (await mine.get(cars, row.car_id) is not None) == (row.car_id in seen)
    assert rm.scope == Scope()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    dealers=st.none() | st.frozensets(st.sampled_from(["D000", "D001", "D002", "D999"])),
    brands=st.none() | st.frozensets(st.sampled_from(["hongtong", "chery"])),
)
async def test_what_has_no_brand_is_its_whole_dealers_and_no_manufacturers(
    rm: ReadModels, dealers: frozenset[str] | None, brands: frozenset[str] | None
) -> None:
    mine = rm.within(Scope(dealers, brands))
    seen = {row.remark_id for row in REMARKS if may_see(row, dealers, brands)}
    assert {row.remark_id for row in await mine.all(remarks)} == seen
    assert set(await mine.get_many(remarks, [row.remark_id for row in REMARKS])) == seen
    assert await mine.total(remarks) == len(seen)


def may_see(row: RemarkRow, dealers: frozenset[str] | None, brands: frozenset[str] | None) -> bool:
    """Whether a row that may be without a brand is in a scope, in other words than those of the program."""
    if dealers is None:
        return brands is None or row.brand in brands
    if row.dealer_id not in dealers:
        return False
    return row.brand == "" or brands is None or row.brand in brands


async def test_a_scope_does_not_touch_rows_that_are_everybodys(rm: ReadModels, pool: Any) -> None:
    table = tables.Table("lot", pairs)
    await pool.execute(table.upsert_sql, *table.upsert_arrays([PairRow(account(1), "x", 1)]))
    assert await rm.within(Scope(frozenset(), frozenset())).total(pairs) == 1


async def _stored(pool: Any, projection: Projection[Any], *rows: Any) -> None:
    table = tables.Table("lot", projection)
    await pool.execute(table.upsert_sql, *table.upsert_arrays(list(rows)))


async def test_what_is_shared_is_seen_and_what_hangs_on_it_too(pool: Any, database_url: str) -> None:
    await tables.migrate(pool, "lot", [boxes, things, parts])
    rm = ReadModels(pool, "lot", [boxes, things, parts])
    mine, shared, foreign = (SharedRow(account(n), "D001", "hongtong", ()) for n in range(3))
    shared = msgspec.structs.replace(shared, dealer_id="D002", shared_with=("D003", "D001"))
    foreign = msgspec.structs.replace(foreign, dealer_id="D002", shared_with=("D003",))
    await _stored(pool, boxes, mine, shared, foreign)
    held = [ThingRow(account(10 + n), account(n), "hongtong") for n in range(3)]
    other_brand = ThingRow(account(20), account(0), "chery")
    await _stored(pool, things, *held, other_brand)
    await _stored(pool, parts, *(ThingRow(account(30 + n), account(10 + n), "hongtong") for n in range(3)))
    seen = rm.within(Scope(frozenset({"D001"}), frozenset({"hongtong"})))
    assert {row.box_id for row in await seen.all(boxes)} == {account(0), account(1)}
    assert {row.thing_id for row in await seen.all(things)} == {account(10), account(11)}
    assert {row.thing_id for row in await seen.all(parts)} == {account(30), account(31)}
    assert await seen.total(things) == 2
    assert await rm.within(Scope(None, frozenset({"chery"}))).total(things) == 0
    assert await rm.total(things) == 4
    assert with_owners([parts, boxes]) == (parts, things, boxes)


async def test_rows_may_be_their_owners_and_those_of_another_row(pool: Any) -> None:
    class NoteRow(msgspec.Struct, frozen=True):
        note_id: UUID
        box_id: UUID
        dealer_id: str
        brand: str

    notes = Projection(
        "note", version=1, row=NoteRow, key="note_id", owner=Owned(also=OwnedThrough(boxes, "box_id"))
    )
    await tables.migrate(pool, "lot", [boxes, notes])
    await _stored(pool, boxes, *(SharedRow(account(n), f"D00{n}", "hongtong", ()) for n in range(3)))
    written = [
        NoteRow(account(10 + box), account(box), dealer, brand)
        for box, dealer, brand in (
            (0, "D001", "hongtong"),
            (1, "D002", "hongtong"),
            (2, "D002", "hongtong"),
        )
    ]
    await _stored(pool, notes, *written, NoteRow(account(20), account(1), "D001", "chery"))
    rm = ReadModels(pool, "lot", [boxes, notes])
    seen = rm.within(Scope(frozenset({"D001"}), frozenset({"hongtong"})))
    assert {row.note_id for row in await seen.all(notes)} == {account(10), account(11)}
    assert await rm.within(Scope(None, frozenset({"hongtong"}))).total(notes) == 3
    assert with_owners([notes]) == (notes, boxes)


async def test_rows_whose_owner_is_not_declared_are_shown_to_nobody_with_a_scope(rm: ReadModels) -> None:
    class LooseRow(msgspec.Struct, frozen=True):
        loose_id: UUID
        dealer_id: str

    loose = Projection("loose", version=1, row=LooseRow, key="loose_id")
    asked = ReadModels(None, "lot", [loose], scope=Scope(frozenset({"D001"})))
    with pytest.raises(UndeclaredOwner):
        await asked.all(loose)
    with pytest.raises(UndeclaredOwner):
        Service(name="lot", deciders=[], projections=[loose])


async def test_a_read_model_that_is_not_there_is_unavailable(pool: Any) -> None:
    elsewhere = ReadModels(pool, "elsewhere", [cars])
    for query in (elsewhere.get(cars, account(1)), elsewhere.position(cars)):
        with pytest.raises(Unavailable):
            await query


async def test_what_you_wrote_you_read(database_url: str) -> None:
    accounts = bank()
    async with open_bank(database_url) as shop, running(shop.runner(accounts)):
        read_models = ReadModels(shop.pool, "bank", [accounts])
        await shop.reached(await shop.tell(account(0), Opened(owner="zero")), "account")
        for number in range(1, 60):
            position = await shop.tell(account(number), Opened(owner=f"owner {number}"))
            await read_models.wait_for(accounts, position, 10)
            row = await read_models.get(accounts, account(number))
            assert row is not None
            assert row.owner == f"owner {number}"
        await read_models.close()


async def test_many_wait_at_once(database_url: str) -> None:
    accounts = bank()
    async with open_bank(database_url, connections=20) as shop, running(shop.runner(accounts)):
        read_models = ReadModels(shop.pool, "bank", [accounts])
        await shop.reached(await shop.tell(account(0), Opened(owner="zero")), "account")

        async def write_and_read(number: int) -> None:
            position = await shop.tell(account(number), Opened(owner=str(number)))
            await read_models.wait_for(accounts, position, 20)
            assert await read_models.get(accounts, account(number)) is not None

        await asyncio.gather(*(write_and_read(number) for number in range(1, 80)))
        await read_models.close()


async def test_waiting_ends_with_an_error_that_says_so(database_url: str) -> None:
    accounts = bank()
    async with open_bank(database_url) as shop:
        await tables.migrate(shop.pool, "bank", [accounts])
        position = await shop.tell(account(1), Opened(owner="one"))
        read_models = ReadModels(shop.pool, "bank", [accounts])
        with pytest.raises(NotYetThere) as refused:
            await read_models.wait_for(accounts, position, 0.2)
        assert set(refused.value.fields) == {"after-position"}
        await read_models.close()


async def test_waiting_works_although_its_listener_was_cut(database_url: str) -> None:
    accounts = bank()
    async with open_bank(database_url) as shop, running(shop.runner(accounts)):
        read_models = ReadModels(shop.pool, "bank", [accounts])
        await shop.reached(await shop.tell(account(0), Opened(owner="zero")), "account")
        cut = 0
        for number in range(1, 9):
            position = await shop.tell(account(number), Opened(owner="x"))
            await read_models.wait_for(accounts, position, 20)
            cut += await shop.pool.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND datname = current_database() AND query ILIKE 'LISTEN%bank_projection%'"
            )
        assert cut
        await read_models.close()


async def test_the_listener_for_read_models_tells_of_what_nobody_foresaw_and_goes_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, listen = Mock(), freshness.Positions._listen_once

    async def fail_once(positions: freshness.Positions) -> None:
        if not log.exception.called:
            raise ValueError("a mistake")
        await listen(positions)

    monkeypatch.setattr(freshness.Positions, "_listen_once", fail_once)
    monkeypatch.setattr(connections, "log", log)
    monkeypatch.setattr(freshness, "LISTENING_LOOK_SECONDS", 0.01)
    accounts = bank()
    async with open_bank(database_url) as shop:
        await tables.migrate(shop.pool, "bank", [accounts])
        read_models = ReadModels(shop.pool, "bank", [accounts])
        with pytest.raises(NotYetThere):
            await read_models.wait_for(accounts, 1, 0.01)
        await poll_async(lambda: read_models._positions._listening)
        await read_models.close()
    log.exception.assert_called_once()
