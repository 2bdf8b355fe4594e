"""What a call refused on its way, what cannot be read, and who sees entries: on a real database, with all services."""

import json
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from forecourt.audit.rejections import Kind
from forecourt.codec import Codec
from forecourt.eventstore.port import StoredEvent
from forecourt.privacy.fields import ERASED
from forecourt.privacy.keys_postgres import open_keys
from forecourt.testing.probes import poll_async
from tests.e2e.client import METHODS
from tests.e2e.group import HEAD, MAKER, NEIGHBOUR, OTHER_BRAND, STORE, Caller, Group
from tests.e2e.stories import register

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


async def audited(group: Group, kind: str, **said: Any) -> list[tuple[StoredEvent, dict[str, Any]]]:
    """The entries of a kind that say so, oldest first."""
    found = []
    async for batch in group.runtime.store.read_all(categories=["audit"]):
        found += [
            (event, data)
            for event in batch.events
            if event.type == f"audit.{kind}" and (data := json.loads(event.data)).items() >= said.items()
        ]
    return found


async def test_an_import_leaves_an_entry_for_each_reason_and_not_for_each_row(group: Group) -> None:
    message: Any = GetMessageClass(METHODS["customer.ImportCustomers"].input_type)()
    message.import_id, message.file_name = str(uuid4()), "kunden.csv"
    for row in range(1, 101):
        mobile = "12" if row % 2 else f"138{row:08}" if row % 10 else "13800000002"
        message.rows.add(row=row, name=f"王{row if row % 10 else 2}", mobile=mobile)
    answer = await group.ask("customer.ImportCustomers", message, STORE)
    assert answer.refusal is None
    found = await audited(group, "PartsRefused", rpc="customer.ImportCustomers")
    assert sorted((data["slug"], data["field"], data["code"], data["count"]) for _, data in found) == [
        ("customer-repeated", "mobile", "ALREADY_EXISTS", 10),
        ("invalid-input", "mobile", "INVALID_ARGUMENT", 50),
    ]
    assert {(event.actor_id, event.dealer_id) for event, _ in found} == {("amy-D001", "D001")}
    bad = next(data for _, data in found if data["slug"] == "invalid-input")
    assert bad["subjects"] == [message.import_id]
    assert "王" not in str(found)


async def test_a_document_that_is_put_in_quarantine_is_a_refusal(group: Group) -> None:
    seller = group.client(STORE)
    answer = await seller("sales.CaptureAdfLead", xml=b"<adf>nobody")
    assert answer.quarantined
    ((event, data),) = await audited(group, "PartsRefused", rpc="sales.CaptureAdfLead")
    assert (data["slug"], data["count"], data["subjects"]) == ("lead-malformed", 1, [answer.id])
    assert event.actor_id == "amy-D001"


async def tampered(group: Group, stream: str) -> None:
    """Damage the encrypted values of a stream's first event."""
    data = json.loads(
        await group.runtime.pool.fetchval(
            "SELECT data FROM events.event WHERE stream = $1 AND sequence = 1", stream
        )
    )
    data["_personal"] = data["_personal"][:-8] + "AAAAAAA="
    await group.runtime.pool.execute(
        "UPDATE events.event SET data = $2 WHERE stream = $1 AND sequence = 1", stream, json.dumps(data)
    )
    for part in group.runtime.services:
        part.commands.forget(stream)


