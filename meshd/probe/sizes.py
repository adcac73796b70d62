"""When to probe which path with which size: every path's search, no I/O, no clock.

Instants are monotonic seconds and arguments, as in ``ProbeEngine``, whose word on which paths are up
this follows: a path that is down is not asked. ``random`` gives numbers from 0 up to 1; it keeps the
hosts of a mesh from looking at the same host at the same moment.

Rates: a healthy path costs one probe every 10 s (every ``targets / 5`` s beyond fifty of them), so a host
is asked five times a second at most by all others together. A search sends a few packets a round,
and its rounds keep such a distance that a host whose every path is searched by the other end at once
answers ``ECHOES_PER_SECOND``; FreeBSD answers 200 (net.inet.icmp.icmplim), half of it is the probes'
that measure time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from typing import Final, NamedTuple

import msgspec

from meshd.probe.sizesearch import SizeSearch

SIZE_RECHECK_SECONDS: Final = 10.0
LOOKS_PER_SECOND: Final = 5.0
ECHOES_PER_SECOND: Final = 100.0
GROW_FIRST_SECONDS: Final = 60.0
GROW_SECONDS: Final = 600.0
"""How often more is tried on a path that carries less than the interface; sooner while it is news, so
that what a bad minute took away is back in the next ones."""
AGAIN_SECONDS: Final = 2.0
"""How soon a look that found nothing at all is repeated; then twice as long, up to the usual pause."""

TICK_SECONDS: Final = 0.2
"""Of the regular probes (``schedule``): looks fall on their wake-ups and cost none of their own."""
SILENCE_SECONDS: Final = (0.3, 0.5, 3.0)
"""How long a round without any answer is waited for: at least, while no time is known, at most."""
STRAGGLER_SECONDS: Final = 0.15
"""How long after the first answer of a round the others may come, at least; else its own time again.
The largest went out first: on a line that is merely slow the others queue behind it."""
JITTER: Final = 0.2
MAX_SEQUENCE: Final = 0xFFFF


class SizeTarget(NamedTuple):
    """``ceiling``: the interface's MTU. ``known``: what was found before this process, if anything."""

    ceiling: int
    known: int | None = None


class SizeProbe(NamedTuple):
    """``size``: of the whole IP packet, bytes."""

    hid: str
    sequence: int
    size: int


class MtuChange(NamedTuple):
    """A path turned out to carry less than before, or more. ``old`` None: it was not known before."""

    hid: str
    old: int | None
    new: int


class _Path(msgspec.Struct):
    """``pending``: sizes asked in this look, by sequence. ``answered``: those of this round that came back;
    ``late``: those of the rounds before it that came back since."""

    search: SizeSearch
    up: bool = False
    sequence: int = 0
    pending: dict[int, int] = msgspec.field(default_factory=dict)
    answered: set[int] = msgspec.field(default_factory=set)
    late: set[int] = msgspec.field(default_factory=set)
    round_sizes: tuple[int, ...] = ()
    sent_at: float = 0.0
    first_answer_at: float | None = None
    rtt: float | None = None
    wake_at: float = math.inf
    grow_at: float = -math.inf
    grow_pause: float = GROW_FIRST_SECONDS
    again_pause: float = AGAIN_SECONDS


