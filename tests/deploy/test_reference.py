"""What is made from code and rules is up to date, complete, and named by the conventions of Prometheus."""

import re
import subprocess
import sys

from tests.deploy.places import ROOT
from tools import reference_rules, reference_settings


def test_nothing_is_out_of_date() -> None:
    """In a process of its own: it looks at workers' modules, which patch the standard library."""
    command = [sys.executable, "-m", "tools.reference", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_secrets_are_not_shown() -> None:
    page = reference_settings.render()
    for secret in ("sandbox-key", "sandbox-token"):
        assert secret not in page


def test_runbooks_name_tables_that_there_are() -> None:
    statements = "".join(path.read_text() for path in ROOT.glob("kernel/forecourt/migrations/*/*.sql"))
    tables = set(re.findall(r"CREATE TABLE IF NOT EXISTS \{schema\}\.(\w+)", statements))
    pages = {path.name: path.read_text() for path in (ROOT / reference_rules.RUNBOOKS).glob("*.md")}
    named = {(name, table) for name, text in pages.items() for table in re.findall(r"table\s+`(\w+)`", text)}
    assert named
    assert {(name, table) for name, table in named if table not in tables} == set()
