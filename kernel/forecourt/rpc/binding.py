"""The gRPC edge as a table: each RPC is a command, a query or a stream.

::

    api = Api("crm.sales.v1.SalesService")
    api.command("PlaceOrder", order, PlaceOrder)                # fields by name, decided by ``order``
    api.command("ReserveVehicle", handle=reserve_vehicle)       # async def (message: Model, call) -> Outcome
    api.query("GetOrder", GetOrder, get_order, reads=[orders])  # async def (query: GetOrder, call) -> row
    api.client_stream("ImportCustomers", ImportRow, import_customers)   # async def (rows, call) -> anything
    api.server_stream("Watch", Watch, watch)                    # async def (query, call): yield ...
    api.bidi_stream("Sync", SyncRow, sync)                      # async def (rows, call): yield ...

A command is answered with ``CommandResult{id, version, position}`` (or whatever fields of the response the
outcome has). A query answers a row, dataclass, model, dict or message; where the response has a single field
besides ``next_page_token``, a row, a list or a `Page` is put into it. None is answered NOT_FOUND.

Every method of the proto service must be bound, and only those, and must say which permission it needs:
`Api.check` at start.
"""

import importlib
import pkgutil
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from pydantic import BaseModel

from forecourt.access.permissions import OPTION, permission_of
from forecourt.command_handler import Outcome
from forecourt.deciders import Command, Decider
from forecourt.projections.projection import Projection
from forecourt.rpc.calls import Call
from forecourt.rpc.convert_out import attributes, writer

__all__ = ["Api", "BindingError", "Call", "Kind", "Rpc"]

Function = Callable[..., Any]
Unary = Callable[[Any, Call], Awaitable[Any]]
ClientStream = Callable[[AsyncIterator[Any], Call], Awaitable[Any]]
ServerStream = Callable[[Any, Call], AsyncIterator[Any]]
BidiStream = Callable[[AsyncIterator[Any], Call], AsyncIterator[Any]]


class BindingError(Exception):
    """The table and the proto service contradict each other. Found at start."""


class Kind(Enum):
    """How an RPC is answered."""

    COMMAND = "command"
    QUERY = "query"
    CLIENT_STREAM = "client stream"
    SERVER_STREAM = "server stream"
    BIDI_STREAM = "bidirectional stream"


_STREAMING = {
    Kind.COMMAND: (False, False),
    Kind.QUERY: (False, False),
    Kind.CLIENT_STREAM: (True, False),
    Kind.SERVER_STREAM: (False, True),
    Kind.BIDI_STREAM: (True, True),
}


_OUTCOME = frozenset(("id", "version", "position"))


@dataclass(frozen=True)
class Rpc:
    """One line of the table. ``writes`` calls must know their dealer and brand."""

    name: str
    kind: Kind
    model: type[BaseModel]
    handle: Function | None = None
    decider: Decider[Any] | None = None
    reads: tuple[Projection[Any], ...] = ()
    writes: bool = False
    tolerant: bool = False


