"""doctor names an interface that has this host's key under another name, which meshd leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshd.settings import parse_settings
from wgctl.checks.interfaces import check_same_key

OWN, OTHER = "KI4Bj56rXx6tKyIP4d9rP3572bRytQlngzwDvO8q7jc=", "rs9nGdqkvKusE041/6ituj7MNkopr/yPxfT7c+cPkGo="
SETTINGS = parse_settings({"wireguard": {"interface": "wg0"}}, source="test")


def wg_that_says(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """In the place of wg(8): the form of ``wg show all public-key``."""
    program = directory / "wg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_an_interface_with_our_key_under_another_name_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"wg0\\t{OWN}\\nwg100\\t{OWN}\\nwgold\\t{OWN}\\noffice\\t{OTHER}\\n"
    wg_that_says(tmp_path, monkeypatch, f"[ \"$*\" = 'show all public-key' ] && printf '{said}'")
    [check] = check_same_key(SETTINGS, OWN)
    assert (check.name, check.result) == ("interface", "fail")
    assert check.text.startswith("wgold has this host's key too")
    assert 'interface = "wgold"' in check.advice and "wgold" in check.advice.rpartition("or ")[2]
    assert "--force" not in check.advice


@pytest.mark.parametrize("script", ["exit 1", "exit 0", "echo nonsense", "printf 'wgold\\t(none)\\n'"])
def test_where_nobody_tells_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    wg_that_says(tmp_path, monkeypatch, script)
    assert list(check_same_key(SETTINGS, OWN)) == []
    assert list(check_same_key(SETTINGS, None)) == []
