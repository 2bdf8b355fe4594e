"""The one place where errors become gRPC status, with ``google.rpc`` details for programs.

``BadRequest`` names each offending field, ``ErrorInfo`` holds the error's slug and the service as its domain,
``RetryInfo`` says how long to wait where the same call may succeed later. What nobody foresaw is answered
INTERNAL with the correlation id to look for in the log, never with a traceback.
"""

from math import ceil

import asyncpg
import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from pydantic import ValidationError

from forecourt import errors
from forecourt.errors import ForecourtError
from forecourt.eventstore.port import WrongExpectedVersion
from forecourt.registry import UndecodableEvent

DETAILS_KEY = "grpc-status-details-bin"

# Trailing metadata has a default limit of 8 KiB at the client, all details together.
_MAX_VIOLATIONS = 20
_MAX_REASON = 200
_MAX_MESSAGE = 500

_CODES: tuple[tuple[type[ForecourtError], grpc.StatusCode], ...] = (
    (errors.InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
    (errors.Refused, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.VersionConflict, grpc.StatusCode.ABORTED),
    (WrongExpectedVersion, grpc.StatusCode.ABORTED),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (errors.Forbidden, grpc.StatusCode.PERMISSION_DENIED),
    (errors.LimitExceeded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.Unavailable, grpc.StatusCode.UNAVAILABLE),
    (errors.DataDamaged, grpc.StatusCode.DATA_LOSS),
)

NOT_DECIDED = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)
"""Statuses of calls of which nobody knows, or will ever know, what became of them: they are no refusals."""

_RETRY_SECONDS: dict[grpc.StatusCode, float] = {
    grpc.StatusCode.UNAVAILABLE: 1.0,
    grpc.StatusCode.ABORTED: 0.05,
}

_SERVER_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class DeadlineExceeded(ForecourtError):
    """The caller's deadline has passed."""


class DatabaseAway(errors.Unavailable):
    """The database does not answer."""


def translate(error: BaseException) -> ForecourtError | None:
    """The error that a caller may see; None where nobody foresaw this one."""
    if isinstance(error, ForecourtError):
        return error
    if isinstance(error, ValidationError):
        return errors.invalid_input(error)
    if isinstance(error, UndecodableEvent):
        return errors.DataDamaged("what is stored cannot be read; it has been noted down for the operator")
    if isinstance(error, _SERVER_AWAY):
        return DatabaseAway("a server that is needed does not answer")
    return None


def code_of(error: ForecourtError) -> grpc.StatusCode:
    """The gRPC status code of an error."""
    if isinstance(error, DeadlineExceeded):
        return grpc.StatusCode.DEADLINE_EXCEEDED
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return grpc.StatusCode.UNKNOWN


def status_of(error: ForecourtError, domain: str) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """The code and the full ``google.rpc.Status`` of an error; ``domain`` is the service's name."""
    code = code_of(error)
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.slug, domain=domain, metadata=error.info)
    ]
    if error.fields:
        details.append(_bad_request(error.fields))
    if (delay := _retry_after(error, code)) is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=_seconds(delay)))
    return code, _status(code, _clip(error.message, _MAX_MESSAGE), details)


def _retry_after(error: ForecourtError, code: grpc.StatusCode) -> float | None:
    """In how many seconds the same call may go well; None where it will not."""
    if isinstance(error, errors.LimitExceeded):
        return error.retry_after
    # A stale version stays stale: only a conflict without one may go well the next time.
    if code is grpc.StatusCode.ABORTED and error.fields:
        return None
    return _RETRY_SECONDS.get(code)


def internal_status(domain: str, correlation_id: str) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """The answer to an error that nobody foresaw."""
    info = error_details_pb2.ErrorInfo(
        reason="internal", domain=domain, metadata={"correlation_id": correlation_id}
    )
    message = f"internal error, correlation id {correlation_id}"
    return grpc.StatusCode.INTERNAL, _status(grpc.StatusCode.INTERNAL, message, [info])


def trailing(status: status_pb2.Status) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries a status with its details."""
    return ((DETAILS_KEY, status.SerializeToString()),)


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code.value[0], message=message, details=packed)


def _bad_request(fields: dict[str, str]) -> error_details_pb2.BadRequest:
    violation = error_details_pb2.BadRequest.FieldViolation
    return error_details_pb2.BadRequest(
        field_violations=[
            violation(field=_clip(field, _MAX_REASON), description=_clip(reason, _MAX_REASON))
            for field, reason in list(fields.items())[:_MAX_VIOLATIONS]
        ]
    )


def _seconds(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMilliseconds(max(1, ceil(seconds * 1_000)))
    return duration


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
