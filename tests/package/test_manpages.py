"""The manual pages say what the programs do, and man(1) has nothing to complain about."""

from __future__ import annotations

import runpy
import subprocess
from pathlib import Path

import pytest

from meshd.settings import parse_settings, setting_values
from wgctl.main import VERBS

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "contrib" / "man"
NAMES = ("meshd.8", "wgctl.8", "meshd.toml.5")


def shown(name: str) -> str:
    """As a terminal shows the page, without what makes letters bold."""
    command = ["mandoc", "-Tutf8", "-Owidth=200", str(PAGES / name)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    return " ".join("".join(text[i] for i in range(len(text)) if _stays(text, i)).split())


def _stays(text: str, i: int) -> bool:
    """Overstriking is a letter, a backspace, a letter."""
    return text[i] != "\b" and text[i + 1 : i + 2] != "\b"


@pytest.mark.slow
def test_the_pages_are_those_of_the_code_that_is_there() -> None:
    rendered = runpy.run_path(str(ROOT / "tools" / "manpages.py"))["render_pages"]()
    assert set(rendered) == set(NAMES) == {path.name for path in PAGES.iterdir()}
    stale = [name for name in NAMES if (PAGES / name).read_text() != rendered[name]]
    assert not stale, f"{stale}: run make man, and read the difference"


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_no_fault_of_form(name: str) -> None:
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", str(PAGES / name)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.slow
def test_every_verb_and_every_setting_has_its_place() -> None:
    verbs = shown("wgctl.8")
    assert [name for name in VERBS if f" {name}" not in verbs] == []
    page = shown("meshd.toml.5")
    keys = setting_values(parse_settings({}, source="defaults"))
    assert [key for key in keys if f" {key.rpartition('.')[2]} = " not in page] == []


def test_defaults_keep_their_quotes() -> None:
    assert 'interface = "wg0"' in shown("meshd.toml.5")
    assert "--passphrase-file FILE|fd:N" in shown("wgctl.8")
