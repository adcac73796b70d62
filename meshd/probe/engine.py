"""The prober without its sockets: schedule and meters together. No I/O, no clock.

Instants are monotonic seconds and arguments. The caller asks ``due`` for the probes to
send, says of each whether it was ``sent`` or ``refused``, hands in what it ``received``
*before* it asks again, and sleeps until ``wake_at``.

A regular probe that is overdue on a path that was up starts one burst of quick ones; any
answer ends it. When the burst stays unanswered too, the path is down, and probing goes on
at the regular pace. At an interval of 1 s and an RTT up to 0.1 s that takes 1.5 s at most,
counted from its death, and half a second less on average.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from meshd.model.path import PathStats
from meshd.probe.rtt import PathMeter
from meshd.probe.schedule import ProbeSchedule

MAX_SEQUENCE: Final = 0xFFFF


class Probe(NamedTuple):
    hid: str
    sequence: int
    quick: bool


class UpChange(NamedTuple):
    """A path came up or went down."""

    hid: str
    up: bool


class _Path(msgspec.Struct):
    meter: PathMeter
    sequence: int = 0
    up: bool = False
    burst_spent: bool = False


class ProbeEngine:
    """``interval_seconds`` 0: by the number of targets; ``window``: probes kept for loss."""

    def __init__(self, *, interval_seconds: float, window: int) -> None:
        self._schedule = ProbeSchedule(interval_seconds)
        self._window = window
        self._paths: dict[str, _Path] = {}
        self._answering: set[str] = set()

    @property
    def wake_at(self) -> float | None:
        return self._schedule.wake_at

    @property
    def interval_seconds(self) -> float:
        return self._schedule.interval_seconds

    def set_targets(self, hids: Iterable[str], now: float) -> None:
        """Measure exactly these; statistics of those that stay are kept."""
        self._paths = {hid: self._paths.get(hid) or _Path(PathMeter(self._window)) for hid in hids}
        self._answering &= self._paths.keys()
        self._schedule.set_targets(self._paths, now)

    def probe_now(self, now: float, hids: Collection[str] | None = None) -> None:
        self._schedule.probe_now(now, hids)

    def resume(self, now: float) -> None:
        """After a pause of this process or machine: no probe that was under way is held against its
        path, and every target is probed now."""
        for path in self._paths.values():
            path.meter.discard_pending()
        self.probe_now(now)

    def due(self, now: float) -> tuple[list[Probe], list[UpChange]]:
        """The probes to send now and the paths whose state changed since the last call."""
        sends, checks = self._schedule.pop_due(now)
        changes = [change for hid in dict.fromkeys(checks) if (change := self._check(hid, now))]
        return [self._number(hid, quick) for hid, quick in sends], changes

    def sent(self, probe: Probe, at: float) -> None:
        """``at``: just before the packet was handed to the system."""
        meter = self._paths[probe.hid].meter
        meter.sent(probe.sequence, at, quick=probe.quick)
        self._schedule.plan_check(probe.hid, at + meter.suspect_after_seconds, urgent=probe.quick)

    def refused(self, probe: Probe, at: float, reason: str) -> None:
        self._paths[probe.hid].meter.refused(at, reason, quick=probe.quick)
        self._schedule.plan_check(probe.hid, at, urgent=True)

    def received(self, hid: str, sequence: int, received_at: float, *, timed: bool = True) -> UpChange | None:
        """A reply from that target's address that carried our marks."""
        path = self._paths.get(hid)
        if path is None or not path.meter.answered(sequence, received_at, timed=timed):
            return None
        self._schedule.stop_burst(hid)
        return self._note_up(hid, path, path.meter.is_up(received_at))

    def answering(self) -> set[str]:
        """Those whose path is up, as the newest UpChange of each said."""
        return set(self._answering)

    def snapshot(self, now: float, unix_now: float) -> dict[str, PathStats]:
        """``up`` as the newest UpChange of each target has it: no query knows of a death before all do."""
        return {hid: path.meter.stats(now, unix_now, up=path.up) for hid, path in self._paths.items()}

    def is_up(self, hid: str) -> bool:
        """As the newest UpChange of that target said."""
        return self._paths[hid].up

    def refusals(self) -> Mapping[str, str]:
        """The targets whose newest probe the system would not send, with its reason."""
        return {hid: path.meter.refusal for hid, path in self._paths.items() if path.meter.refusal}

    def _number(self, hid: str, quick: bool) -> Probe:
        path = self._paths[hid]
        path.sequence = path.sequence + 1 & MAX_SEQUENCE
        if not quick:
            path.burst_spent = False
        return Probe(hid, path.sequence, quick)

    def _check(self, hid: str, now: float) -> UpChange | None:
        path = self._paths[hid]
        up = path.meter.is_up(now)
        if up and not path.burst_spent and path.meter.missed(now):
            path.burst_spent = True
            self._schedule.start_burst(hid, now)
        return self._note_up(hid, path, up)

    def _note_up(self, hid: str, path: _Path, up: bool) -> UpChange | None:
        if path.up == up:
            return None
        path.up = up
        if up:
            self._answering.add(hid)
        else:
            self._answering.discard(hid)
        return UpChange(hid, up)
