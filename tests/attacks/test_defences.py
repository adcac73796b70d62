"""The list of defences is true of the source as it is; `make mutation` proves that each one matters."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
MUTATION: dict[str, Any] = runpy.run_path(str(CHECKOUT / "tools" / "mutation.py"))
DEFENCES = MUTATION["read_defences"]()
DOCUMENT = (CHECKOUT / "docs" / "attacks.md").read_text()


@pytest.mark.parametrize("defence", DEFENCES, ids=lambda defence: defence.name.replace(" ", "-"))
def test_a_defence_stands_once_in_the_source_and_its_tests_exist(defence: Any) -> None:
    source = (CHECKOUT / defence.file).read_text()
    assert source.count(defence.source) == 1
    assert defence.mutated not in ("", defence.source)
    for test in defence.tests:
        file, _, name = test.partition("::")
        assert f"\ndef {name}(" in (CHECKOUT / file).read_text(), test


def test_the_published_table_is_that_of_these_defences() -> None:
    """Whoever adds or changes a defence runs `make mutation` again."""
    expected = MUTATION["render_table"]((defence, "died") for defence in DEFENCES)
    published = DOCUMENT.partition(MUTATION["BEGIN"])[2].partition(MUTATION["END"])[0].strip()
    assert published.replace("| hung |", "| died |") == expected


def test_every_test_that_the_document_names_exists() -> None:
    written = "\n".join(path.read_text() for path in (CHECKOUT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", DOCUMENT))
    assert {name for name in named if f"def {name}(" not in written} == set()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        ("assert product.GUARDED", "died"),
        ("assert True", "survived"),
        ("assert product.GUARDED or time.sleep(60)", "hung"),
        ("time.sleep(60)", "broken"),
    ],
)
def test_a_defence_is_proven_by_tests_that_notice_and_not_by_a_busy_machine(
    tmp_path: Path, test: str, outcome: str
) -> None:
    profile = 'from hypothesis import settings\n\nsettings.register_profile("thorough")\n'
    (tmp_path / "conftest.py").write_text(profile)
    (tmp_path / "product.py").write_text("GUARDED = True\n")
    (tmp_path / "test_product.py").write_text(f"import time, product\n\ndef test_it():\n    {test}\n")
    defence = MUTATION["Defence"](
        name="a guard",
        attack="any",
        file="product.py",
        source="True",
        mutated="False",
        tests=("test_product.py::test_it",),
    )
    assert MUTATION["mutate"](defence, tmp_path, 8.0)[0] == outcome
    assert (tmp_path / "product.py").read_text() == "GUARDED = True\n"
