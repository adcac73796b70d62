"""Modules stay short enough to be read whole, and functions to be seen at once; or say why not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for top in ("meshd", "wgctl") for path in (ROOT / top).rglob("*.py"))
MODULE_LINES = 400
FUNCTION_LINES = 60


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """With signature and docstring: all of it is to be seen at once."""
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


@pytest.mark.slow
@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_long_says_why(path: Path) -> None:
    """A command's docstring is its help, so a function may say it in a comment."""
    text = path.read_text()
    tree = ast.parse(text)
    if len(text.splitlines()) > MODULE_LINES:
        assert f"Over {MODULE_LINES} lines" in (ast.get_docstring(tree) or ""), path
    for function in functions(tree):
        if lines_of(function) > FUNCTION_LINES:
            source = ast.get_source_segment(text, function) or ""
            assert f"Over {FUNCTION_LINES} lines" in source, f"{function.name}: {lines_of(function)} lines"
