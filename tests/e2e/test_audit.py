"""The audit of a running platform: who did what, who was refused, who looked at whom; nothing twice, no values."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from forecourt.access.permissions import permission_of
from forecourt.audit.subjects import persons_in_answers
from forecourt.discovery import find_services
from forecourt.rpc.binding import Kind
from tests.e2e import stories
from tests.e2e.client import METHODS, Client
from tests.e2e.house import NOON, House
from tests.e2e.walk import plausible
from tests.staff import Hats, role_for
from trade.vin import vehicle_id

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

OUTCOMES = {
    "OUTCOME_ACCEPTED": 1,
    "OUTCOME_UNCHANGED": 2,
    "OUTCOME_REFUSED": 3,
    "OUTCOME_READ": 4,
    "OUTCOME_REJECTED": 5,
}
READ, REFUSED, ACCEPTED, REJECTED = (
    OUTCOMES[f"OUTCOME_{name}"] for name in ("READ", "REFUSED", "ACCEPTED", "REJECTED")
)


@pytest.fixture
def seller(house: House) -> Client:
    return house.client("seller")


@pytest.fixture
def auditor(house: House) -> Client:
    return house.client("auditor")


async def entries(auditor: Client, house: House, **conditions: Any) -> list[Any]:
    """What the audit has, the newest first, once it has everything."""
    [(head,)] = await house.sql("SELECT max(position) FROM events.event")
    found = await auditor.ask("audit.ListEntries", after=head, page={"page_size": 500}, **conditions)
    return list(found.entries)


async def test_the_life_of_a_customer_is_told_in_full(house: House, seller: Client, auditor: Client) -> None:
    customer_id = await stories.register(seller)
    change: dict[str, Any] = {"customer_id": customer_id, "category": "CUSTOMER_KIND_BUYER"}
    command_id = str(uuid4())
    for _ in range(3):
        await seller("customer.ChangeCategory", metadata={"command-id": command_id}, **change)
    await seller("customer.ChangeCategory", **change)
    refused = await seller.refused(
        "customer.AddContactPoint", customer_id=customer_id, kind="CONTACT_KIND_MOBILE", value="12345"
    )
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    await seller.ask("customer.GetCustomer", customer_id=customer_id)
    found = await entries(auditor, house, subject=customer_id, actor_id="seller")
    assert [(entry.rpc, entry.outcome) for entry in reversed(found)] == [
        ("customer.RegisterCustomer", ACCEPTED),
        ("customer.ChangeCategory", ACCEPTED),
        ("customer.ChangeCategory", OUTCOMES["OUTCOME_UNCHANGED"]),
        ("customer.AddContactPoint", REFUSED),
        ("customer.GetCustomer", READ),
    ]
    for entry in found:
        assert (entry.actor_id, entry.dealer_id) == ("seller", "D001")
        assert list(entry.roles) == [role_for(permission_of(METHODS[entry.rpc]))]
        assert list(entry.dealers) == ["D001"]
        assert entry.count == 1
    assert found[3].event_type == "customer.CategoryChanged"
    assert found[3].correlation_id == command_id
    assert (found[1].code, found[1].slug) == ("INVALID_ARGUMENT", "invalid-input")


async def test_what_was_done_for_a_customer_is_found_under_the_customer(
    house: House, seller: Client, auditor: Client
) -> None:
    customer_id, vin = await stories.register(seller), next(stories.VINS)
    await stories.receive_car(seller, vin)
    order = await seller(
        "sales.PlaceOrder", customer_id=customer_id, model=stories.MODEL, lines=stories.SALE_LINES
    )
    await seller("sales.ReserveVehicle", vin=vin, customer_id=customer_id)
    await stories.repair(seller, house.client("inspector"), customer_id, vin)
    received = await seller(
        "service_desk.ReceiveComplaint",
        customer_id=customer_id,
        channel="COMPLAINT_CHANNEL_PHONE",
        severity="SEVERITY_NORMAL",
        subject="Noise",
        description="It rattles.",
    )
    await seller(
        "service_desk.BookAppointment",
        customer_id=customer_id,
        vin=vin,
        kind="WORK_KIND_REPAIR",
        starts_at=NOON + timedelta(hours=1),
    )
    found = await entries(auditor, house, subject=customer_id, actor_id="seller")
    assert {entry.outcome for entry in found} == {ACCEPTED}
    by_rpc = {entry.rpc: list(entry.subjects) for entry in found}
    assert by_rpc.keys() == {
        "customer.RegisterCustomer",
        "sales.PlaceOrder",
        "sales.ReserveVehicle",
        "service_desk.OpenRepairOrder",
        "service_desk.ReceiveComplaint",
        "service_desk.BookAppointment",
    }
    assert by_rpc["customer.RegisterCustomer"] == [customer_id]
    assert by_rpc["sales.PlaceOrder"] == [order.id, customer_id]
    assert by_rpc["service_desk.ReceiveComplaint"] == [received.id, customer_id]


async def test_a_vehicle_is_found_by_its_vin(house: House, seller: Client, auditor: Client) -> None:
    vin = next(stories.VINS)
    await stories.receive_car(seller, vin)
    found = await entries(auditor, house, subject=vin, actor_id="seller")
    assert {entry.rpc for entry in found} >= {"sales.RegisterVehicle", "sales.PassPdi"}
    assert {entry.subjects[0] for entry in found} == {str(vehicle_id(vin))}


async def test_every_command_of_every_service_is_one_line(
    house: House, seller: Client, auditor: Client
) -> None:
    customer_id, vin = await stories.register(seller), next(stories.VINS)
    await stories.repair(seller, house.client("inspector"), customer_id, vin)
    await stories.complain(seller, customer_id, vin)
    await house.settled()
    rows = await house.sql("SELECT event_id, rpc, actor_id FROM audit.entry WHERE outcome = 'accepted'")
    first = await house.sql(
        "SELECT id, type FROM events.event WHERE metadata::text LIKE '%\"rpc\"%' AND category <> 'audit'"
    )
    assert Counter(row["event_id"] for row in rows) == Counter(event["id"] for event in first)
    services = {row["rpc"].partition(".")[0] for row in rows}
    assert services >= {"customer", "service_desk", "notify"}
    # A worker's reactions too: everything that is in the log has somebody behind it.
    nobody = await house.sql(
        "SELECT DISTINCT e.type FROM events.event e WHERE category <> 'audit' AND NOT EXISTS"
        " (SELECT 1 FROM events.event f WHERE f.stream = e.stream AND f.sequence <= e.sequence"
        " AND f.correlation_id = e.correlation_id AND f.metadata::text LIKE '%\"rpc\"%')"
    )
    assert [row["type"] for row in nobody] == []


async def test_who_asks_the_audit_is_in_the_audit(house: House, auditor: Client) -> None:
    await entries(auditor, house)
    found = await entries(auditor, house, rpc="audit.ListEntries", outcome="OUTCOME_READ")
    assert found
    assert {entry.actor_id for entry in found} == {"auditor"}


async def test_calls_of_nobody_are_counted(house: House) -> None:
    nobody = Client(house.channel, Hats(lambda _: "nonsense"))
    for _ in range(20):
        await nobody.refused("sales.GetFunnel")
    await house.settled()
    rows = await house.sql("SELECT * FROM audit.entry WHERE outcome = 'rejected' AND rpc = 'sales.GetFunnel'")
    assert 1 <= len(rows) <= 3
    assert (rows[0]["actor_id"], rows[0]["code"]) == ("", "UNAUTHENTICATED")


async def test_entries_are_asked_for_by_time_and_in_pages(house: House, auditor: Client) -> None:
    late = Timestamp()
    late.FromDatetime(NOON + timedelta(days=300))
    assert await entries(auditor, house, since=late) == []
    everything = await entries(auditor, house, until=late)
    assert len(everything) > 10
    token, seen = "", []
    while True:
        page = await auditor.ask(
            "audit.ListEntries",
            until=late,
            page={"page_size": 7, "page_token": token},
            outcome="OUTCOME_ACCEPTED",
        )
        seen += [entry.position for entry in page.entries]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(set(seen), reverse=True)
    assert set(seen) >= {entry.position for entry in everything if entry.outcome == ACCEPTED}


PERSONAL = sorted(
    f"{service.name}.{rpc.name}"
    for service in find_services()
    for api in service.apis
    for rpc in api.rpcs.values()
    if rpc.kind is Kind.QUERY
)


def strings(message: Message) -> set[str]:
    """All texts in a message."""
    found: set[str] = set()
    for field, value in message.ListFields():
        for one in value if field.is_repeated else (value,):
            if isinstance(one, Message):
                found |= strings(one)
            elif isinstance(one, str):
                found.add(one)
    return found


NAME, PHONE, NOTE = "欧阳审计", "+8618611117531", "Prefers to be called Shenji"
VALUES = (NAME, PHONE, NOTE)


@pytest.fixture(scope="module")
def known() -> dict[str, str]:
    return {}


@pytest.mark.parametrize("rpc", PERSONAL)
async def test_no_query_answers_a_personal_value_without_an_entry(
    house: House, seller: Client, known: dict[str, str], rpc: str
) -> None:
    """Whatever the protos declare: every query is asked about a person, and what it answers is searched."""
    if not known:
        registered = await seller(
            "customer.RegisterCustomer",
            kind="CUSTOMER_KIND_PROSPECT",
            name=NAME,
            source="walk-in",
            contact_points=[{"kind": "CONTACT_KIND_MOBILE", "value": PHONE}],
            consents=[{"purpose": "PURPOSE_SERVICE", "channel": "CHANNEL_SMS"}],
        )
        known["customer_id"] = registered.id
        lead = await seller(
            "sales.CaptureLead",
            source="LEAD_SOURCE_WALK_IN",
            model="E5",
            name=NAME,
            phone=PHONE,
            comments=NOTE,
        )
        known["lead_id"] = lead.id
        vin = next(stories.VINS)
        known["repair_order_id"] = await stories.repair(
            seller, house.client("inspector"), known["customer_id"], vin
        )
        known["vin"] = vin
        await house.settled()
        [row] = await house.sql(
            "SELECT notification_id FROM notify.notification WHERE customer_id::text = $1 LIMIT 1",
            known["customer_id"],
        )
        known["notification_id"] = str(row["notification_id"])
    method = METHODS[rpc]
    fields = method.input_type.fields_by_name
    asked: dict[str, Any] = {name: value for name, value in known.items() if name in fields and name != "vin"}
    if "vin" in fields and not asked:
        asked["vin"] = known["vin"]
    sound: dict[str, Any] = {
        name: getattr(plausible(method.input_type), name)
        for name in ("template", "language", "channel")
        if name in fields and not asked
    }
    before = await house.sql("SELECT count(*) AS n FROM events.event WHERE type = 'audit.PersonalDataRead'")
    try:
        answer = await seller(rpc, **asked, **sound)
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND):
            raise
        return
    after = await house.sql("SELECT count(*) AS n FROM events.event WHERE type = 'audit.PersonalDataRead'")
    shown = {value for value in VALUES for text in strings(answer) if value in text}
    if shown:
        assert after[0]["n"] > before[0]["n"], f"{rpc} shows {shown}"
    if persons_in_answers(method) is None:
        assert not shown


COMMANDS = sorted(
    f"{service.name}.{rpc.name}"
    for service in find_services()
    for api in service.apis
    for rpc in api.rpcs.values()
    if rpc.kind is Kind.COMMAND
)


def scribbled(message: Any) -> Any:
    """The message with a person's name in every text that it has, ids too."""
    for field, value in message.ListFields():
        if isinstance(value, str):
            setattr(message, field.name, NAME)
        elif isinstance(value, Message):
            scribbled(value)
        elif field.is_repeated and field.message_type is None and isinstance(value[0], str):
            value[0] = NAME
        elif field.is_repeated and field.message_type and not field.message_type.GetOptions().map_entry:
            scribbled(value[0])
    return message


