"""How many messages wait for somebody: asked every few seconds, so without a look at all that were ever sent."""

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from forecourt.projections import tables
from forecourt.projections.queries import ReadModels
from forecourt.testing.given import NOW
from notify.read_models import DEAD_LETTERS, NotificationRow, notifications

pytestmark = pytest.mark.integration


def message(number: int, state: str, why: str = "") -> NotificationRow:
    """A message in a state."""
    values: dict[str, Any] = {
        field.name: {str: "", int: 0, UUID: uuid4()}.get(field.type, NOW)
        for field in msgspec.structs.fields(NotificationRow)
    }
    return NotificationRow(**{**values, "channel": ("sms", "email")[number % 2], "state": state, "why": why})


async def test_dead_letters_are_counted_by_their_reason_with_an_index(database_url: str) -> None:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=2) as pool:
        await tables.migrate(pool, "notify", [notifications])
        table = tables.Table("notify", notifications)
        rows = [message(number, "delivered") for number in range(5_000)]
        rows += [message(number, "dead", "refused") for number in range(4)] + [message(0, "dead", "expired")]
        await pool.execute(table.upsert_sql, *table.upsert_arrays(rows))
        await pool.execute(f"ANALYZE {table.full_name}")
        asked: list[tuple[Any, ...]] = []

        class Noted:
            """The pool, and what it was asked."""

            async def fetch(self, *query: Any) -> Any:
                asked.append(query)
                return await pool.fetch(*query)

        counted = await ReadModels(Noted(), "notify").count(notifications, by=["why"], where=DEAD_LETTERS)
        assert counted == [{"why": "expired", "count": 1}, {"why": "refused", "count": 4}]
        ((sql, *values),) = asked
        plan = "\n".join(row[0] for row in await pool.fetch(f"EXPLAIN {sql}", *values))
        assert "Index" in plan, plan
        assert "Seq Scan" not in plan, plan
