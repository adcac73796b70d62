"""Tables of docs/state-machines.md, and the same tables as a test has them: cell by cell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "state-machines.md"


@dataclass(frozen=True, slots=True)
class DrawnTable:
    """``cells``: state, event and what follows, row by row."""

    states: tuple[str, ...]
    events: tuple[str, ...]
    cells: tuple[tuple[str, str, str], ...]
    rows: tuple[tuple[str, ...], ...]
    """As they stand there."""

    def impossible(self) -> set[tuple[str, str]]:
        """The cells in which nothing changes or that cannot happen."""
        return {(state, event) for state, event, follows in self.cells if follows == "-"}


def parse_table(text: str) -> DrawnTable:
    """A row a line, the events in the first one; with or without the bars of Markdown."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("|---")]
    rows = [[cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")] for line in lines]
    (_, *events), *body = rows
    return DrawnTable(
        states=tuple(row[0] for row in body),
        events=tuple(events),
        rows=tuple(tuple(row) for row in body),
        cells=tuple(
            (row[0], event, cell) for row in body for event, cell in zip(events, row[1:], strict=True)
        ),
    )


def drawn_in_document(title: str, number: int = 0) -> DrawnTable:
    """A table below that heading, the first one unless ``number`` says otherwise."""
    section = DOCUMENT.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"(?m)(?:^\|.*\n)+", section)
    assert len(tables) > number, f"{len(tables)} tables below {title!r}"
    return parse_table(tables[number])


def drawn_rules(title: str, number: int) -> list[tuple[str, ...]]:
    """The rows of a table whose last column follows from the others."""
    return [tuple(row) for row in drawn_in_document(title, number).rows]


def check_drawn(title: str, table: DrawnTable, *, number: int = 0) -> None:
    """The document has the same states and events, and the same cells in which nothing happens."""
    drawn = drawn_in_document(title, number)
    assert (drawn.states, drawn.events) == (table.states, table.events)
    assert drawn.impossible() == table.impossible()
