"""What every file of a migration keeps to, so that processes of the previous release can go on beside it."""

import re
from pathlib import Path

import pytest

from forecourt import migrations

FILES = sorted(migrations.FOLDER.glob("*/*.sql"))
COMPONENTS = sorted({path.parent.name for path in FILES})

REFUSED = {
    r"\bDROP\b": "takes away what the previous release uses",
    r"\bRENAME\b": "takes away what the previous release uses",
    r"\bALTER\s+COLUMN\b": "may break the previous release, or rewrite the table",
    r"\bTRUNCATE\b|\bDELETE\s+FROM\b": "loses data",
    r"\bCREATE\s+TABLE\s+(?!IF\s+NOT\s+EXISTS)": "cannot be repeated",
    r"\bCREATE\s+SCHEMA\s+(?!IF\s+NOT\s+EXISTS)": "cannot be repeated",
    r"\bCREATE\s+(UNIQUE\s+)?INDEX\s+(?!IF\s+NOT\s+EXISTS)": "cannot be repeated",
    r"\bADD\s+COLUMN\s+(?!IF\s+NOT\s+EXISTS)": "cannot be repeated",
    r"\bADD\s+COLUMN\b(?=[^,;]*\bNOT\s+NULL\b)(?![^,;]*\bDEFAULT\b)": "the previous release writes rows without it",
    r"\bCREATE\s+FUNCTION\b": "cannot be repeated: CREATE OR REPLACE",
}


def problems(sql: str) -> list[str]:
    """Why a file may not be applied beside the previous release, or twice."""
    text = re.sub(r"--[^\n]*", "", sql)
    return [reason for pattern, reason in REFUSED.items() if re.search(pattern, text, re.IGNORECASE)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_only_add_and_can_be_repeated(path: Path) -> None:
    assert problems(path.read_text()) == []


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE {schema}.event DROP COLUMN data;",
        "ALTER TABLE {schema}.event RENAME TO happening;",
        "ALTER TABLE {schema}.event ALTER COLUMN version TYPE int;",
        "CREATE TABLE {schema}.more (id int);",
        "CREATE INDEX more ON {schema}.event (type);",
        "ALTER TABLE {schema}.event ADD COLUMN more int;",
        "ALTER TABLE {schema}.event ADD COLUMN IF NOT EXISTS more int NOT NULL;",
        "CREATE FUNCTION {schema}.more() RETURNS int LANGUAGE sql AS 'SELECT 1';",
        "DELETE FROM {schema}.event;",
    ],
)
def test_others_are_found(sql: str) -> None:
    assert problems(sql)


@pytest.mark.parametrize("component", COMPONENTS)
def test_files_are_numbered(component: str) -> None:
    assert migrations.files(migrations.FOLDER / component)


def test_a_gap_in_the_numbers_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "0002_second.sql").write_text("SELECT 1;")
    with pytest.raises(ValueError, match="must be 0001_"):
        migrations.files(tmp_path)


def test_released_files_are_never_changed() -> None:
    """Databases know their checksums. A new file is entered in SHA256SUMS."""
    lines = (migrations.FOLDER / "SHA256SUMS").read_text().splitlines()
    recorded = {name: checksum for checksum, name in (line.split() for line in lines)}
    present = {f"{path.parent.name}/{path.name}": _checksum(path) for path in FILES}
    assert present == recorded


def _checksum(path: Path) -> str:
    return migrations.files(path.parent)[int(path.name[:4]) - 1][3]
