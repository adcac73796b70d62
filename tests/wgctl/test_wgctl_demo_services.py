"""The services demo as a newcomer runs it: real servers, and a leader that is cut off and comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from meshd.errors import ConfigError
from meshd.lab.netns import list_netns
from meshd.lab.service_site import check_programs

Run = Callable[..., Result]


@pytest.mark.root
@pytest.mark.real
@pytest.mark.slow
def test_three_regions_lose_their_leader_and_get_it_back() -> None:
    before = list_netns("wgm")
    done = subprocess.run(
        [sys.executable, "-m", "wgctl.main", "demo", "--services", "--check", "--json"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    document = json.loads(done.stdout)
    assert document["format"] == "wgctl-demo-services/1" and document["failures"] == []
    assert document["leader"] == "tesla" and document["new_leader"] in ("newton", "bohr")
    assert document["names"] == {
        "tesla": ["tesla", "newton", "bohr"],
        "newton": ["newton", "tesla", "bohr"],
        "bohr": ["bohr", "newton", "tesla"],
    }
    for step in ("ready_seconds", "cut_seconds", "back_seconds"):
        assert document[step] and None not in document[step].values(), step
    assert list_netns("wgm") == before


@pytest.mark.parametrize("words", [("--hosts", "4"), ("--store", "garage")])
@pytest.mark.root
def test_it_has_three_hosts_and_a_folder(run: Run, words: tuple[str, str]) -> None:
    result = run("demo", "--services", *words)
    assert result.exit_code == 2 and f"without {words[0]}" in result.stderr


def test_servers_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where it looks for programs is /usr/sbin too; where there is nothing, all are missing."""
    monkeypatch.setattr("meshd.lab.service_site.SYSTEM_PATH", str(tmp_path))
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"not installed: haproxy, nsd, .*sh tools/setup.sh services"):
        check_programs()
