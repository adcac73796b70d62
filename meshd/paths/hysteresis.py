"""How long the direct path has to be well before a pair goes back to it. Pure.

A path that comes and goes would have its pair switch with it. So each time that a pair left the direct path
within the last hour doubles the time. That bounds the switches of an hour whatever the path does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

HOUR_SECONDS: Final = 3600.0
HOLD_SECONDS: Final = 10.0
LOSSY_HOLD_SECONDS: Final = 60.0
"""A path that loses two packets in five answers ten in a row often enough."""
MAX_HOLD_SECONDS: Final = 1800.0


def recent(left_at: Iterable[float], now: float) -> tuple[float, ...]:
    """Those instants, of when a pair left the direct path, that lie within the last hour."""
    return tuple(at for at in left_at if now - at < HOUR_SECONDS)


def hold_seconds(left_at: Iterable[float], now: float, *, was_lossy: bool) -> float:
    """For how long the direct path has to be well.

    Args:
        left_at: when the pair left it.
        was_lossy: it left because of the packets that were lost.
    """
    times = len(recent(left_at, now))
    first = LOSSY_HOLD_SECONDS if was_lossy else HOLD_SECONDS
    return min(first * (1 << min(max(0, times - 1), 20)), MAX_HOLD_SECONDS)
