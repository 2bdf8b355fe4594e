"""Where personal values must not be, on a running platform; and the export, which must have them all."""

import asyncio
import getpass
import json
import os
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.e2e.house import House
from tests.e2e.test_erasure import (
    CARD,
    MAIL,
    NAME,
    NOTE,
    PHONE,
    TYPED,
    VALUES,
    bind_spy,
    overheard,
    registered,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


async def refusals(amy: Any, customer_id: str) -> list[str]:
    """What is said to calls that are wrong in a field that holds somebody's data."""
    mobile, email = "CONTACT_KIND_MOBILE", "CONTACT_KIND_EMAIL"
    card, licence = (
        f"IDENTITY_DOCUMENT_KIND_{kind}" for kind in ("RESIDENT_IDENTITY_CARD", "BUSINESS_LICENCE")
    )
    point = {"customer_id": customer_id}
    said = [
        await amy.refused("customer.AddContactPoint", **point, kind=mobile, value=TYPED + "7531000"),
        await amy.refused("customer.AddContactPoint", **point, kind=email, value=MAIL + "@x"),
        await amy.refused("customer.RegisterCustomer", kind="CUSTOMER_KIND_PROSPECT", name=NAME * 100),
        await amy.refused("customer.RegisterCustomer", kind="CUSTOMER_KIND_PROSPECT", name=NAME + "\x00"),
        await amy.refused("customer.RecordIdentityDocument", **point, kind=card, number=CARD + "0"),
        await amy.refused("customer.RecordIdentityDocument", **point, kind=card, number=CARD[:-1] + "X"),
        await amy.refused("customer.RecordIdentityDocument", **point, kind=licence, number=CARD),
        await amy.refused("customer.RecordIdentityDocument", **point, number=CARD),
        await amy.refused("customer.SearchCustomers", phone=TYPED + "7531000"),
        await amy.refused("customer.SearchCustomers", vin=NOTE),
        await amy.refused(
            "sales.CaptureLead", name=NAME, phone=TYPED + "7531000", source="LEAD_SOURCE_PHONE"
        ),
        await amy.refused("sales.CaptureLead", name=NAME, email=MAIL + "@x", source="LEAD_SOURCE_PHONE"),
    ]
    return [str(one) for one in said]


async def pages(house: House) -> str:
    """The metrics of all processes."""
    texts = []
    for name, address in house.platform.addresses.items():
        if name not in ("grpc", "smtp"):
            async with house.http.get(f"http://{address}/metrics") as response:
                texts.append(await response.text())
    return "\n".join(texts)


async def test_personal_values_are_in_no_log_metric_refusal_or_routing_key(house: House) -> None:
    await asyncio.to_thread(bind_spy, house.amqp_uri)
    amy, customer_id = await registered(house)
    said = await refusals(amy, customer_id)
    await amy("sales.CaptureAdfLead", xml=f"<adf><name>{NAME} {MAIL}".encode())
    await house.settled()
    messages = await asyncio.to_thread(overheard, house.amqp_uri)
    assert any("customer.CustomerRegistered" in message for message in messages)
    logs = sorted((house.platform.data / "log").glob("*"))
    assert len(logs) > 3
    artefacts = {
        **{log.name: log.read_text(errors="replace") for log in logs},
        "metrics": await pages(house),
        "refusals": "\n".join(said),
        "messages": "\n".join(messages),
    }
    assert "forecourt" in artefacts["metrics"]
    found = [
        (name, value)
        for name, text in artefacts.items()
        for value in VALUES
        if value in text or value.encode("unicode_escape").decode() in text
    ]
    assert not found


async def test_the_export_of_a_customer_holds_what_was_said_and_is_noted_in_the_audit(
    house: House, tmp_path: Path
) -> None:
    _, customer_id = await registered(house)
    to = tmp_path / "wang.json"
    command = ("-m", "forecourt.cli", "export", customer_id, "--actor", "carol", "--to", str(to))
    environment = {**os.environ, **house.platform.environment}
    child = await asyncio.create_subprocess_exec(sys.executable, *command, env=environment)
    assert await child.wait() == 0
    assert to.stat().st_mode & 0o777 == 0o600
    events = json.loads(to.read_text())["events"]
    types = {event["type"].partition(".")[0] for event in events}
    assert types == {"customer", "sales", "service_desk", "notify"}
    for value in (NAME, PHONE, MAIL, NOTE, CARD):
        assert any(value in str(event["data"]) for event in events), value
    async with asyncpg.create_pool(house.database_url, min_size=1, max_size=1) as pool:
        noted = await pool.fetch(
            "SELECT actor_id, data->'roles' AS roles FROM events.event WHERE type = 'audit.PersonalDataRead'"
            " AND data->>'rpc' = 'forecourt export' AND data::text LIKE '%' || $1 || '%'",
            customer_id,
        )
    # What the account says of itself counts less than what the operating system says of it.
    assert [(row["actor_id"], json.loads(row["roles"])) for row in noted] == [
        (f"operator:{getpass.getuser()}", ["operator", "for:carol"])
    ]
