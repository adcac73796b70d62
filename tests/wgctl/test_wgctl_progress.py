"""The live line of a long command never shares a line of the terminal with what it shows at the end."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

FRAMES = re.compile("[\u2800-\u28ff]")
SCRIPT = """
import time
from wgctl.commands.demo import Progress
from wgctl.output import say
def show(text):
    for number in range(5):
        say(f"RESULT {number} {text}")
        time.sleep(0.1)  # longer than a frame of the live line
with Progress() as progress:
    progress("building")
    time.sleep(0.3)
    progress.beside(show)("done")
    progress("still there")
"""


def run_script() -> str:
    leader, follower = pty.openpty()
    try:
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
        started = subprocess.Popen(
            [sys.executable, "-c", SCRIPT], stdin=follower, stdout=follower, stderr=follower, env=environment
        )
        os.close(follower)
        output = b""
        while True:
            try:
                piece = os.read(leader, 65_536)
            except OSError:  # EIO: the other side is closed
                break
            if not piece:
                break
            output += piece
        assert started.wait(30) == 0, output
    finally:
        os.close(leader)
    return output.decode()


@pytest.mark.slow
def test_the_live_line_is_gone_before_the_result_and_stays_away() -> None:
    output = run_script()
    before, result, after = output.partition("RESULT 0")
    assert FRAMES.search(before), "it was there while something was built"
    assert result and not FRAMES.search(after)
    assert before.endswith(("\x1b[2K", "\n", "\r", "\x1b[?25h")), repr(before[-40:])
    assert "still there" in after
