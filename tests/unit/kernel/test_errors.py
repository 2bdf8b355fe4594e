"""Each error has one status, its slug, and the fields at fault."""

from typing import Any

import asyncpg
import grpc
import pytest
from google.rpc import error_details_pb2
from pydantic import BaseModel, ValidationError

from forecourt import errors
from forecourt.errors import ForecourtError
from forecourt.eventstore.port import InvalidAppend, StoreUnavailable, WrongExpectedVersion
from forecourt.rpc.errors import DeadlineExceeded, code_of, internal_status, status_of, trailing, translate


class NotYetPaid(errors.Refused):
    """A refusal of a domain."""


def details(error: ForecourtError) -> dict[str, list[Any]]:
    """The details of an error's status, by kind."""
    found: dict[str, list[Any]] = {}
    kinds: tuple[Any, ...] = (
        error_details_pb2.BadRequest,
        error_details_pb2.ErrorInfo,
        error_details_pb2.RetryInfo,
    )
    for kind in kinds:
        for packed in status_of(error, "sales")[1].details:
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                found.setdefault(kind.__name__, []).append(message)
    return found


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInput(), "INVALID_ARGUMENT"),
        (InvalidAppend(), "INVALID_ARGUMENT"),
        (errors.NotFound(), "NOT_FOUND"),
        (errors.AlreadyExists(), "ALREADY_EXISTS"),
        (NotYetPaid(), "FAILED_PRECONDITION"),
        (errors.VersionConflict(), "ABORTED"),
        (WrongExpectedVersion("order-1", 2, 3), "ABORTED"),
        (errors.Unauthenticated(), "UNAUTHENTICATED"),
        (errors.Forbidden(), "PERMISSION_DENIED"),
        (errors.LimitExceeded(), "RESOURCE_EXHAUSTED"),
        (StoreUnavailable(), "UNAVAILABLE"),
        (DeadlineExceeded(), "DEADLINE_EXCEEDED"),
    ],
)
def test_every_branch_of_the_tree_has_its_code(error: ForecourtError, code: str) -> None:
    assert code_of(error).name == code
    assert status_of(error, "sales")[1].code == code_of(error).value[0]


def test_a_refusal_is_named_by_its_slug_and_service() -> None:
    (info,) = details(NotYetPaid())["ErrorInfo"]
    assert info == error_details_pb2.ErrorInfo(reason="not-yet-paid", domain="sales")


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (StoreUnavailable(), True),
        (errors.Unavailable(fields={"after-position": "not yet"}), True),
        (errors.LimitExceeded(), True),
        (errors.VersionConflict(), True),
        (errors.VersionConflict(fields={"expected-version": "is 3"}), False),
        (NotYetPaid(), False),
        (errors.InvalidInput(), False),
    ],
)
def test_a_retry_is_advised_only_where_it_helps(error: ForecourtError, *, retry: bool) -> None:
    assert ("RetryInfo" in details(error)) == retry


def test_each_field_is_named_with_the_reason() -> None:
    (bad,) = details(errors.InvalidInput(fields={"name": "missing", "lines.0.price": "negative"}))[
        "BadRequest"
    ]
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("name", "missing"),
        ("lines.0.price", "negative"),
    ]


def test_details_stay_below_the_limit_of_a_trailer() -> None:
    error = errors.InvalidInput("x" * 100_000, fields={f"{n}{'f' * 500}": "王" * 1_000 for n in range(500)})
    ((_, raw),) = trailing(status_of(error, "sales")[1])
    assert len(raw) * 4 / 3 < 24_000


def test_errors_of_libraries_are_translated() -> None:
    class Model(BaseModel):
        age: int

    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"age": "13800138000 Wang"})
    translated = translate(caught.value)
    assert isinstance(translated, errors.InvalidInput)
    assert list(translated.fields) == ["age"]
    assert "13800138000" not in translated.message
    for away in (ConnectionRefusedError(), asyncpg.CannotConnectNowError(), asyncpg.InterfaceError("closed")):
        assert isinstance(translate(away), errors.Unavailable)
    assert translate(ZeroDivisionError()) is None


def test_an_unforeseen_error_says_nothing_but_where_to_look() -> None:
    code, status = internal_status("sales", "c-1")
    assert code is grpc.StatusCode.INTERNAL
    assert status.message == "internal error, correlation id c-1"
