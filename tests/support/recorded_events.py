"""Messages that the routing socket of a real FreeBSD 15.1 sent (tests/fakebsd/transcripts/08-events.txt)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from transcripts import DIRECTORY

LINE = re.compile(r"^(?P<kind>[A-Z]+) len (?P<length>\d+) ver 5 +(?P<words>.*?) ?(?P<hex>[0-9a-f]{48,})$")


@dataclass(frozen=True)
class Recorded:
    """``words``: what the recording program read out of the message itself."""

    kind: str
    words: str
    body: bytes

    def number(self, name: str) -> int | None:
        found = re.search(rf"\b{name} (0x[0-9a-f]+|\d+)", self.words)
        return int(found[1], 0) if found else None


def recorded() -> list[Recorded]:
    lines = (DIRECTORY / "08-events.txt").read_text().splitlines()
    found = [match for line in lines if (match := LINE.match(line))]
    return [Recorded(m["kind"], m["words"], bytes.fromhex(m["hex"])) for m in found]


RECORDED = recorded()
