"""Calls any RPC of any service by name, with the messages built from keywords: what the platform's tests speak."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from forecourt.discovery import find_services
from tests.staff import Hats

SECONDS = 30.0


SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
"""What docs/operating.md recommends to clients."""


def all_methods() -> dict[str, MethodDescriptor]:
    """Every RPC of every installed service, by ``service.Rpc``."""
    return {
        f"{service.name}.{method.name}": method
        for service in find_services()
        for api in service.apis
        for method, _ in api.check()
    }


METHODS = all_methods()


@dataclass(frozen=True)
class Refusal:
    """How a call was refused: the status, the error's slug, and what is wrong with which field."""

    code: grpc.StatusCode
    slug: str
    message: str
    fields: Mapping[str, str]


def refusal(error: Any) -> Refusal:
    """What an error of a call says."""
    slug, fields = "", {}
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        if detail.Is(ErrorInfo.DESCRIPTOR):
            info = ErrorInfo()
            detail.Unpack(info)
            slug = info.reason
        elif detail.Is(BadRequest.DESCRIPTOR):
            bad = BadRequest()
            detail.Unpack(bad)
            fields = {one.field: one.description for one in bad.field_violations}
    return Refusal(error.code(), slug, error.details() or "", fields)


@dataclass
class Client:
    """Somebody who calls: a channel, and the tokens that calls carry."""

    channel: grpc.aio.Channel
    hats: Hats
    position: int = 0
    """The last position that a command of this client was answered with."""
    _stubs: dict[str, Any] = field(default_factory=dict)

    async def __call__(
        self,
        rpc: str,
        /,
        *,
        metadata: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
        **fields: Any,
    ) -> Any:
        """The answer to ``service.Rpc``. Raises `grpc.aio.AioRpcError`."""
        method = METHODS[rpc]
        if rpc not in self._stubs:
            self._stubs[rpc] = self.channel.unary_unary(
                f"/{method.containing_service.full_name}/{method.name}",
                GetMessageClass(method.input_type).SerializeToString,
                GetMessageClass(method.output_type).FromString,
            )
        request = GetMessageClass(method.input_type)(**fields)
        sent = [("authorization", self.hats.authorization(method)), *(metadata or {}).items()]
        answer = await self._stubs[rpc](request, timeout=seconds, metadata=sent)
        self.position = max(self.position, getattr(answer, "position", 0))
        return answer

    async def ask(self, rpc: str, /, *, after: int | None = None, **fields: Any) -> Any:
        """The answer to a query that has seen everything up to ``after``, by default this client's own writes."""
        fresh = self.position if after is None else after
        return await self(rpc, metadata={"after-position": str(fresh)}, **fields)

    async def refused(
        self, rpc: str, /, *, metadata: Mapping[str, str] | None = None, **fields: Any
    ) -> Refusal:
        """How a call that must not succeed is refused."""
        try:
            await self(rpc, metadata=metadata, **fields)
        except grpc.aio.AioRpcError as error:
            return refusal(error)
        raise AssertionError(f"{rpc} was not refused")
