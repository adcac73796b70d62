"""What paths were like over the last day, in bounded memory: the newest hour finely, the day coarsely.

Whoever needs more than a day has Prometheus. How it outlives the process: ``meshd.observe.kept_history``.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Mapping, Sequence
from math import isnan, nan
from typing import Final

import msgspec

from meshd.model.path import PathStats

SAMPLE_SECONDS: Final = 10.0
"""How often paths are to be noted."""
HOUR_STEP_SECONDS: Final = 30
DAY_STEP_SECONDS: Final = 300
STEPS: Final = {HOUR_STEP_SECONDS: 120, DAY_STEP_SECONDS: 288}
"""Step, seconds -> how many are kept: an hour, a day. About 8 kB a path."""
ABSENT_SECONDS: Final = 3600.0
"""A path that is not measured for so long is forgotten. Soon after a start not all are measured yet."""


class Span(msgspec.Struct, frozen=True):
    """A path over equal steps up to ``ends_at`` (unix seconds), oldest first; NaN: nothing was measured.

    Each figure is the mean of those noted within the step: of the smoothed round-trip time while the path
    was up, and of the loss ratio.
    """

    step_seconds: int
    ends_at: float
    rtt_seconds: tuple[float, ...]
    loss_ratio: tuple[float, ...]


MAX_COUNT: Final = 255
"""Samples that a mean is made of; further ones count as the last of so many."""


class _Means:
    """The mean of each of the newest steps. A slot serves many steps in turn; only the newest is shown."""

    __slots__ = ("_counts", "_length", "_means", "_steps")

    def __init__(self, length: int) -> None:
        self._length = length
        self._steps = array("i", [-1]) * length
        self._means = array("f", [nan]) * length
        self._counts = array("B", [0]) * length

    def add(self, step: int, value: float) -> None:
        slot = step % self._length
        if self._steps[slot] != step:
            self._steps[slot], self._means[slot], self._counts[slot] = step, 0.0, 0
        if self._counts[slot] < MAX_COUNT:
            self._counts[slot] += 1
        self._means[slot] += (value - self._means[slot]) / self._counts[slot]

    def keep(self, last: int, values: Sequence[float]) -> None:
        """What ``read`` gave at that step. What is newer here stays."""
        for step, value in zip(range(last - self._length + 1, last + 1), values, strict=True):
            slot = step % self._length
            if not isnan(value) and self._steps[slot] < step:
                self._steps[slot], self._means[slot], self._counts[slot] = step, value, 1

    def read(self, last: int) -> tuple[float, ...]:
        steps = range(last - self._length + 1, last + 1)
        slots = ((step, step % self._length) for step in steps)
        return tuple(self._means[slot] if self._steps[slot] == step else nan for step, slot in slots)


class _Path:
    __slots__ = ("loss", "measured_at", "rtt")

    def __init__(self) -> None:
        self.measured_at = 0.0
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
            paths: as they are now, by hid. One that was not among them for an hour is forgotten.
            now: unix seconds.
        """
        with self._lock:
            for hid, stats in paths.items():
                self._find(hid, now).note(stats, now)
            for path in self._paths.values():  # a clock that was set back makes nobody old
                path.measured_at = min(path.measured_at, now)
            self._paths = {
                hid: path for hid, path in self._paths.items() if now - path.measured_at < ABSENT_SECONDS
            }

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

    def keep(self, spans: Mapping[str, Sequence[Span]], now: float) -> None:
        """What an earlier process read at its end, by hid; what this one has noted itself stays.

        Args:
            now: unix seconds.
        """
        with self._lock:
            for hid, kept in spans.items():
                path = self._find(hid, now)
                for span in kept:
                    last = int(span.ends_at // span.step_seconds)
                    path.rtt[span.step_seconds].keep(last, span.rtt_seconds)
                    path.loss[span.step_seconds].keep(last, span.loss_ratio)

    def hids(self) -> tuple[str, ...]:
        """Of whom anything is known."""
        with self._lock:
            return tuple(self._paths)

    def _find(self, hid: str, now: float) -> _Path:
        path = self._paths.setdefault(hid, _Path())
        path.measured_at = now
        return path
