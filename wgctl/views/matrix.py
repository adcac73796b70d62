"""The latency matrix: who sees whom, and how well, as a table and as a document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meshd.model.path import PathMatrix, PathStats
from wgctl.output import BAD, FAINT, Cell, build_table, render_loss, render_rtt, rtt_style

if TYPE_CHECKING:
    from rich.console import RenderableType

HIDE_LOSS_BELOW = 0.0005


def build_matrix_table(names: Sequence[str], matrix: PathMatrix) -> RenderableType:
    """Rows measure, columns are measured: RTT, and loss where there is some."""
    rows: list[list[Cell]] = []
    for name in names:
        row = matrix.get(name)
        cells: list[Cell] = [name]
        for other in names:
            if other == name:
                cells.append((".", FAINT))
            elif row is None:
                cells.append(("?", FAINT))
            else:
                cells.append(_cell(row.get(other)))
        rows.append(cells)
    return build_table(["from \\ to", *names], rows, right=names)


def _cell(path: PathStats | None) -> Cell:
    if path is None:
        return "-", FAINT
    if not path.up:
        return "down", BAD
    text = render_rtt(path.srtt_seconds)
    if path.loss_ratio >= HIDE_LOSS_BELOW:
        text += f" {render_loss(path.loss_ratio)}"
    return text, rtt_style(path.srtt_seconds, up=path.up, loss_ratio=path.loss_ratio)
