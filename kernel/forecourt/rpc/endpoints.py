"""Turns the lines of a binding table into gRPC handlers: one thin function per RPC, compiled at start.

Messages are parsed here and not by grpc, so that a malformed one is the caller's INVALID_ARGUMENT and not our
INTERNAL. The way of a command is kept short: an empty echo costs a third of a millisecond of Python already.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Protocol, cast
from uuid import UUID

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from pydantic import BaseModel, ValidationError

from forecourt import logs, metrics
from forecourt.access.permissions import PermissionMissing, Permissions, permission_of
from forecourt.audit.edge import Audit, RpcAudit
from forecourt.audit.subjects import subjects_of_request
from forecourt.audit.trail import AuditUnavailable
from forecourt.clock import Clock
from forecourt.command_handler import CommandHandler, Outcome
from forecourt.deciders import Command, Context, Decider
from forecourt.errors import ForecourtError, InvalidInput, NotFound, Unavailable, invalid_input
from forecourt.privacy.export import Export
from forecourt.privacy.keys import Hashes
from forecourt.projections.projection import Projection
from forecourt.projections.scoping import with_owners
from forecourt.rpc.binding import Api, Kind, Rpc, outcome_writer, result_writer
from forecourt.rpc.calls import Call, CallMetadata, MetadataReader, correlation_of
from forecourt.rpc.convert import reader
from forecourt.rpc.errors import DeadlineExceeded, internal_status, status_of, trailing, translate
from forecourt.rpc.streams import StreamNotRead, Streams

log = logs.get(__name__)

FRESHNESS_SECONDS = 5.0
"""How long a query waits for a read model at most; a shorter deadline of the caller counts instead."""

_ABORT_SECONDS = 1.0

Servicer = grpc.aio.ServicerContext[bytes, bytes]
Handler = Callable[..., Any]


class Freshness(Protocol):
    """The part of `forecourt.projections.queries.ReadModels` that waits for a read model."""

    async def wait_for(self, projection: Projection[Any], position: int, timeout: float) -> object:
        """Return when ``projection`` has reached ``position``."""


@dataclass(frozen=True)
class Backend:
    """What the calls of one service work with."""

    service: str
    commands: CommandHandler
    read_models: Any
    clock: Clock
    settings: Any
    metadata: MetadataReader
    audit: Audit
    permissions: Permissions
    hashes: Hashes
    export: Export
    streams: Streams = field(default_factory=Streams)


def handlers(api: Api, backend: Backend) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
    """The gRPC handlers of a proto service by method name. Raises `BindingError` or `ConversionError`."""
    return {method.name: _handler(method, rpc, backend) for method, rpc in api.check()}


def _handler(method: MethodDescriptor, rpc: Rpc, backend: Backend) -> "grpc.RpcMethodHandler[Any, Any]":
    endpoint = _Endpoint(method, rpc, backend)
    if rpc.kind is Kind.CLIENT_STREAM:
        return grpc.stream_unary_rpc_method_handler(endpoint.client_stream)
    if rpc.kind is Kind.SERVER_STREAM:
        return grpc.unary_stream_rpc_method_handler(endpoint.server_stream)
    if rpc.kind is Kind.BIDI_STREAM:
        return grpc.stream_stream_rpc_method_handler(endpoint.bidi_stream)
    if rpc.decider is not None:
        return grpc.unary_unary_rpc_method_handler(endpoint.single_command)
    return grpc.unary_unary_rpc_method_handler(endpoint.unary)


class _Endpoint:
    """One RPC: everything that can be looked up beforehand, is."""

    def __init__(self, method: MethodDescriptor, rpc: Rpc, backend: Backend) -> None:
        self._rpc = rpc
        self._backend = backend
        self._permission = permission_of(method)
        self._handle: Handler = rpc.handle or _unbound
        self._parse = GetMessageClass(method.input_type).FromString
        self._read = reader(method.input_type, rpc.model)
        self._validate = rpc.model.model_validate
        self._write = result_writer(method)
        self._decider: Decider[Any] = rpc.decider or _NO_DECIDER
        self._reads = with_owners(rpc.reads)
        self._outcome = outcome_writer(method) if rpc.decider is not None else _lazily(method)
        outcomes, seconds = (
            (metrics.COMMANDS, metrics.COMMAND_SECONDS)
            if rpc.writes
            else (metrics.QUERIES, metrics.QUERY_SECONDS)
        )
        self._outcomes = outcomes
        self._ok = outcomes.labels(backend.service, rpc.name, "ok")
        self._cancelled = outcomes.labels(backend.service, rpc.name, "cancelled")
        self._seconds = seconds.labels(backend.service, rpc.name)
        self._streamed = metrics.STREAMED.labels(backend.service, rpc.name)
        self._name = f"{backend.service}.{rpc.name}"
        self._audit = RpcAudit(backend.audit, self._name, method, commands=rpc.writes)

    # --- the four shapes of a call

    async def single_command(self, request: bytes, servicer: Servicer) -> bytes:
        started = perf_counter()
        try:
            metadata = await self._begin(servicer)
            command = cast(Command, self._model(request))
            context = self._audit.about(metadata.context, command, self._decider.named_by(command))
            outcome = await self._backend.commands.execute(
                self._decider, command, context, expected=metadata.expected
            )
            if outcome.unchanged:
                await self._audit.unchanged(metadata.identity, metadata.origin, outcome.id, command)
            answer = self._outcome(outcome).SerializeToString()
        except asyncio.CancelledError:
            self._cancelled.inc()
            raise
        except Exception as error:  # every error is answered in one place
            await self._fail(servicer, error, request)
            raise
        finally:
            self._seconds.observe(perf_counter() - started)
        self._ok.inc()
        return answer

    async def unary(self, request: bytes, servicer: Servicer) -> bytes:
        started = perf_counter()
        try:
            metadata = await self._begin(servicer)
            model = self._model(request)
            call = self._call(metadata, self._audit.about(metadata.context, model, None))
            if call.after_position:
                await self._wait_until_fresh(call, servicer)
            async with self._audit.noting(call):
                answer = await self._answer(await self._handle(model, call), call, model)
        except asyncio.CancelledError:
            self._cancelled.inc()
            raise
        except Exception as error:  # every error is answered in one place
            await self._fail(servicer, error, request)
            raise
        finally:
            self._seconds.observe(perf_counter() - started)
        self._ok.inc()
        return answer

    async def client_stream(self, requests: AsyncIterator[bytes], servicer: Servicer) -> bytes:
        started = perf_counter()
        try:
            metadata = await self._begin(servicer)
            call = self._call(metadata, metadata.context)
            models = self._models(requests, call)
            with self._backend.streams.one(call.identity.actor_id):
                async with self._audit.noting(call):
                    answer = await self._answer(await self._handle(models, call), call)
        except asyncio.CancelledError:
            self._cancelled.inc()
            raise
        except Exception as error:  # every error is answered in one place
            await self._fail(servicer, error)
            raise
        finally:
            self._seconds.observe(perf_counter() - started)
        self._ok.inc()
        return answer

    async def server_stream(self, request: bytes, servicer: Servicer) -> None:
        await self._send(self._stream(servicer, lambda _: self._model(request), request), servicer)

    async def bidi_stream(self, requests: AsyncIterator[bytes], servicer: Servicer) -> None:
        await self._send(self._stream(servicer, lambda call: self._models(requests, call)), servicer)

    async def _send(self, answers: AsyncGenerator[bytes, None], servicer: Servicer) -> None:
        """Send each answer before the next one is made, as fast as the caller takes them and no slower than it may."""
        async with aclosing(answers):
            async for answer in answers:
                try:
                    await self._backend.streams.write(servicer, answer)
                except asyncio.CancelledError:
                    self._cancelled.inc()
                    raise
                except StreamNotRead as error:
                    await self._fail(servicer, error)
                    raise

    async def _stream(
        self, servicer: Servicer, given: Callable[[Call], Any], request: bytes | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The answers of a stream; ``request`` is what it was asked with, where that is one message."""
        started = perf_counter()
        try:
            metadata = await self._begin(servicer)
            call = self._call(metadata, metadata.context)
            argument = given(call)
            with self._backend.streams.one(call.identity.actor_id):
                if call.after_position:
                    await self._wait_until_fresh(call, servicer)
                async with self._audit.noting(call):
                    async for result in self._handle(argument, call):
                        yield await self._answer(result, call, argument)
        except asyncio.CancelledError:
            self._cancelled.inc()
            raise
        except Exception as error:  # every error is answered in one place
            await self._fail(servicer, error, request)
            raise
        finally:
            self._seconds.observe(perf_counter() - started)
        self._ok.inc()

    # --- steps

    async def _begin(self, servicer: Servicer) -> CallMetadata:
        remaining = servicer.time_remaining()
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded("the deadline passed before the call was begun")
        given = servicer.invocation_metadata() or ()
        metadata = await self._backend.metadata.read(
            given, writes=self._rpc.writes, rpc=self._name, peer=servicer.auth_context
        )
        if self._permission not in self._backend.permissions.of(metadata.identity.roles):
            raise PermissionMissing(self._permission)
        return metadata

    def _call(self, metadata: CallMetadata, context: Context) -> Call:
        backend = self._backend
        return Call(
            metadata if context is metadata.context else replace(metadata, context=context),
            commands=backend.commands,
            read_models=backend.read_models,
            clock=backend.clock,
            settings=backend.settings,
            hashes=backend.hashes,
            export=backend.export,
        )

    def _model(self, request: bytes) -> BaseModel:
        try:
            return self._validate(self._read(self._parse(request)))
        except ValidationError as error:
            raise invalid_input(error) from None
        except DecodeError:
            reason = "is not well-formed protobuf, or a string in it is not UTF-8"
            raise InvalidInput(f"message: {reason}", fields={"message": reason}) from None

    async def _models(
        self, requests: AsyncIterator[bytes], call: Call
    ) -> AsyncIterator[BaseModel | InvalidInput]:
        number = 0
        async for request in self._backend.streams.receive(requests):
            number += 1
            self._streamed.inc()
            try:
                model: BaseModel | InvalidInput = self._model(request)
            except InvalidInput as error:
                if not self._rpc.tolerant:
                    fields = {f"[{number}].{path}": reason for path, reason in error.fields.items()}
                    raise InvalidInput(f"message {number}: {error.message}", fields=fields) from None
                call.refuse(error)
                model = error
            yield model

    async def _wait_until_fresh(self, call: Call, servicer: Servicer) -> None:
        read_models: Freshness = call.read_models
        remaining = servicer.time_remaining()
        limit = FRESHNESS_SECONDS if remaining is None else min(FRESHNESS_SECONDS, remaining)
        await asyncio.gather(
            *(read_models.wait_for(projection, call.after_position, limit) for projection in self._reads)
        )

    async def _answer(self, result: Any, call: Call, request: Any = None) -> bytes:
        """The answer, once the audit has what it must know of it."""
        if result is None and self._rpc.kind is Kind.QUERY:
            raise NotFound("not found")
        model = request if isinstance(request, BaseModel) else None
        if isinstance(result, Outcome):
            if result.unchanged and not call.commands.stored:
                await self._audit.unchanged(call.identity, call.origin, result.id, model)
            return self._outcome(result).SerializeToString()
        answer = self._write(result)
        if self._audit.persons is not None:
            await self._audit.read(call.identity, call.origin, model, answer)
        return answer.SerializeToString()

    def _subjects(self, request: bytes | None) -> list[UUID]:
        """What a refused request was about, as far as it can be read."""
        if request is None:
            return []
        try:
            model = self._model(request)
        except ForecourtError:
            with suppress(DecodeError):
                return subjects_of_request(None, self._parse(request))
            return []
        named = self._rpc.decider.named_by(cast(Command, model)) if self._rpc.decider is not None else None
        found = subjects_of_request(model, None)
        return found if named is None else [named, *(one for one in found if one != named)]

    async def _fail(self, servicer: Servicer, error: Exception, request: bytes | None = None) -> None:
        """Answer an error: note and count it, log it if nobody foresaw it, and end the call."""
        if isinstance(error, grpc.aio.AbortError):
            raise error
        service = self._backend.service
        known = translate(error)
        if known is None:
            correlation = correlation_of(servicer.invocation_metadata() or ())
            log.error(
                "call failed", service=service, rpc=self._rpc.name, correlation_id=correlation, exc_info=error
            )
            code, status = internal_status(service, correlation)
        else:
            code, status = status_of(known, service)
        try:
            given = servicer.invocation_metadata() or ()
            identity, origin = await self._backend.metadata.caller(given, servicer.auth_context, error)
            slug = known.slug if known else "internal"
            await self._audit.refused(identity, origin, error, code, slug, self._subjects(request))
        except AuditUnavailable as behind:
            known = behind
            code, status = status_of(known, service)
        if isinstance(known, Unavailable):
            log.warning("call not possible", service=service, rpc=self._rpc.name, error=known.slug)
        self._outcomes.labels(service, self._rpc.name, known.slug if known else "internal").inc()
        with suppress(TimeoutError):
            # A caller that reads nothing does not read this either: it is sent, and not waited for.
            async with asyncio.timeout(_ABORT_SECONDS):
                await servicer.abort(code, status.message, trailing_metadata=trailing(status))
        raise grpc.aio.AbortError


_NO_DECIDER: Decider[Any] = Decider(service="", category="", initial=None, key="id")


def _lazily(method: MethodDescriptor) -> Callable[[Outcome], Message]:
    """The writer of outcomes of an RPC whose function need not answer one."""

    def write(outcome: Outcome) -> Message:
        return outcome_writer(method)(outcome)

    return write


async def _unbound(*_: Any) -> Awaitable[None]:
    raise LookupError("bound to a decider, not to a function")