async def test_every_command_that_is_refused_is_one_entry(house: House, seller: Client) -> None:
    """Of every command of every service: as it could be meant, and with a person's name wherever there is text."""
    expected = Counter[str]()
    for rpc in COMMANDS:
        for request in (plausible(METHODS[rpc].input_type), scribbled(plausible(METHODS[rpc].input_type))):
            correlation_id = str(uuid4())
            fields = {field.name: value for field, value in request.ListFields()}
            try:
                await seller(rpc, metadata={"correlation-id": correlation_id}, **fields)
            except grpc.aio.AioRpcError as error:
                expected[correlation_id] += 1
                assert error.code() is not grpc.StatusCode.INTERNAL, (rpc, error.details())  # noqa: PT017
    assert len(expected) > len(COMMANDS)
    rows = await house.sql("SELECT correlation_id FROM events.event WHERE type = 'audit.CommandRefused'")
    noted = Counter(str(row["correlation_id"]) for row in rows)
    assert {one: noted[one] for one in expected} == expected


async def test_entries_hold_no_value_of_anybody(house: House, seller: Client) -> None:
    await seller.refused(
        "customer.CorrectProfile", customer_id=str(uuid4()), field=1, value=NAME, reason=NOTE
    )
    rows = await house.sql(
        "SELECT data::text || metadata::text || actor_id AS said FROM events.event WHERE category = 'audit'"
    )
    rows += await house.sql("SELECT t::text AS said FROM audit.entry t")
    assert len(rows) > 20
    said = "\n".join(row["said"] for row in rows)
    escaped = [value.encode("unicode_escape").decode() for value in VALUES]
    assert [value for value in (*VALUES, *escaped) if value in said] == []


