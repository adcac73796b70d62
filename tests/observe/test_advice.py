"""What to do about a condition, as the programs tell it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from page_states import NOW, page_view, peer_state, read_page

from meshd.observe.advice import DOCUMENT, find_advice, read_advice
from meshd.observe.codes import CODES
from meshd.observe.page.overview import render_overview
from meshd.observe.status import ConditionStatus

ROOT = Path(__file__).resolve().parents[2]


def test_there_is_advice_for_each_condition_and_for_nothing_else() -> None:
    assert {code: each.severity for code, each in read_advice().items()} == {
        code: str(severity.value) for code, severity in CODES.items()
    }
    assert find_advice("no_such_condition") is None


def test_links_of_the_manual_are_names_of_documents() -> None:
    texts = [text for each in read_advice().values() for text in (each.meaning, each.remedy)]
    assert not [text for text in texts if "](" in text]
    advice = find_advice("registry_split_view")
    assert advice is not None and advice.remedy.endswith("root keys were stolen, docs/trust.md.")


def test_the_page_says_what_to_do_about_what_is_wrong() -> None:
    condition = ConditionStatus(code="plan_held", severity="critical", subject="", text="3 go", since=NOW)
    page = read_page(render_overview(page_view(peer_state("newton"), conditions=[condition])))
    assert "What to do: Look with wgctl plan; go ahead with wgctl apply --force." in page.text
    assert "wgctl apply --force" in [each.text for each in page.all("code")]


@pytest.mark.slow
def test_an_installed_package_has_the_document(tmp_path: Path) -> None:
    built = [
        sys.executable,
        "-c",
        "import setuptools; setuptools.setup()",
        "-q",
        "build",
        "-b",
        str(tmp_path),
    ]
    subprocess.run(built, cwd=ROOT, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "lib/meshd/observe" / DOCUMENT).read_bytes() == (ROOT / "docs" / DOCUMENT).read_bytes()
