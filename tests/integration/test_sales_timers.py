"""The timers of sales: each row whose time has come is acted on, whatever fails about the others."""

import base64
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from forecourt.clock_store import ClockStore
from forecourt.due import act_on_each
from forecourt.platform import Platform
from forecourt.projections import tables
from forecourt.projections.queries import ReadModels, le
from forecourt.testing.given import NOW, an_id
from forecourt.testing.probes import poll_async
from sales.read_models import LeadRow, QuarantinedRow, VehicleRow, leads, quarantined_leads, vehicles
from tests.integration.sales_client import SalesClient
from tests.integration.sales_platform import car_in_stock, new_vin, now
from tests.unit.sales.samples import CUSTOMER, MODEL, a_vin

pytest_plugins = ["tests.integration.sales_fixtures"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def a_car(vin: str, until: datetime) -> VehicleRow:
    """A car that is reserved until then."""
    return VehicleRow(
        uuid4(), vin, "valid", MODEL, "red", 2026, "in_stock", "D001", "passed", (), 0, True, uuid4(), CUSTOMER,
        None, until, "hongtong",
    )  # fmt: skip


def a_lead(lead_id: UUID, unlinked_since: datetime) -> LeadRow:
    """A lead that nobody has linked to a customer since then."""
    return LeadRow(
        lead_id, "captured", "phone", "", MODEL, None, None, "Wang", None, None, None, "", None, None, "D001",
        "hongtong", None, unlinked_since, unlinked_since, (),
    )  # fmt: skip


def a_document(lead_id: UUID, received_at: datetime) -> QuarantinedRow:
    """A document that came then and could not be read."""
    return QuarantinedRow(lead_id, "no prospect", "<adf>", 5, "", "D001", "hongtong", received_at)


async def store(pool: Any, projection: Any, *rows: Any) -> None:
    """Put rows into a read model."""
    table = tables.Table("sales", projection)
    await pool.execute(table.upsert_sql, *table.upsert_arrays(rows))


@pytest.mark.asyncio(loop_scope="module")
async def test_what_cannot_be_acted_on_keeps_no_timer_from_what_falls_due_after_it(
    platform: Platform, seller: SalesClient
) -> None:
    vin = new_vin()
    await car_in_stock(seller, vin)
    await seller("ReserveVehicle", {"vin": vin, "customer_id": str(uuid4())})
    lead = {"source": "LEAD_SOURCE_PHONE", "name": "Ouyang Late", "phone": "13800001111", "model": MODEL}
    lead_id = (await seller("CaptureLead", lead))["id"]
    document = base64.b64encode(b"<adf><name>Ouyang Unread</adf>").decode()
    document_id = (await seller("CaptureAdfLead", {"xml": document}))["id"]
    await seller("ListQuarantinedLeads")
    long_ago = await now(platform) - timedelta(days=1000)
    async with asyncpg.create_pool(platform.environment["DATABASE_URL"], min_size=1, max_size=1) as pool:
        # Rows without events: every command about them is refused, in each run anew.
        await store(pool, vehicles, a_car(a_vin(99_999), long_ago))
        await store(pool, leads, a_lead(uuid4(), long_ago))
        await store(pool, quarantined_leads, a_document(uuid4(), long_ago))
        await ClockStore(pool).advance(timedelta(days=740))

        async def freed() -> bool:
            return not (await seller("GetVehicle", {"vin": vin}))["reserved"]

        async def erased() -> bool:
            return bool((await seller("GetLead", {"lead_id": lead_id}))["name"] == "[erased]")

        async def gone() -> bool:
            return document_id not in str(await seller("ListQuarantinedLeads", {"page_size": 500}))

        for timer, wanted in (
            ("expire_reservations", freed),
            ("expire_unlinked", erased),
            ("expire_quarantined", gone),
        ):
            await poll_async(wanted, 60, what=timer)


async def test_each_row_is_acted_on_though_others_fail_and_a_run_ends(database_url: str) -> None:
    documents = [an_id(f"document {number}") for number in range(20)]
    broken, done = {documents[number] for number in (0, 1, 2, 3, 7)}, list[UUID]()

    async def act(row: QuarantinedRow) -> None:
        if row.lead_id in broken:
            raise LookupError
        done.append(row.lead_id)

    async with asyncpg.create_pool(database_url, min_size=1, max_size=3) as pool:
        await tables.migrate(pool, "sales", [quarantined_leads])
        # Several of one moment, so that a page may end between them.
        rows = [a_document(one, NOW + timedelta(seconds=number // 4)) for number, one in enumerate(documents)]
        await store(pool, quarantined_leads, *rows)
        read_models = ReadModels(pool, "sales", [quarantined_leads])

        async def run(until: datetime) -> None:
            where = [le("received_at", until)]
            await act_on_each(
                read_models, quarantined_leads, act, where=where, order="received_at", rows=3, pages=4
            )

        with pytest.raises(ExceptionGroup) as failed:
            await run(NOW + timedelta(seconds=4))
        assert [type(error) for error in failed.value.exceptions] == [LookupError] * len(broken)
        assert sorted(done) == sorted(set(documents[:12]) - broken)
        broken.clear()
        done.clear()
        await run(NOW)
        assert sorted(done) == sorted(documents[:4])
