"""What backups hand over to PostgreSQL's programs: URLs as asyncpg takes them, without the password."""

import pytest

from forecourt.backup import without_password


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
