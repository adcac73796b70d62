"""The commands for FreeBSD of docs/leaving.md, as far as that goes without one: their names and paths.

What ``meshd leave`` does there is shown by tests/daemon/test_leave.py, on an imitation of FreeBSD's tools.
"""

from __future__ import annotations

import re
from pathlib import Path

from typed_machines import read_blocks

ROOT = Path(__file__).parents[2]
PATH = re.compile(r"/usr/local/[\w./-]+")
PORT = ROOT / "contrib" / "freebsd-port"


def section() -> str:
    _, _, below = (ROOT / "docs" / "leaving.md").read_text().partition("\n## FreeBSD\n")
    return below.partition("\n## ")[0]


def lines() -> list[str]:
    (block,) = read_blocks(section(), ["newton"])
    return block.text.splitlines()


def test_the_service_is_stopped_and_disabled_by_the_names_of_the_rc_script() -> None:
    script = (ROOT / "contrib" / "rc.d" / "meshd").read_text()
    name, variable = (re.findall(rf'^{word}="(\w+)"', script, re.MULTILINE)[0] for word in ("name", "rcvar"))
    assert lines()[0] == f"service {name} stop && sysrc {variable}=NO"
    assert lines()[1] == "meshd leave", "after the daemon has stopped, while the programs are there"
    assert f"sysrc -x {variable}" in lines()


def test_the_package_that_is_deleted_is_that_of_the_port() -> None:
    makefile = (PORT / "Makefile").read_text()
    (name,) = re.findall(r"^PORTNAME=\s+(\w+)", makefile, re.MULTILINE)
    assert f"pkg delete {name}" in lines()


def test_whatever_the_page_of_freebsd_installs_is_taken_away() -> None:
    """All that its lines put somewhere, but the state, which ``meshd leave`` puts aside."""
    page = (ROOT / "docs" / "freebsd.md").read_text()
    typed = [line.strip() for line in page.splitlines() if line.startswith("    ")]
    installed = [line for line in typed if line.startswith(("install ", "ln -s /usr/local", "git clone"))]
    assert len(installed) >= 4
    put = {path for line in installed for path in PATH.findall(line)} - {"/usr/local/bin/"}
    removed = PATH.findall("\n".join([*lines(), *re.findall("`(rm [^`]+)`", section())]))
    left = [path for path in put if not any(f"{path}/".startswith(f"{gone}/") for gone in removed)]
    assert left == []
    assert {"/usr/local/bin/meshd", "/usr/local/bin/wgctl"} <= set(removed)
