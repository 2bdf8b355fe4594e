"""The stand-in's gRPC services: Streams and Gossip, with the errors of the server that they stand for."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import grpc
from google.protobuf import any_pb2, empty_pb2
from kurrentdbclient.protos.v1 import gossip_pb2, shared_pb2, status_pb2, streams_pb2
from kurrentdbclient.protos.v1.gossip_pb2_grpc import GossipServicer, add_GossipServicer_to_server
from kurrentdbclient.protos.v1.streams_pb2_grpc import StreamsServicer, add_StreamsServicer_to_server

from forecourt.testing.eventstoredb_standin import reading
from forecourt.testing.eventstoredb_standin.log import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    EventLog,
    InvalidPosition,
    Proposed,
    StreamDeleted,
    WrongRevision,
)

Context = grpc.aio.ServicerContext[Any, Any]

MAX_MESSAGE = 17 * 1024 * 1024
_NAMED_REVISIONS = {"no_stream": NO_STREAM, "any": ANY, "stream_exists": STREAM_EXISTS}

# google.rpc.Code, which the server puts beside the details.
_ALREADY_EXISTS, _NOT_FOUND, _INVALID_ARGUMENT = 6, 5, 3


@dataclass
class Faults:
    """Misbehaviour on request: ``lose_replies`` appends are stored, and the call breaks before the answer."""

    lose_replies: int = 0


@dataclass
class _Batch:
    """An append that comes in several messages."""

    stream: str
    expected: int
    events: list[Proposed] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes as the server counts them."""
        return sum(len(event.data) + len(event.metadata) + 2 * len(event.type) for event in self.events)