async def test_the_command_line_shows_it_and_is_noted_down(house: House, auditor: Client) -> None:
    environment = {**os.environ, **house.platform.environment}

    def forecourt(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "forecourt.cli", "audit", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    done = forecourt("--json", "--actor", "seller", "--outcome", "accepted", "--limit", "2")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2
    assert {(line["actor_id"], line["outcome"]) for line in lines} == {("seller", "accepted")}
    assert [line["position"] for line in lines] == sorted(line["position"] for line in lines)
    table = forecourt("--outcome", "refused", "--rpc", "customer.AddContactPoint")
    assert "AddContactPoint" in table.stdout
    wrong = forecourt("--outcome", "nonsense")
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (1, False)
    assert "--outcome" in wrong.stderr
    rows = await house.sql("SELECT actor_id FROM events.event WHERE data->>'rpc' = 'forecourt audit'")
    assert len(rows) == 2
    assert all(row["actor_id"].startswith("operator:") for row in rows)


async def test_whoever_follows_is_noted_with_each_page_and_not_for_following(
    house: House, seller: Client
) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "forecourt.cli", "audit", "--follow", "--json", "--limit", "1"),
        env={**os.environ, **house.platform.environment},
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        await asyncio.wait_for(child.stdout.readline(), 30)
        for _ in range(2):
            customer_id = await stories.register(seller)
            while True:
                line = json.loads(await asyncio.wait_for(child.stdout.readline(), 30))
                if line["subjects"] == [customer_id]:
                    break
            [(noted,)] = await house.sql(
                "SELECT count(*) FROM events.event WHERE type = 'audit.PersonalDataRead'"
                " AND data->>'rpc' = 'forecourt audit' AND (data->'subjects')::jsonb @> to_jsonb($1::text)",
                customer_id,
            )
            assert noted == 1
    finally:
        child.terminate()
        await child.wait()
