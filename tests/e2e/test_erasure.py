"""A customer who is erased is gone from every table, every event and every queue, and what is counted stays."""

import asyncio
import os
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from kombu import Connection, Exchange, Queue

from crm.service_desk.v1 import care_pb2
from forecourt.discovery import find_services
from forecourt.messaging.cloudevents import EXCHANGE
from forecourt.projections.rebuild import Rebuild
from forecourt.runtime import Runtime
from forecourt.testing.probes import poll_async
from service_desk.return_visit import FORMS
from tests.e2e.house import House
from tests.e2e.stories import MODEL, REPAIR_LINES, SALE_LINES, VINS, receive_car

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

NAME, TYPED, PHONE, MAIL, NOTE = (
    "欧阳焚书",
    "186 2222 7531",
    "+8618622227531",
    "ouyang.fenshu@example.com",
    "allergic to leather, Fenshu",
)
CARD, FORMER_CARD = "440524188001010014", "11010519491231002X"
"""The numbers of an identity card, and of the one that was recorded by mistake before it."""
TYPED_CARD = "440524 18800101 0014"
MASKED_CARD = "**************0014"
VALUES = (
    *(NAME, TYPED, PHONE, "18622227531", MAIL, NOTE, "Fenshu", "fenshu"),
    *(CARD, TYPED_CARD, MASKED_CARD, CARD[-8:], FORMER_CARD),
)


async def fingerprint_of(house: House, customer_id: str) -> str:
    """The keyed hash of a customer's document, which only the read model has in clear."""
    [row] = await house.sql(
        "SELECT fingerprint FROM customer.identity_document WHERE customer_id::text = $1", customer_id
    )
    fingerprint = str(row["fingerprint"])
    [holder] = await found_in(house.database_url, [fingerprint])
    assert holder.startswith("customer.identity_document")
    return fingerprint


async def found_in(url: str, values: Iterable[str] = VALUES) -> dict[str, list[str]]:
    """The tables that hold one of the person's values in any column, with the values."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        found: dict[str, list[str]] = {}
        for table in tables:
            for value in values:
                # JSON may spell what is not ASCII in escapes.
                escaped = value.encode("unicode_escape").decode()
                count = await connection.fetchval(
                    f"SELECT count(*) FROM {table['name']} t"
                    " WHERE strpos(t::text, $1) > 0 OR strpos(t::text, $2) > 0",
                    value,
                    escaped,
                )
                if count:
                    found.setdefault(table["name"], []).append(value)
        return found
    finally:
        await connection.close()


def bind_spy(uri: str) -> None:
    """A queue that gets every message of the platform."""
    with Connection(uri) as connection:
        exchange = Exchange(EXCHANGE, "topic", durable=True, no_declare=True)
        Queue("spy", exchange, "#", durable=True, channel=connection.default_channel).declare()


def overheard(uri: str) -> list[str]:
    """What the spy got."""
    with Connection(uri) as connection:
        queue, found = Queue("spy", channel=connection.default_channel), []
        while (message := queue.get(no_ack=True)) is not None:
            body = message.body
            found.append(
                f"{message.delivery_info} {message.headers} "
                f"{body if isinstance(body, str) else bytes(body).decode()}"
            )
        queue.delete()
        return found


async def registered(house: House) -> tuple[Any, str]:
    """A customer with a lead and a message, known to every service; who registered, and the customer's id."""
    amy = house.client("amy")
    answer = await amy(
        "customer.RegisterCustomer",
        kind="CUSTOMER_KIND_PROSPECT",
        name=NAME,
        source="walk-in",
        contact_points=[
            {"kind": "CONTACT_KIND_MOBILE", "value": TYPED},
            {"kind": "CONTACT_KIND_EMAIL", "value": MAIL},
        ],
    )
    await amy(
        "customer.LogInteraction",
        customer_id=answer.id,
        channel="INTERACTION_CHANNEL_CALL",
        direction="DIRECTION_INBOUND",
        subject="seats",
        note=NOTE,
    )
    for number in (FORMER_CARD, TYPED_CARD):
        await amy(
            "customer.RecordIdentityDocument",
            customer_id=answer.id,
            kind="IDENTITY_DOCUMENT_KIND_RESIDENT_IDENTITY_CARD",
            number=number,
            expires_on="2041-07-23",
        )
    lead = await amy(
        "sales.CaptureLead",
        source="LEAD_SOURCE_PHONE",
        name=NAME,
        phone=TYPED,
        email=MAIL,
        comments=NOTE,
        model="H5",
    )
    await amy("sales.QualifyLead", lead_id=lead.id, customer_id=answer.id)
    await complained(amy, answer.id)
    await repaired(amy, answer.id)
    hour = (await house.now()).replace(minute=0, second=0, microsecond=0)
    await courted_in_vain(amy, answer.id, hour)
    await booked(amy, answer.id, hour)
    await house.settled()
    await asked_afterwards(house, amy, answer.id)
    await house.settled()
    return amy, answer.id