class Streams(StreamsServicer):
    """``event_store.client.streams.Streams``."""

    def __init__(self, log: EventLog, *, max_append_size: int, faults: Faults) -> None:
        self._log = log
        self._max_append_size = max_append_size
        self._faults = faults

    async def Read(  # noqa: N802
        self, request: streams_pb2.ReadReq, context: Context
    ) -> AsyncIterator[streams_pb2.ReadResp]:
        options = request.options
        try:
            if options.WhichOneof("count_option") != "subscription":
                for response in reading.read(self._log, options):
                    yield response
                return
            on_stream = options.WhichOneof("stream_option") == "stream"
            following = reading.follow_stream if on_stream else reading.follow_all
            async for response in following(self._log, options):
                yield response
        except InvalidPosition:
            await context.abort(grpc.StatusCode.UNKNOWN, "Unexpected FilteredReadAllResult: InvalidPosition")
        except StreamDeleted:
            await _abort_deleted(context, options.stream.stream_identifier)

    async def BatchAppend(  # noqa: N802
        self,
        requests: AsyncIterator[streams_pb2.BatchAppendReq],
        context: Context,
    ) -> AsyncIterator[streams_pb2.BatchAppendResp]:
        pending: dict[str, _Batch] = {}
        async for request in requests:
            key = _id(request.correlation_id)
            if request.HasField("options"):
                options = request.options
                expected = _expected(options.WhichOneof("expected_stream_position"), options.stream_position)
                pending[key] = _Batch(options.stream_identifier.stream_name.decode(), expected)
            if key not in pending:
                continue
            batch = pending[key]
            batch.events.extend(_proposed(message) for message in request.proposed_messages)
            if request.is_final or batch.size > self._max_append_size:
                del pending[key]
                response = self._append_batch(batch)
                response.correlation_id.CopyFrom(request.correlation_id)
                response.stream_identifier.stream_name = batch.stream.encode()
                await self._maybe_lose_reply(context)
                yield response

    def _append_batch(self, batch: _Batch) -> streams_pb2.BatchAppendResp:
        if batch.size > self._max_append_size:
            too_large = shared_pb2.MaximumAppendSizeExceeded(maxAppendSize=self._max_append_size)
            return _error(_INVALID_ARGUMENT, "MaximumAppendSizeExceeded", too_large)
        try:
            revision, position = self._log.append(batch.stream, batch.events, batch.expected, _now())
        except WrongRevision as error:
            return _error(_ALREADY_EXISTS, "WrongExpectedVersion", _wrong_version(error))
        except StreamDeleted:
            identifier = shared_pb2.StreamIdentifier(stream_name=batch.stream.encode())
            return _error(_NOT_FOUND, "StreamDeleted", shared_pb2.StreamDeleted(stream_identifier=identifier))
        success = streams_pb2.BatchAppendResp.Success()
        if revision == NO_STREAM:
            success.no_stream.CopyFrom(empty_pb2.Empty())
            success.no_position.CopyFrom(empty_pb2.Empty())
        else:
            success.current_revision = revision
            success.position.CopyFrom(
                shared_pb2.AllStreamPosition(commit_position=position, prepare_position=position)
            )
        return streams_pb2.BatchAppendResp(success=success)

    async def _maybe_lose_reply(self, context: Context) -> None:
        if self._faults.lose_replies:
            self._faults.lose_replies -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")

    async def Append(  # noqa: N802
        self, requests: AsyncIterator[streams_pb2.AppendReq], context: Context
    ) -> streams_pb2.AppendResp:
        batch = _Batch("", ANY)
        async for request in requests:
            if request.WhichOneof("content") == "options":
                options = request.options
                expected = _expected(options.WhichOneof("expected_stream_revision"), options.revision)
                batch = _Batch(options.stream_identifier.stream_name.decode(), expected)
            else:
                batch.events.append(_proposed(request.proposed_message))
            if batch.size > self._max_append_size:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Maximum Append Size of {self._max_append_size} Exceeded.",
                    (
                        ("exception", "maximum-append-size-exceeded"),
                        ("maximum-append-size", str(self._max_append_size)),
                    ),
                )
        try:
            revision, position = self._log.append(batch.stream, batch.events, batch.expected, _now())
        except WrongRevision as error:
            return streams_pb2.AppendResp(wrong_expected_version=_append_wrong_version(error))
        except StreamDeleted:
            await _abort_deleted(context, shared_pb2.StreamIdentifier(stream_name=batch.stream.encode()))
        success = streams_pb2.AppendResp.Success(
            current_revision=revision,
            position=streams_pb2.AppendResp.Position(commit_position=position, prepare_position=position),
        )
        return streams_pb2.AppendResp(success=success)

    async def Delete(  # noqa: N802
        self, request: streams_pb2.DeleteReq, context: Context
    ) -> streams_pb2.DeleteResp:
        position = await self._delete(request.options, context, hard=False)
        place = streams_pb2.DeleteResp.Position(commit_position=position, prepare_position=position)
        return streams_pb2.DeleteResp(position=place)

    async def Tombstone(  # noqa: N802
        self, request: streams_pb2.TombstoneReq, context: Context
    ) -> streams_pb2.TombstoneResp:
        position = await self._delete(request.options, context, hard=True)
        place = streams_pb2.TombstoneResp.Position(commit_position=position, prepare_position=position)
        return streams_pb2.TombstoneResp(position=place)

    async def _delete(
        self,
        options: streams_pb2.DeleteReq.Options | streams_pb2.TombstoneReq.Options,
        context: Context,
        *,
        hard: bool,
    ) -> int:
        stream = options.stream_identifier.stream_name.decode()
        expected = _expected(options.WhichOneof("expected_stream_revision"), options.revision)
        position = -1
        try:
            position = self._log.delete(stream, expected, _now(), hard=hard)
        except StreamDeleted:
            await _abort_deleted(context, options.stream_identifier)
        except WrongRevision as error:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"Delete failed due to WrongExpectedVersion. Stream: {stream}, "
                f"Expected version: {error.expected}, Actual version: {error.actual}",
                (("exception", "wrong-expected-version"), ("stream-name", stream)),
            )
        return position


