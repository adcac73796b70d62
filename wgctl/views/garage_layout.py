"""Garage's layout for people: each node as it is and as it is wanted, and what would move."""

from __future__ import annotations

from collections.abc import Sequence

from meshd.store.garage_layout import Layout, Preview, Role
from wgctl.admin.garage_layout import LayoutRow
from wgctl.output import BAD, FAINT, FAIR, GOOD, Cell, build_table, say, show

STYLES = {"as wanted": GOOD, "new": FAIR, "other": FAIR, "to go": FAIR, "unknown": FAINT, "unclear": BAD}
UNITS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "K"))


def show_layout(rows: Sequence[LayoutRow], layout: Layout, preview: Preview | None) -> None:
    """``preview`` None: nothing is staged."""
    say(f"version {layout.version}")
    headers = ("NODE", "HOST", "IN FORCE", "WANTED", "STATE")
    show(build_table(headers, [_cells(row) for row in rows]))
    for row in rows:
        if row.problem:
            say(f"{row.host}: {row.problem}", BAD)
    if preview is None:
        return
    say("")
    if preview.error:
        say(f"Garage can make no layout of what is staged: {preview.error}", BAD)
    for part in preview.message:
        for line in part.splitlines():
            say(line)


def _cells(row: LayoutRow) -> list[Cell]:
    state = f"{row.state}, staged" if row.staged else str(row.state)
    return [
        row.node_id[:16] or "-",
        row.host or "-",
        _role(row.held),
        _role(row.wanted),
        (state, STYLES[row.state]),
    ]


def _role(role: Role | None) -> str:
    if role is None:
        return "-"
    return f"{role.zone} {render_capacity(role.capacity)}"


def render_capacity(capacity: int | None) -> str:
    """As Garage's own command takes it, in powers of ten."""
    if capacity is None:
        return "gateway"
    for factor, unit in UNITS:
        if capacity >= factor:
            return f"{capacity / factor:g}{unit}"
    return f"{capacity}"
