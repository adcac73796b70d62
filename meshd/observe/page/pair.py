"""Two hosts: what each measures of the other, and which third hosts both reach."""

from __future__ import annotations

from typing import Final

from meshd.model.path import PathStats
from meshd.observe.matrix import Matrix
from meshd.observe.page.frame import document, section, table
from meshd.observe.page.heat_map import render_source
from meshd.observe.page.markup import Child, Markup, element
from meshd.observe.page.view import PageView, host_link, pair_link, render_way
from meshd.observe.wording import NOTHING, PathGrade, grade_path, render_loss, render_rtt

MAX_WAYS: Final = 10
PATH_COLUMNS: Final = (
    ("path", ""),
    ("round trip", "number"),
    ("jitter", "number"),
    ("lost", "number"),
    ("largest packet", "number"),
)
WAY_COLUMNS: Final = (("by way of", ""), ("round trip", "number"), ("lost", "number"))


def render_pair(view: PageView, one: str, other: str, *, live: bool = False) -> str:
    """The whole document. Both are hosts of the matrix, and not the same."""
    matrix = view.matrix
    ways = ((one, other), (other, one))
    rows = [
        (f"{here} to {there}", *_cells(matrix, here, there), render_source(matrix.rows.get(here)))
        for here, there in ways
    ]
    columns = (("measured from", ""), *PATH_COLUMNS, ("measured", ""))
    grades = [_grade(path) for here, there in ways if (path := _path(matrix, here, there)) is not None]
    known = max(grades, key=list(PathGrade).index) if grades else "faint"
    body = [
        element("p", _sentence(matrix, one, other), class_=f"verdict {known}", role="status"),
        section("What both measure", table(columns, rows)),
        section("Ways through one other host", _through_others(matrix, one, other)),
        element(
            "p",
            "Why it goes as it goes, and since when, says ",
            element("code", f"wgctl path {other}"),
            f", typed on {one}.",
        ),
        element(
            "p",
            element("a", one, href=host_link(one)), ", ",
            element("a", other, href=host_link(other)), ", ",
            element("a", "all hosts", href="/"),
        ),
    ]  # fmt: skip
    return document(view, f"{one} and {other}", body, live=live)


def paths_from(name: str, matrix: Matrix) -> Markup:
    """The row of that host, each path with the page of its pair."""
    row = matrix.rows.get(name)
    if row is None:
        return element("p", "Nothing is known of what it measures.", class_="faint")
    rows = [
        (element("a", other, href=pair_link(name, other)), *_cells(matrix, name, other))
        for other in matrix.hosts
        if other != name
    ]
    source = element("p", f"Measured by {name}: {render_source(row)}.", class_="faint")
    return element("div", source, table((("to", ""), *PATH_COLUMNS), rows))


def _path(matrix: Matrix, one: str, other: str) -> PathStats | None:
    row = matrix.rows.get(one)
    return row.paths.get(other) if row is not None else None


def _grade(path: PathStats) -> PathGrade:
    return grade_path(path.srtt_seconds, up=path.up, loss_ratio=path.loss_ratio)


def _cells(matrix: Matrix, one: str, other: str) -> tuple[Child, ...]:
    row, path = matrix.rows.get(one), _path(matrix, one, other)
    if row is None or path is None:
        return element("span", "not known", class_="faint"), NOTHING, NOTHING, NOTHING, NOTHING
    mtu_bytes = row.mtus.get(other)
    state = f"up{render_way(path)}" if path.up else "down"
    return (
        element("span", state, class_=_grade(path)),
        render_rtt(path.srtt_seconds if path.up else None),
        render_rtt(path.jitter_seconds if path.up else None),
        render_loss(path.loss_ratio),
        f"{mtu_bytes} bytes" if mtu_bytes is not None else NOTHING,
    )


def _sentence(matrix: Matrix, one: str, other: str) -> str:
    """As the first of both says that knows."""
    for here, there in ((one, other), (other, one)):
        path = _path(matrix, here, there)
        if path is None:
            continue
        if not path.up:
            return f"{here} to {there}: down"
        figures = f"{render_rtt(path.srtt_seconds)}, {render_loss(path.loss_ratio)} lost"
        return f"{here} to {there}: up{render_way(path)}, {figures}"
    return f"{one} to {other}: not known"


def _through_others(matrix: Matrix, one: str, other: str) -> Markup:
    """Third hosts that both reach, by what both measure; the nearest first."""
    found = []
    for name in matrix.hosts:
        legs = [_path(matrix, here, name) or _path(matrix, name, here) for here in (one, other)]
        paths = [leg for leg in legs if leg is not None and leg.up and leg.srtt_seconds is not None]
        if name not in (one, other) and len(paths) == len(legs):
            loss = 1 - (1 - paths[0].loss_ratio) * (1 - paths[1].loss_ratio)
            found.append((sum(path.srtt_seconds or 0.0 for path in paths), name, loss))
    if not found:
        return element("p", "None that is known.", class_="faint")
    rows = [
        (element("a", name, href=host_link(name)), render_rtt(seconds), render_loss(loss))
        for seconds, name, loss in sorted(found)[:MAX_WAYS]
    ]
    return table(WAY_COLUMNS, rows)
