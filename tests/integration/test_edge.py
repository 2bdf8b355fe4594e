"""The gRPC edge over a real connection: answers, bad input, identity, deadlines, streams, and the end."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import REGISTRY

from forecourt.rpc.endpoints import Backend, handlers
from forecourt.rpc.server import GrpcServer, Limits
from forecourt.testing.probes import poll_async
from tests.integration import edge_shop
from tests.integration.edge_shop import TOKENS, Client, make_api, make_backend, message

pytestmark = pytest.mark.integration

ID = "6f0f2c4e-0000-4000-8000-000000000001"
TOKEN = TOKENS.issue("amy", roles=["salesperson"], dealers=["D001"], brands=["hongtong"])


@pytest.fixture
def backend() -> Backend:
    return make_backend()


@pytest.fixture
async def server(backend: Backend) -> AsyncIterator[GrpcServer]:
    server = GrpcServer(
        [(make_api(), backend)], Limits(message_bytes=200_000, notice_seconds=0.1, drain_seconds=5)
    )
    await server.start("127.0.0.1", 0)
    yield server
    await server.drain()


@pytest.fixture
async def channel(server: GrpcServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


@pytest.fixture
def shop(channel: grpc.aio.Channel) -> Client:
    return Client(channel, TOKEN)


def opening(**fields: Any) -> Any:
    return message("OpenBasketRequest", **({"name": "A", "kind": 1} | fields))


def line(**fields: Any) -> dict[str, Any]:
    return {"sku": "s", "quantity": 1, "price": {"amount": "1", "currency": "CNY"}} | fields


async def refused(call: Any, code: grpc.StatusCode) -> status_pb2.Status:
    """The status of a call that must fail with ``code``."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is code, caught.value
    trailing = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    assert status.code == code.value[0]
    assert "Traceback" not in status.message
    return status


def detail(status: status_pb2.Status, kind: Any) -> Any:
    """The one detail of a kind."""
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            found = kind()
            packed.Unpack(found)
            return found
    raise AssertionError(f"no {kind.__name__} in {status}")


def fields(status: status_pb2.Status) -> set[str]:
    """The fields that a status names."""
    return {violation.field for violation in detail(status, error_details_pb2.BadRequest).field_violations}


# --- answers


async def test_a_command_is_answered_with_id_version_and_position(shop: Client) -> None:
    result = await shop.call("OpenBasket", opening(basket_id=ID))
    assert (result.id, result.version, result.position) == (ID, 1, 1)


async def test_a_command_may_answer_its_result_within_a_message(shop: Client) -> None:
    await shop.call("OpenBasket", opening(basket_id=ID))
    answer = await shop.call("CloseBasket", message("CloseBasketRequest", basket_id=ID))
    assert (answer.result.id, answer.result.version) == (ID, 2)


async def test_a_repeated_command_id_is_answered_with_the_first_result(shop: Client) -> None:
    command_id = str(uuid4())
    first = await shop.call("OpenBasket", opening(), command_id=command_id)
    again = await shop.call("OpenBasket", opening(), command_id=command_id)
    assert first == again


async def test_an_event_carries_who_asked_and_why(shop: Client, backend: Backend) -> None:
    correlation, cause = uuid4(), uuid4()
    await shop.call(
        "OpenBasket", opening(basket_id=ID), correlation_id=str(correlation), causation_id=str(cause)
    )
    [[event]] = [page async for page in backend.commands._store.read_stream(f"basket-{ID}")]
    assert (event.actor_id, event.dealer_id, event.brand) == ("amy", "D001", "hongtong")
    assert (event.correlation_id, event.causation_id) == (correlation, cause)


async def test_one_call_may_run_several_commands_and_repeats_none(shop: Client) -> None:
    command_id = str(uuid4())
    request = message("GetBasketRequest", basket_id=ID)
    first = await shop.call("OpenTwice", request, command_id=command_id)
    assert first.version == 2
    assert await shop.call("OpenTwice", request, command_id=command_id) == first


async def test_a_query_answers_a_row_as_a_message(shop: Client) -> None:
    row = await shop.call("GetBasket", message("GetBasketRequest", basket_id=ID))
    assert (row.basket_id, row.kind, row.total) == (ID, 2, "300")
    assert (row.lines[0].price.amount, row.lines[0].quantity) == ("1.50", 2)
    assert row.due.seconds > 0


