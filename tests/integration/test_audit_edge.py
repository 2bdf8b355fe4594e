"""Every refusal is one entry, every look at personal data is one, and an accepted command is its own."""

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import grpc
import msgspec
import pytest
from prometheus_client import REGISTRY

from forecourt.access.rates import RateLimiter
from forecourt.audit.entries import decode_provenance
from forecourt.audit.rejections import Kind, Rejections
from forecourt.audit.trail import AuditTrail
from forecourt.clock import ManualClock, SystemClock
from forecourt.eventstore.memory import MemoryEventStore, MemoryLog
from forecourt.eventstore.port import AppendResult, StoredEvent, StoreUnavailable, WrongExpectedVersion
from forecourt.rpc.calls import MetadataReader
from forecourt.rpc.endpoints import Backend
from forecourt.rpc.server import GrpcServer, Limits
from forecourt.testing.probes import poll_async
from forecourt.testing.token_keys import Signer
from tests.integration.edge_shop import TOKENS, Client, make_api, make_backend, make_callers, message

pytestmark = pytest.mark.integration

ID = UUID("6f0f2c4e-0000-4000-8000-000000000001")
TOKEN = TOKENS.issue("amy", roles=["salesperson", "auditor"], dealers=["D001"], brands=["hongtong"])


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
async def shop(log: MemoryLog) -> AsyncIterator[Client]:
    async with shop_of(make_backend(log)) as shop:
        yield shop


@asynccontextmanager
async def shop_of(backend: Backend) -> AsyncIterator[Client]:
    """A client of a server of its own."""
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


async def test_a_refused_stream_of_answers_names_what_it_is_about(shop: Client, log: MemoryLog) -> None:
    shop.token = TOKENS.issue("eve", dealers=["D001"], brands=["hongtong"])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.call("Watch", message("GetBasketRequest", basket_id=str(ID))).read()
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    (entry,) = entries(log)
    assert (entry.type, entry.actor_id, data(entry)["rpc"]) == ("audit.ReadRefused", "eve", "shop.Watch")
    assert data(entry)["subjects"] == [str(ID)]


STORES = {
    "one store and brand": (["D001"], ["hongtong"], "D001", "hongtong"),
    "a store with several brands": (["D001"], ["hongtong", "chery"], "D001", ""),
    "a store with all brands": (["D001"], ["*"], "D001", ""),
    "several stores": (["D001", "D002"], ["hongtong"], "", "hongtong"),
    "a manufacturer": (["*"], ["hongtong"], "", "hongtong"),
}
"""Tokens by their dealers and brands, and the dealer and brand that their entries are filed for."""


@pytest.mark.parametrize("kind", STORES)
async def test_an_entry_is_filed_for_the_store_and_brand_that_the_token_is_for_alone(
    shop: Client, log: MemoryLog, kind: str
) -> None:
    dealers, brands, dealer, brand = STORES[kind]
    shop.token = TOKENS.issue("amy", roles=["salesperson"], dealers=dealers, brands=brands)
    acting: dict[str, Any] = {"dealer_id": "D001", "brand": "hongtong"}
    close = message("CloseBasketRequest", basket_id=str(ID))
    assert await code_of(shop.call("CloseBasket", close, **acting)) is grpc.StatusCode.NOT_FOUND
    fast = message("GetBasketRequest", basket_id=str(ID), mode="too fast")
    assert await code_of(shop.call("GetBasket", fast, **acting)) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert [(entry.type, entry.dealer_id, entry.brand) for entry in entries(log)] == [
        ("audit.CommandRefused", dealer, brand),
        ("audit.CallsRejected", dealer, ""),
    ]


async def rows(good: int, bad: int) -> AsyncIterator[Any]:
    for number in range(good + bad):
        yield message("Row", number=number + 1 if number < good else 0, text="王伟")


