"""The numbers of the stock of a large group: all of them, or none."""

from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest

from forecourt.projections import tables
from forecourt.projections.queries import ReadModels, TooManyGroups
from forecourt.testing.given import an_id
from sales import api
from sales.api import QueryStock, query_stock
from sales.read_models import VehicleRow, vehicles

pytestmark = pytest.mark.integration

MODELS, STORES = 60, 20


def car(model: int, store: int, place: str = "in_stock") -> VehicleRow:
    """One of the only cars of a model in a store."""
    name = f"{model} {store} {place}"
    return VehicleRow(
        an_id(name), name, "valid", f"M{model:02}", "red", 2026, place, f"D{store:03}", "passed", (), 0, False,
        None, None, None, None, "hongtong",
    )  # fmt: skip


async def test_all_cars_are_counted_however_many_models_and_stores_there_are(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=3) as pool:
        await tables.migrate(pool, "sales", [vehicles])
        table = tables.Table("sales", vehicles)
        cars = [car(model, store) for model in range(MODELS) for store in range(STORES)]
        cars += [car(0, 0, "delivered"), car(0, 0, "in_transit")]
        await pool.execute(table.upsert_sql, *table.upsert_arrays(cars))
        call = cast(Any, SimpleNamespace(read_models=ReadModels(pool, "sales", [vehicles])))
        lines = (await query_stock(QueryStock(page_size=1), call))["lines"]
        assert len(lines) == MODELS * STORES
        assert sum(line["available"] for line in lines) == MODELS * STORES
        assert (lines[0]["in_transit"], lines[0]["in_stock"]) == (1, 1)
        monkeypatch.setattr(api, "STOCK_GROUPS", 100)
        with pytest.raises(TooManyGroups):
            await query_stock(QueryStock(), call)
        assert len((await query_stock(QueryStock(store="D001"), call))["lines"]) == MODELS