class Gossip(GossipServicer):
    """``event_store.client.gossip.Gossip``: a cluster of one, which leads."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port

    async def Read(  # noqa: N802
        self, request: shared_pb2.Empty, context: Context
    ) -> gossip_pb2.ClusterInfo:
        member = gossip_pb2.MemberInfo(
            instance_id=shared_pb2.UUID(string=str(UUID(int=1))),
            time_stamp=_now(),
            state=gossip_pb2.MemberInfo.VNodeState.Leader,
            is_alive=True,
            http_end_point=gossip_pb2.EndPoint(address=self._host, port=self._port),
        )
        return gossip_pb2.ClusterInfo(members=[member])


async def start_server(
    log: EventLog, host: str, port: int, *, max_append_size: int, faults: Faults
) -> grpc.aio.Server:
    """Start serving ``log`` on ``host``:``port``. Raises RuntimeError where the port is taken."""
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.so_reuseport", 0),
            # The client pings a quiet connection every 10 s, which gRPC's servers take amiss by default.
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
            ("grpc.keepalive_permit_without_calls", 1),
        )
    )
    streams = Streams(log, max_append_size=max_append_size, faults=faults)
    add_StreamsServicer_to_server(streams, server)  # type: ignore[no-untyped-call]  # generated, no types
    add_GossipServicer_to_server(Gossip(host, port), server)  # type: ignore[no-untyped-call]  # generated, no types
    server.add_insecure_port(f"{host}:{port}")
    await server.start()
    return server


def _now() -> int:
    """Now, in units of 100 ns since 1970, as the server dates its records."""
    return time.time_ns() // 100


def _id(uuid: shared_pb2.UUID) -> str:
    if uuid.WhichOneof("value") == "string":
        return uuid.string.lower()
    mask = 2**64 - 1
    bits = uuid.structured
    return str(UUID(int=(bits.most_significant_bits & mask) << 64 | bits.least_significant_bits & mask))


def _proposed(
    message: streams_pb2.AppendReq.ProposedMessage | streams_pb2.BatchAppendReq.ProposedMessage,
) -> Proposed:
    return Proposed(
        id=_id(message.id),
        type=message.metadata["type"],
        content_type=message.metadata["content-type"],
        data=message.data,
        metadata=message.custom_metadata,
    )


def _expected(choice: str | None, number: int) -> int:
    """The expected revision: the one that was chosen by name, else ``number``."""
    return _NAMED_REVISIONS.get(choice or "", number)


def _error(
    code: int,
    message: str,
    detail: shared_pb2.WrongExpectedVersion | shared_pb2.StreamDeleted | shared_pb2.MaximumAppendSizeExceeded,
) -> streams_pb2.BatchAppendResp:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status = status_pb2.Status(message=message, details=packed)
    status.code = code  # type: ignore[assignment]  # an enumeration of a package that the client does not ship
    return streams_pb2.BatchAppendResp(error=status)


def _wrong_version(error: WrongRevision) -> shared_pb2.WrongExpectedVersion:
    wrong = shared_pb2.WrongExpectedVersion()
    if error.actual == NO_STREAM:
        wrong.current_no_stream.CopyFrom(empty_pb2.Empty())
    else:
        wrong.current_stream_revision = error.actual
    if error.expected >= 0:
        wrong.expected_stream_position = error.expected
    elif error.expected == STREAM_EXISTS:
        wrong.expected_stream_exists.CopyFrom(empty_pb2.Empty())
    else:
        wrong.expected_no_stream.CopyFrom(empty_pb2.Empty())
    return wrong


def _append_wrong_version(error: WrongRevision) -> streams_pb2.AppendResp.WrongExpectedVersion:
    wrong = streams_pb2.AppendResp.WrongExpectedVersion()
    if error.actual == NO_STREAM:
        wrong.current_no_stream.CopyFrom(shared_pb2.Empty())
    else:
        wrong.current_revision = error.actual
    if error.expected >= 0:
        wrong.expected_revision = error.expected
    elif error.expected == STREAM_EXISTS:
        wrong.expected_stream_exists.CopyFrom(shared_pb2.Empty())
    else:
        wrong.expected_no_stream.CopyFrom(shared_pb2.Empty())
    return wrong


async def _abort_deleted(context: Context, identifier: shared_pb2.StreamIdentifier) -> None:
    stream = identifier.stream_name.decode()
    await context.abort(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"Event stream '{stream}' is deleted.",
        (("exception", "stream-deleted"), ("stream-name", stream)),
    )