async def test_refused_rows_of_a_stream_are_one_entry_with_their_number(shop: Client, log: MemoryLog) -> None:
    command_id = str(uuid4())
    summary = await shop.call("UploadTolerant", rows(700, 300), command_id=command_id)
    assert (summary.rows, summary.bad) == (700, 300)
    (entry,) = entries(log)
    assert entry.type == "audit.PartsRefused"
    assert (entry.actor_id, entry.dealer_id, str(entry.correlation_id)) == ("amy", "D001", command_id)
    said = data(entry)
    assert (said["rpc"], said["count"]) == ("shop.UploadTolerant", 300)
    assert (said["code"], said["slug"], said["field"]) == ("INVALID_ARGUMENT", "invalid-input", "number")
    assert said["roles"] == ["auditor", "salesperson"]
    assert "王伟" not in entry.data


async def test_a_stream_without_refused_rows_leaves_none(shop: Client, log: MemoryLog) -> None:
    await shop.call("UploadTolerant", rows(5, 0))
    assert entries(log) == []


async def test_who_goes_away_in_the_middle_leaves_what_was_refused_so_far(
    shop: Client, log: MemoryLog
) -> None:
    sent = asyncio.Event()

    async def broken_off() -> AsyncIterator[Any]:
        async for row in rows(0, 7):
            yield row
        sent.set()
        await asyncio.Event().wait()

    before = streamed("UploadTolerant")
    call = shop.call("UploadTolerant", broken_off())
    await sent.wait()
    await poll_async(lambda: streamed("UploadTolerant") == before + 7, 5, what="the rows at the server")
    call.cancel()
    await poll_async(lambda: len(entries(log)) == 1, 5, what="the entry")
    assert data(entries(log)[0])["count"] == 7


def streamed(rpc: str) -> float:
    """How many messages of streams the server has taken."""
    labels = {"service": "shop", "rpc": rpc}
    return REGISTRY.get_sample_value("forecourt_streamed_messages_total", labels) or 0.0


async def test_what_a_call_ends_with_is_one_entry_and_no_part(shop: Client, log: MemoryLog) -> None:
    request = message("GetBasketRequest", basket_id=str(ID))
    await shop.call("OpenTwice", request)
    assert await code_of(shop.call("OpenTwice", request)) is grpc.StatusCode.ALREADY_EXISTS
    assert [entry.type for entry in entries(log)] == ["audit.CommandRefused"]


async def test_a_step_that_is_refused_on_the_way_is_an_entry_although_the_call_goes_on(
    shop: Client, log: MemoryLog
) -> None:
    request = message("GetBasketRequest", basket_id=str(ID), mode="whatever")
    await shop.call("OpenTwice", request)
    await shop.call("OpenTwice", message("GetBasketRequest", basket_id=str(ID), mode="lenient"))
    (entry,) = (entry for entry in entries(log) if entry.type == "audit.PartsRefused")
    said = data(entry)
    assert (said["slug"], said["count"]) == ("already-exists", 1)
    assert said["subjects"] == [str(ID)]


SIGNER = Signer("EdDSA", kid="development")


def claims(**changed: Any) -> dict[str, Any]:
    """The claims of a good token, and what is wrong with it."""
    now = SystemClock().now().timestamp()
    return {"sub": "eve", "aud": "forecourt", "exp": now + 600, "roles": ["salesperson"]} | changed


def unsigned() -> str:
    """A token that says of itself that it is not signed."""
    parts = ({"alg": "none", "kid": "development"}, claims())
    return (
        ".".join(base64.urlsafe_b64encode(msgspec.json.encode(p)).decode().rstrip("=") for p in parts) + "."
    )


BAD_TOKENS = {
    "token-expired": TOKENS.issue("eve", exp=1),
    "token-not-yet-valid": TOKENS.issue("eve", nbf=2**40),
    "token-audience-wrong": TOKENS.issue("eve", aud="somebody-else"),
    "token-claims-wrong": TOKENS.issue("eve", roles=(), dealers=(), sub=""),
    "token-signature-wrong": SIGNER.sign(claims()),
    "token-key-unknown": Signer("EdDSA", kid="elsewhere").sign(claims()),
    "token-algorithm-not-allowed": unsigned(),
    "token-too-large": "x" * 8_001,
    "token-malformed": "a.b.c",
}


