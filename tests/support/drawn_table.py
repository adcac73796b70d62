"""Tables of docs/state-machines.md, and the same tables as a test has them: cell by cell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "state-machines.md"


@dataclass(frozen=True, slots=True)
class DrawnTable:
    """``cells``: state, event and what follows, row by row."""

    states: tuple[str, ...]
    events: tuple[str, ...]
    cells: tuple[tuple[str, str, str], ...]

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
        cells=tuple(
            (row[0], event, cell) for row in body for event, cell in zip(events, row[1:], strict=True)
        ),
    )


def drawn_in_document(title: str) -> DrawnTable:
    """The first table below that heading."""
    section = DOCUMENT.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|") or not line.strip()]
    table: list[str] = []
    for line in rows:
        if line.strip():
            table.append(line)
        elif table:
            break
    assert table, f"no table below {title!r}"
    return parse_table("\n".join(table))


def check_drawn(title: str, table: DrawnTable) -> None:
    """The document has the same states and events, and the same cells in which nothing happens."""
    drawn = drawn_in_document(title)
    assert (drawn.states, drawn.events) == (table.states, table.events)
    assert drawn.impossible() == table.impossible()