@dataclass
class Api:
    """The table of one proto service, by its full name (``crm.sales.v1.SalesService``)."""

    full_name: str
    rpcs: dict[str, Rpc] = field(default_factory=dict)

    def command(
        self,
        rpc: str,
        decider: Decider[Any] | None = None,
        command: type[Command] | None = None,
        *,
        handle: Unary | None = None,
    ) -> None:
        """Bind an RPC to one command of a decider, or to a function that runs several commands.

        The function's first parameter is annotated with the pydantic model of the message; it answers the
        `Outcome` to report, or anything with the response's fields.
        """
        if handle is not None:
            self._add(Rpc(rpc, Kind.COMMAND, _first_model(handle), handle, writes=True))
        elif decider is not None and command is not None:
            if command not in decider.commands:
                raise BindingError(
                    f"{self.full_name}.{rpc}: {decider.category} decides no {command.__qualname__}"
                )
            self._add(Rpc(rpc, Kind.COMMAND, command, decider=decider, writes=True))
        else:
            raise BindingError(f"{self.full_name}.{rpc}: needs a decider and a command, or handle=")

    def query(
        self, rpc: str, model: type[BaseModel], handle: Unary, *, reads: Sequence[Projection[Any]] = ()
    ) -> None:
        """Bind an RPC to a query; with ``after-position`` it waits until what it ``reads`` is that fresh."""
        self._add(Rpc(rpc, Kind.QUERY, model, handle, reads=tuple(reads)))

    def client_stream(
        self, rpc: str, model: type[BaseModel], handle: ClientStream, *, tolerant: bool = False
    ) -> None:
        """Bind an RPC that takes a stream and answers once.

        A message that does not fit ``model`` ends the call with INVALID_ARGUMENT naming its number; where
        ``tolerant``, the `InvalidInput` is handed to the function in the place of the message instead.
        """
        self._add(Rpc(rpc, Kind.CLIENT_STREAM, model, handle, writes=True, tolerant=tolerant))

    def server_stream(
        self, rpc: str, model: type[BaseModel], handle: ServerStream, *, reads: Sequence[Projection[Any]] = ()
    ) -> None:
        """Bind an RPC that answers with a stream; ``handle`` is an asynchronous generator."""
        self._add(Rpc(rpc, Kind.SERVER_STREAM, model, handle, reads=tuple(reads)))

    def bidi_stream(
        self, rpc: str, model: type[BaseModel], handle: BidiStream, *, tolerant: bool = False
    ) -> None:
        """Bind an RPC with streams both ways; see `client_stream` for ``tolerant``."""
        self._add(Rpc(rpc, Kind.BIDI_STREAM, model, handle, writes=True, tolerant=tolerant))

    def _add(self, rpc: Rpc) -> None:
        if rpc.name in self.rpcs:
            raise BindingError(f"{self.full_name}.{rpc.name}: bound twice")
        self.rpcs[rpc.name] = rpc

    def descriptor(self) -> ServiceDescriptor:
        """The proto service, imported by the convention that package ``a.b.v1`` is the folder ``a/b/v1``."""
        pool = descriptor_pool.Default()
        try:
            return pool.FindServiceByName(self.full_name)
        except KeyError:
            _import_generated(self.full_name.rpartition(".")[0])
        try:
            return pool.FindServiceByName(self.full_name)
        except KeyError:
            raise BindingError(f"{self.full_name}: is in no generated module; run 'make proto'") from None

    def check(self) -> list[tuple[MethodDescriptor, Rpc]]:
        """Each method with its line of the table. Raises `BindingError` where they do not match."""
        descriptor = self.descriptor()
        methods = {method.name: method for method in descriptor.methods}
        if unbound := methods.keys() - self.rpcs.keys():
            raise BindingError(f"{self.full_name}: not bound: {', '.join(sorted(unbound))}")
        if unknown := self.rpcs.keys() - methods.keys():
            raise BindingError(f"{self.full_name}: has no method {', '.join(sorted(unknown))}")
        for name, method in methods.items():
            kind = self.rpcs[name].kind
            self._require_permission(method)
            if (method.client_streaming, method.server_streaming) != _STREAMING[kind]:
                raise BindingError(
                    f"{self.full_name}.{name}: is bound as {kind.value}, the proto says otherwise"
                )
        return [(method, self.rpcs[name]) for name, method in methods.items()]

    def permissions(self) -> dict[str, str]:
        """The permission that each method of the proto service needs, by the method's name."""
        return {method.name: self._require_permission(method) for method in self.descriptor().methods}

    def _require_permission(self, method: MethodDescriptor) -> str:
        try:
            permission = permission_of(method)
        except ValueError as error:
            raise BindingError(f"{self.full_name}.{method.name}: {error}") from None
        if not permission:
            raise BindingError(
                f"{self.full_name}.{method.name}: says by no option ({OPTION}) who may call it"
            )
        return permission


def _import_generated(package: str) -> None:
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError:
        return
    for found in pkgutil.iter_modules(module.__path__):
        if found.name.endswith("_pb2"):
            importlib.import_module(f"{package}.{found.name}")


def _first_model(function: Function) -> type[BaseModel]:
    hints = typing.get_type_hints(function)
    name = function.__code__.co_varnames[0] if function.__code__.co_argcount else ""
    model = hints.get(name)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise BindingError(f"{function.__qualname__}: annotate its first parameter with a pydantic model")
    return model


def result_writer(method: MethodDescriptor) -> Callable[[Any], Message]:
    """From what a function answers to the response message."""
    response = method.output_type
    write = writer(response)
    names = [name for name in response.fields_by_name if name not in ("next_page_token", "total")]
    only = names[0] if len(names) == 1 else None

    def convert(result: Any) -> Message:
        if result is None:
            return write({})
        if isinstance(result, Message | dict) or only is None:
            return write(result)
        if isinstance(result, list | tuple):
            return write({only: result})
        known = attributes(type(result))
        if "items" in known and "next_page_token" in known:
            return write({only: result.items, "next_page_token": result.next_page_token})
        return write(result if only in known else {only: result})

    return convert


def outcome_writer(method: MethodDescriptor) -> Callable[[Outcome], Message]:
    """From a command's outcome to the response: id, version and position, or one message of them."""
    response = method.output_type
    answer = GetMessageClass(response)
    names = set(response.fields_by_name)
    if names >= _OUTCOME:
        return lambda o: answer(id=str(o.id), version=o.version, position=o.position)
    if (
        len(names) == 1
        and (inner := response.fields[0].message_type)
        and set(inner.fields_by_name) >= _OUTCOME
    ):
        (name,) = names
        return lambda o: answer(**{name: {"id": str(o.id), "version": o.version, "position": o.position}})
    raise BindingError(f"{response.full_name}: has no id, version and position to answer a command with")
