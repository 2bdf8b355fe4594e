"""Nobody swallows a cancellation: whoever does may go on for ever after it was told to end."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [path for folder in ("kernel", "services") for path in sorted((ROOT / folder).rglob("*.py"))]

HANDED_ON = {
    # Keeps it until all have ended, and then raises it.
    "kernel/forecourt/waiting.py": "cancel_and_wait",
    # Hands it over as a value, to be raised where it is waited for.
    "kernel/forecourt/worker/bridge.py": "_outcome",
}


def swallowed(tree: ast.AST) -> list[tuple[str, int]]:
    """Functions and lines that suppress `CancelledError`, or catch it and do not raise."""
    found = []
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            found += [(function.name, line) for line in map(_swallows, ast.walk(function)) if line]
    return found


def _swallows(node: ast.AST) -> int | None:
    """The line of a node that swallows a cancellation."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
        swallows = any("CancelledError" in ast.unparse(argument) for argument in node.args)
        return node.lineno if swallows else None
    if not isinstance(node, ast.ExceptHandler) or node.type is None:
        return None
    caught = ast.unparse(node.type)
    if "CancelledError" not in caught and "BaseException" not in caught:
        return None
    raises = any(isinstance(inner, ast.Raise) for statement in node.body for inner in ast.walk(statement))
    return None if raises else node.lineno


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_cancellation_is_swallowed(path: Path) -> None:
    allowed = HANDED_ON.get(str(path.relative_to(ROOT)))
    assert [one for one in swallowed(ast.parse(path.read_text())) if one[0] != allowed] == []


def test_what_swallows_one_is_found() -> None:
    code = """
async def one():
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task

async def two():
    try:
        await task
    except (ValueError, asyncio.CancelledError):
        pass

async def three():
    try:
        await task
    except asyncio.CancelledError:
        count()
        raise
"""
    assert [name for name, _ in swallowed(ast.parse(code))] == ["one", "two"]
