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
"""Step, seconds -> how many are kept: an hour, a day. After a day 4 kB a path."""
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
    """The mean of one figure over one step, of every path by its place."""

    __slots__ = ("_counts", "_means")

    def __init__(self) -> None:
        self._means = array("f")
        self._counts = bytearray()

    def add(self, place: int, value: float) -> None:
        self._make_room(place)
        if self._counts[place] < MAX_COUNT:
            self._counts[place] += 1
        before = self._means[place] if self._counts[place] > 1 else 0.0
        self._means[place] = before + (value - before) / self._counts[place]

    def keep(self, place: int, value: float) -> None:
        """Unless something is known, or this is nothing."""
        if not isnan(value):
            self._make_room(place)
            if not self._counts[place]:
                self._means[place], self._counts[place] = value, 1

    def forget(self, place: int) -> None:
        if place < len(self._counts):
            self._counts[place] = 0

    def read(self, place: int) -> float:
        return self._means[place] if place < len(self._counts) and self._counts[place] else nan

    def _make_room(self, place: int) -> None:
        if (lacking := place + 1 - len(self._counts)) > 0:
            self._counts.extend(bytes(lacking))
            self._means.extend([0.0] * lacking)


class _Step:
    __slots__ = ("loss", "number", "rtt")

    def __init__(self, number: int) -> None:
        self.number = number
        self.rtt = _Means()
        self.loss = _Means()


_NOTHING: Final = _Step(-1)


class _Steps:
    """The newest steps of one length, for all paths. A slot serves many steps in turn; only the newest is
    shown. What was never measured takes no room, nor do steps before the first one."""

    __slots__ = ("_slots",)

    def __init__(self, length: int) -> None:
        self._slots: list[_Step | None] = [None] * length

    def note(self, number: int, place: int, stats: PathStats) -> None:
        slot = number % len(self._slots)
        step = self._slots[slot]
        if step is None or step.number != number:
            step = self._slots[slot] = _Step(number)
        step.loss.add(place, stats.loss_ratio)
        if stats.up and stats.srtt_seconds is not None:
            step.rtt.add(place, stats.srtt_seconds)

    def keep(self, last: int, place: int, span: Span) -> None:
        """What ``read`` gave when ``last`` was the newest. What is newer here stays."""
        numbers = range(last - len(self._slots) + 1, last + 1)
        for number, rtt, loss in zip(numbers, span.rtt_seconds, span.loss_ratio, strict=True):
            slot = number % len(self._slots)
            step = self._slots[slot]
            if step is None or step.number < number:
                if isnan(rtt) and isnan(loss):
                    continue
                step = self._slots[slot] = _Step(number)
            if step.number == number:
                step.rtt.keep(place, rtt)
                step.loss.keep(place, loss)

    def forget(self, place: int) -> None:
        for step in filter(None, self._slots):
            step.rtt.forget(place)
            step.loss.forget(place)

    def read(self, last: int, place: int | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Round-trip times and loss, oldest first; NaN where nothing was measured."""
        rtt, loss = [], []
        for number in range(last - len(self._slots) + 1, last + 1):
            step = self._slots[number % len(self._slots)]
            if step is None or step.number != number or place is None:
                step = _NOTHING
            rtt.append(step.rtt.read(place or 0))
            loss.append(step.loss.read(place or 0))
        return tuple(rtt), tuple(loss)


class _Path:
    """``place``: where its figures stand in every step."""

    __slots__ = ("measured_at", "place")

    def __init__(self, place: int) -> None:
        self.place = place
        self.measured_at = 0.0


class PathHistory:
    """Noted on the event loop, read from the threads that serve the page."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: dict[str, _Path] = {}
        self._steps = {seconds: _Steps(length) for seconds, length in STEPS.items()}
        self._free: list[int] = []
        """Places of paths that were forgotten."""

    def note(self, paths: Mapping[str, PathStats], now: float) -> None:
        """
        Args:
            paths: as they are now, by hid. One that was not among them for an hour is forgotten.
            now: unix seconds.
        """
        with self._lock:
            for hid, stats in paths.items():
                path = self._find(hid, now)
                if stats.sent:
                    for seconds, steps in self._steps.items():
                        steps.note(int(now // seconds), path.place, stats)
            for path in self._paths.values():  # a clock that was set back makes nobody old
                path.measured_at = min(path.measured_at, now)
            for hid in [hid for hid, path in self._paths.items() if now - path.measured_at >= ABSENT_SECONDS]:
                self._forget(self._paths.pop(hid))

    def read(self, hid: str, step_seconds: int, now: float) -> Span:
        """
        Args:
            step_seconds: HOUR_STEP_SECONDS or DAY_STEP_SECONDS.
            now: unix seconds.
        """
        with self._lock:
            path = self._paths.get(hid)
            place = path.place if path is not None else None
            return Span(step_seconds, now, *self._steps[step_seconds].read(int(now // step_seconds), place))

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
                    self._steps[span.step_seconds].keep(last, path.place, span)

    def hids(self) -> tuple[str, ...]:
        """Of whom anything is known."""
        with self._lock:
            return tuple(self._paths)

    def _find(self, hid: str, now: float) -> _Path:
        path = self._paths.get(hid)
        if path is None:
            path = self._paths[hid] = _Path(self._free.pop() if self._free else len(self._paths))
        path.measured_at = now
        return path

    def _forget(self, path: _Path) -> None:
        for steps in self._steps.values():
            steps.forget(path.place)
        self._free.append(path.place)