async def complained(amy: Any, customer_id: str) -> None:
    """A complaint in which everything that is written down says something of the customer."""
    received = await amy(
        "service_desk.ReceiveComplaint",
        customer_id=customer_id,
        channel="COMPLAINT_CHANNEL_PHONE",
        severity="SEVERITY_NORMAL",
        subject="seats",
        description=NOTE,
    )
    one = {"complaint_id": received.id}
    await amy("service_desk.AcknowledgeComplaint", **one)
    await amy(
        "service_desk.TriageComplaint", **one, topic="COMPLAINT_TOPIC_VEHICLE", severity="SEVERITY_NORMAL"
    )
    await amy("service_desk.DispatchComplaint", **one, department="DEPARTMENT_SERVICE", owner_id="S-03")
    await amy("service_desk.RecordComplaintAction", **one, action=NOTE)
    await amy("service_desk.ProposeResolution", **one, resolution=NOTE)
    await amy("service_desk.RecordCustomerReply", **one, accepted=True, remarks=NOTE)
    await amy("service_desk.CompleteRevisit", **one, satisfied=True, remarks=NOTE)
    await amy("service_desk.CloseComplaint", **one, result="COMPLAINT_RESULT_RESOLVED")


async def repaired(amy: Any, customer_id: str) -> None:
    """A repair order with every text of the workshop, from a job that was added to rework."""
    opened = await amy(
        "service_desk.OpenRepairOrder",
        customer_id=customer_id,
        vin=next(VINS),
        odometer_km=12_000,
        kind="WORK_KIND_REPAIR",
        symptoms=[NOTE],
        adviser_id="A-01",
    )
    one = {"repair_order_id": opened.id}
    await amy("service_desk.QuoteRepair", **one, lines=REPAIR_LINES)
    await amy("service_desk.DeclineQuote", **one, quote_version=1, reason=NOTE)
    await amy("service_desk.AddJob", **one, description=NOTE)
    await amy("service_desk.QuoteRepair", **one, lines=REPAIR_LINES)
    await amy("service_desk.ApproveQuote", **one, quote_version=2, agreement="AGREEMENT_SIGNATURE")
    await amy("service_desk.DispatchTechnician", **one, technician_id="T-07", bay="B2")
    await amy("service_desk.StartWork", **one)
    await amy("service_desk.CompleteWork", **one)
    await amy("service_desk.FailInspection", **one, inspector_id="T-01", findings=[NOTE])
    await amy(
        "service_desk.RecordRework",
        **one,
        responsibility="RESPONSIBILITY_TECHNICIAN",
        responsible_id="T-07",
        technician_id="T-07",
        instructions=NOTE,
    )


async def courted_in_vain(amy: Any, customer_id: str, now: datetime) -> None:
    """A test drive with an impression, a lost sale, and an order that was cancelled."""
    vin = next(VINS)
    await receive_car(amy, vin)
    opened = await amy("sales.OpenOpportunity", customer_id=customer_id, model=MODEL)
    one = {"opportunity_id": opened.id}
    starts_at = now + timedelta(hours=1)
    drive = await amy("sales.ScheduleTestDrive", **one, vin=vin, starts_at=starts_at)
    await amy("sales.CompleteTestDrive", **one, odometer_km=12, impression=NOTE)
    assert drive.id
    await amy("sales.LoseOpportunity", **one, reason="LOSS_REASON_PRICE", note=NOTE)
    placed = await amy("sales.PlaceOrder", customer_id=customer_id, model=MODEL, lines=SALE_LINES)
    await amy("sales.CancelOrder", order_id=placed.id, reason=NOTE)


async def booked(amy: Any, customer_id: str, now: datetime) -> None:
    """An appointment with remarks, and another one that was called off."""
    vin = next(VINS)
    common = {"customer_id": customer_id, "vin": vin, "kind": "WORK_KIND_REPAIR", "remarks": NOTE}
    await amy("service_desk.BookAppointment", **common, starts_at=now + timedelta(hours=2))
    asked = await amy("service_desk.RequestAppointment", **common, wished_for=now + timedelta(days=1))
    await amy("service_desk.CancelAppointment", appointment_id=asked.id, reason=NOTE)


async def asked_afterwards(house: House, amy: Any, customer_id: str) -> None:
    """The return visit after the complaint, with a remark."""
    await house.set_clock(await house.now() + timedelta(days=8))

    async def due() -> list[Any]:
        found = await amy("service_desk.ListReturnVisits", customer_id=customer_id)
        return [visit for visit in found.return_visits if visit.status == care_pb2.RETURN_VISIT_STATUS_DUE]

    [visit] = await poll_async(due, 30, what="a return visit that is due")
    await amy(
        "service_desk.CompleteReturnVisit",
        return_visit_id=visit.return_visit_id,
        form_version=1,
        answers=[{"question": name, "score": 9} for name in FORMS["complaint", 1]],
        satisfied=True,
        remarks=NOTE,
    )


