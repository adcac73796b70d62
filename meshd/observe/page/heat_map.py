"""The matrix as a heat map: who measures, down; who is measured, across."""

from __future__ import annotations

from typing import Final

from meshd.model.path import DIRECT, PathStats
from meshd.observe.matrix import Matrix, MatrixRow
from meshd.observe.page.markup import Markup, element
from meshd.observe.page.view import host_link, render_way
from meshd.observe.wording import grade_path, render_duration, render_loss, render_rtt

OLD_ROW_SECONDS: Final = 30.0
MAX_FIGURES: Final = 14
"""Hosts up to which each cell has its figure; beyond, it is a colour with the figure as its title."""

RELAYED: Final = "~"
"""In a cell: the packets go by way of another host, which its title names."""


def heat_map(matrix: Matrix) -> Markup:
    """A table that scrolls sideways where it is too wide."""
    head = element(
        "tr",
        element("th", "from \\ to", scope="col"),
        [element("th", name, scope="col", class_="to") for name in matrix.hosts],
        element("th", "measured", scope="col"),
    )
    body = [_row(name, matrix) for name in matrix.hosts]
    whole = element("table", element("thead", head), element("tbody", body), class_="heat")
    return element("div", whole, class_="wide", tabindex=0, role="region", aria_label="matrix of all pairs")


def _row(name: str, matrix: Matrix) -> Markup:
    row = matrix.rows.get(name)
    return element(
        "tr",
        element("th", element("a", name, href=host_link(name)), scope="row"),
        [_cell(name, other, row, brief=len(matrix.hosts) > MAX_FIGURES) for other in matrix.hosts],
        element("td", render_source(row), class_="faint"),
    )


def render_source(row: MatrixRow | None) -> str:
    """Whose word a row is, and how old."""
    if row is None:
        return "nothing is known"
    age = f"{render_duration(row.age_seconds)} ago"
    if row.told_by is not None:
        return f"{age}, as {row.told_by} was told"
    return age if row.age_seconds > OLD_ROW_SECONDS else "now"


def _cell(name: str, other: str, row: MatrixRow | None, *, brief: bool) -> Markup:
    if name == other:
        return element("td", "", class_="none")
    path = row.paths.get(other) if row is not None else None
    if path is None:
        return element(
            "td", "?" if row is None else "-", class_="none", title=f"{name} to {other}: not known"
        )
    text = _figures(path) + (render_way(path) if path.up else "")
    grade = grade_path(path.srtt_seconds, up=path.up, loss_ratio=path.loss_ratio)
    is_relayed = path.up and path.via != DIRECT
    if brief:
        shown = "x" if not path.up else RELAYED if is_relayed else ""
    else:
        shown = f"{_figures(path)} {RELAYED}" if is_relayed else text
    kind = f"cell {grade} relayed" if is_relayed else f"cell {grade}"
    return element("td", shown, class_=kind, title=f"{name} to {other}: {text}")


def _figures(path: PathStats) -> str:
    if not path.up:
        return "down"
    loss = f" {render_loss(path.loss_ratio)} lost" if path.loss_ratio >= 0.0005 else ""
    return f"{render_rtt(path.srtt_seconds)}{loss}"
