"""The real meshd in a VNET jail of an imitated FreeBSD: its tools are the jail's, its packets go nowhere."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TOOLS = ("ifconfig", "wg", "route", "netstat", "jls", "sysctl")
CLONE_NEWNET = 0x40000000
PROGRAM = """#!{python}
import sys
sys.path[:0] = [{root!r}, {root!r} + "/tests/support"]
from jailed_meshd import main
main({directory!r})
"""
SHIM = """#!{python} -SEs
import os, sys
os.environ["FAKEBSD_JAIL"] = {jail!r}
sys.path.insert(0, {root!r})
from tests.fakebsd.run import main
main({tool!r}, {directory!r})
"""
ROOT = Path(__file__).resolve().parents[2]


def install(directory: Path) -> None:
    """What jexec(8) finds when it is told to run ``meshd``."""
    write(directory / "bin" / "meshd", PROGRAM, directory=str(directory))


def write(path: Path, text: str, **words: str) -> None:
    path.write_text(text.format(python=sys.executable, root=str(ROOT), **words))
    path.chmod(0o755)


def tools_of(directory: Path, jail: str) -> Mapping[str, Path]:
    """A runner cleans the environment, so where a tool is run is part of the tool."""
    home = directory / "jails" / jail
    home.mkdir(parents=True, exist_ok=True)
    for tool in TOOLS:
        write(home / tool, SHIM, directory=str(directory), jail=jail, tool=tool)
    return {tool: home / tool for tool in TOOLS}


def main(directory: str) -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    from meshd.backend.base import Backend
    from meshd.backend.select import open_backend
    from meshd.daemon import doors
    from meshd.daemon import main as program

    tools = tools_of(Path(directory), os.environ["FAKEBSD_JAIL"])

    def open_imitated(name: object, *, route_note_path: Path, **_: Any) -> Backend:
        return open_backend("freebsd", tools=tools, route_note_path=route_note_path)

    assert "open_backend" in vars(doors)
    vars(doors)["open_backend"] = open_imitated
    program.main()
