"""A small service with its own proto, compiled at import: what the edge's tests call."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import grpc
import msgspec
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc
from pydantic import BaseModel, ConfigDict, Field

from forecourt.access.callers import Callers
from forecourt.access.certificates import CertificateIdentities
from forecourt.access.development import DevelopmentTokens
from forecourt.access.permissions import Permissions
from forecourt.access.scope import Scope
from forecourt.access.tokens import TokenVerifier
from forecourt.audit.edge import Audit
from forecourt.audit.trail import AuditTrail
from forecourt.clock import ManualClock
from forecourt.codec import Codec
from forecourt.command_handler import CommandHandler, Outcome
from forecourt.deciders import Command, Context, Decider
from forecourt.errors import AlreadyExists, Forbidden, InvalidInput, LimitExceeded, Refused
from forecourt.events import Event
from forecourt.eventstore.memory import MemoryEventStore, MemoryLog
from forecourt.eventstore.port import StoreUnavailable
from forecourt.privacy.export import Export
from forecourt.privacy.keys import MemoryKeys
from forecourt.projections.projection import Projection
from forecourt.rpc.binding import Api, Call
from forecourt.rpc.calls import MetadataReader
from forecourt.rpc.endpoints import Backend
from forecourt.service import Service

PROTO = """
syntax = "proto3";
package edge.shop.v1;
import "crm/access/access.proto";
import "crm/privacy/privacy.proto";
import "google/protobuf/timestamp.proto";
import "google/type/date.proto";

enum BasketKind {
  BASKET_KIND_UNSPECIFIED = 0;
  BASKET_KIND_SMALL = 1;
  BASKET_KIND_EXTRA_LARGE = 2;
}
message Money { string amount = 1; string currency = 2; }
message Line { string sku = 1; int32 quantity = 2; Money price = 3; }
message OpenBasketRequest {
  string basket_id = 1;
  string name = 2;
  BasketKind kind = 3;
  repeated Line lines = 4;
  google.protobuf.Timestamp due = 5;
  optional string note = 6;
  repeated string tags = 7;
  map<string, string> labels = 8;
  double weight = 9;
  string document = 10;
  google.type.Date day = 11;
}
message CloseBasketRequest { string basket_id = 1; }
message CommandResult { string id = 1; int64 version = 2; int64 position = 3; }
message WrappedResult { CommandResult result = 1; }
message GetBasketRequest { string basket_id = 1; string mode = 2; int32 page_size = 3; }
message Basket {
  string basket_id = 1 [(crm.privacy.person) = true];
  string name = 2 [(crm.privacy.personal) = true];
  BasketKind kind = 3;
  repeated Line lines = 4;
  google.protobuf.Timestamp due = 5;
  string total = 6;
  google.type.Date day = 7;
}
message ListBasketsResponse { repeated Basket baskets = 1; string next_page_token = 2; }
message Row { int32 number = 1; string text = 2; }
message Summary { int32 rows = 1; int32 bad = 2; }

service ShopService {
  rpc OpenBasket(OpenBasketRequest) returns (CommandResult) { option (crm.access.requires) = "shop.basket.edit"; }
  rpc CloseBasket(CloseBasketRequest) returns (WrappedResult) { option (crm.access.requires) = "shop.basket.edit"; }
  rpc EmptyBasket(CloseBasketRequest) returns (CommandResult) { option (crm.access.requires) = "shop.basket.edit"; }
  rpc OpenTwice(GetBasketRequest) returns (CommandResult) { option (crm.access.requires) = "shop.basket.edit"; }
  rpc GetBasket(GetBasketRequest) returns (Basket) { option (crm.access.requires) = "shop.basket.view"; }
  rpc ListBaskets(GetBasketRequest) returns (ListBasketsResponse) { option (crm.access.requires) = "shop.basket.view"; }
  rpc Upload(stream Row) returns (Summary) { option (crm.access.requires) = "shop.rows.upload"; }
  rpc UploadTolerant(stream Row) returns (Summary) { option (crm.access.requires) = "shop.rows.upload"; }
  rpc Watch(GetBasketRequest) returns (stream Row) { option (crm.access.requires) = "shop.basket.view"; }
  rpc Chat(stream Row) returns (stream Row) { option (crm.access.requires) = "shop.rows.upload"; }
}

