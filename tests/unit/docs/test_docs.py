"""The documentation is true: its Python runs, and what it names exists."""

import ast
import inspect
import json
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message_factory import GetMessageClass
from typer.main import get_command

from forecourt.cli import app
from forecourt.config import Settings
from forecourt.discovery import find_services
from forecourt.messaging.cloudevents import from_cloudevent, routing_key
from forecourt.service import Service
from tests.unit.docs.catalogue import catalogue

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

MADE = (".venv", "build", "proto/gen", "var")
"""Paths that exist only after make, or after a start."""

ELSEWHERE = frozenset(
    {
        "EVENTLET_HUB",
        "EVENTSTORE_DEFAULT_ADMIN_PASSWORD",
        "EVENTSTORE_DEFAULT_OPS_PASSWORD",
        "POSTGRES_PASSWORD",
        "RABBITMQ_DEFAULT_PASS",
    }
)
"""Variables of others that we set ourselves."""

FILE = re.compile(r"\.(py|md|json|toml|proto|sh|in|lock|j2|csv)$")
PRODUCT = ("kernel", "services")
CODE = (*PRODUCT, "tests", "tools", "bench", "demo")


@dataclass(frozen=True)
class Block:
    """A fenced block: language, text without the fence's indent, and the line where it begins."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Document:
    """A Markdown file, taken apart."""

    path: Path
    prose: str
    blocks: list[Block]

    @property
    def spans(self) -> list[str]:
        """What stands between single backticks."""
        return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", self.prose)

    @property
    def code(self) -> str:
        """Everything that is set as code, except Python, which is run."""
        return "\n".join([*self.spans, *(block.text for block in self.blocks if block.language != "python")])

    def blocks_in(self, *languages: str) -> list[Block]:
        """The blocks in these languages."""
        return [block for block in self.blocks if block.language in languages]


@cache
def document(name: str) -> Document:
    """A document by its path from the root."""
    prose: list[str] = []
    blocks: list[Block] = []
    fenced: list[str] | None = None
    language, start = "", 0
    for number, line in enumerate((ROOT / name).read_text().splitlines(), start=1):
        fence = re.match(r"\s*```(\w*)\s*$", line)
        if fence and fenced is None:
            fenced, language, start = [], fence[1], number
        elif fence and fenced is not None:
            blocks.append(Block(language, textwrap.dedent("\n".join(fenced)), start))
            fenced = None
        elif fenced is not None:
            fenced.append(line)
        else:
            prose.append(line)
    assert fenced is None, f"{name}:{start}: the block has no end"
    return Document(ROOT / name, "\n".join(prose), blocks)


def commands(name: str) -> Iterator[list[str]]:
    """The shell commands of a document, split into words; a backslash goes on with the next line."""
    found = document(name)
    lines = list(found.spans)
    for block in found.blocks_in("sh", "bash", ""):
        lines += _logical_lines(block.text)
    for line in lines:
        words = _words(line)
        while words and (re.fullmatch(r"[A-Za-z_]+=\S*", words[0]) or words[0] in ("$", "sudo")):
            words = words[1:]
        if words:
            yield words


def _logical_lines(text: str) -> list[str]:
    """Lines joined where a backslash or an open quote goes on."""
    lines: list[str] = []
    pending = ""
    for line in text.splitlines():
        pending += line.removesuffix("\\") if line.endswith("\\") else line + "\n"
        if not line.endswith("\\") and pending.count("'") % 2 == 0:
            lines += re.findall(r"\$\((.+?)\)", pending) or [pending]
            pending = ""
    return lines


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


@cache
def services() -> tuple[Service, ...]:
    """All services."""
    return tuple(find_services())


@cache
def source(folders: tuple[str, ...] = CODE) -> str:
    """The text of all Python code in folders, this file left out."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return "\n".join(path.read_text() for path in files if path != Path(__file__))


# Python


