"""``wgctl`` as a process of its own, on a terminal of a given size."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
END_SECONDS = 60.0


def run_on_a_terminal(*words: str | Path, columns: int, lines: int) -> tuple[int, str]:
    """The exit code, and all that the terminal was given."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    program = subprocess.Popen(
        [sys.executable, "-m", "wgctl.main", *map(str, words)],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(theirs)
    screen = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
        while piece := os.read(ours, 65536):
            screen += piece
    os.close(ours)
    return program.wait(END_SECONDS), screen.decode().replace("\r\n", "\n")
