"""What is logged of errors: where they happened, and none of the values that they were raised for."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
import structlog
from pydantic import BaseModel, ValidationError

from forecourt import logs
from forecourt.errors import NotFound
from forecourt.projections.tables import TableMismatch

PLANTED = "Ouyang Fenshu"


class Refused(NotFound):
    """One of a service's own."""


class Lookup(BaseModel):
    number: int


def invalid() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Lookup.model_validate({"number": PLANTED})
    return caught.value


class MailRefused(OSError):
    """As libraries for mail have it: an error of the operating system that names recipients."""


def noted() -> ValueError:
    error = ValueError("x")
    error.add_note(PLANTED)
    return error


QUOTING = [
    ValueError(PLANTED),
    KeyError(PLANTED),
    invalid(),
    asyncpg.InvalidTextRepresentationError(PLANTED),
    asyncpg.StringDataRightTruncationError(PLANTED),
    asyncpg.DataError(PLANTED),
    asyncpg.UniqueViolationError(PLANTED),
    MailRefused(PLANTED),
    noted(),
    ExceptionGroup(PLANTED, [ValueError(PLANTED)]),
]


@pytest.fixture(params=[False, True], ids=["json", "pretty"])
def pretty(request: pytest.FixtureRequest) -> Iterator[bool]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield request.param
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def logged(capsys: pytest.CaptureFixture[str], error: BaseException, *, pretty: bool) -> str:
    """What is written of an error, raised because of another one."""
    logs.configure(process="test", pretty=pretty)
    try:
        try:
            local = PLANTED
            raise error
        except BaseException as first:
            raise RuntimeError(local) from first
    except RuntimeError as caught:
        logging.getLogger("library").error("failed", exc_info=caught)
        structlog.stdlib.get_logger("ours").error("failed too", exc_info=caught)
    return capsys.readouterr().err


@pytest.mark.parametrize("error", QUOTING, ids=lambda error: type(error).__name__)
def test_texts_of_errors_are_not_logged_but_class_and_place_are(
    capsys: pytest.CaptureFixture[str], pretty: bool, error: Exception
) -> None:
    written = logged(capsys, error, pretty=pretty)
    assert PLANTED not in written
    assert written.count(type(error).__name__) == 2
    assert written.count("RuntimeError") == 2
    assert "test_logs.py" in written


@pytest.mark.parametrize(
    "error",
    [Refused("order: not found"), TableMismatch("differs in ['model']"), ConnectionRefusedError(111, "no")],
    ids=lambda error: type(error).__name__,
)
def test_our_own_texts_and_those_of_the_operating_system_are_logged(
    capsys: pytest.CaptureFixture[str], pretty: bool, error: Exception
) -> None:
    assert logged(capsys, error, pretty=pretty).count(str(error)) == 2
    assert logs.told(error) == f"{type(error).__name__}: {error}"


def test_a_line_tells_the_chain_of_errors(capsys: pytest.CaptureFixture[str], pretty: bool) -> None:
    written = logged(capsys, KeyError(PLANTED), pretty=False)
    for line in written.splitlines():
        stacks: list[dict[str, Any]] = json.loads(line)["exception"]
        assert [stack["exc_type"] for stack in stacks] == ["RuntimeError", "KeyError"]
        assert stacks[1]["frames"][-1]["name"] == "logged"


async def test_what_asyncio_says_of_a_lost_task_does_not_show_it(
    capsys: pytest.CaptureFixture[str], pretty: bool
) -> None:
    logs.configure(process="test", pretty=pretty)

    async def fail() -> None:
        raise ValueError(PLANTED)

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    context = {"message": "Task exception was never retrieved", "future": task, "exception": task.exception()}
    asyncio.get_running_loop().default_exception_handler(context)
    written = capsys.readouterr().err
    assert "Task exception was never retrieved" in written
    assert "ValueError" in written
    assert PLANTED not in written


@pytest.mark.parametrize("error", QUOTING, ids=lambda error: type(error).__name__)
def test_of_a_quoting_error_only_the_class_is_told(error: Exception) -> None:
    assert logs.told(error) == type(error).__name__