async def test_a_query_answers_a_page_and_a_dict(shop: Client) -> None:
    page = await shop.call("ListBaskets", message("GetBasketRequest", basket_id=ID))
    assert ([b.basket_id for b in page.baskets], page.next_page_token) == ([ID, ID], "more")
    part = await shop.call("GetBasket", message("GetBasketRequest", basket_id=ID, mode="dict"))
    assert (part.kind, part.name) == (1, "")


async def test_a_query_waits_for_the_position_asked_for(shop: Client, backend: Backend) -> None:
    await shop.call("GetBasket", message("GetBasketRequest", basket_id=ID), after_position="7")
    assert backend.read_models.asked == [7]


async def test_calls_are_counted_by_outcome(shop: Client) -> None:
    def counted(metric: str, rpc: str, outcome: str) -> float:
        labels = {"service": "shop", "rpc": rpc, "outcome": outcome}
        return REGISTRY.get_sample_value(metric, labels) or 0.0

    watched = [
        ("forecourt_commands_total", "OpenBasket", "ok"),
        ("forecourt_commands_total", "OpenBasket", "invalid-input"),
        ("forecourt_queries_total", "GetBasket", "not-found"),
    ]
    before = [counted(*line) for line in watched]
    await shop.call("OpenBasket", opening())
    await refused(shop.call("OpenBasket", opening(name="")), grpc.StatusCode.INVALID_ARGUMENT)
    missing = message("GetBasketRequest", basket_id=ID, mode="missing")
    await refused(shop.call("GetBasket", missing), grpc.StatusCode.NOT_FOUND)
    assert [counted(*line) for line in watched] == [count + 1 for count in before]


def timed(kind: str, rpc: str) -> float:
    """How many calls were timed."""
    name = f"forecourt_{kind}_duration_seconds_count"
    return REGISTRY.get_sample_value(name, {"service": "shop", "rpc": rpc}) or 0.0


async def test_calls_that_fail_are_timed_too(shop: Client) -> None:
    """Else a server on which every call runs into its deadline would look fast."""
    commands, queries = timed("command", "OpenBasket"), timed("query", "GetBasket")
    await refused(shop.call("OpenBasket", opening(name="")), grpc.StatusCode.INVALID_ARGUMENT)
    for mode, code in (("missing", "NOT_FOUND"), ("away", "UNAVAILABLE")):
        query = message("GetBasketRequest", basket_id=ID, mode=mode)
        await refused(shop.call("GetBasket", query), grpc.StatusCode[code])
    forever = message("GetBasketRequest", basket_id=ID, mode="forever")
    with pytest.raises(grpc.aio.AioRpcError, match="DEADLINE"):
        await shop.call("GetBasket", forever, timeout=0.1)
    await poll_async(lambda: timed("command", "OpenBasket") == commands + 1, what="the command")
    await poll_async(lambda: timed("query", "GetBasket") == queries + 3, what="the queries")


async def test_streams_that_write_are_commands(shop: Client) -> None:
    def uploads(kind: str) -> float:
        labels = {"service": "shop", "rpc": "Upload", "outcome": "ok"}
        return REGISTRY.get_sample_value(f"forecourt_{kind}_total", labels) or 0.0

    before, written = timed("command", "Upload"), uploads("commands")
    await shop.call("Upload", rows(1))
    await poll_async(lambda: timed("command", "Upload") == before + 1, what="the upload")
    assert (uploads("commands"), uploads("queries")) == (written + 1, 0)


