"""The commands of ours that stand in the blocks of a page."""

from __future__ import annotations

import re
from collections.abc import Iterator

PROGRAMS = ("wgctl", "meshd")
_FENCE = re.compile(r"^```")


def command_lines(page: str) -> Iterator[tuple[int, str]]:
    """Lines of blocks, indented or fenced, that begin with a program of ours, behind a place as ``here:``."""
    fenced = False
    for number, line in enumerate(page.replace("\\\n", " ").splitlines(), 1):
        if _FENCE.match(line):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            text = re.sub(r"^\s*(?:[\w ]+:\s+)?(?:sudo\s+|\$\s+)?(?:\.venv/bin/)?", "", line)
            if text.split(" ")[0] in PROGRAMS:
                yield number, text
