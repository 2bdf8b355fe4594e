"""What is installed is what the locks name, whatever was released since and wherever pip takes it from."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "requirements.lock", *sorted((ROOT / "deploy/docker").glob("*.lock"))]
INSTALLERS = [
    ROOT / "tools/setup.sh",
    ROOT / "deploy/docker/dependencies.sh",
    ROOT / "deploy/docker/Dockerfile",
]


@pytest.mark.parametrize("path", INSTALLERS, ids=lambda path: path.name)
def test_a_lock_is_installed_as_it_is(path: Path) -> None:
    """Pip 23.2, of Python 3.11, preferred a newer release than the locked one where a package asked with an extra."""
    commands = path.read_text().replace("\\\n", " ").splitlines()
    installs = [line for line in commands if "--require-hashes" in line]
    assert len(installs) == 1
    assert "--no-deps" in installs[0]


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_versions_and_hashes_and_no_address(path: Path) -> None:
    text = path.read_text()
    pinned = [one for one in text.replace("\\\n", " ").splitlines() if one and not one.startswith("#")]
    exact = re.compile(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+ .*--hash=sha256:")
    assert pinned
    assert [one for one in pinned if not exact.match(one)] == []
    assert "://" not in text