# --- bad input


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"basket_id": "not-a-uuid"}, "basket_id"),
        ({"name": ""}, "name"),
        ({"kind": 0}, "kind"),
        ({"kind": 99}, "kind"),
        ({"name": "nul \0 character"}, "name"),
        ({"name": "x" * 10_001}, "name"),
        ({"document": "x" * 50_001}, "document"),
        ({"weight": float("nan")}, "weight"),
        ({"tags": ["ok", "nul \0"]}, "tags.1"),
        ({"labels": {"a": "nul \0"}}, "labels.a"),
        ({"lines": [line(quantity=0)]}, "lines.0.quantity"),
        ({"lines": [line(price={"amount": "1", "currency": "yuan"})]}, "lines.0.price.currency"),
        ({"lines": [line(price={"amount": "one", "currency": "CNY"})]}, "lines.0.price.amount"),
        ({"lines": [line(sku="nul \0")]}, "lines.0.sku"),
        ({"lines": [line(price=None)]}, "lines.0.price"),
        ({"due": {"seconds": 2**40}}, "due"),
        ({"day": {"year": 2026, "month": 2, "day": 30}}, "day"),
    ],
)
async def test_bad_input_is_answered_with_the_field_and_the_reason(
    shop: Client, given: dict[str, Any], field: str
) -> None:
    status = await refused(shop.call("OpenBasket", opening(**given)), grpc.StatusCode.INVALID_ARGUMENT)
    assert fields(status) == {field}
    info = detail(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("invalid-input", "shop")


async def test_a_long_string_is_taken_where_the_model_allows_it(shop: Client) -> None:
    assert (await shop.call("OpenBasket", opening(document="x" * 50_000))).version == 1


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x12\x02\xff\xfe"])
async def test_malformed_messages_and_wrong_charsets_are_invalid(shop: Client, raw: bytes) -> None:
    status = await refused(shop.call("OpenBasket", raw), grpc.StatusCode.INVALID_ARGUMENT)
    assert fields(status) == {"message"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("command_id", "order-17"),
        ("correlation_id", "x"),
        ("causation_id", "123"),
        ("expected_version", "-1"),
        ("expected_version", "one"),
        ("after_position", "9" * 30),
    ],
)
async def test_bad_metadata_is_named(shop: Client, key: str, value: str) -> None:
    status = await refused(
        shop.call("OpenBasket", opening(), timeout=5, **{key: value}), grpc.StatusCode.INVALID_ARGUMENT
    )
    assert fields(status) == {key.replace("_", "-")}


async def test_a_stale_version_is_aborted(shop: Client) -> None:
    await shop.call("OpenBasket", opening(basket_id=ID))
    closing = shop.call("CloseBasket", message("CloseBasketRequest", basket_id=ID), expected_version="5")
    status = await refused(closing, grpc.StatusCode.ABORTED)
    assert detail(status, error_details_pb2.ErrorInfo).reason == "version-conflict"
    assert fields(status) == {"expected-version"}


async def test_errors_of_the_domain_have_their_own_codes(shop: Client) -> None:
    closing = message("CloseBasketRequest", basket_id=ID)
    await refused(shop.call("CloseBasket", closing), grpc.StatusCode.NOT_FOUND)
    await shop.call("OpenBasket", opening(basket_id=ID))
    await refused(shop.call("OpenBasket", opening(basket_id=ID)), grpc.StatusCode.ALREADY_EXISTS)
    await shop.call("CloseBasket", closing)
    status = await refused(shop.call("CloseBasket", closing), grpc.StatusCode.FAILED_PRECONDITION)
    assert detail(status, error_details_pb2.ErrorInfo).reason == "basket-is-closed"
    nothing = shop.call("GetBasket", message("GetBasketRequest", basket_id=ID, mode="missing"))
    await refused(nothing, grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize("mode", ["away", "refused"])
async def test_a_server_that_is_away_is_answered_with_when_to_retry(shop: Client, mode: str) -> None:
    call = shop.call("GetBasket", message("GetBasketRequest", basket_id=ID, mode=mode))
    status = await refused(call, grpc.StatusCode.UNAVAILABLE)
    assert detail(status, error_details_pb2.RetryInfo).retry_delay.seconds == 1


async def test_an_unforeseen_error_is_internal_and_logged_once(
    shop: Client, caplog: pytest.LogCaptureFixture
) -> None:
    correlation = str(uuid4())
    call = shop.call(
        "GetBasket", message("GetBasketRequest", basket_id=ID, mode="crash"), correlation_id=correlation
    )
    with caplog.at_level(logging.ERROR):
        status = await refused(call, grpc.StatusCode.INTERNAL)
    assert correlation in status.message
    assert "13800138000" not in status.message
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) <= 1


