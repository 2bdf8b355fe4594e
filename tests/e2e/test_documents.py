"""Identity documents over gRPC: masked, unmasked for a purpose, suspected; and the export of a person as a stream."""

import csv
import io
import json
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from customer.api import CHUNK_BYTES
from forecourt.audit.trail import AuditTrail, AuditUnavailable
from forecourt.privacy.export import COLUMNS
from forecourt.testing.probes import poll_async
from tests.e2e.client import METHODS, Client, Refusal, refusal
from tests.e2e.group import HEAD, NEIGHBOUR, OTHER_BRAND, STORE, Caller, Group
from tests.e2e.house import House
from tests.e2e.stories import CARDS, a_vin, identify, register, repair
from tests.staff import Hats

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

CARD_KIND = "IDENTITY_DOCUMENT_KIND_RESIDENT_IDENTITY_CARD"
INVOICE = "UNMASK_PURPOSE_INVOICE"
NOBODY = str(uuid4())


async def record(client: Client, customer_id: str, number: str) -> Any:
    """Record an identity card."""
    return await client(
        "customer.RecordIdentityDocument", customer_id=customer_id, kind=CARD_KIND, number=number
    )


async def entries(group: Group, customer_id: str, rpc: str) -> list[dict[str, Any]]:
    """The entries about a customer that are in the log at this moment, with who caused them."""
    found = []
    async for batch in group.runtime.store.read_all(categories=["audit"]):
        for event in batch.events:
            data = json.loads(event.data)
            if customer_id in data.get("subjects", ()) and data["rpc"] == rpc:
                found.append({**data, "type": event.type, "actor_id": event.actor_id})
    return found


async def exported(
    group: Group, customer_id: str, caller: Caller = STORE, form: str = "", role: str = "head_office"
) -> list[Any]:
    """The messages of an export. Raises `grpc.aio.AioRpcError`."""
    method = METHODS["customer.ExportCustomer"]
    call: Any = group.channel.unary_stream(
        f"/{method.containing_service.full_name}/{method.name}",
        GetMessageClass(method.input_type).SerializeToString,
        GetMessageClass(method.output_type).FromString,
    )
    request = GetMessageClass(method.input_type)(
        customer_id=customer_id, **({"format": form} if form else {})
    )
    metadata = group.metadata("customer.ExportCustomer", replace(caller, role=role))
    return [message async for message in call(request, timeout=30, metadata=metadata)]


