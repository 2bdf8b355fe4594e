"""The contract is compared with the one that its users have, in every clone: a committed break is found, too."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TWO_FIELDS = "  // Whose.\n  string name = 1;\n  // How many.\n  int32 count = 2;\n"
ONE_FIELD = "  // Whose.\n  string name = 1;\n"
THREE_FIELDS = TWO_FIELDS + "  // Since when.\n  string since = 3;\n"
BROKEN = 'Previously present field "2" with name "count"'


@dataclass(frozen=True)
class Clone:
    """A repository with a contract of one message."""

    path: Path

    def git(self, *arguments: str) -> None:
        """Run git, with nothing of the user's configuration."""
        nobody = {
            f"GIT_{who}_{what}": "nobody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        env = {**os.environ, **nobody, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        subprocess.run(["git", *arguments], cwd=self.path, env=env, check=True, capture_output=True)

    def write(self, fields: str) -> None:
        """Change the contract."""
        file = self.path / "proto/crm/shop/v1/shop.proto"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f'syntax = "proto3";\n\npackage crm.shop.v1;\n\n// A thing.\nmessage Thing {{\n{fields}}}\n'
        )

    def commit(self, fields: str | None = None) -> None:
        """Commit another contract, or something else."""
        if fields is not None:
            self.write(fields)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "Change it")

    def check(self) -> str:
        """What the check says, and ``REFUSED`` where it refuses."""
        done = subprocess.run(
            ["tools/proto_check.sh"], cwd=self.path, capture_output=True, text=True, check=False
        )
        return f"{done.stdout}{done.stderr}{'REFUSED' if done.returncode else ''}"


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A repository whose main has one commit."""
    (tmp_path / "tools").mkdir()
    for name in ("buf.yaml", "tools/proto_check.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / ".gitignore").write_text("/.venv\n")
    made = Clone(tmp_path)
    made.git("init", "-q", "-b", "main")
    made.commit(TWO_FIELDS)
    return made


def publish(clone: Clone) -> None:
    """Let origin/main be what is committed."""
    clone.git("update-ref", "refs/remotes/origin/main", "HEAD")


def test_a_first_commit_has_nothing_to_break(clone: Clone) -> None:
    assert "no commit to compare" in clone.check()
    shutil.rmtree(clone.path / ".git")
    clone.git("init", "-q", "-b", "main")
    assert "no commit to compare" in clone.check()


def test_a_break_is_refused_before_it_is_committed(clone: Clone) -> None:
    clone.write(ONE_FIELD)
    assert BROKEN in clone.check()
    publish(clone)
    assert BROKEN in clone.check()
    clone.write(THREE_FIELDS)
    assert "is broken" in clone.check()


@pytest.mark.parametrize("published", [False, True])
def test_a_break_that_was_committed_on_main_is_refused(clone: Clone, *, published: bool) -> None:
    clone.commit(ONE_FIELD)
    clone.commit()
    if published:
        publish(clone)
    assert clone.check().endswith("REFUSED")
    assert BROKEN in clone.check()


def test_a_break_that_was_merged_into_main_is_refused(clone: Clone) -> None:
    clone.git("checkout", "-q", "-b", "topic")
    clone.commit(ONE_FIELD)
    clone.commit(ONE_FIELD + "  // Since when.\n  string since = 3;\n")
    clone.git("checkout", "-q", "main")
    clone.git("merge", "-q", "--no-ff", "-m", "Merge it", "topic")
    assert BROKEN in clone.check()


def test_a_branch_is_compared_with_what_it_began_from(clone: Clone) -> None:
    clone.git("checkout", "-q", "-b", "topic")
    clone.git("checkout", "-q", "main")
    clone.commit(THREE_FIELDS)
    publish(clone)
    clone.git("checkout", "-q", "topic")
    clone.commit()
    assert "REFUSED" not in clone.check(), "what main gained since is not broken by this branch"
    clone.commit(ONE_FIELD)
    clone.commit()
    assert BROKEN in clone.check()
    clone.git("update-ref", "-d", "refs/remotes/origin/main")
    assert BROKEN in clone.check()
