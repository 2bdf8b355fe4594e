"""A client of the sales API over real gRPC, for the tests: calls by name, with the metadata that a caller sends."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from sales.api import api
from tests.staff import Hats

METHODS = {method.name: method for method, _ in api.check()}


class Answered(Exception):
    """The server answered with an error: its code, slug and fields."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        super().__init__(f"{error.code().name}: {error.details()}")
        self.code = error.code()
        self.slug = ""
        self.fields: dict[str, str] = {}
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has all that it reads
        for detail in status.details if status else ():
            if detail.Is(ErrorInfo.DESCRIPTOR):
                info = ErrorInfo()
                detail.Unpack(info)
                self.slug = info.reason
            elif detail.Is(BadRequest.DESCRIPTOR):
                bad = BadRequest()
                detail.Unpack(bad)
                self.fields = {each.field: each.description for each in bad.field_violations}


@dataclass
class SalesClient:
    """Calls RPCs with dicts in the JSON form of their messages; remembers the last position written."""

    channel: grpc.aio.Channel
    hats: Hats
    position: int = 0
    stubs: dict[str, Any] = field(default_factory=dict)

    async def __call__(
        self,
        rpc: str,
        message: Mapping[str, Any] | None = None,
        /,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The answer, as a dict with the names of the proto fields. Raises `Answered`."""
        method = METHODS[rpc]
        request = ParseDict(dict(message or {}), GetMessageClass(method.input_type)())
        if rpc not in self.stubs:
            self.stubs[rpc] = self.channel.unary_unary(
                f"/crm.sales.v1.SalesService/{rpc}",
                request_serializer=lambda sent: sent.SerializeToString(),
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
        sent = {
            "authorization": self.hats.authorization(method),
            "command-id": str(uuid4()),
            **(metadata or {}),
        }
        if rpc.startswith(("Get", "List", "Query")):
            sent.setdefault("after-position", str(self.position))
        try:
            answer = await self.stubs[rpc](request, metadata=tuple(sent.items()), timeout=30)
        except grpc.aio.AioRpcError as error:
            raise Answered(error) from error
        found: dict[str, Any] = json.loads(
            json.dumps(
                MessageToDict(
                    answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
                )
            )
        )
        self.position = max(self.position, int(found.get("position", 0)))
        return found