async def not_exported(group: Group, customer_id: str, caller: Caller, role: str = "head_office") -> Refusal:
    """How an export is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await exported(group, customer_id, caller, role=role)
    return refusal(caught.value)


def file_of(messages: list[Any]) -> str:
    """The file that follows the header."""
    header, *rest = messages
    assert header.HasField("header")
    assert not header.chunk
    assert all(0 < len(message.chunk) <= CHUNK_BYTES and not message.HasField("header") for message in rest)
    file = b"".join(message.chunk for message in rest)
    assert len(file) == header.header.bytes
    return file.decode()


async def test_a_number_is_listed_masked_and_told_for_a_purpose_that_is_noted_before(group: Group) -> None:
    do = group.client(STORE)
    customer_id = await register(do)
    card = await identify(do, customer_id)
    listed = await do.ask("customer.ListIdentityDocuments", customer_id=customer_id)
    (document,) = listed.documents
    assert (document.masked_number, document.expires_on) == ("*" * 14 + card[-4:], "2040-12-31")
    assert card not in str(listed)
    asked: dict[str, Any] = {"customer_id": customer_id, "kind": CARD_KIND}
    told = await do("customer.UnmaskIdentityDocument", **asked, purpose=INVOICE)
    # Whatever is in the log now was there when the number was answered, or came by the answer.
    (entry,) = await entries(group, customer_id, "customer.UnmaskIdentityDocument")
    assert (told.customer_id, told.number, told.expires_on) == (customer_id, card, "2040-12-31")
    assert (entry["type"], entry["purpose"]) == ("audit.PersonalDataRead", "invoice")
    assert (entry["actor_id"], entry["subjects"]) == ("amy-D001", [customer_id])
    assert card not in str(entry)
    found = await group.client(HEAD, "auditor")(
        "audit.ListEntries",
        metadata={"dealer-id": HEAD.dealer, "brand": HEAD.brand, "after-position": await group.head()},
        subject=customer_id,
        rpc="customer.UnmaskIdentityDocument",
    )
    assert [one.purpose for one in found.entries] == ["invoice"]


async def test_without_a_purpose_nothing_is_told(group: Group) -> None:
    do = group.client(STORE)
    customer_id = await register(do)
    card = await identify(do, customer_id)
    refused = await do.refused("customer.UnmaskIdentityDocument", customer_id=customer_id, kind=CARD_KIND)
    assert (refused.code, list(refused.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, ["purpose"])
    assert card not in str(refused)
    assert await entries(group, customer_id, "customer.UnmaskIdentityDocument") == []


async def test_what_cannot_be_noted_is_not_told(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    do = group.client(STORE)
    customer_id = await register(do)
    card = await identify(do, customer_id)

    async def away(*_: Any) -> None:
        raise AuditUnavailable("the audit cannot note this down now")

    monkeypatch.setattr(AuditTrail, "record", away)
    asked: dict[str, Any] = {"customer_id": customer_id, "kind": CARD_KIND, "purpose": INVOICE}
    refused = await do.refused("customer.UnmaskIdentityDocument", **asked)
    assert (refused.code, refused.slug) == (grpc.StatusCode.UNAVAILABLE, "audit-unavailable")
    assert card not in str(refused)
    not_told = await not_exported(group, customer_id, STORE)
    assert (not_told.code, not_told.slug) == (grpc.StatusCode.UNAVAILABLE, "audit-unavailable")


async def test_another_document_takes_the_place_and_one_that_is_removed_is_gone(group: Group) -> None:
    do = group.client(STORE)
    customer_id = await register(do)
    await identify(do, customer_id)
    other = next(CARDS)
    await record(do, customer_id, other)
    asked: dict[str, Any] = {"customer_id": customer_id, "kind": CARD_KIND}
    told = await do("customer.UnmaskIdentityDocument", **asked, purpose=INVOICE)
    assert (told.number, told.expires_on) == (other, "")
    await do("customer.RemoveIdentityDocument", **asked)
    assert not (await do.ask("customer.ListIdentityDocuments", customer_id=customer_id)).documents
    gone = await do.refused("customer.UnmaskIdentityDocument", **asked, purpose=INVOICE)
    assert gone.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("stranger", [NEIGHBOUR, OTHER_BRAND], ids=["another store", "another brand"])
async def test_documents_of_strangers_are_not_there(group: Group, stranger: Caller) -> None:
    do, other = group.client(STORE), group.client(stranger)
    customer_id = await register(do)
    card = await identify(do, customer_id)
    calls: dict[str, dict[str, Any]] = {
        "customer.ListIdentityDocuments": {},
        "customer.UnmaskIdentityDocument": {"kind": CARD_KIND, "purpose": INVOICE},
        "customer.RecordIdentityDocument": {"kind": CARD_KIND, "number": card},
        "customer.RemoveIdentityDocument": {"kind": CARD_KIND},
    }
    for rpc, fields in calls.items():
        theirs = await other.refused(rpc, customer_id=customer_id, **fields)
        nobodys = await other.refused(rpc, customer_id=NOBODY, **fields)
        assert theirs.code is grpc.StatusCode.NOT_FOUND, rpc
        assert theirs == nobodys
    assert await not_exported(group, customer_id, stranger) == await not_exported(group, NOBODY, stranger)


async def test_a_refused_export_is_in_the_audit_of_whom_it_was_about(group: Group) -> None:
    customer_id = await register(group.client(STORE))
    stranger = await not_exported(group, customer_id, NEIGHBOUR)
    seller = await not_exported(group, customer_id, STORE, "salesperson")
    found = await entries(group, customer_id, "customer.ExportCustomer")
    assert {(entry["type"], entry["actor_id"], entry["slug"]) for entry in found} == {
        ("audit.ReadRefused", "amy-D002", stranger.slug),
        ("audit.ReadRefused", "amy-D001", seller.slug),
    }
    assert (stranger.slug, seller.slug) == ("not-found", "permission-missing")


async def test_recording_what_a_stranger_has_is_answered_like_anything_else(group: Group) -> None:
    do, other = group.client(STORE), group.client(NEIGHBOUR)
    card = await identify(do, await register(do))
    known, unknown = await register(other), await register(other)
    answers = [await record(other, known, card), await record(other, unknown, next(CARDS))]
    assert answers[0].version == answers[1].version
    for customer_id in (known, unknown):
        (document,) = (await other.ask("customer.ListIdentityDocuments", customer_id=customer_id)).documents
        assert document.masked_number.startswith("*" * 14)


# --- export


async def test_an_export_is_complete_and_is_noted_once_before_anything_is_sent(group: Group) -> None:
    do = group.client(STORE)
    customer_id = await register(do)
    card = await identify(do, customer_id)
    await repair(do, group.client(STORE, "ben"), customer_id, a_vin(700_001))
    note = "word " * 700
    for number in range(30):
        await do(
            "customer.LogInteraction",
            customer_id=customer_id,
            channel="INTERACTION_CHANNEL_CALL",
            direction="DIRECTION_INBOUND",
            subject=f"call {number}",
            note=note,
        )
    messages = await exported(group, customer_id)
    assert len(messages) > 2
    header = messages[0].header
    assert (header.customer_id, list(header.dealers), list(header.brands)) == (
        customer_id,
        ["D001"],
        ["hongtong"],
    )
    assert not header.HasField("erased_at")
    told = json.loads(file_of(messages))
    assert told["person"] == customer_id
    assert len(told["events"]) == header.events
    assert {event["type"].partition(".")[0] for event in told["events"]} == {"customer", "service_desk"}
    (noted,) = [event for event in told["events"] if event["data"].get("kind") == "resident_identity_card"]
    assert noted["data"]["number"] == card
    assert set(noted["personal"]) == {"number", "fingerprint", "expires_on"}
    (entry,) = await entries(group, customer_id, "customer.ExportCustomer")
    assert (entry["type"], entry["actor_id"]) == ("audit.PersonalDataRead", "amy-D001")


async def test_an_export_as_csv_has_the_same_values(group: Group) -> None:
    do = group.client(STORE)
    customer_id = await register(do)
    card = await identify(do, customer_id)
    columns, *rows = csv.reader(
        io.StringIO(file_of(await exported(group, customer_id, form="EXPORT_FORMAT_CSV")))
    )
    assert tuple(columns) == COLUMNS
    assert [row for row in rows if row[6:] == ["number", "yes", card]]
    events = json.loads(file_of(await exported(group, customer_id)))["events"]
    assert {row[0] for row in rows} == {event["event_id"] for event in events}


async def test_an_export_has_what_the_caller_may_see(group: Group) -> None:
    do, other = group.client(STORE), group.client(NEIGHBOUR)
    customer_id = await register(do)
    await do("customer.ShareCustomer", customer_id=customer_id, store="D002")
    there = await repair(other, group.client(NEIGHBOUR, "ben"), customer_id, a_vin(700_002))

    async def orders(caller: Caller) -> set[str]:
        events = json.loads(file_of(await exported(group, customer_id, caller)))["events"]
        return {event["stream"] for event in events if event["type"].startswith("service_desk.")}

    assert await orders(STORE) == set()
    assert await orders(NEIGHBOUR) == await orders(HEAD) == {f"repair_order-{there}"}


async def test_only_the_head_office_exports(group: Group) -> None:
    customer_id = await register(group.client(STORE))
    for role in ("salesperson", "store_manager", "finance", "auditor"):
        assert (await not_exported(group, customer_id, STORE, role)).slug == "permission-missing"


async def test_of_an_erased_customer_an_export_has_what_is_left_and_says_so(group: Group) -> None:
    do = group.client(STORE)
    customer_id = await register(do)
    card = await identify(do, customer_id)
    erased = await group.runtime.keys.destroy(customer_id, group.runtime.clock.now())
    messages = await exported(group, customer_id)
    assert messages[0].header.erased_at.ToDatetime(erased.at.tzinfo) == erased.at
    told = file_of(messages)
    assert card not in told
    assert "[erased]" in told
    assert UUID(json.loads(told)["person"]) == UUID(customer_id)


# --- duplicates


async def suspicions(house: House, customer_id: str) -> list[dict[str, Any]]:
    """The suspicions about a customer."""
    rows = await house.sql(
        "SELECT data::text AS data FROM events.event WHERE type = 'customer.DuplicateSuspected' AND stream = $1"
        " ORDER BY sequence",
        f"customer-{customer_id}",
    )
    return [json.loads(row["data"]) for row in rows]


async def test_the_same_document_is_suspected_within_a_store_and_never_across(house: House) -> None:
    def at(store: str) -> Client:
        def token(role: str) -> str:
            return house.platform.token("amy", roles=[role], dealers=[store], brands=["hongtong"])

        return Client(house.channel, Hats(token))

    here, there = at("D001"), at("D002")
    first, second, stranger = await register(here), await register(here), await register(there)
    card = next(CARDS)
    await record(here, first, card)
    await record(there, stranger, card)
    await house.settled()
    await record(here, second, card)

    async def suspected() -> bool:
        return bool(await suspicions(house, second))

    await poll_async(suspected, 30, what="a suspicion")
    await house.settled()
    assert await suspicions(house, second) == [{"other_id": first, "score": 80, "shared": ["document"]}]
    assert await suspicions(house, first) == []
    assert await suspicions(house, stranger) == []
