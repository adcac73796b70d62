"""When to probe which target: no I/O, no clock; every instant is monotonic seconds.

Regular probes stand on a grid: target ``k`` has its place at ``frac(k * golden ratio)`` of
the interval. That spreads any number of targets evenly, and one that comes or goes moves
nobody else. New targets are probed at once, spread over a moment.

Deadlines are rounded up to a tick, so that a wake-up serves everything of its tick, and the
check of one tick's probes falls on the next one's: five wake-ups a second whatever the
number of targets (ten when some answer later than 0.2 s), while two probes of a target stay
an interval apart. What is urgent (first probes, bursts) has a finer tick.

Rates: a target is probed once an interval, plus at most ``BURST_PROBES`` after an answer is
missing, never two within ``MIN_GAP_SECONDS``. By itself (``auto_interval_seconds``) a fleet of
any size up to a thousand sends each host about a hundred echoes a second; FreeBSD answers
200 (net.inet.icmp.icmplim).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final, Literal, NamedTuple

QUICK_SECONDS: Final = 0.05
MIN_GAP_SECONDS: Final = 0.04
"""No two probes of a target are closer; less than the burst's spacing, so that a wake-up that is
a little late does not push the next one of the burst back."""

BURST_PROBES: Final = 3
SEND_TICK_SECONDS: Final = 0.2
CHECK_TICK_SECONDS: Final = 0.1
URGENT_TICK_SECONDS: Final = 0.01
FIRST_PROBE_SPACING_SECONDS: Final = 0.005
GOLDEN_RATIO: Final = (math.sqrt(5) - 1) / 2

Kind = Literal["regular", "quick", "check"]


def auto_interval_seconds(targets: int) -> float:
    """A second per hundred targets, 1 to 10."""
    return min(10.0, max(1.0, targets / 100))


class Due(NamedTuple):
    """``sends``: (target, quick); ``checks``: targets whose answer may be missing."""

    sends: list[tuple[str, bool]]
    checks: list[str]


class _Event(NamedTuple):
    deadline: float
    serial: int
    kind: Kind
    target: _Target


@dataclass(slots=True, eq=False)
class _Target:
    name: str
    slot: int
    regular_at: float = 0.0
    quick_at: float = 0.0
    quick_left: int = 0
    last_sent_at: float = -math.inf
    dropped: bool = False


class ProbeSchedule:
    """``interval_seconds`` 0: by the number of targets."""

    def __init__(self, interval_seconds: float = 0.0) -> None:
        self._fixed_interval = interval_seconds
        self._interval = interval_seconds or auto_interval_seconds(0)
        self._targets: dict[str, _Target] = {}
        self._free_slots: list[int] = []
        self._events: list[_Event] = []
        self._serial = 0

    @property
    def interval_seconds(self) -> float:
        return self._interval

    @property
    def wake_at(self) -> float | None:
        """When to call ``pop_due`` next; None: there is nothing to do."""
        return self._events[0].deadline if self._events else None

    def set_targets(self, names: Iterable[str], now: float) -> None:
        """Probe exactly these. Those that stay keep their place, unless the interval changes."""
        wanted = dict.fromkeys(names)
        for name in [name for name in self._targets if name not in wanted]:
            self._drop(name)
        new = [self._add(name) for name in wanted if name not in self._targets]
        interval = self._fixed_interval or auto_interval_seconds(len(wanted))
        if interval != self._interval:
            self._interval = interval
            for target in self._targets.values():
                if target.last_sent_at > -math.inf:
                    earliest = max(now, target.last_sent_at + MIN_GAP_SECONDS)
                    self._plan_regular(target, self._grid_at(target, earliest))
        self._probe_at_once(new, now)

    def probe_now(self, now: float, names: Collection[str] | None = None) -> None:
        """Probe every target now, or these of them, spread over a moment."""
        targets = self._targets.values()
        self._probe_at_once([each for each in targets if names is None or each.name in names], now)

    def start_burst(self, name: str, now: float) -> None:
        """Ask again quickly; nothing happens while a burst is under way."""
        target = self._targets[name]
        if target.quick_left == 0:
            target.quick_left = BURST_PROBES
            self._plan_quick(target, max(now, target.last_sent_at + MIN_GAP_SECONDS))

    def stop_burst(self, name: str) -> None:
        self._targets[name].quick_left = 0

    def plan_check(self, name: str, at: float, *, urgent: bool) -> None:
        """Have ``pop_due`` name this target in ``checks`` once ``at`` is past."""
        tick = URGENT_TICK_SECONDS if urgent else CHECK_TICK_SECONDS
        self._push(_round_up(at, tick), "check", self._targets[name])

    def pop_due(self, now: float) -> Due:
        """Everything whose deadline is past. The caller sends the probes now."""
        due = Due([], [])
        while self._events and self._events[0].deadline <= now:
            self._handle(heappop(self._events), now, due)
        return due

    def _handle(self, event: _Event, now: float, due: Due) -> None:
        target = event.target
        if target.dropped:
            return
        if event.kind == "check":
            due.checks.append(target.name)
        elif event.kind == "quick":
            if target.quick_left and event.deadline == target.quick_at:
                self._send_quick(target, now, due)
        elif event.deadline == target.regular_at:
            self._send_regular(target, now, due)

    def _send_regular(self, target: _Target, now: float, due: Due) -> None:
        not_before = target.last_sent_at + MIN_GAP_SECONDS
        if now < not_before:
            self._plan_regular(target, not_before)
            return
        target.last_sent_at = now
        due.sends.append((target.name, False))
        self._plan_regular(target, self._grid_at(target, now + MIN_GAP_SECONDS))

    def _send_quick(self, target: _Target, now: float, due: Due) -> None:
        not_before = target.last_sent_at + MIN_GAP_SECONDS
        if now < not_before:
            self._plan_quick(target, not_before)
            return
        target.last_sent_at = now
        target.quick_left -= 1
        due.sends.append((target.name, True))
        if target.quick_left:
            self._plan_quick(target, target.quick_at + QUICK_SECONDS)

    def _probe_at_once(self, targets: list[_Target], now: float) -> None:
        if not targets:
            return
        spacing = min(FIRST_PROBE_SPACING_SECONDS, self._interval / len(targets))
        for index, target in enumerate(targets):
            at = max(now + index * spacing, target.last_sent_at + MIN_GAP_SECONDS)
            self._plan_regular(target, _round_up(at, URGENT_TICK_SECONDS))

    def _grid_at(self, target: _Target, earliest: float) -> float:
        """The tick of the target's first place on the grid that is not before ``earliest``."""
        offset = (target.slot * GOLDEN_RATIO % 1.0) * self._interval
        place = math.ceil((earliest - offset) / self._interval) * self._interval + offset
        return _round_up(place, min(SEND_TICK_SECONDS, self._interval / 5))

    def _plan_regular(self, target: _Target, at: float) -> None:
        target.regular_at = at
        self._push(at, "regular", target)

    def _plan_quick(self, target: _Target, at: float) -> None:
        target.quick_at = _round_up(at, URGENT_TICK_SECONDS)
        self._push(target.quick_at, "quick", target)

    def _push(self, deadline: float, kind: Kind, target: _Target) -> None:
        self._serial += 1
        heappush(self._events, _Event(deadline, self._serial, kind, target))

    def _add(self, name: str) -> _Target:
        """The lowest free place, so that the places in use stay the well spread first ones."""
        slot = heappop(self._free_slots) if self._free_slots else len(self._targets)
        target = self._targets[name] = _Target(name, slot)
        return target

    def _drop(self, name: str) -> None:
        target = self._targets.pop(name)
        target.dropped = True
        heappush(self._free_slots, target.slot)


def _round_up(at: float, tick: float) -> float:
    """What is a billionth of a tick late by rounding is not late."""
    return math.ceil(at / tick - 1e-9) * tick
