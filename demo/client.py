"""A client of the platform's public gRPC APIs, as a dealer's own program would write it."""

import csv
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp

from crm.common.v1.common_pb2 import Money
from crm.customer.v1 import customer_pb2
from crm.customer.v1.customer_pb2_grpc import CustomerServiceStub
from crm.notify.v1.notify_pb2_grpc import NotifyServiceStub
from crm.sales.v1.sales_pb2_grpc import SalesServiceStub
from crm.service_desk.v1.service_desk_pb2_grpc import ServiceDeskServiceStub

CHUNK_ROWS = 200
READING = ("Get", "List", "Search", "Query", "Count")
"""How the names of queries begin."""


class TokenSource(Protocol):
    """Issues tokens; `forecourt.platform.Platform` does."""

    def token(
        self,
        actor: str,
        *,
        roles: Sequence[str] = (),
        dealers: Sequence[str] = (),
        brands: Sequence[str] = (),
    ) -> str:
        """A token for an actor."""


class Staff:
    """Somebody at work: a token, and the stubs that send it with every call."""

    def __init__(
        self, channel: grpc.aio.Channel, tokens: TokenSource, actor: str, dealers: Sequence[str], role: str
    ) -> None:
        self.actor = actor
        self._dealers = frozenset(dealers)
        token = tokens.token(actor, roles=[role], dealers=dealers, brands=["hongtong"])
        metadata = [("authorization", f"Bearer {token}")]
        # Somebody who acts for several dealers says for which one a command is.
        writing = [("dealer-id", dealers[0])] if len(dealers) > 1 else []
        self.customer = Calls(CustomerServiceStub(channel), metadata, writing)
        self.sales = Calls(SalesServiceStub(channel), metadata, writing)
        self.desk = Calls(ServiceDeskServiceStub(channel), metadata, writing)
        self.notify = Calls(NotifyServiceStub(channel), metadata, writing)

    def serves(self, dealer_id: str) -> bool:
        """Whether this is somebody of that store."""
        return dealer_id in self._dealers


class Store:
    """The staff of one store, by what they do."""

    def __init__(self, channel: grpc.aio.Channel, tokens: TokenSource, dealer: str) -> None:
        def hire(role: str) -> Staff:
            return Staff(channel, tokens, f"{role.replace('_', '-')}-{dealer}", [dealer], role)

        self.seller = hire("salesperson")
        self.sales_manager = hire("sales_manager")
        self.adviser = hire("service_adviser")
        self.technician = hire("technician")
        self.workshop_manager = hire("workshop_manager")
        self.care = hire("customer_care_agent")
        self.cashier = hire("finance")


class Calls:
    """A stub whose methods send the metadata along: ``await calls.GetLead(request)``."""

    def __init__(self, stub: Any, metadata: list[tuple[str, str]], writing: list[tuple[str, str]]) -> None:
        self._stub = stub
        self._metadata = metadata
        self._writing = writing

    def __getattr__(self, rpc: str) -> Any:
        method = getattr(self._stub, rpc)
        metadata = self._metadata if rpc.startswith(READING) else [*self._metadata, *self._writing]

        def call(request: Any, *, after: int = 0, seconds: float = 30) -> Any:
            fresh = [("after-position", str(after))] if after else []
            return method(request, metadata=[*metadata, *fresh], timeout=seconds)

        return call


def money(amount: str | int | Decimal, currency: str = "CNY") -> Money:
    """A sum of money."""
    return Money(amount=str(Decimal(amount).quantize(Decimal("0.01"))), currency=currency)


def timestamp(moment: datetime) -> Timestamp:
    """A moment on the wire."""
    stamp = Timestamp()
    stamp.FromDatetime(moment.astimezone(UTC))
    return stamp


def read_rows(lines: Iterable[bytes]) -> list[customer_pb2.ImportRow]:
    """The rows of a customer file; a line that cannot be read becomes a row that says why."""
    numbered = enumerate(lines)
    _, header = next(numbered)
    columns = next(csv.reader([header.decode()]))
    return [_row(number, line, columns) for number, line in numbered]


def _row(number: int, line: bytes, columns: list[str]) -> customer_pb2.ImportRow:
    try:
        cells = next(csv.reader([line.decode()]))
    except UnicodeDecodeError:
        return customer_pb2.ImportRow(row=number, unreadable="broken encoding")
    if len(cells) != len(columns):
        return customer_pb2.ImportRow(row=number, unreadable="wrong number of columns")
    values = dict(zip(columns, cells, strict=True))
    values["dealer_id"] = values.pop("dealer")
    return customer_pb2.ImportRow(row=number, **values)


async def import_chunks(
    import_id: str, file_name: str, rows: Sequence[customer_pb2.ImportRow]
) -> AsyncIterator[customer_pb2.ImportCustomersRequest]:
    """The rows in chunks, as the import takes them."""
    for start in range(0, len(rows), CHUNK_ROWS):
        yield customer_pb2.ImportCustomersRequest(
            import_id=import_id, file_name=file_name, rows=rows[start : start + CHUNK_ROWS]
        )
