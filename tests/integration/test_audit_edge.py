"""Every refusal is one entry, every look at personal data is one, and an accepted command is its own."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import grpc
import msgspec
import pytest

from forecourt.audit.entries import decode_provenance
from forecourt.audit.rejections import Kind, Rejections
from forecourt.audit.trail import AuditTrail
from forecourt.clock import ManualClock
from forecourt.eventstore.memory import MemoryEventStore, MemoryLog
from forecourt.eventstore.port import AppendResult, StoredEvent, StoreUnavailable, WrongExpectedVersion
from forecourt.rpc.server import GrpcServer, Limits
from forecourt.testing.probes import poll_async
from tests.integration.edge_shop import TOKENS, Client, make_api, make_backend, message

pytestmark = pytest.mark.integration

ID = UUID("6f0f2c4e-0000-4000-8000-000000000001")
TOKEN = TOKENS.issue("amy", roles=["salesperson", "auditor"], dealers=["D001"], brands=["hongtong"])


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def shop(log: MemoryLog) -> AsyncIterator[Client]:
    backend = make_backend(log)
    server = GrpcServer([(make_api(), backend)], Limits(notice_seconds=0.1, drain_seconds=5))
    await server.start("127.0.0.1", 0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Client(channel, TOKEN)
    await server.drain()
    await backend.audit.close()


def opening(**fields: Any) -> Any:
    return message("OpenBasketRequest", **({"name": "王伟", "kind": 1} | fields))


def entries(log: MemoryLog) -> list[StoredEvent]:
    """What was noted down."""
    return [event for event in log.events if event.category == "audit"]


def data(event: StoredEvent) -> dict[str, Any]:
    """What an entry says."""
    found: dict[str, Any] = msgspec.json.decode(event.data)
    return found


async def code_of(call: Any) -> grpc.StatusCode:
    """The status of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code()