@pytest.mark.parametrize("name", [name for name in NAMES if document(name).blocks_in("python")])
def test_python_blocks_run(name: str) -> None:
    """All blocks of a document are one program; then its tests are called, those without fixtures."""
    module = ModuleType(f"documentation_{re.sub(r'[^a-z]', '_', name)}")
    sys.modules[module.__name__] = module
    try:
        for block in document(name).blocks_in("python"):
            padded = "\n" * block.line + block.text
            exec(compile(padded, str(ROOT / name), "exec"), module.__dict__)  # noqa: S102
        for key, member in list(vars(module).items()):
            if key.startswith("test_") and not inspect.signature(member).parameters:
                member()
    finally:
        del sys.modules[module.__name__]


# Links and paths


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document(name).prose):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        assert path.exists(), f"{name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            assert anchor in [_anchor(heading) for heading in headings], f"{name}: {target}"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("name", NAMES)
def test_paths_exist(name: str) -> None:
    top = {path.name for path in ROOT.iterdir()}
    roots = [ROOT, (ROOT / name).parent, *ROOT.glob("services/*"), *ROOT.glob("services/*/*/")]
    words = [*document(name).spans, *(word for command in commands(name) for word in command)]
    for word in words:
        path = word.rstrip("/")
        if not re.fullmatch(r"\.?[\w.-]+(/[\w.-]+)+", path) or path.startswith(MADE):
            continue
        if path.split("/")[0] in top or (FILE.search(path) and ":" not in path):
            assert any((root / path).exists() for root in roots), f"{name}: {word}"


# Commands


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(name):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, f"{name}: {words}"


@pytest.mark.parametrize("name", NAMES)
def test_commands_can_be_parsed(name: str) -> None:
    modules = {service.name for service in services()}
    for words in commands(name):
        program = Path(words[0]).name
        if program == "forecourt":
            _parse(words[1:], f"{name}: {words}")
        elif program.startswith("python") and words[1:2] == ["-m"] and words[2] in modules:
            _parse([words[3], words[2], *words[4:]], f"{name}: {words}")


def _parse(words: list[str], where: str) -> None:
    command: Any = get_command(app)
    path = ["forecourt"]
    while hasattr(command, "commands") and words:
        assert words[0] in command.commands, where
        command, path, words = command.commands[words[0]], [*path, words[0]], words[1:]
    if words or not hasattr(command, "commands"):
        # A command that is only named, in the middle of a sentence, has no arguments.
        named_only = not words and any(parameter.required for parameter in command.params)
        if not named_only:
            command.make_context(" ".join(path), list(words))


@pytest.mark.parametrize("name", NAMES)
def test_grpc_calls_fit_the_contract(name: str) -> None:
    for words in commands(name):
        if words[0] == "grpcurl" and (call := re.fullmatch(r"(crm\.[\w.]+)/(\w+)", words[-1])):
            method = _proto_service(call[1]).FindMethodByName(call[2])
            data = words[words.index("-d") + 1] if "-d" in words else "{}"
            json_format.ParseDict(json.loads(data), GetMessageClass(method.input_type)())


@pytest.mark.parametrize("name", NAMES)
def test_proto_services_exist(name: str) -> None:
    for full_name in re.findall(r"\bcrm\.\w+\.v\d+\.\w+Service\b", document(name).code):
        _proto_service(full_name)


def _proto_service(full_name: str) -> Any:
    known = [api.full_name for service in services() for api in service.apis if api.descriptor()]
    assert full_name in known
    return descriptor_pool.Default().FindServiceByName(full_name)


# Names


@cache
def variables() -> frozenset[str]:
    """Every variable that a settings class reads."""
    from forecourt.config import ServiceSettings

    assert Settings in ServiceSettings.__subclasses__()
    declared: list[Any] = [cls for service in services() if (cls := service.settings) is not None]
    # Not imported: the module of the worker's settings belongs to processes on eventlet.
    worker = (ROOT / "kernel/forecourt/worker/runtime.py").read_text()
    fields = [field for cls in (Settings, *declared) for field in cls.model_fields]
    return frozenset(
        field.upper() for field in [*fields, *re.findall(r"^    (forecourt_\w+):", worker, re.MULTILINE)]
    )