@pytest.mark.parametrize("slug", BAD_TOKENS)
async def test_every_kind_of_bad_token_leaves_an_entry_and_its_name_nothing_else(
    shop: Client, log: MemoryLog, slug: str
) -> None:
    shop.token = BAD_TOKENS[slug]
    for _ in range(5):
        assert await code_of(shop.call("GetBasket", b"")) is grpc.StatusCode.UNAUTHENTICATED
    (entry,) = entries(log)
    assert (entry.type, entry.actor_id, data(entry)["slug"]) == ("audit.CallsRejected", "", slug)
    assert "eve" not in entry.data


async def test_a_header_that_fits_into_no_call_ends_before_there_is_one(shop: Client, log: MemoryLog) -> None:
    shop.token = "x" * 20_000
    assert await code_of(shop.call("GetBasket", b"")) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert entries(log) == []


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


async def test_who_calls_ten_times_as_often_as_it_may_leaves_an_entry_and_no_flood(log: MemoryLog) -> None:
    backend = make_backend(log)
    limited = MetadataReader(make_callers(), backend.clock, RateLimiter(10, 10, monotonic=lambda: 0.0))
    rejections = Rejections(backend.audit.trail, seconds=0.2)
    audit = replace(backend.audit, rejections=rejections)
    async with shop_of(replace(backend, metadata=limited, audit=audit)) as shop:
        codes = Counter[grpc.StatusCode]()
        for _ in range(100):
            call = shop.call("CloseBasket", message("CloseBasketRequest", basket_id=str(ID)))
            codes[await call.code()] += 1
            if len(codes) == 2 and codes[grpc.StatusCode.RESOURCE_EXHAUSTED] == 1:
                assert b"rate-exceeded" in dict(await call.trailing_metadata())["grpc-status-details-bin"]
                assert b"RetryInfo" in dict(await call.trailing_metadata())["grpc-status-details-bin"]
    assert codes == {grpc.StatusCode.NOT_FOUND: 10, grpc.StatusCode.RESOURCE_EXHAUSTED: 90}
    kinds = Counter(entry.type for entry in entries(log))
    assert kinds["audit.CommandRefused"] == 10
    rejected = [entry for entry in entries(log) if entry.type == "audit.CallsRejected"]
    assert 2 <= len(rejected) <= 10
    assert sum(data(entry)["count"] for entry in rejected) == 90
    assert {(e.actor_id, data(e)["slug"], data(e)["code"]) for e in rejected} == {
        ("amy", "rate-exceeded", "RESOURCE_EXHAUSTED")
    }


async def test_damage_is_answered_and_noted_once_however_often_it_is_met(
    log: MemoryLog, caplog: pytest.LogCaptureFixture
) -> None:
    async with shop_of(make_backend(log)) as shop:
        await shop.call("OpenBasket", opening(basket_id=str(ID)))
    (opened,) = log.events
    damage(log, msgspec.structs.replace(opened, data='{"name":17}'))
    async with shop_of(make_backend(log)) as shop:
        for _ in range(5):
            call = shop.call("CloseBasket", message("CloseBasketRequest", basket_id=str(ID)))
            assert await code_of(call) is grpc.StatusCode.DATA_LOSS
    refused = [entry for entry in entries(log) if entry.type == "audit.CommandRefused"]
    assert [(data(e)["code"], data(e)["slug"]) for e in refused] == [("DATA_LOSS", "data-damaged")] * 5
    (noted,) = [entry for entry in entries(log) if entry.type == "audit.DataUnreadable"]
    said = data(noted)
    assert (said["slug"], said["service"], said["event_type"]) == (
        "event-undecodable",
        "shop",
        "shop.BasketOpened",
    )
    assert (said["subjects"], noted.causation_id, noted.dealer_id) == ([str(ID)], opened.id, "D001")
    assert noted.correlation_id == opened.correlation_id
    assert "Traceback" not in caplog.text


def damage(log: MemoryLog, event: StoredEvent) -> None:
    """Have another event in the store than was written."""
    log.events[event.position - 1] = event
    log.streams[event.stream][event.sequence - 1] = event


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
