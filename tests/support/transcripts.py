"""The transcripts of a real FreeBSD 15.1 (tests/fakebsd/transcripts), as (command, output, complaints,
exit code)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[1] / "fakebsd" / "transcripts"


@dataclass(frozen=True)
class Entry:
    source: str
    command: str
    stdout: bytes
    stderr: bytes
    exit_code: int


def entries(command_prefix: str) -> list[Entry]:
    """Every recorded command that begins like this."""
    return [
        entry
        for path in sorted(DIRECTORY.glob("*.txt"))
        for entry in _parse(path)
        if entry.command.startswith(command_prefix)
    ]


def _parse(path: Path) -> list[Entry]:
    found: list[Entry] = []
    command, streams = "", {"|": "", "!": ""}
    for line in path.read_text().splitlines():
        mark, text = line[:1], line[2:]
        if mark == "$":
            command, streams = text, {"|": "", "!": ""}
        elif mark in streams:
            streams[mark] += text + "\n"
        elif mark == "=":
            found.append(Entry(path.name, command, streams["|"].encode(), streams["!"].encode(), int(text)))
    return found