service CarelessService {
  rpc GetBasket(GetBasketRequest) returns (Basket);
  rpc ListBaskets(GetBasketRequest) returns (ListBasketsResponse) { option (crm.access.requires) = "All baskets!"; }
}
"""


CONTRACT = Path(__file__).parents[2] / "proto"


def _compile() -> None:
    folder = Path(tempfile.mkdtemp(prefix="edge-shop-"))
    (folder / "edge" / "shop" / "v1").mkdir(parents=True)
    (folder / "edge" / "shop" / "v1" / "shop.proto").write_text(PROTO)
    import google.type

    common = str(Path(next(iter(google.type.__path__))).parent.parent)
    wellknown = str(Path(protoc.__file__).parent / "_proto")
    arguments = [
        "protoc",
        f"-I{folder}",
        f"-I{common}",
        f"-I{wellknown}",
        f"-I{CONTRACT}",
        f"--python_out={folder}",
    ]
    assert protoc.main([*arguments, "edge/shop/v1/shop.proto"]) == 0
    sys.path.append(str(folder))


_compile()

Kind = Literal["small", "extra_large"]


class Price(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    amount: Decimal
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]


class BasketLine(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    sku: str = Field(max_length=20)
    quantity: int = Field(ge=1)
    price: Price


class BasketOpened(Event, name="BasketOpened", version=1):
    name: str
    kind: Kind


class BasketClosed(Event, name="BasketClosed", version=1):
    pass


class BasketIsClosed(Refused):
    """A closed basket stays closed."""


class OpenBasket(Command, creates=True):
    basket_id: UUID | None = None
    name: str
    kind: Kind
    lines: tuple[BasketLine, ...]
    due: datetime | None = None
    note: str | None = None
    tags: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    weight: float = 1.0
    document: str = Field(default="", max_length=50_000)
    day: Any = None


class CloseBasket(Command):
    basket_id: UUID


class EmptyBasket(Command):
    """Every basket of this shop is empty already."""

    basket_id: UUID


class GetBasket(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    basket_id: UUID
    mode: str = "row"
    page_size: int = Field(default=50, ge=1)


class UploadedRow(BaseModel):
    number: int = Field(ge=1)
    text: str


@dataclass(frozen=True)
class BasketState:
    closed: bool = False


basket: Decider[BasketState] = Decider(
    service="shop", category="basket", initial=BasketState(), key="basket_id"
)


@basket.decides
def _(_state: BasketState, c: OpenBasket, _ctx: Context) -> list[Event]:
    return [BasketOpened(name=c.name, kind=c.kind)]


@basket.decides
def _(state: BasketState, _c: CloseBasket, _ctx: Context) -> list[Event]:
    if state.closed:
        raise BasketIsClosed("basket: is closed")
    return [BasketClosed()]


@basket.decides
def _(_state: BasketState, _c: EmptyBasket, _ctx: Context) -> list[Event]:
    return []


@basket.evolves
def _(state: BasketState, _e: BasketOpened) -> BasketState:
    return state


@basket.evolves
def _(state: BasketState, _e: BasketClosed) -> BasketState:
    return replace(state, closed=True)


LINE = BasketLine(sku="x", quantity=2, price=Price(amount=Decimal("1.50"), currency="CNY"))


@dataclass(frozen=True)
class BasketRow:
    basket_id: UUID
    name: str = "A"
    kind: Kind = "extra_large"
    lines: tuple[BasketLine, ...] = (LINE,)
    due: datetime | None = None
    total: Decimal = Decimal("3E+2")
    day: Any = None


@dataclass(frozen=True)
class Page:
    items: list[BasketRow]
    next_page_token: str


async def open_twice(query: GetBasket, call: Call) -> Outcome:
    opening = OpenBasket(name="both", kind="small", lines=(), basket_id=query.basket_id)
    if query.mode == "lenient":
        with suppress(AlreadyExists):
            await call.commands.execute(basket, opening, label="open")
        return await call.commands.execute(basket, EmptyBasket(basket_id=query.basket_id), label="empty")
    opened = await call.commands.execute(basket, opening, label="open")
    closed = await call.commands.execute(basket, CloseBasket(basket_id=opened.id), label="close")
    assert await call.commands.position(basket, opened.id) == closed.position
    return closed


async def get_basket(query: GetBasket, call: Call) -> Any:
    match query.mode:
        case "missing":
            return None
        case "crash":
            raise ZeroDivisionError("secret 13800138000")
        case "away":
            raise StoreUnavailable("event store: gone")
        case "refused":
            raise ConnectionRefusedError("nobody there")
        case "slow":
            STARTED.set()
            await asyncio.sleep(0.5)
            FINISHED.append("slow")
        case "forever":
            await asyncio.sleep(30)
        case "dict":
            return {"basket_id": query.basket_id, "kind": "small"}
        case "denied":
            raise Forbidden("basket: is not yours")
        case "too fast":
            raise LimitExceeded("too many calls")
    return BasketRow(query.basket_id, due=call.context.now)


async def list_baskets(query: GetBasket, _call: Call) -> Page:
    return Page([BasketRow(query.basket_id)] * 2, "more")


async def upload(rows: AsyncIterator[UploadedRow | InvalidInput], _call: Call) -> dict[str, int]:
    good = bad = 0
    async for row in rows:
        good, bad = good + isinstance(row, UploadedRow), bad + isinstance(row, InvalidInput)
    return {"rows": good, "bad": bad}


async def watch(query: GetBasket, _call: Call) -> AsyncIterator[dict[str, Any]]:
    for number in range(1, query.page_size + 1):
        yield {"number": number, "text": query.mode}
    if query.mode == "refuse":
        raise BasketIsClosed("basket: is closed")


async def chat(rows: AsyncIterator[UploadedRow], _call: Call) -> AsyncIterator[UploadedRow]:
    async for row in rows:
        yield row.model_copy(update={"text": row.text[::-1]})


STARTED = asyncio.Event()
FINISHED: list[str] = []


class StoredBasket(msgspec.Struct, frozen=True):
    """A read model that nobody fills: queries only wait for it."""

    basket_id: UUID
    dealer_id: str
    brand: str


baskets = Projection("basket", version=1, row=StoredBasket, key="basket_id")


def make_api() -> Api:
    """The whole table, bound rightly."""
    api = Api("edge.shop.v1.ShopService")
    api.command("OpenBasket", basket, OpenBasket)
    api.command("CloseBasket", basket, CloseBasket)
    api.command("EmptyBasket", basket, EmptyBasket)
    api.command("OpenTwice", handle=open_twice)
    api.query("GetBasket", GetBasket, get_basket, reads=[baskets])
    api.query("ListBaskets", GetBasket, list_baskets)
    api.client_stream("Upload", UploadedRow, upload)
    api.client_stream("UploadTolerant", UploadedRow, upload, tolerant=True)
    api.server_stream("Watch", GetBasket, watch)
    api.bidi_stream("Chat", UploadedRow, chat)
    return api


@dataclass
class Waiting:
    """Read models that only note how fresh they should be."""

    asked: list[int] = field(default_factory=list)

    def within(self, _scope: Scope) -> "Waiting":
        return self

    async def wait_for(self, _projection: Any, position: int, _timeout: float) -> None:
        self.asked.append(position)


ROLES = {
    "salesperson": frozenset({"shop.basket.edit", "shop.basket.view", "shop.rows.upload"}),
    "auditor": frozenset({"shop.basket.view"}),
}
TOKENS = DevelopmentTokens(Path(tempfile.mkdtemp(prefix="forecourt-edge-")), audience="forecourt")


def make_callers() -> Callers:
    """Believes the tokens of `TOKENS`."""
    return Callers(TokenVerifier(TOKENS.keys, audience="forecourt"), CertificateIdentities(None))


def make_backend(log: MemoryLog | None = None) -> Backend:
    """A backend on a store in memory, an empty one by default."""
    service = Service(name="shop", deciders=[basket])
    clock = ManualClock()
    store, keys = MemoryEventStore(log), MemoryKeys()
    audit = Audit.to(AuditTrail(store, clock))
    return Backend(
        service="shop",
        commands=CommandHandler(store, Codec(service.registry, on_damage=audit.damage.note)),
        read_models=Waiting(),
        clock=clock,
        settings=None,
        metadata=MetadataReader(make_callers(), clock),
        audit=audit,
        permissions=Permissions(ROLES),
        hashes=keys,
        export=Export(store, keys, ()),
    )


def message(name: str, /, **fields: Any) -> Any:
    """A message of the shop's proto."""
    return GetMessageClass(make_api().descriptor().file.message_types_by_name[name])(**fields)


def _serialize(request: Any) -> bytes:
    raw: bytes = request if isinstance(request, bytes) else request.SerializeToString()
    return raw


class Client:
    """Calls the shop by method name, over a real channel."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel = channel
        self.token = token
        self._methods = make_api().descriptor().methods_by_name

    def metadata(self, extra: dict[str, str]) -> list[tuple[str, str]]:
        """The token, and what the test adds."""
        given = {"authorization": f"Bearer {self.token}"} | extra
        return [(key, value) for key, value in given.items() if value != ""]

    def call(self, rpc: str, request: Any, *, timeout: float | None = 5, **metadata: str) -> Any:
        """The call, to await or to iterate. A request may be raw bytes."""
        method = self._methods[rpc]
        streams = {
            (False, False): self._channel.unary_unary,
            (True, False): self._channel.stream_unary,
            (False, True): self._channel.unary_stream,
            (True, True): self._channel.stream_stream,
        }
        make: Any = streams[method.client_streaming, method.server_streaming]
        multi = make(
            f"/{make_api().full_name}/{rpc}", _serialize, GetMessageClass(method.output_type).FromString
        )
        extra = {key.replace("_", "-"): value for key, value in metadata.items()}
        return multi(request, timeout=timeout, metadata=self.metadata(extra))
