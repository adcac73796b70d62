"""The manual's lists of metrics, conditions and events are the program's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.observe.codes import CODES
from meshd.observe.metrics import FAMILIES, RECONCILE_DURATION

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "meshd").rglob("*.py"))


def rows(page: str) -> dict[str, list[str]]:
    """First cell in backticks -> the other cells, of every table of a page."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "docs" / page).read_text().splitlines():
        match = re.match(r"\| `([a-z_]+)` \|(.*)\|$", line)
        if match:
            assert match[1] not in found, f"{page}: {match[1]} is listed twice"
            found[match[1]] = [cell.strip() for cell in match[2].split(" |")]
    return found


def calls(name: str) -> Iterator[tuple[Path, ast.Call]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield path, node


def test_metrics() -> None:
    documented = {name: tuple(cells[:2]) for name, cells in rows("metrics.md").items()}
    expected = {family.name: (family.kind, ", ".join(family.labels)) for family in FAMILIES}
    assert documented == {**expected, RECONCILE_DURATION: ("summary", "")}


def test_conditions() -> None:
    documented = rows("conditions.md")
    assert {code: cells[0] for code, cells in documented.items()} == {
        code: severity.value for code, severity in CODES.items()
    }
    assert all(len(cells) == 3 and all(cells) for cells in documented.values())


@pytest.mark.slow
def test_every_condition_of_the_program_is_in_the_list() -> None:
    constants = {
        node.target.id: node.value.value
        for path in SOURCES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    found: dict[str, set[str]] = {}
    for path, call in calls("Condition"):
        arguments = {keyword.arg: keyword.value for keyword in call.keywords}
        code, severity = arguments["code"], arguments["severity"]
        name = constants.get(code.id) if isinstance(code, ast.Name) else getattr(code, "value", None)
        if isinstance(name, str) and isinstance(severity, ast.Attribute):
            assert name in CODES, f"{path}: {name}"
            found.setdefault(name, set()).add(severity.attr.lower())
    assert found == {code: {CODES[code].value} for code in found}
    assert found


@pytest.mark.slow
def names_in(node: ast.expr) -> list[str]:
    """The texts that an argument may have: one, or either side of a choice."""
    sides = [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]
    return [side.value for side in sides if isinstance(side, ast.Constant) and isinstance(side.value, str)]


@pytest.mark.slow
def test_events() -> None:
    logged = {name for _, call in calls("event") if len(call.args) > 2 for name in names_in(call.args[2])}
    assert logged | {"message"} == set(rows("logging.md"))
