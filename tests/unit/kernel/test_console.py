"""Errors of PostgreSQL on the command line: one line, without what may be somebody's data."""

from typing import Any

import asyncpg
import pytest
import typer

from forecourt.console import answering

NAME = "王伟"


def said(error: Exception, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that ends with ``error``, which must be on standard error, with exit code 1."""

    @answering
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == 1
    return capsys.readouterr().err


def postgres_error(code: str, message: str) -> Any:
    """An error as the server sends it, with a detail that quotes a row."""
    return asyncpg.PostgresError.new({"C": code, "M": message, "D": f"Key (name)=({NAME}) is there."})


@pytest.mark.parametrize(
    ("code", "message", "line"),
    [
        ("42501", "permission denied for schema events", "InsufficientPrivilegeError: permission denied"),
        ("55P03", "canceling statement due to lock timeout", "LockNotAvailableError: canceling"),
        ("3D000", 'database "x" does not exist', 'InvalidCatalogNameError: database "x"'),
        ("28P01", "password authentication failed", "InvalidPasswordError: password"),
        ("28000", 'role "x" is not permitted', 'InvalidAuthorizationSpecificationError: role "x"'),
    ],
)
def test_what_names_objects_is_said_in_one_line(
    code: str, message: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(postgres_error(code, message), capsys)
    assert text.startswith(f"database: {line}")
    assert (text.count("\n"), NAME in text) == (1, False)


@pytest.mark.parametrize("code", ["23505", "22P02", "23514", "P0001"])
def test_what_may_quote_a_value_is_said_by_its_class(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(postgres_error(code, f"wrong: {NAME}"), capsys)
    assert text.endswith("Error; what it is about is in the log of the database\n")
    assert (text.count("\n"), NAME in text) == (1, False)
