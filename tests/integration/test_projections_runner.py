"""The runner of projections on real PostgreSQL: what it writes, what it survives."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from forecourt.projections import follower as following
from tests.integration.projection_shop import (
    Bank,
    Deposited,
    Noted,
    Opened,
    account,
    bank,
    eventually,
    flows,
    journal,
    open_bank,
    running,
    some_history,
)

pytestmark = pytest.mark.integration


@pytest.fixture
async def shop(database_url: str) -> AsyncIterator[Bank]:
    async with open_bank(database_url) as opened:
        yield opened


async def tell_history(shop: Bank, accounts: range) -> int:
    position = 0
    for account_id, events in some_history(shop, accounts):
        position = await shop.tell(account_id, *events)
    return position


async def test_events_become_rows_and_the_checkpoint_moves_with_them(shop: Bank) -> None:
    async with running(shop.runner(bank(), journal(), flows())):
        position = await tell_history(shop, range(1, 30))
        await shop.reached(position, "account", "entry", "flow")
    assert len(await shop.rows("account")) == 25
    row = await shop.pool.fetchrow("SELECT * FROM bank.account WHERE account_id = $1", account(3))
    assert (row["owner"], row["balance"], row["tags"]) == ("owner 3", 3, ["a,b", 'c"d\\e', "中文"])
    assert row["limit"] == '{"amount":"10.50","currency":"CNY"}'
    # 5 sent 3 to 4.
    assert await shop.pool.fetchval("SELECT balance FROM bank.account WHERE account_id = $1", account(4)) == 7