REFUSALS = {
    "invalid input": ("OpenBasket", opening(kind=0), {}, "INVALID_ARGUMENT", "invalid-input"),
    "invalid metadata": ("OpenBasket", opening(), {"command_id": "x"}, "INVALID_ARGUMENT", "invalid-input"),
    "malformed": ("OpenBasket", b"\xff\xff", {}, "INVALID_ARGUMENT", "invalid-input"),
    "another dealer": ("OpenBasket", opening(), {"dealer_id": "D009"}, "PERMISSION_DENIED", "forbidden"),
    "not found": (
        "CloseBasket",
        message("CloseBasketRequest", basket_id=str(ID)),
        {},
        "NOT_FOUND",
        "not-found",
    ),
    "stale": (
        "OpenBasket",
        opening(basket_id=str(ID)),
        {"expected_version": "7"},
        "ABORTED",
        "version-conflict",
    ),
    "several commands": (
        "OpenTwice",
        message("GetBasketRequest", basket_id="nobody"),
        {},
        "INVALID_ARGUMENT",
        "invalid-input",
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_refused_command_is_one_entry(shop: Client, log: MemoryLog, kind: str) -> None:
    rpc, request, metadata, code, slug = REFUSALS[kind]
    assert (await code_of(shop.call(rpc, request, timeout=5, **metadata))).name == code
    (entry,) = entries(log)
    assert entry.type == "audit.CommandRefused"
    assert (entry.actor_id, entry.brand) == ("amy", "hongtong")
    said = data(entry)
    assert (said["rpc"], said["code"], said["slug"]) == (f"shop.{rpc}", code, slug)
    assert said["roles"] == ["auditor", "salesperson"]
    assert (said["dealers"], said["brands"]) == (["D001"], ["hongtong"])
    assert "王伟" not in entry.data


async def test_the_domains_refusal_names_what_it_is_about_and_the_call(shop: Client, log: MemoryLog) -> None:
    command_id = str(uuid4())
    await shop.call("OpenBasket", opening(basket_id=str(ID)))
    close = message("CloseBasketRequest", basket_id=str(ID))
    await shop.call("CloseBasket", close)
    assert await code_of(shop.call("CloseBasket", close, command_id=command_id)) is (
        grpc.StatusCode.FAILED_PRECONDITION
    )
    (entry,) = entries(log)
    assert (data(entry)["slug"], data(entry)["subjects"]) == ("basket-is-closed", [str(ID)])
    assert (str(entry.correlation_id), entry.dealer_id) == (command_id, "D001")


async def test_a_refused_stream_is_one_entry(shop: Client, log: MemoryLog) -> None:
    rows = iter([message("Row", number=1, text="a"), message("Row", number=0, text="b")])
    assert await code_of(shop.call("Upload", rows)) is grpc.StatusCode.INVALID_ARGUMENT
    assert [data(entry)["rpc"] for entry in entries(log)] == ["shop.Upload"]


@pytest.mark.parametrize("rpc", ["OpenBasket", "GetBasket"])
async def test_calls_of_nobody_are_counted(shop: Client, log: MemoryLog, rpc: str) -> None:
    shop.token = "nonsense"
    for _ in range(30):
        assert await code_of(shop.call(rpc, b"")) is grpc.StatusCode.UNAUTHENTICATED
    (first,) = entries(log)
    assert first.type == "audit.CallsRejected"
    assert (first.actor_id, data(first)["count"], data(first)["code"]) == ("", 1, "UNAUTHENTICATED")


async def test_calls_beyond_the_limit_are_counted_for_who_made_them(shop: Client, log: MemoryLog) -> None:
    for _ in range(5):
        request = message("GetBasketRequest", basket_id=str(ID), mode="too fast")
        assert await code_of(shop.call("GetBasket", request)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    (entry,) = entries(log)
    assert (entry.type, entry.actor_id, data(entry)["count"]) == ("audit.CallsRejected", "amy", 1)


@pytest.mark.parametrize("mode", ["away", "refused"])
async def test_what_was_not_decided_is_no_refusal(shop: Client, log: MemoryLog, mode: str) -> None:
    request = message("GetBasketRequest", basket_id=str(ID), mode=mode)
    assert await code_of(shop.call("GetBasket", request)) is grpc.StatusCode.UNAVAILABLE
    assert entries(log) == []


async def test_an_accepted_command_is_in_the_log_with_who_was_behind_it(shop: Client, log: MemoryLog) -> None:
    command_id = str(uuid4())
    for _ in range(3):
        await shop.call("OpenBasket", opening(), command_id=command_id)
    (event,) = log.events
    by = decode_provenance(event.metadata)
    assert (by.rpc, by.roles) == ("shop.OpenBasket", ("auditor", "salesperson"))
    assert (by.dealers, by.brands) == (("D001",), ("hongtong",))


async def test_a_command_that_changes_nothing_is_one_entry(shop: Client, log: MemoryLog) -> None:
    await shop.call("OpenBasket", opening(basket_id=str(ID)))
    await shop.call("EmptyBasket", message("CloseBasketRequest", basket_id=str(ID)))
    (entry,) = entries(log)
    assert (entry.type, data(entry)["subjects"]) == ("audit.CommandUnchanged", [str(ID)])


async def test_who_reads_personal_data_leaves_an_entry(shop: Client, log: MemoryLog) -> None:
    request = message("GetBasketRequest", basket_id=str(ID))
    await shop.call("GetBasket", request)
    await shop.call("ListBaskets", request)
    assert [entry.type for entry in entries(log)] == ["audit.PersonalDataRead"] * 2
    for entry, rpc in zip(entries(log), ("shop.GetBasket", "shop.ListBaskets"), strict=True):
        said = data(entry)
        assert (said["rpc"], said["subjects"], said["subject_count"]) == (rpc, [str(ID)], 1)


@pytest.mark.parametrize(("mode", "code"), [("missing", "NOT_FOUND"), ("denied", "PERMISSION_DENIED")])
async def test_who_tries_what_there_is_to_see_leaves_an_entry(
    shop: Client, log: MemoryLog, mode: str, code: str
) -> None:
    request = message("GetBasketRequest", basket_id=str(ID), mode=mode)
    assert (await code_of(shop.call("GetBasket", request))).name == code
    (entry,) = entries(log)
    assert (entry.type, data(entry)["code"], data(entry)["subjects"]) == (
        "audit.ReadRefused",
        code,
        [str(ID)],
    )


async def test_a_mistyped_query_leaves_none(shop: Client, log: MemoryLog) -> None:
    request = message("GetBasketRequest", basket_id="nobody")
    assert await code_of(shop.call("GetBasket", request)) is grpc.StatusCode.INVALID_ARGUMENT
    assert entries(log) == []


class Broken(MemoryEventStore):
    """Takes nothing more."""

    async def append_many(self, appends: Any) -> list[AppendResult | WrongExpectedVersion]:
        raise StoreUnavailable("event store: gone")


@pytest.mark.parametrize(("rpc", "mode"), [("CloseBasket", ""), ("GetBasket", "row")])
async def test_nothing_is_answered_that_cannot_be_noted_down(
    shop: Client, log: MemoryLog, monkeypatch: pytest.MonkeyPatch, rpc: str, mode: str
) -> None:
    monkeypatch.setattr(MemoryEventStore, "append_many", Broken.append_many)
    fields = {"mode": mode} if mode else {}
    request = message("GetBasketRequest" if mode else "CloseBasketRequest", basket_id=str(ID), **fields)
    assert await code_of(shop.call(rpc, request)) is grpc.StatusCode.UNAVAILABLE
    shop.token = "nonsense"
    assert await code_of(shop.call(rpc, request)) is grpc.StatusCode.UNAUTHENTICATED


async def test_entries_hold_nothing_of_what_was_sent(shop: Client, log: MemoryLog) -> None:
    """Whatever is sent, an entry has only ids and words of the program."""
    texts = [f"Wang-{number}-138001380{number:02}" for number in range(40)]
    for number, text in enumerate(texts):
        shape = opening(
            basket_id=text if number % 3 == 0 else "",
            name=text if number % 2 else text + "\0",
            note=text,
            tags=[text],
            labels={text: text},
            kind=number % 4,
            lines=[{"sku": text, "quantity": number % 2, "price": {"amount": text, "currency": text}}],
        )
        await code_of(shop.call("OpenBasket", shape, command_id=text if number % 5 == 0 else ""))
    assert len(entries(log)) == len(texts)
    stored = "".join(f"{entry}" for entry in entries(log))
    assert [text for text in texts if text in stored or text[-11:] in stored] == []


async def test_a_flood_is_a_handful_of_entries(log: MemoryLog) -> None:
    """Entries by interval, not by call; and all calls are in them."""
    store = MemoryEventStore(log)
    rejections = Rejections(AuditTrail(store, ManualClock()), seconds=0.05)
    for _ in range(2_000):
        await rejections.note(Kind("shop.GetBasket", "UNAUTHENTICATED", "unauthenticated"))
    assert [data(entry)["count"] for entry in entries(log)] == [1]
    await poll_async(lambda: len(entries(log)) == 2, 5, what="the number of calls")
    assert data(entries(log)[1])["count"] == 1_999
    await rejections.close()
