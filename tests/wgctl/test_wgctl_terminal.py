"""What an operator sees on a real terminal, and with NO_COLOR."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from control_fixture import Answer, FakeMeshd, answer_with, build_peer, build_status

StartMeshd = Callable[[Answer], FakeMeshd]

COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-7]|38;[0-9;]+|9[0-7])m")


def run_on_terminal(socket: Path, **environment: str) -> str:
    """The output of ``wgctl status --local`` with a pseudo-terminal as standard output."""
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    leader, follower = pty.openpty()
    try:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from wgctl.main import main; main()",
                "--socket",
                socket,
                "status",
                "--local",
            ],
            stdout=follower,
            stdin=subprocess.DEVNULL,
            env={**clean, "TERM": "xterm-256color", "COLUMNS": "200", **environment},
        )
        os.close(follower)
        output = b""
        while True:
            try:
                piece = os.read(leader, 65536)
            except OSError:  # EIO: the other side is closed
                break
            if not piece:
                break
            output += piece
        assert process.wait(30) == 0
    finally:
        os.close(leader)
    return output.decode()


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_only_where_they_are_wanted(
    start_meshd: StartMeshd, environment: dict[str, str], coloured: bool
) -> None:
    meshd = start_meshd(answer_with(build_status(build_peer("newton"), build_peer("bohr", up=False))))
    output = run_on_terminal(meshd.path, **environment)
    assert "newton" in output and "down" in output
    assert bool(COLOUR.search(output)) is coloured