async def test_a_message_that_is_too_large_is_refused(shop: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.call("OpenBasket", opening(document="x" * 300_000))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_no_input_whatever_is_answered_with_an_internal_error(shop: Client) -> None:
    chance = random.Random(20260105)
    whole = opening(
        basket_id=ID, lines=[line()], tags=["a"], labels={"b": "c"}, due={"seconds": 1}, day={"year": 2026}
    ).SerializeToString()
    codes = set()
    for _ in range(300):
        raw = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        call = shop.call("OpenBasket", bytes(raw[: chance.choice((None, chance.randrange(len(raw))))]))
        codes.add(await call.code())
    expected = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS}
    assert grpc.StatusCode.INVALID_ARGUMENT in codes
    assert codes <= expected


async def test_many_bad_fields_fit_into_one_answer(shop: Client) -> None:
    lines = [{"sku": "s" * 30, "quantity": 0}] * 200
    status = await refused(shop.call("OpenBasket", opening(lines=lines)), grpc.StatusCode.INVALID_ARGUMENT)
    assert 0 < len(fields(status)) <= 20


# --- identity


async def test_a_call_without_a_token_is_unauthenticated(shop: Client) -> None:
    call = shop.call("OpenBasket", opening(), authorization="")
    await refused(call, grpc.StatusCode.UNAUTHENTICATED)


async def test_a_dealer_that_is_not_the_tokens_is_denied(shop: Client) -> None:
    call = shop.call("OpenBasket", opening(), dealer_id="D002")
    assert fields(await refused(call, grpc.StatusCode.PERMISSION_DENIED)) == {"dealer-id"}


async def test_who_acts_for_nobody_does_not_write(channel: Any) -> None:
    nobody = Client(channel, TOKENS.issue("nobody", roles=["salesperson"], brands=["hongtong"]))
    await refused(nobody.call("OpenBasket", opening()), grpc.StatusCode.PERMISSION_DENIED)
    everybody = Client(channel, TOKENS.issue("head", roles=["salesperson"], dealers=["*"], brands=["*"]))
    sent = everybody.call("OpenBasket", opening(), dealer_id="*", brand="hongtong")
    assert fields(await refused(sent, grpc.StatusCode.INVALID_ARGUMENT)) == {"dealer-id"}


async def test_who_acts_for_several_dealers_names_one_when_writing(channel: Any) -> None:
    shop = Client(
        channel, TOKENS.issue("head", roles=["salesperson"], dealers=["D001", "D002"], brands=["hongtong"])
    )
    status = await refused(shop.call("OpenBasket", opening()), grpc.StatusCode.INVALID_ARGUMENT)
    assert fields(status) == {"dealer-id"}
    assert (await shop.call("OpenBasket", opening(), dealer_id="D002")).version == 1
    assert (await shop.call("GetBasket", message("GetBasketRequest", basket_id=ID))).basket_id == ID


# --- permissions


@pytest.fixture
def auditor(channel: Any) -> Client:
    return Client(channel, TOKENS.issue("aud", roles=["auditor"], dealers=["D001"], brands=["hongtong"]))


@pytest.mark.parametrize("request_", ["sound", b"\xff not a message"])
async def test_a_call_without_its_permission_is_denied_before_it_is_read(
    auditor: Client, request_: Any
) -> None:
    sent = opening() if request_ == "sound" else request_
    status = await refused(auditor.call("OpenBasket", sent), grpc.StatusCode.PERMISSION_DENIED)
    info = detail(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.metadata) == ("permission-missing", {"permission": "shop.basket.edit"})


async def test_streams_are_denied_too(auditor: Client) -> None:
    await refused(auditor.call("Upload", rows(1)), grpc.StatusCode.PERMISSION_DENIED)
    await refused(anext(aiter(auditor.call("Chat", rows(1)))), grpc.StatusCode.PERMISSION_DENIED)


async def test_who_may_look_may_look(auditor: Client) -> None:
    query = message("GetBasketRequest", basket_id=ID)
    assert (await auditor.call("GetBasket", query)).basket_id == ID
    assert [
        row.number
        async for row in auditor.call("Watch", message("GetBasketRequest", basket_id=ID, page_size=2))
    ] == [1, 2]


