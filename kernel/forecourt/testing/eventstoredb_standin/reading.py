"""The stand-in's ``Streams.Read``: reads and subscriptions, with the server's paging and checkpoints."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from uuid import UUID, uuid4

from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

from forecourt.testing.eventstoredb_standin.log import EventLog, Record

READ_BATCH = 32
"""Matching events that a page of the server holds at most."""

LIVE_BUFFER = 100
"""Records that a live subscription may lag behind before it is sent back to catching up."""

Options = streams_pb2.ReadReq.Options
Response = streams_pb2.ReadResp
Matches = Callable[[Record], bool]

_START = (-1, -1)


def matcher(options: Options) -> Matches:
    """The filter of a request as a predicate."""
    if options.WhichOneof("filter_option") != "filter":
        return lambda record: True
    by_stream = options.filter.WhichOneof("filter") == "stream_identifier"
    expression = options.filter.stream_identifier if by_stream else options.filter.event_type
    prefixes = tuple(expression.prefix)
    pattern = re.compile(expression.regex) if expression.regex else None

    def matches(record: Record) -> bool:
        value = record.stream if by_stream else record.event.type
        return bool(pattern.search(value)) if pattern else value.startswith(prefixes)

    return matches


def read(log: EventLog, options: Options) -> Iterator[Response]:
    """Answer a read that ends. Raises `InvalidPosition` or `StreamDeleted`."""
    if options.WhichOneof("stream_option") == "stream":
        yield from _read_stream(log, options)
    else:
        yield from _read_all(log, options)


def _read_stream(log: EventLog, options: Options) -> Iterator[Response]:
    stream = options.stream.stream_identifier.stream_name.decode()
    records = log.visible(stream)
    if not records:
        identifier = shared_pb2.StreamIdentifier(stream_name=stream.encode())
        yield Response(stream_not_found=Response.StreamNotFound(stream_identifier=identifier))
        return
    chosen = options.stream.WhichOneof("revision_option")
    revision = options.stream.revision
    if options.read_direction == Options.Forwards:
        start = revision if chosen == "revision" else (0 if chosen == "start" else records[-1].revision + 1)
        found = (record for record in records if record.revision >= start)
    else:
        end = revision if chosen == "revision" else (-1 if chosen == "start" else records[-1].revision)
        found = (record for record in reversed(records) if record.revision <= end)
    yield from (event_response(record, options) for record in islice(found, options.count))


def _read_all(log: EventLog, options: Options) -> Iterator[Response]:
    matches = matcher(options)
    match options.all.WhichOneof("all_option"):
        case "start":
            boundary = 0
        case "end":
            boundary = len(log.records)
        case _:
            boundary = log.index_at(options.all.position.commit_position)
    # The position is a boundary between records: the first one comes after it, backwards before it.
    forwards = options.read_direction == Options.Forwards
    indexes = range(boundary, len(log.records)) if forwards else range(boundary - 1, -1, -1)
    found = (log.records[index] for index in indexes if matches(log.records[index]))
    yield from (event_response(record, options) for record in islice(found, options.count))


async def follow_stream(log: EventLog, options: Options) -> AsyncIterator[Response]:
    """A subscription to one stream."""
    stream = options.stream.stream_identifier.stream_name.decode()
    chosen = options.stream.WhichOneof("revision_option")
    seen = log.revision(stream) if chosen == "end" else -1
    if chosen == "revision":
        seen = options.stream.revision
    yield _confirmation()
    caught_up = False
    while True:
        for record in log.visible(stream):
            if record.revision > seen:
                yield event_response(record, options)
                seen = record.revision
        if not caught_up:
            yield Response(caught_up=Response.CaughtUp())
            caught_up = True
        if log.revision(stream) <= seen:
            await log.changed()


async def follow_all(log: EventLog, options: Options) -> AsyncIterator[Response]:
    """A subscription to all streams, which ends only with its call. Raises `InvalidPosition`."""
    following = _Following(log, options)
    yield _confirmation()
    if following.checkpoint < (log.last_position, log.last_position):
        async for response in following.catch_up():
            yield response
    while True:
        async for response in following.live():
            yield response
        async for response in following.catch_up():
            yield response


class _Following:
    """A subscription: ``checkpoint`` is the place (commit, prepare) up to which the client is served."""

    def __init__(self, log: EventLog, options: Options) -> None:
        self._log = log
        self._options = options
        self._matches = matcher(options)
        self._filtered = options.WhichOneof("filter_option") == "filter"
        self._window = options.filter.max if self._filtered else READ_BATCH
        self._interval = self._window * options.filter.checkpointIntervalMultiplier
        chosen = options.all.WhichOneof("all_option")
        self.checkpoint = _START
        if chosen == "end":
            self.checkpoint = (log.last_position, log.last_position)
        elif chosen == "position":
            position = options.all.position
            self.checkpoint = (position.commit_position, position.prepare_position)

    async def catch_up(self) -> AsyncIterator[Response]:
        """Pages up to the present end. The last checkpoint may be the place of a record not yet written."""
        page_start = self.checkpoint
        considered = 0
        index = self._log.index_at(max(page_start[0], 0))
        while True:
            matched = examined = 0
            while index < len(self._log.records) and matched < READ_BATCH and examined < self._window:
                record = self._log.records[index]
                index, examined = index + 1, examined + 1
                if self._matches(record):
                    matched += 1
                    if (record.position, record.position) > self.checkpoint:
                        yield event_response(record, self._options)
                        self.checkpoint = (record.position, record.position)
            considered += examined
            at_end = matched < READ_BATCH and examined < self._window
            if at_end or (self._filtered and considered >= self._interval):
                considered = 0
                self.checkpoint = max(self.checkpoint, page_start)
                if self._filtered and self.checkpoint != _START:
                    yield _checkpoint(self.checkpoint)
            if at_end:
                return
            page_start = (self._log.records[index - 1].next_position, 0)

    async def live(self) -> AsyncIterator[Response]:
        """What is appended, as it comes, until the subscriber lags too far behind."""
        yield Response(caught_up=Response.CaughtUp())
        index = self._first_unseen()
        considered = 0
        while True:
            if len(self._log.records) - index > LIVE_BUFFER:
                yield Response(fell_behind=Response.FellBehind())
                if self._filtered and self.checkpoint != _START:
                    yield _checkpoint(self.checkpoint)
                return
            if index == len(self._log.records):
                await self._log.changed()
                continue
            record = self._log.records[index]
            index, considered = index + 1, considered + 1
            place = (record.position, record.position)
            if self._matches(record):
                yield event_response(record, self._options)
                self.checkpoint = place
            elif self._filtered and considered >= self._interval:
                considered = 0
                self.checkpoint = place
                yield _checkpoint(place)

    def _first_unseen(self) -> int:
        commit, prepare = self.checkpoint
        index = self._log.index_after(commit)
        # (c, 0) comes before the record at c, (c, c) is that record itself.
        return index - 1 if index and prepare < commit == self._log.records[index - 1].position else index


def event_response(record: Record, options: Options) -> Response:
    """A record as the server sends it."""
    event = record.event
    recorded = Response.ReadEvent.RecordedEvent(
        id=_uuid(event.id, options),
        stream_identifier=shared_pb2.StreamIdentifier(stream_name=record.stream.encode()),
        stream_revision=record.revision,
        prepare_position=record.position,
        commit_position=record.position,
        metadata={"type": event.type, "created": str(record.created), "content-type": event.content_type},
        custom_metadata=event.metadata,
        data=event.data,
    )
    return Response(event=Response.ReadEvent(event=recorded, commit_position=record.position))


def _uuid(text: str, options: Options) -> shared_pb2.UUID:
    if options.uuid_option.WhichOneof("content") == "string":
        return shared_pb2.UUID(string=text)
    number = UUID(text).int
    high, low = number >> 64, number & (2**64 - 1)
    signed = [half - 2**64 if half >= 2**63 else half for half in (high, low)]
    structured = shared_pb2.UUID.Structured(most_significant_bits=signed[0], least_significant_bits=signed[1])
    return shared_pb2.UUID(structured=structured)


def _confirmation() -> Response:
    return Response(confirmation=Response.SubscriptionConfirmation(subscription_id=str(uuid4())))


def _checkpoint(place: tuple[int, int]) -> Response:
    return Response(checkpoint=Response.Checkpoint(commit_position=place[0], prepare_position=place[1]))
