"""The latency matrix: who sees whom, and how well, as a table that fits the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from meshd.model.path import DIRECT, PathMatrix, PathStats
from wgctl.output import BAD, FAINT, Cell, Column, build_table, render_loss, render_rtt, rtt_style
from wgctl.tables import GAP, Table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

HIDE_LOSS_BELOW: Final = 0.0005
Render = Callable[[PathStats], str]
LEGEND: Final = "round trips in ms; ~ through another host, ! loses packets, x down, ? not known"


class MatrixTable:
    """Rows measure, columns are measured: RTT, and loss where there is some.

    Where that is too wide hosts have numbers and cells are whole milliseconds; where even that is too wide
    it is one table below the other, each with some of the columns.
    """

    def __init__(self, names: Sequence[str], matrix: PathMatrix) -> None:
        self._names = tuple(names)
        self._matrix = matrix

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        wide = self._wide()
        if wide.natural_width <= options.max_width:
            yield wide
            return
        yield from self._narrow(options.max_width)

    def _wide(self) -> Table:
        names = self._names
        rows: list[list[Cell]] = [
            [name, *(self._cell(name, other, _render) for other in names)] for name in names
        ]
        return build_table(["from \\ to", *names], rows, right=names)

    def _narrow(self, width: int) -> Iterator[RenderableType]:
        names = self._names
        numbers = [str(number) for number in range(1, len(names) + 1)]
        heads = [f"{number:>2} {name}" for number, name in enumerate(names, 1)]
        cells = [[self._cell(name, other, _render_short) for other in names] for name in names]
        wide = [
            GAP + max(len(number), *(len(row[index][0]) for row in cells))
            for index, number in enumerate(numbers)
        ]
        share = _largest_share(wide, width - max(map(len, heads)))
        for first in range(0, len(names), share):
            if first:
                yield ""
            part = slice(first, first + share)
            columns = [Column(name="from \\ to"), *(Column(name=each, right=True) for each in numbers[part])]
            yield build_table(columns, [[head, *row[part]] for head, row in zip(heads, cells, strict=True)])
        yield build_table([Column(text=True)], [[(LEGEND, FAINT)]])

    def _cell(self, name: str, other: str, render: Render) -> tuple[str, str]:
        row = self._matrix.get(name)
        if other == name:
            return ".", FAINT
        if row is None:
            return "?", FAINT
        path = row.get(other)
        if path is None:
            return "-", FAINT
        style = rtt_style(path.srtt_seconds, up=path.up, loss_ratio=path.loss_ratio) if path.up else BAD
        return render(path), style


def _largest_share(wide: Sequence[int], room: int) -> int:
    """How many columns of these widths go beside each other, in tables that all have the same number."""
    for tables in range(1, len(wide)):
        share = math.ceil(len(wide) / tables)
        if all(sum(wide[first : first + share]) <= room for first in range(0, len(wide), share)):
            return share
    return 1


def build_matrix_table(names: Sequence[str], matrix: PathMatrix) -> MatrixTable:
    """``names``: in the order of rows and columns."""
    return MatrixTable(names, matrix)


def _render(path: PathStats) -> str:
    if not path.up:
        return "down"
    text = render_rtt(path.srtt_seconds) + _mark(path)
    return f"{text} {render_loss(path.loss_ratio)}" if path.loss_ratio >= HIDE_LOSS_BELOW else text


def _mark(path: PathStats) -> str:
    return "" if path.via == DIRECT else "~"


def _render_short(path: PathStats) -> str:
    if not path.up:
        return "x"
    text = f"{path.srtt_seconds * 1000:.0f}" if path.srtt_seconds is not None else "-"
    text += _mark(path)
    return f"{text}!" if path.loss_ratio >= HIDE_LOSS_BELOW else text