@pytest.mark.parametrize("roles", [[], ["nobody-knows-me"], ["*"], ["Salesperson"]])
async def test_unknown_roles_give_nothing(channel: Any, roles: list[str]) -> None:
    eve = Client(channel, TOKENS.issue("eve", roles=roles, dealers=["D001"], brands=["hongtong"]))
    query = message("GetBasketRequest", basket_id=ID)
    await refused(eve.call("GetBasket", query), grpc.StatusCode.PERMISSION_DENIED)


# --- streams


async def rows(*numbers: int) -> AsyncIterator[Any]:
    for number in numbers:
        yield message("Row", number=number, text="abc")


async def test_a_client_stream_is_answered_once(shop: Client) -> None:
    assert (await shop.call("Upload", rows(1, 2, 3))).rows == 3


async def test_a_bad_message_in_a_stream_is_named_by_its_number(shop: Client) -> None:
    status = await refused(shop.call("Upload", rows(1, 0, 3)), grpc.StatusCode.INVALID_ARGUMENT)
    assert fields(status) == {"[2].number"}


async def test_a_tolerant_stream_hands_out_what_is_wrong(shop: Client) -> None:
    summary = await shop.call("UploadTolerant", rows(1, 0, 3))
    assert (summary.rows, summary.bad) == (2, 1)


async def test_a_server_stream_and_its_refusal(shop: Client) -> None:
    request = message("GetBasketRequest", basket_id=ID, mode="go", page_size=3)
    assert [row.number async for row in shop.call("Watch", request)] == [1, 2, 3]
    call = shop.call("Watch", message("GetBasketRequest", basket_id=ID, mode="refuse", page_size=1))

    async def drain() -> None:
        async for _ in call:
            pass

    await refused(drain(), grpc.StatusCode.FAILED_PRECONDITION)


async def test_a_stream_both_ways(shop: Client) -> None:
    assert [(row.number, row.text) async for row in shop.call("Chat", rows(1, 2))] == [(1, "cba"), (2, "cba")]


# --- deadlines and the end


async def test_a_deadline_ends_the_call(shop: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shop.call("GetBasket", message("GetBasketRequest", basket_id=ID, mode="forever"), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_deadline_that_has_passed_begins_nothing(shop: Client, backend: Backend) -> None:
    # Over a connection a deadline this short is rarely seen by the server, so its handler is asked directly.
    class Late:
        code: Any = None

        def time_remaining(self) -> float:
            return 0.0

        def auth_context(self) -> dict[str, list[bytes]]:
            return {}

        def invocation_metadata(self) -> list[tuple[str, str]]:
            return shop.metadata({})

        async def abort(self, code: grpc.StatusCode, *_: Any, **__: Any) -> None:
            self.code = code
            raise grpc.aio.AbortError

    late = Late()
    handler: Any = handlers(make_api(), backend)["OpenBasket"]
    with pytest.raises(grpc.aio.AbortError):
        await handler.unary_unary(opening(basket_id=ID).SerializeToString(), late)
    assert late.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert [page async for page in backend.commands._store.read_stream(f"basket-{ID}")] == []


async def test_draining_finishes_calls_under_way_and_takes_no_new_ones(
    server: GrpcServer, channel: grpc.aio.Channel, shop: Client
) -> None:
    edge_shop.STARTED = asyncio.Event()
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    under_way = asyncio.ensure_future(
        shop.call("GetBasket", message("GetBasketRequest", basket_id=ID, mode="slow"))
    )
    await edge_shop.STARTED.wait()
    drained = asyncio.create_task(server.drain())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert (await under_way).basket_id == ID
    watch.cancel()
    await drained
    with pytest.raises(grpc.aio.AioRpcError):
        await shop.call("OpenBasket", opening(), timeout=1)


async def test_health_is_answered_for_each_service(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", "edge.shop.v1.ShopService"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_services_and_gives_descriptors(channel: grpc.aio.Channel) -> None:
    async def asking() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol="edge.shop.v1.ShopService")

    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    listed, described = [answer async for answer in stub.ServerReflectionInfo(asking())]
    assert "edge.shop.v1.ShopService" in {s.name for s in listed.list_services_response.service}
    assert described.file_descriptor_response.file_descriptor_proto


async def test_a_taken_port_is_an_error(server: GrpcServer, backend: Backend) -> None:
    other = GrpcServer([(make_api(), backend)])
    with pytest.raises(OSError, match="cannot listen"):
        await other.start("127.0.0.1", server.port)