@pytest.mark.parametrize("name", NAMES)
def test_variables_exist(name: str) -> None:
    read = set(re.findall(r"environ(?:\.get\(|\[)\"([A-Z_]+)\"", source()))
    read |= set(re.findall(r"^([A-Z_]+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE))
    read |= set(re.findall(r"^ARG ([A-Z_]+)", (ROOT / "deploy/docker/Dockerfile").read_text(), re.MULTILINE))
    enums = {
        number
        for path in ROOT.glob("proto/crm/**/*.proto")
        for number in re.findall(r"\b[A-Z_]+\b", path.read_text())
    }
    codes = {code.name for code in grpc.StatusCode}
    for word in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", document(name).code):
        assert word in variables() | read | enums | codes | ELSEWHERE, f"{name}: {word}"


def test_every_variable_is_documented() -> None:
    table = document("docs/configuration.md").spans
    missing = [variable for variable in sorted(variables()) if variable not in table]
    assert not missing, f"run `make reference`: {missing}"


@cache
def metrics() -> frozenset[str]:
    """Every metric, by the name that Prometheus sees."""
    found = re.findall(r"\b(Counter|Gauge|Histogram)\(\s*\"(forecourt_\w+)\"", source(PRODUCT))
    return frozenset(
        f"{metric.removesuffix('_total')}_total" if kind == "Counter" else metric for kind, metric in found
    )


@pytest.mark.parametrize("name", NAMES)
def test_metrics_exist(name: str) -> None:
    for span in document(name).spans:
        if re.fullmatch(r"forecourt_[a-z_]+", span):
            assert span in metrics(), f"{name}: {span}"


def test_every_metric_is_documented() -> None:
    missing = sorted(metrics() - set(document("docs/metrics.md").spans))
    assert not missing, f"run `make reference`: {missing}"


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_kernel_exist(name: str) -> None:
    """Modules are looked up as files, so that nothing of the worker is imported here."""
    found = document(name)
    dotted = re.findall(r"(?<!@)\bforecourt(?:\.[A-Za-z_]\w*)+", "\n".join(found.spans))
    for block in found.blocks_in("python"):
        imports = [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.ImportFrom)]
        dotted += [f"{node.module}.{alias.name}" for node in imports for alias in node.names]
    for one in dotted:
        if one.startswith("forecourt."):
            _check_name(one, f"{name}: {one}")


def _check_name(dotted: str, where: str) -> None:
    parts = dotted.split(".")
    depth = len(parts)
    while not (file := _module(parts[:depth])):
        depth -= 1
        assert depth > 1, where
    assert set(parts[depth : depth + 1]) <= _defined(file), where


@cache
def _defined(file: Path) -> set[str]:
    """The names at the top of a module."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def _module(parts: list[str]) -> Path | None:
    base = ROOT / "kernel" / Path(*parts)
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.exists():
            return file
    return None


# Events


def test_the_message_shown_is_a_real_one() -> None:
    (shown,) = document("docs/amqp.md").blocks_in("json")
    event = from_cloudevent(shown.text.encode())
    (service,) = (service for service in services() if service.name == event.type.partition(".")[0])
    assert service.registry.decode(event).stream_id == event.stream_id
    assert event.category == service.registry.category_of(type(service.registry.decode(event).event))


def test_bindings_shown_catch_real_events() -> None:
    types = {type_ for service in services() for type_ in service.registry.own_events()}
    for service, event in re.findall(
        r"\b([a-z_]+)\.([A-Z][A-Za-z]+)\.hongtong\b", document("docs/amqp.md").code
    ):
        assert f"{service}.{event}" in types
        assert routing_key(f"{service}.{event}", "hongtong", "D001") == f"{service}.{event}.hongtong.D001"


def test_the_catalogue_of_events_is_up_to_date() -> None:
    assert (ROOT / "docs/events.md").read_text() == catalogue(), (
        "run tests/unit/docs/catalogue.py with Python"
    )
