"""The services demo as a newcomer runs it: real servers, and a leader that is cut off and comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from published import check_document

from meshd.errors import ConfigError
from meshd.lab.netns import list_netns
from meshd.lab.owner import PREFIX
from meshd.lab.service_site import check_programs, end_of_log

Run = Callable[..., Result]


@pytest.mark.long
@pytest.mark.root
@pytest.mark.real
@pytest.mark.slow
def test_three_regions_lose_their_leader_and_get_it_back() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "wgctl.main", "demo", "--services", "--check", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as done:
        output, errors = done.communicate(timeout=900)
    assert done.returncode == 0, output[-3000:] + errors[-3000:]
    document = check_document(output)
    assert document["format"] == "wgctl-demo-services/1" and document["failures"] == []
    assert document["leader"] == "tesla" and document["new_leader"] in ("newton", "bohr")
    assert document["names"] == {
        "tesla": ["tesla", "newton", "bohr"],
        "newton": ["newton", "tesla", "bohr"],
        "bohr": ["bohr", "newton", "tesla"],
    }
    for step in ("ready_seconds", "cut_seconds", "back_seconds"):
        assert document[step] and None not in document[step].values(), step
    assert list_netns(f"{PREFIX}{done.pid}") == []


@pytest.mark.parametrize("words", [("--hosts", "4"), ("--store", "garage")])
@pytest.mark.root
def test_it_has_three_hosts_and_a_folder(run: Run, words: tuple[str, str]) -> None:
    result = run("demo", "--services", *words)
    assert result.exit_code == 2 and f"without {words[0]}" in result.stderr


def test_servers_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where it looks for programs is /usr/sbin too; where there is nothing, all are missing."""
    monkeypatch.setattr("meshd.lab.service_site.SYSTEM_PATH", str(tmp_path))
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"not installed: haproxy, nsd, .*sh tools/setup.sh demo-services"):
        check_programs()


def test_the_end_of_a_log_still_has_the_reason_when_a_server_repeats_what_it_waits_for() -> None:
    waits = "".join(f"15:33:{second:02} INFO: bootstrap in progress\n" for second in range(60))
    shown = end_of_log(f"FATAL: could not change directory\n{waits}15:34:00 INFO: still waiting\n")
    assert shown.splitlines() == [
        "FATAL: could not change directory",
        "15:33:00 INFO: bootstrap in progress",
        "15:34:00 INFO: still waiting",
    ]