class SizeEngine:
    """Feed it targets, ``set_up`` and ``received``; send what ``due`` hands out."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._paths: dict[str, _Path] = {}
        self._events: list[tuple[float, str]] = []

    @property
    def wake_at(self) -> float | None:
        """When to call ``due`` next; None: there is nothing to do."""
        while self._events:
            at, hid = self._events[0]
            path = self._paths.get(hid)
            if path is not None and path.wake_at == at:
                return at
            heappop(self._events)
        return None

    def set_targets(self, targets: Mapping[str, SizeTarget], now: float) -> None:
        """Search exactly these; what is known of those that stay is kept."""
        known = self._paths
        self._paths = {
            hid: known.get(hid) or _Path(SizeSearch(target.ceiling, target.known))
            for hid, target in targets.items()
        }
        for hid, target in targets.items():
            if self._paths[hid].search.ceiling != target.ceiling:
                self._set_ceiling(hid, target.ceiling, now)

    def set_up(self, hid: str, up: bool, now: float) -> None:
        """The path came up or went down, by the probes that measure time."""
        path = self._paths.get(hid)
        if path is None or path.up == up:
            return
        path.up = up
        if up:
            self.recheck(hid, now)
        else:
            self._end_look(path)
            path.wake_at = math.inf

    def recheck(self, hid: str, now: float) -> None:
        """Look at the whole size soon: the path came back, or leads to another place."""
        path = self._paths.get(hid)
        if path is None or not path.up:
            return
        self._end_look(path)
        path.grow_at, path.grow_pause = -math.inf, GROW_FIRST_SECONDS
        self._wake(hid, path, now + self._random() * len(self._paths) / ECHOES_PER_SECOND)

    def due(self, now: float) -> tuple[list[SizeProbe], list[MtuChange]]:
        """The probes to send now, in this order, and what the rounds that have ended show."""
        probes: list[SizeProbe] = []
        changes: list[MtuChange] = []
        while (at := self.wake_at) is not None and at <= now:
            _, hid = heappop(self._events)
            path = self._paths[hid]
            path.wake_at = math.inf
            search = path.search
            before, known = search.mtu, search.measured or search.mtu < search.ceiling
            probes += self._turn(hid, path, now)
            if search.mtu != before:
                changes.append(MtuChange(hid, before if known else None, search.mtu))
        return probes, changes

    def received(self, hid: str, sequence: int, size: int, received_at: float) -> None:
        """A reply of that size from the target's address that carried our marks."""
        path = self._paths.get(hid)
        if path is None or path.pending.pop(sequence, None) != size:
            return
        if path.sequence - sequence & MAX_SEQUENCE >= len(path.round_sizes):
            path.late.add(size)
            return
        path.answered.add(size)
        if path.first_answer_at is None:
            path.first_answer_at = received_at
            path.rtt = max(0.0, received_at - path.sent_at)

    def refused(self, hid: str, now: float) -> None:
        """The system would not send a probe: this look cannot tell anything."""
        path = self._paths.get(hid)
        if path is not None and path.search.active:
            _note_growth(path, now)
            self._end_look(path)
            self._plan_look(hid, path, now, SIZE_RECHECK_SECONDS)

    def found(self) -> dict[str, int]:
        """By hid the largest packet that is known to pass; who has not been measured is not in it."""
        return {hid: path.search.mtu for hid, path in self._paths.items() if path.search.measured}

    def _turn(self, hid: str, path: _Path, now: float) -> Iterable[SizeProbe]:
        search = path.search
        if path.round_sizes:
            if (wait_until := self._round_end(path)) > now and not path.answered.issuperset(path.round_sizes):
                self._wake(hid, path, wait_until)
                return ()
            return self._judge(hid, path, now)
        if not search.active:
            search.start(grow=search.mtu < search.ceiling and now >= path.grow_at)
        return self._send_round(hid, path, now)

    def _judge(self, hid: str, path: _Path, now: float) -> Iterable[SizeProbe]:
        search, before = path.search, path.search.mtu
        earliest = path.sent_at + len(path.round_sizes) * len(self._paths) / ECHOES_PER_SECOND
        heard = bool(path.answered or path.late)
        search.judge(path.answered, path.late)
        path.round_sizes = ()
        if search.mtu < before:
            path.grow_pause, path.grow_at = GROW_FIRST_SECONDS, now + GROW_FIRST_SECONDS
        if not search.active:
            self._note_end(hid, path, now, heard=heard)
        elif earliest > now:
            self._wake(hid, path, earliest)
        else:
            return self._send_round(hid, path, now)
        return ()

    def _note_end(self, hid: str, path: _Path, now: float, *, heard: bool) -> None:
        _note_growth(path, now)
        self._end_look(path)
        self._plan_look(hid, path, now, SIZE_RECHECK_SECONDS if heard else path.again_pause)
        path.again_pause = AGAIN_SECONDS if heard else min(2 * path.again_pause, SIZE_RECHECK_SECONDS)

    def _send_round(self, hid: str, path: _Path, now: float) -> Iterable[SizeProbe]:
        regular = path.search.alone
        path.round_sizes = path.search.sizes()
        path.answered, path.late, path.sent_at, path.first_answer_at = set(), set(), now, None
        probes = []
        for size in path.round_sizes:
            path.sequence = path.sequence + 1 & MAX_SEQUENCE
            path.pending[path.sequence] = size
            probes.append(SizeProbe(hid, path.sequence, size))
        if regular:
            self._wake(hid, path, _round_up(self._round_end(path)))
        else:  # answers are read on wake-ups alone, so come back when they should be there
            self._wake(hid, path, now + max(0.05, 1.25 * (path.rtt or 0.0)))
        return probes

    def _round_end(self, path: _Path) -> float:
        if path.first_answer_at is not None:
            return path.first_answer_at + max(STRAGGLER_SECONDS, path.first_answer_at - path.sent_at)
        least, unknown, most = SILENCE_SECONDS
        return path.sent_at + (unknown if path.rtt is None else min(most, max(least, 3 * path.rtt)))

    def _end_look(self, path: _Path) -> None:
        path.search.abandon()
        path.round_sizes = ()
        path.pending.clear()

    def _plan_look(self, hid: str, path: _Path, now: float, pause: float) -> None:
        pause = max(pause, len(self._paths) / LOOKS_PER_SECOND)
        self._wake(hid, path, _round_up(now + pause * (1 + JITTER * (2 * self._random() - 1))))

    def _set_ceiling(self, hid: str, ceiling: int, now: float) -> None:
        path = self._paths[hid]
        search = SizeSearch(ceiling, min(path.search.mtu, ceiling))
        search.measured = path.search.measured
        path.search = search
        self._end_look(path)
        self.recheck(hid, now)

    def _wake(self, hid: str, path: _Path, at: float) -> None:
        path.wake_at = at
        heappush(self._events, (at, hid))


def _note_growth(path: _Path, now: float) -> None:
    """A look has ended: if more was tried in it, when to try again."""
    if now >= path.grow_at:
        path.grow_at = now + path.grow_pause
        path.grow_pause = min(2 * path.grow_pause, GROW_SECONDS)


def _round_up(at: float) -> float:
    return math.ceil(at / TICK_SECONDS - 1e-9) * TICK_SECONDS
