"""Modules stay short enough to be read whole, and functions to be seen at once. There is no excuse."""

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


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_long(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MODULE_LINES
    long = {
        each.name: lines_of(each) for each in functions(ast.parse(text)) if lines_of(each) > FUNCTION_LINES
    }
    assert long == {}
