"""Every RPC of every service answers nonsense with the status that fits and the name of the field, over real gRPC."""

from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forecourt.discovery import find_services
from forecourt.rpc.binding import Kind
from tests.e2e.client import METHODS, Refusal, refusal
from tests.e2e.house import House
from tests.e2e.walk import Wrong, inner, is_map, omissions, plausible, wrongs
from tests.staff import Hats

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

RPCS = {
    f"{service.name}.{rpc.name}": rpc
    for service in find_services()
    for api in service.apis
    for rpc in api.rpcs.values()
}
ONE_REQUEST = sorted(
    name for name, rpc in RPCS.items() if rpc.kind in (Kind.COMMAND, Kind.QUERY, Kind.SERVER_STREAM)
)
COMMANDS = [name for name in ONE_REQUEST if RPCS[name].kind is Kind.COMMAND]

OF_NO_VERSION = {"sales.CaptureAdfLead"}
"""Makes any number of leads, so there is no version that could be expected."""

INVALID = grpc.StatusCode.INVALID_ARGUMENT
REFUSALS = frozenset(
    {
        INVALID,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)
"""The statuses with which a caller's mistakes are answered."""


class Wire:
    """Sends bytes, as any client in any language might."""

    def __init__(self, address: str, hats: Hats) -> None:
        self._channel = grpc.insecure_channel(address)
        self._hats = hats

    def identity(self, rpc: str) -> dict[str, str]:
        """The metadata that a call must have."""
        return {"authorization": self._hats.authorization(METHODS[rpc])}

    def send(self, rpc: str, wire: bytes, metadata: Mapping[str, str] | None = None) -> Refusal | None:
        """How a request was refused; None where it was not."""
        method = METHODS[rpc]
        path = f"/{method.containing_service.full_name}/{method.name}"
        sent = tuple((self.identity(rpc) if metadata is None else metadata).items())
        try:
            if method.server_streaming:
                list(self._channel.unary_stream(path, _same, _same)(wire, metadata=sent, timeout=30))
            else:
                self._channel.unary_unary(path, _same, _same)(wire, metadata=sent, timeout=30)
        except grpc.RpcError as error:
            return refusal(error)
        return None

    def stream(self, rpc: str, wires: list[bytes]) -> Refusal | list[bytes]:
        """What a stream of requests was answered with."""
        method = METHODS[rpc]
        call = self._channel.stream_stream(
            f"/{method.containing_service.full_name}/{method.name}", _same, _same
        )
        try:
            return list(call(iter(wires), metadata=tuple(self.identity(rpc).items()), timeout=30))
        except grpc.RpcError as error:
            return refusal(error)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def _same(wire: bytes) -> bytes:
    return wire


@pytest.fixture(scope="module")
def wire(house: House) -> Iterator[Wire]:
    opened = Wire(house.platform.addresses["grpc"], house.hats("tester"))
    yield opened
    opened.close()


def names(fields: Mapping[str, str], path: str) -> bool:
    """Whether the violations name a field, or one that it is part of."""
    plain = ".".join(part for part in path.split(".") if not part.isdigit())
    for field in fields:
        named = ".".join(part for part in field.split(".") if not part.strip("[]").isdigit())
        if f"{plain}.".startswith(f"{named}.") or f"{named}.".startswith(f"{plain}."):
            return True
    return False


def assert_answered(rpc: str, wrong: Wrong, answer: Refusal | None) -> None:
    """With a status that a caller's mistake has; with the field where that is what it is."""
    if answer is None:
        assert not wrong.must, f"{rpc}: {wrong.path} {wrong.what}: was accepted"
        return
    assert answer.code in REFUSALS, f"{rpc}: {wrong.path} {wrong.what}: {answer}"
    assert answer.slug, f"{rpc}: {wrong.path} {wrong.what}: {answer}"
    if wrong.must:
        assert answer.code is INVALID, f"{rpc}: {wrong.path} {wrong.what}: {answer}"
        assert names(answer.fields, wrong.path), f"{rpc}: {wrong.path} {wrong.what}: {answer}"
    if answer.code is INVALID:
        assert answer.fields, f"{rpc}: {wrong.path} {wrong.what}: {answer}"
        assert all(answer.fields.values())


@pytest.mark.parametrize("rpc", ONE_REQUEST)
def test_one_thing_wrong_is_named(wire: Wire, rpc: str) -> None:
    sound = wire.send(rpc, plausible(METHODS[rpc].input_type).SerializeToString())
    assert sound is None or (sound.code in REFUSALS and sound.code is not INVALID), sound
    problems = []
    request = METHODS[rpc].input_type
    for wrong in (*wrongs(request), *omissions(request, RPCS[rpc].model)):
        answer = wire.send(rpc, wrong.wire)
        try:
            assert_answered(rpc, wrong, answer)
        except AssertionError as problem:
            problems.append(str(problem).splitlines()[0])
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("rpc", ONE_REQUEST)
def test_wrong_metadata_is_named(wire: Wire, rpc: str) -> None:
    sound = plausible(METHODS[rpc].input_type).SerializeToString()
    for key, value in (
        ("command-id", "12345"),
        ("correlation-id", "x" * 300),
        ("causation-id", ""),
        ("expected-version", "-1"),
        ("expected-version", "99999999999999999999"),
        ("after-position", "1.5"),
        ("dealer-id", "x" * 101),
    ):
        answer = wire.send(rpc, sound, {**wire.identity(rpc), key: value})
        assert answer is not None, (key, value)
        assert (answer.code, set(answer.fields)) == (INVALID, {key}), answer
    foreign = wire.send(rpc, sound, {**wire.identity(rpc), "dealer-id": "D999"})
    assert foreign is not None
    assert foreign.code is grpc.StatusCode.PERMISSION_DENIED
    for authorization in ("", "Bearer", "Bearer x.y.z", "Basic dXNlcg==", "Bearer " + "x" * 10_000):
        nobody = wire.send(rpc, sound, {"authorization": authorization})
        assert nobody is not None
        assert nobody.code is grpc.StatusCode.UNAUTHENTICATED, (authorization[:30], nobody)
    assert getattr(wire.send(rpc, sound, {}), "code", None) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("rpc", [rpc for rpc in COMMANDS if rpc not in OF_NO_VERSION])
def test_a_stale_version_is_never_accepted(wire: Wire, rpc: str) -> None:
    sound = plausible(METHODS[rpc].input_type).SerializeToString()
    answer = wire.send(rpc, sound, {**wire.identity(rpc), "expected-version": "987654"})
    assert answer is not None
    assert answer.code in REFUSALS - {INVALID}, answer
    if answer.code is grpc.StatusCode.ABORTED:
        assert "expected-version" in answer.fields


def messages(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy[Message]:
    """Any message of a type, whatever its fields are meant for."""
    cls = GetMessageClass(descriptor)
    fields = {
        field.name: st.lists(_any(field, depth), max_size=3) if field.is_repeated else _any(field, depth)
        for field in descriptor.fields
        if not (field.type == FieldDescriptor.TYPE_MESSAGE and (depth > 2 or is_map(field)))
    }
    return st.fixed_dictionaries({}, optional=fields).map(lambda given: cls(**given))


def _any(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    kinds: dict[int, st.SearchStrategy[Any]] = {
        FieldDescriptor.TYPE_STRING: st.text(max_size=60),
        FieldDescriptor.TYPE_BYTES: st.binary(max_size=60),
        FieldDescriptor.TYPE_ENUM: st.integers(-(2**31), 2**31 - 1),
        FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        FieldDescriptor.TYPE_BOOL: st.booleans(),
    }
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return messages(inner(field), depth + 1)
    return kinds[field.type]


def _mutated(draw: Any, sound: bytes) -> bytes:
    """A sound message with some bytes changed, left out or put in."""
    start = draw(st.integers(0, len(sound)))
    end = draw(st.integers(start, min(len(sound), start + 4)))
    return sound[:start] + draw(st.binary(max_size=6)) + sound[end:]


SEARCH = settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


@SEARCH
@given(data=st.data())
def test_any_message_is_answered(wire: Wire, data: st.DataObject) -> None:
    rpc = data.draw(st.sampled_from(ONE_REQUEST))
    message = data.draw(messages(METHODS[rpc].input_type))
    assert_answered(
        rpc,
        Wrong("any", "", message.SerializeToString(), must=False),
        wire.send(rpc, message.SerializeToString()),
    )


@SEARCH
@given(data=st.data())
def test_any_bytes_are_answered(wire: Wire, data: st.DataObject) -> None:
    rpc = data.draw(st.sampled_from(ONE_REQUEST))
    sound = plausible(METHODS[rpc].input_type).SerializeToString()
    sent = data.draw(st.binary(max_size=200)) if data.draw(st.booleans()) else _mutated(data.draw, sound)
    assert_answered(rpc, Wrong("bytes", "", sent, must=False), wire.send(rpc, sent))


def test_one_thing_wrong_in_a_stream_is_reported_with_its_row(wire: Wire) -> None:
    """An import goes on after a bad row: each is reported, with the field."""
    rpc = "customer.ImportCustomers"
    method = METHODS[rpc]
    for wrong in wrongs(method.input_type):
        answer = wire.stream(rpc, [wrong.wire])
        if isinstance(answer, Refusal):
            assert_answered(rpc, wrong, answer)
            continue
        chunks: list[Any] = [GetMessageClass(method.output_type).FromString(one) for one in answer]
        reports = [row for chunk in chunks for row in chunk.rows]
        if wrong.must:
            assert [row.outcome for row in reports] == [2], (wrong.what, wrong.path, reports)
            assert reports[0].reason, (wrong.what, wrong.path)


def test_a_message_over_the_limit_is_refused_before_it_is_read(wire: Wire) -> None:
    answer = wire.send("customer.GetCustomer", b"x" * 20_000_000)
    assert answer is not None
    assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.asyncio(loop_scope="module")
async def test_no_process_died_and_nothing_was_unforeseen(house: House) -> None:
    """Runs last: the platform's processes are those that were started, and counted no internal error."""
    assert {
        name: child.restarts for name, child in house.platform.supervisor.children.items()
    } == dict.fromkeys(house.platform.supervisor.children, 0)
    serve = next(name for name in house.platform.addresses if name.startswith("serve"))
    for kind in ("commands", "queries"):
        assert await house.metric(serve, f"forecourt_{kind}_total") > 0
        assert await house.metric(serve, f"forecourt_{kind}_total", 'outcome="internal"') == 0