async def test_an_erased_customer_is_nowhere_to_be_found(house: House) -> None:
    await asyncio.to_thread(bind_spy, house.amqp_uri)
    amy, customer_id = await registered(house)
    before = await found_in(house.database_url)
    holders = {name.partition(".")[0] for name in before}
    assert holders == {"customer", "sales", "service_desk", "notify"}, before
    shown = {name.partition(".")[2].rpartition("_v")[0] for name in before}
    assert shown >= {"opportunity", "order", "appointment", "complaint", "repair_order"}, before
    assert not any(name.startswith("events.") for name in before), before
    assert [
        (name, values) for name, values in before.items() if CARD in values or FORMER_CARD in values
    ] == []
    masked = [name for name, values in before.items() if MASKED_CARD in values]
    assert len(masked) == 1
    assert masked[0].startswith("customer.identity_document")
    fingerprint = await fingerprint_of(house, customer_id)

    await amy("customer.RequestErasure", customer_id=customer_id, reason="ERASURE_REASON_CUSTOMER_REQUEST")
    own = await amy.refused("customer.ApproveErasure", customer_id=customer_id)
    assert own.slug == "self-approval"
    await house.client("bob")("customer.ApproveErasure", customer_id=customer_id)
    await house.settled()

    async def gone() -> bool:
        return not await found_in(house.database_url)

    await poll_async(gone, 30, what="nothing of the person in any table")

    assert not await found_in(house.database_url, [fingerprint])

    messages = await asyncio.to_thread(overheard, house.amqp_uri)
    assert sum("customer.CustomerRegistered" in message for message in messages) == 1
    for value in (*VALUES, fingerprint):
        escaped = value.encode("unicode_escape").decode()
        assert not [message for message in messages if value in message or escaped in message]

    row = await amy.ask("customer.GetCustomer", customer_id=customer_id)
    assert (row.name, row.mobile, row.email) == ("[erased]", "", "")
    leads = await amy.ask("sales.ListLeads")
    assert NAME not in str(leads)
    listed = await amy.ask("customer.ListIdentityDocuments", customer_id=customer_id)
    assert list(listed.documents) == []
    gone_too = await amy.refused(
        "customer.UnmaskIdentityDocument",
        customer_id=customer_id,
        kind="IDENTITY_DOCUMENT_KIND_RESIDENT_IDENTITY_CARD",
        purpose="UNMASK_PURPOSE_INVOICE",
    )
    assert gone_too.code is grpc.StatusCode.NOT_FOUND
    refused = await amy.refused(
        "customer.AddContactPoint", customer_id=customer_id, kind="CONTACT_KIND_MOBILE", value=TYPED
    )
    assert refused.slug == "customer-erased"

    exported, told = await exported_by_command(house, customer_id)
    assert "erased since" in told
    assert "customer.CustomerRegistered" in exported
    assert not [value for value in (*VALUES, fingerprint) if value in exported + told]


async def exported_by_command(house: House, customer_id: str) -> tuple[str, str]:
    """What ``forecourt export`` writes to standard output and to standard error."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "forecourt.cli", "export", customer_id, "--actor", "carol"),
        env={**os.environ, **house.platform.environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    exported, told = await child.communicate()
    assert child.returncode == 0, told.decode()
    return exported.decode(), told.decode()


async def test_the_proof_can_be_checked_against_the_key_store(house: House) -> None:
    connection = await asyncpg.connect(house.database_url)
    try:
        rows = await connection.fetch(
            "SELECT e.data::json->>'fingerprint' AS told, k.fingerprint, k.wrapped,"
            " e.data::json->>'proof' AS proof FROM events.event e JOIN keys.person_key k"
            " ON e.stream = 'customer-' || k.person_id WHERE e.type = 'customer.PersonalDataShredded'"
        )
    finally:
        await connection.close()
    assert len(rows) == 1
    assert rows[0]["told"] == rows[0]["fingerprint"]
    assert rows[0]["wrapped"] is None
    assert len(rows[0]["proof"]) == 64


async def test_what_is_built_anew_after_the_erasure_is_what_was_there(house: House) -> None:
    services = find_services(["customer", "sales", "service_desk", "notify"])
    runtime = await Runtime.open(services, house.platform.settings)
    try:
        for part in runtime.services:
            for projection in part.service.projections:
                work = Rebuild(part.service.name, projection, runtime.store, part.codec, runtime.pool)
                await work.build()
                difference = await work.diff()
                assert difference is not None, projection.name
                assert difference.equal, (projection.name, difference)
    finally:
        await runtime.close()
    found = await found_in(house.database_url)
    assert not found
