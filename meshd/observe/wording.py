"""Figures as people read them, the same on a terminal and on the page."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from meshd.model.instant import render_time as render_time

NOTHING: Final = "-"
SLOW_SECONDS: Final = 0.05
VERY_SLOW_SECONDS: Final = 0.15
SOME_LOSS: Final = 0.005
MUCH_LOSS: Final = 0.05


class PathGrade(StrEnum):
    """How good a path is."""

    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    BAD = "bad"
    """Dead, or losing much."""


def render_rtt(seconds: float | None) -> str:
    """Milliseconds with three digits that count."""
    if seconds is None:
        return NOTHING
    milliseconds = seconds * 1000
    digits = 2 if milliseconds < 10 else 1 if milliseconds < 100 else 0
    return f"{milliseconds:.{digits}f} ms"


def render_loss(ratio: float) -> str:
    percent = ratio * 100
    return f"{percent:.1f} %" if 0 < percent < 10 else f"{percent:.0f} %"


def render_duration(seconds: float) -> str:
    """A length of time in its largest fitting unit: 42 s, 7 min, 3 h, 12 d."""
    seconds = max(seconds, 0.0)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} d"


def render_age(at: float | None, now: float) -> str:
    """How long ago an instant (unix seconds) was; ``never`` for None and 0."""
    return render_duration(now - at) if at else "never"


def render_count(number: int, noun: str) -> str:
    """1 peer, 2 peers."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def render_bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def grade_path(rtt_seconds: float | None, *, up: bool = True, loss_ratio: float = 0.0) -> PathGrade:
    """What to call a path with these figures."""
    if not up or rtt_seconds is None or loss_ratio >= MUCH_LOSS:
        return PathGrade.BAD
    if rtt_seconds >= VERY_SLOW_SECONDS or loss_ratio >= SOME_LOSS:
        return PathGrade.POOR
    return PathGrade.FAIR if rtt_seconds >= SLOW_SECONDS else PathGrade.GOOD
