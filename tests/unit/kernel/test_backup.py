"""What needs no server of backups: the URLs for PostgreSQL's programs, and how fingerprints are compared."""

import pytest

from forecourt.backup import differences, without_password, without_states
from forecourt.fingerprints import Category


@pytest.mark.parametrize(
    ("url", "address", "password"),
    [
        ("postgresql://u:p@db:5432/x", "postgresql://u@db:5432/x", "p"),
        ("postgresql://u:p@db/x", "postgresql://u@db/x", "p"),
        ("postgresql://u:p@[::1]:5432/x", "postgresql://u@[::1]:5432/x", "p"),
        ("postgresql://u:p@h1:5432,h2:5433/x", "postgresql://u@h1:5432,h2:5433/x", "p"),
        ("postgres://u:p%40%3A:q@db/x?sslmode=require", "postgres://u@db/x?sslmode=require", "p@::q"),
        ("postgresql://a%40b:p@db/x", "postgresql://a%40b@db/x", "p"),
        ("postgresql://u@db/x", "postgresql://u@db/x", None),
        ("postgresql://u:@db/x", "postgresql://u@db/x", None),
        ("postgresql://db/x", "postgresql://db/x", None),
        ("postgresql:///x?host=/run/pg&user=u", "postgresql:///x?host=/run/pg&user=u", None),
        ("postgresql://u:p@%2Frun%2Fpg/x", "postgresql://u@%2Frun%2Fpg/x", "p"),
        ("postgresql://u@db/x?password=p%26q&sslmode=require", "postgresql://u@db/x?sslmode=require", "p&q"),
    ],
)
def test_a_password_is_taken_out_and_the_hosts_stay(url: str, address: str, password: str | None) -> None:
    assert without_password(url) == (address, password)


@pytest.mark.parametrize(
    ("then", "now", "wrong", "not_compared"),
    [
        ("a", "a", [], []),
        ("a", "b", ["category lead: the same events lead to other states"], []),
        ("a", "", [], ["states of category lead: no installed service folds them"]),
        ("", "", [], ["states of category lead: no installed service folds them"]),
        ("", "a", [], ["states of category lead: no service folded them where the backup was made"]),
    ],
)
def test_states_are_equal_or_different_or_not_compared(
    then: str, now: str, wrong: list[str], not_compared: list[str]
) -> None:
    wanted, found = {"lead": Category(1, 1, "x", then)}, {"lead": Category(1, 1, "x", now)}
    assert differences(wanted, found) == wrong
    assert without_states(wanted, found) == not_compared


def test_events_are_compared_where_no_service_folds_them() -> None:
    wanted, found = {"lead": Category(1, 1, "x")}, {"lead": Category(1, 1, "y")}
    assert differences(wanted, found) == ["category lead: 1 events, not the same as the 1 of the source"]
