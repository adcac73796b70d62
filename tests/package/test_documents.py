"""What the documents for readers of the code say of the code is true of it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ROW = re.compile(r"\| ([^|]+) \| [^|]+ \| `([A-Za-z_.]+)` \|")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
PAGES = sorted(
    path.relative_to(ROOT)
    for path in (*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "tests").rglob("README.md"))
)
LEAST_WORDS = 60


def words() -> dict[str, str]:
    return dict(ROW.findall((DOCS / "glossary.md").read_text()))


def definitions() -> dict[str, set[str]]:
    """Every class and function of the code, and what each class has."""
    found: dict[str, set[str]] = {}
    for top in ("meshd", "wgctl", "tests/support"):
        for path in (ROOT / top).rglob("*.py"):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    found.setdefault(node.name, set()).update(members(node))
            for node in tree.body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.setdefault(node.name, set())
                elif isinstance(node, ast.AnnAssign | ast.Assign):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    for target in targets:
                        if isinstance(target, ast.Name):
                            found.setdefault(target.id, set())
    return found


def members(node: ast.ClassDef) -> set[str]:
    names = set()
    for part in node.body:
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(part.name)
        elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            names.add(part.target.id)
    return names


@pytest.mark.slow
def test_every_word_of_the_glossary_stands_for_something_in_the_code() -> None:
    known, lost = definitions(), []
    for word, place in words().items():
        name, _, member = place.partition(".")
        if name not in known or (member and member not in known[name]):
            lost.append(f"{word}: {place}")
    assert lost == []


def test_the_glossary_is_whole_and_has_each_word_once() -> None:
    text = (DOCS / "glossary.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| word ")]
    assert len(words()) == len(rows) >= LEAST_WORDS, [row for row in rows if not ROW.fullmatch(row)]


@pytest.mark.parametrize(
    "name", ["Membership", "MeshView", "DesiredState", "ObservedState", "Plan", "Backend", "ObjectStore"]
)
def test_what_stands_at_the_doors_of_the_street_is_in_the_glossary(name: str) -> None:
    assert name in {place.partition(".")[0] for place in words().values()}


def test_the_rooms_are_those_of_the_import_contract() -> None:
    contract = (ROOT / "pyproject.toml").read_text().partition("layers = [")[2].partition("]")[0]
    rooms = set(re.findall(r"[a-z]+", contract)) - {
        "files",
        "blocking",
        "errors",
        "lean",
        "version",
        "listener",
        "http",
        "head",
        "terminal",
        "privileges",
        "program",
        "text",
    }
    table = (DOCS / "architecture.md").read_text().partition("## The rooms")[2].partition("\n## ")[0]
    assert rooms - {"supervisor"} == set(re.findall(r"(?m)^\| `([a-z]+)` \|", table))


def test_every_file_of_the_state_directory_is_in_the_table() -> None:
    table = (
        (DOCS / "architecture.md").read_text().partition("## The state directory")[2].partition("\n## ")[0]
    )
    source = (ROOT / "meshd" / "host" / "state.py").read_text()
    files = re.findall(r'(?m)^[A-Z_]+_(?:FILE|DIRECTORY): Final = "([^"]+)"', source)
    assert len(files) > 8
    assert [name for name in files if f"`{name}" not in table] == []


def test_every_condition_that_a_page_names_is_one() -> None:
    from meshd.observe.codes import CODES

    table = (DOCS / "architecture.md").read_text().partition("notices which failure")[2].partition("\n## ")[0]
    named = [row.split("|")[3] for row in table.splitlines() if row.startswith("| ") and "`" in row]
    codes = {code for cell in named for code in re.findall(r"`([a-z_]+)`", cell)}
    assert codes and codes <= set(CODES)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_link_leads_nowhere(page: Path) -> None:
    path = ROOT / page
    dead = [
        target
        for target in LINK.findall(path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]
    assert dead == []


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    pages = [path.name for path in DOCS.glob("*.md") if path.name != "README.md"]
    assert [name for name in pages if f"]({name})" not in index] == []


def test_every_decision_is_in_the_index_with_its_status_and_has_a_number_of_its_own() -> None:
    index = (DOCS / "adr" / "README.md").read_text()
    files = sorted(path.name for path in (DOCS / "adr").glob("[0-9]*.md"))
    numbers = [name[:4] for name in files]
    assert len(set(numbers)) == len(numbers)
    listed = dict(
        re.findall(r"\| \[\d+\]\(([^)]+)\) \| [^|]+ \| (accepted|superseded by \d+|proposed) \|", index)
    )
    assert sorted(listed) == files