async def test_tampered_data_is_answered_as_such_and_noted_once(
    group: Group, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    seller = group.client(STORE)
    customer_id = await register(seller)
    await tampered(group, f"customer-{customer_id}")
    for _ in range(3):
        refused = await seller.refused(
            "customer.ChangeCategory", customer_id=customer_id, category="CUSTOMER_KIND_BUYER"
        )
        assert (refused.code, refused.slug) == (grpc.StatusCode.DATA_LOSS, "data-damaged")

    async def noted() -> list[Any]:
        return await audited(group, "DataUnreadable", subjects=[customer_id])

    ((event, data),) = await poll_async(noted, 10, what="the entry")
    assert (data["slug"], data["event_type"]) == ("ciphertext-tampered", "customer.CustomerRegistered")
    assert event.dealer_id == "D001"
    auditor = group.client(STORE, "auditor")
    rows = (
        await auditor.ask(
            "audit.ListEntries",
            after=event.position,
            outcome="OUTCOME_UNREADABLE",
            subject=customer_id,
        )
    ).entries
    assert [(row.rpc, row.slug, row.event_type) for row in rows] == [
        ("customer", "ciphertext-tampered", "customer.CustomerRegistered")
    ]
    assert "Traceback" not in caplog.text + capfd.readouterr().err


async def test_a_lost_key_reads_as_erased_and_is_noted_once(group: Group) -> None:
    seller, runtime = group.client(STORE), group.runtime
    customer_id = await register(seller)
    await runtime.pool.execute("DELETE FROM keys.person_key WHERE person_id::text = $1", customer_id)
    (part,) = (part for part in runtime.services if part.service.name == "customer")
    events = [event async for page in runtime.store.read_stream(f"customer-{customer_id}") for event in page]
    # Another process, which has not got the key from before.
    keys = await open_keys(runtime.pool, runtime.settings)
    codec = Codec(part.service.registry, keys, on_damage=runtime.audit.damage.note)
    try:
        for _ in range(3):
            first, *_ = await codec.decode(events)
            assert first.event.model_dump()["name"] == ERASED
    finally:
        await keys.close()
    await runtime.audit.trail.close()
    ((_, data),) = await audited(group, "DataUnreadable", subjects=[customer_id])
    assert data["slug"] == "person-key-lost"


BRANDS = Caller(("D001",), ("hongtong", "chery"), "D001", "hongtong")
"""Somebody of a store that has several brands."""

DONE = {"OUTCOME_ACCEPTED"}
UNBRANDED = {"OUTCOME_READ", "OUTCOME_UNCHANGED", "OUTCOME_REFUSED", "OUTCOME_REJECTED"}
SEEN = {
    "the store's manager": (BRANDS, DONE | UNBRANDED),
    "a manager of the brand": (STORE, DONE | UNBRANDED),
    "a manager of the other brand": (OTHER_BRAND, UNBRANDED),
    "the manufacturer": (MAKER, DONE),
    "another store": (NEIGHBOUR, set[str]()),
    "another store with both brands": (Caller(("D002",), BRANDS.brands, "D002", "chery"), set[str]()),
    "head office": (HEAD, DONE | UNBRANDED),
}


@pytest.mark.parametrize("kind", SEEN)
async def test_what_staff_with_several_brands_did_is_seen_in_their_store(group: Group, kind: str) -> None:
    caller, outcomes = SEEN[kind]
    actor = f"eva{list(SEEN).index(kind)}"
    seller = group.client(STORE)
    customer_id = await register(seller)
    staff, brand = group.client(BRANDS, actor), {"brand": BRANDS.brand}
    await staff.ask("customer.GetCustomer", after=seller.position, customer_id=customer_id)
    for _ in range(2):
        await staff(
            "customer.ChangeCategory",
            metadata=brand,
            customer_id=customer_id,
            category="CUSTOMER_KIND_BUYER",
        )
    await staff.refused("customer.ChangeCategory", metadata=brand, customer_id=str(uuid4()))
    too_many = Kind(
        "customer.GetCustomer", "RESOURCE_EXHAUSTED", "rate-exceeded", f"{actor}-D001", BRANDS.dealer
    )
    await group.runtime.audit.rejections.note(too_many)
    assert await outcomes_of(group, caller, f"{actor}-D001") == outcomes


async def outcomes_of(group: Group, caller: Caller, actor: str) -> set[str]:
    """The outcomes of what somebody did, as far as the caller's audit shows them."""
    head = await group.runtime.store.head()
    answer = await group.client(caller, "auditor").ask("audit.ListEntries", after=head, actor_id=actor)
    outcome: Any = METHODS["audit.ListEntries"].input_type.fields_by_name["outcome"].enum_type
    return {outcome.values_by_number[entry.outcome].name for entry in answer.entries}
