"""What paths were like over the last day, in bounded memory: the newest hour finely, the day coarsely.

Kept in memory alone: whoever needs more than a day, or more than one run of the daemon, has Prometheus.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Final

from meshd.model.path import PathStats

SAMPLE_SECONDS: Final = 10.0
"""How often paths are to be noted."""
HOUR_STEP_SECONDS: Final = 30
DAY_STEP_SECONDS: Final = 300
STEPS: Final = {HOUR_STEP_SECONDS: 120, DAY_STEP_SECONDS: 288}
"""Step, seconds -> how many are kept: an hour, a day. About 11 kB a path."""


@dataclass(frozen=True, slots=True)
class Span:
    """A path over equal steps up to ``ends_at`` (unix seconds), oldest first; NaN: nothing was measured.

    Each figure is the mean of those noted within the step: of the smoothed round-trip time while the path
    was up, and of the loss ratio.
    """

    step_seconds: int
    ends_at: float
    rtt_seconds: tuple[float, ...]
    loss_ratio: tuple[float, ...]


class _Means:
    """The mean of each of the newest steps. A slot serves many steps in turn; only the newest is shown."""

    __slots__ = ("_counts", "_length", "_means", "_steps")

    def __init__(self, length: int) -> None:
        self._length = length
        self._steps = array("q", [-1]) * length
        self._means = array("f", [nan]) * length
        self._counts = array("H", [0]) * length

    def add(self, step: int, value: float) -> None:
        slot = step % self._length
        if self._steps[slot] != step:
            self._steps[slot], self._means[slot], self._counts[slot] = step, 0.0, 0
        if self._counts[slot] < 65_535:
            self._counts[slot] += 1
        self._means[slot] += (value - self._means[slot]) / self._counts[slot]

    def read(self, last: int) -> tuple[float, ...]:
        steps = range(last - self._length + 1, last + 1)
        slots = ((step, step % self._length) for step in steps)
        return tuple(self._means[slot] if self._steps[slot] == step else nan for step, slot in slots)


class _Path:
    __slots__ = ("loss", "rtt")

    def __init__(self) -> None:
        self.rtt = {step: _Means(length) for step, length in STEPS.items()}
        self.loss = {step: _Means(length) for step, length in STEPS.items()}

    def note(self, stats: PathStats, now: float) -> None:
        if stats.sent == 0:
            return
        for seconds in STEPS:
            step = int(now // seconds)
            self.loss[seconds].add(step, stats.loss_ratio)
            if stats.up and stats.srtt_seconds is not None:
                self.rtt[seconds].add(step, stats.srtt_seconds)


class PathHistory:
    """Noted on the event loop, read from the threads that serve the page."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: dict[str, _Path] = {}

    def note(self, paths: Mapping[str, PathStats], now: float) -> None:
        """
        Args:
            paths: as they are now, by hid. A path that is no longer among them is forgotten.
            now: unix seconds.
        """
        with self._lock:
            self._paths = {hid: self._paths.get(hid) or _Path() for hid in paths}
            for hid, stats in paths.items():
                self._paths[hid].note(stats, now)

    def read(self, hid: str, step_seconds: int, now: float) -> Span:
        """
        Args:
            step_seconds: HOUR_STEP_SECONDS or DAY_STEP_SECONDS.
            now: unix seconds.
        """
        with self._lock:
            path = self._paths.get(hid) or _Path()
            last = int(now // step_seconds)
            return Span(
                step_seconds, now, path.rtt[step_seconds].read(last), path.loss[step_seconds].read(last)
            )
