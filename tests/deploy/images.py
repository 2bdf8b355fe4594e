"""Builds what the Dockerfile builds, without Docker: its own lines, run in folders.

``COPY``, ``RUN``, ``ENV`` and ``WORKDIR`` are carried out as they stand there; absolute paths in them become paths
below a folder that stands for the root of all stages of one image. The machine's Python stands for the base image.
What ``.dockerignore`` leaves out is left out, so a file that is not copied is missing here too.
"""

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from string import Template

from tests.deploy.places import DEPLOY, ROOT

DOCKERFILE = DEPLOY / "docker/Dockerfile"
SHARED = "dependencies"
"""The stage without anything of one service."""

FOLDERS = "build|opt|source|tmp|var|wheels"
"""The image's folders whose paths are turned into paths here."""


@dataclass(frozen=True)
class Instruction:
    """One line of the Dockerfile, in its stage."""

    stage: str
    word: str
    rest: str


@dataclass(frozen=True)
class Image:
    """What was built: the folder that is its root, and what its processes are started with."""

    root: Path
    environment: dict[str, str]
    entrypoint: tuple[str, ...]
    healthcheck: tuple[str, ...]

    @property
    def installed(self) -> Path:
        """The only folder of ours in it."""
        return self.root / "opt/forecourt"

    def placed(self, text: str, *, tmp: Path) -> str:
        """A text with the paths of the image as they are here, ``tmp`` being what is mounted at ``/tmp``."""
        return _placed(self.root, text).replace(f"{self.root}/tmp", str(tmp))

    def make_readonly(self) -> None:
        """Nothing may be written below the root from now on."""
        _change_modes(self.root, lambda mode: mode & ~0o222)

    def remove(self) -> None:
        """Remove all of it."""
        _change_modes(self.root, lambda mode: mode | 0o200)
        shutil.rmtree(self.root)


def instructions() -> list[Instruction]:
    """The Dockerfile's instructions, continued lines in one."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    found, stage = [], ""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stage = rest.split()[-1]
        found.append(Instruction(stage, word, rest.strip()))
    return found


@dataclass
class Build:
    """The build of one image or of what images share, below ``root``."""

    root: Path
    arguments: dict[str, str] = field(default_factory=dict)

    def run(self, wanted: Sequence[Instruction]) -> dict[str, str]:
        """Carry out instructions of one stage; the variables that it sets. Raises `subprocess.CalledProcessError`."""
        own: dict[str, str] = {}
        here = self.root
        for one in wanted:
            environment = {**self._base(), **self.arguments, **own}
            if one.word == "ENV":
                pairs = (pair.partition("=") for pair in shlex.split(one.rest))
                own |= {
                    name: Template(_placed(self.root, value)).substitute(environment)
                    for name, _, value in pairs
                }
            elif one.word == "WORKDIR":
                here = Path(_placed(self.root, one.rest))
                here.mkdir(parents=True, exist_ok=True)
            elif one.word == "COPY":
                self._copy(one.rest, here)
            elif one.word == "RUN":
                # There is one user only.
                script = re.sub(r" -[og] 10001\b", "", _placed(self.root, one.rest))
                command = ["bash", "-euc", script]
                subprocess.run(command, cwd=here, env=environment, check=True, capture_output=True, text=True)
        return own

    def _base(self) -> dict[str, str]:
        """The variables that RUN has in the base image; of this machine's, from where packages come."""
        shim = self.root / "usr/local/bin"
        if not shim.exists():
            shim.mkdir(parents=True)
            for name in ("python", "python3"):
                (shim / name).write_text(f'#!/bin/sh\nexec {Path(sys.executable).resolve()} "$@"\n')
                (shim / name).chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
        return {**kept, "HOME": os.environ.get("HOME", "/"), "PATH": f"{shim}:/usr/bin:/bin"}

    def _copy(self, rest: str, here: Path) -> None:
        words = shlex.split(rest)
        if words[0].startswith("--from="):
            # All stages have one root, so it is there.
            _, source, target = words
            assert source == target, rest
            assert Path(_placed(self.root, source)).is_dir(), rest
            return
        *sources, target = words
        into = here / _placed(self.root, target)
        for source in sources:
            found = list(_context(source))
            assert found, f"COPY {source}: nothing of it is in the build's context"
            for path in found:
                inner = Path(path).relative_to(source) if (ROOT / source).is_dir() else None
                place = into / inner if inner else into / Path(path).name if target.endswith("/") else into
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / path, place)


def build_shared(folder: Path) -> None:
    """What the images of all services have in common, and what Docker would do once for all of them."""
    build = Build(folder)
    found = instructions()
    before = takewhile(lambda one: one != Instruction("wheels", "ARG", "SERVICE"), found)
    build.run([one for one in before if one.stage == "wheels"])
    build.run([one for one in found if one.stage == SHARED])


def build_image(service: str, shared: Path, folder: Path) -> Image:
    """The image of a service (a folder below ``services/``) from what `build_shared` has made."""
    _copy_of(shared, folder)
    build = Build(folder, {"SERVICE": service})
    found = instructions()
    wheels = [one for one in found if one.stage == "wheels"]
    argument = wheels.index(Instruction("wheels", "ARG", "SERVICE"))
    # What came before is there; only its variables and its folder count again.
    build.run([*(one for one in wheels[:argument] if one.word in ("ENV", "WORKDIR")), *wheels[argument:]])
    build.run([one for one in found if one.stage == "environment"])
    final = [one for one in found if one.stage == "service"]
    environment = build.run(final)
    words = {one.word: one.rest for one in final}
    for left in ("source", "wheels", "build"):
        shutil.rmtree(folder / left)
    return Image(folder, environment, _listed(words["ENTRYPOINT"]), _listed(words["HEALTHCHECK"]))


def _copy_of(source: Path, target: Path) -> None:
    """Files are shared with the source: nobody writes into a file, pip puts another one in its place."""
    shutil.copytree(source, target, symlinks=True, copy_function=os.link)
    shutil.rmtree(target / "usr")


def _listed(text: str) -> tuple[str, ...]:
    """The words of a command in JSON, behind whatever options."""
    return tuple(json.loads(text[text.index("[") :]))


def _placed(root: Path, text: str) -> str:
    """Every absolute path of the image, but for those that are placed already."""
    placed = re.escape(str(root).removeprefix("/"))
    return re.sub(rf"(?<![\w./:}}$-])/(?!{placed})(?=({FOLDERS})\b)", f"{root}/", text)


def _context(source: str) -> Iterator[str]:
    """The files of the build's context at or below a path."""
    place = ROOT / source
    paths = place.rglob("*") if place.is_dir() else [place]
    for path in sorted(paths):
        name = path.relative_to(ROOT).as_posix()
        if path.is_file() and not _ignored(name):
            yield name


def _ignored(path: str) -> bool:
    """Whether the last pattern of ``.dockerignore`` that fits a path or a folder above it leaves it out."""
    parts = path.split("/")
    above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    ignored = False
    for line in DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!").rstrip("/")
        if pattern and not line.startswith("#") and any(map(_expression(pattern).fullmatch, above)):
            ignored = not line.startswith("!")
    return ignored


def _expression(pattern: str) -> re.Pattern[str]:
    escaped = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*")
    return re.compile(escaped.replace(r"\*", "[^/]*"))


def _change_modes(root: Path, change: Callable[[int], int]) -> None:
    for folder, _, names in os.walk(root):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            if not path.is_symlink():
                path.chmod(change(stat.S_IMODE(path.stat().st_mode)))
