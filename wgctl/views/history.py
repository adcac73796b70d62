"""How paths have gone, as bars: a part of the time each, as high as its round-trip time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from meshd.observe.trend import HistoryDocument, PathTrend
from wgctl.output import NOTHING, Cell, Column, build_table, render_duration, render_loss, render_rtt, styled

if TYPE_CHECKING:
    from rich.console import RenderableType

BARS: Final = "▁▂▃▄▅▆▇█"
DOWN: Final = "×"
NOT_MEASURED: Final = "·"
FLAT_RATIO: Final = 0.2
"""A trend whose extremes are nearer to each other than this share of the RTT is drawn flat: it is noise."""


def render_bars(rtts: Sequence[float | None]) -> str:
    """The oldest first: as high as the RTT between the least and the largest of them; None: no answer."""
    known = [rtt for rtt in rtts if rtt is not None]
    if not known:
        return DOWN * len(rtts)
    least = min(known)
    span = max(max(known) - least, FLAT_RATIO * least) or 1.0
    return "".join(DOWN if rtt is None else BARS[int((rtt - least) / span * (len(BARS) - 1))] for rtt in rtts)


def render_path(trend: PathTrend) -> str:
    """The same of what meshd kept; a part in which nothing was measured is no part without an answer."""
    bars = render_bars(trend.rtt_seconds)
    pairs = zip(bars, trend.loss_ratio, strict=True)
    return "".join(NOT_MEASURED if loss is None else bar for bar, loss in pairs)


def render_history(document: HistoryDocument) -> RenderableType:
    """A line a path, for ``wgctl status --history``."""
    columns = (
        Column(name="PEER"),
        Column(name=f"THE LAST {render_duration(document.seconds).upper()}"),
        Column(name="LEAST RTT", right=True),
        Column(name="LARGEST", right=True),
        Column(name="LOST", right=True),
    )
    rows = [_row(name, trend) for name, trend in document.paths.items()]
    return build_table(columns, rows) if rows else styled("no path has been measured yet")


def _row(name: str, trend: PathTrend) -> list[Cell]:
    rtts = [rtt for rtt in trend.rtt_seconds if rtt is not None]
    losses = [loss for loss in trend.loss_ratio if loss is not None]
    return [
        name,
        render_path(trend),
        render_rtt(min(rtts, default=None)),
        render_rtt(max(rtts, default=None)),
        render_loss(sum(losses) / len(losses)) if losses else NOTHING,
    ]
