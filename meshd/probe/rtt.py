"""What one path does, from the probes sent and the replies that came: no I/O, no clock.

Every instant is monotonic seconds and an argument; only ``stats`` is told the unix time.

Two time-outs, because they answer two questions. A probe is *overdue* after
``suspect_after_seconds`` (0.15 s to 3 s): worth asking again at once, and part of the
verdict that the path is dead. It is *lost*, for the loss ratio, only after
``lost_after_seconds`` (1 s to 3 s, RFC 6298's SRTT + 4 RTTVAR between them), so that a slow
reply still counts.

A path is **up** when it has replied and fewer than ``DOWN_AFTER_MISSES`` probes in a row,
sent after the newest answered one, are overdue.

A path is silent when it never replied, or not for so long that WireGuard's session is gone or given up.
The next reply then pays for a handshake, and so does every probe that waited in the tunnel's queue beside
it. So the time of a probe sent before the silence ended is shown only while nothing better is known; the
first probe sent after it starts RFC 6298 anew. Nor is a probe that was lost in a silence a loss of the path
that answers by now: that there was none, ``up`` has said.
"""

from __future__ import annotations

import math
from array import array
from typing import Final, NamedTuple

from meshd.model.path import PathStats

DOWN_AFTER_MISSES: Final = 4
SESSION_SECONDS: Final = 180.0
"""WireGuard's Reject-After-Time: a session older than this is gone, the next packet shakes hands."""

UNANSWERED_SECONDS: Final = 15.0
"""Keepalive-Timeout plus Rekey-Timeout: WireGuard shakes hands anew with a peer that does not answer."""

SUSPECT_MIN_SECONDS: Final = 0.15
SUSPECT_MARGIN_SECONDS: Final = 0.025
"""A steady path has an RTTVAR near zero; this much lateness is never suspicious."""

LOST_MIN_SECONDS: Final = 1.0
LOST_MAX_SECONDS: Final = 3.0

RTT_UNKNOWN: Final = math.inf
"""In the window: answered, but the time it took cannot be told (the wall clock was stepped)."""
LOST: Final = math.nan
"""In the window: not answered."""


class _Pending(NamedTuple):
    sent_at: float
    quick: bool


class PathMeter:
    """The statistics of one path. ``window``: regular probes kept for loss and minimum.

    Quick probes (the burst after a missing answer) are counted as sent and received and
    measured, but are kept out of the loss window: they are sent just when things go wrong,
    and would show every hiccup four times.
    """

    __slots__ = (
        "_alive_since",
        "_answered_sent_at",
        "_estimate_restarts",
        "_jitter",
        "_last_reply_at",
        "_last_rtt",
        "_lost_in_a_row",
        "_pending",
        "_received",
        "_refusal",
        "_rttvar",
        "_sent",
        "_srtt",
        "_summary",
        "_window",
        "_window_length",
    )

    def __init__(self, window: int) -> None:
        self._window = array("d")
        self._window_length = window
        self._summary: tuple[float, float] | None = None
        self._pending: dict[int, _Pending] = {}
        self._sent = 0
        self._received = 0
        self._srtt: float | None = None
        self._rttvar: float | None = None
        self._jitter: float | None = None
        self._last_rtt: float | None = None
        self._last_reply_at: float | None = None
        self._alive_since: float | None = None
        self._answered_sent_at = -math.inf
        self._lost_in_a_row = 0
        self._estimate_restarts = True
        self._refusal: str | None = None

    @property
    def refusal(self) -> str | None:
        """Why the system refused to send the newest probe; None: it was sent."""
        return self._refusal

    @property
    def suspect_after_seconds(self) -> float:
        """How long to wait for an answer before asking again."""
        if self._srtt is None or self._rttvar is None:
            return SUSPECT_MIN_SECONDS
        expected = self._srtt + max(SUSPECT_MARGIN_SECONDS, 4 * self._rttvar)
        return min(LOST_MAX_SECONDS, max(SUSPECT_MIN_SECONDS, expected))

    def lost_after_seconds(self, now: float) -> float:
        """How long a probe may take; the maximum while the path is not up, so that one that
        has become much slower is measured again instead of being late for ever."""
        if self._srtt is None or self._rttvar is None or not self.is_up(now):
            return LOST_MAX_SECONDS
        return min(LOST_MAX_SECONDS, max(LOST_MIN_SECONDS, self._srtt + 4 * self._rttvar))

    def sent(self, sequence: int, now: float, *, quick: bool = False) -> None:
        self.expire(now)
        self._sent += 1
        self._refusal = None
        self._pending[sequence] = _Pending(now, quick)

    def refused(self, now: float, reason: str, *, quick: bool = False) -> None:
        """The system would not send the probe: as good as lost, and known at once."""
        self.expire(now)
        self._sent += 1
        self._refusal = reason
        self._count_lost(_Pending(now, quick))

    def answered(self, sequence: int, received_at: float, *, timed: bool = True) -> bool:
        """Count a reply. False: late, a duplicate, or never asked for; it changes nothing.

        ``timed`` False: the reply is real but ``received_at`` is not good enough to measure.
        """
        self.expire(received_at)
        probe = self._pending.get(sequence)
        if probe is None:
            return False
        if not self._session_lives(received_at):
            self._alive_since = None
            self._forget_silence()
        del self._pending[sequence]
        rtt = max(0.0, received_at - probe.sent_at) if timed else RTT_UNKNOWN
        self._received += 1
        self._last_reply_at = max(received_at, self._last_reply_at or received_at)
        if probe.sent_at > self._answered_sent_at:
            self._answered_sent_at = probe.sent_at
            self._lost_in_a_row = 0
        if not probe.quick:
            self._note(rtt)
        self._measure(rtt, probe.sent_at, received_at)
        return True

    def discard_pending(self) -> None:
        """The probes under way count for nothing: we were not there to hear the answers."""
        self._pending.clear()

    def expire(self, now: float) -> None:
        """Give up the probes that have waited too long."""
        for sequence in self._given_up(now):
            self._count_lost(self._pending.pop(sequence))

    def _given_up(self, now: float) -> list[int]:
        """Numbers of the probes that have waited too long."""
        if not self._pending or self._longest_wait(now) <= LOST_MIN_SECONDS:
            return []
        limit = self.lost_after_seconds(now)
        return [s for s, probe in self._pending.items() if now - probe.sent_at > limit]

    def _longest_wait(self, now: float) -> float:
        """Seconds since the oldest probe under way was sent, 0 where there is none. Nearly always so short
        that nothing else has to be looked at: this is asked several times for each echo."""
        for probe in self._pending.values():  # in the order in which they were sent
            return now - probe.sent_at
        return 0.0

    def missed(self, now: float) -> int:
        """Probes in a row, sent after the newest answered one, that are lost or overdue."""
        if not self._pending or self._longest_wait(now) < SUSPECT_MIN_SECONDS:
            return self._lost_in_a_row
        patience = self.suspect_after_seconds
        return self._lost_in_a_row + sum(
            probe.sent_at > self._answered_sent_at and now - probe.sent_at >= patience
            for probe in self._pending.values()
        )

    def is_up(self, now: float) -> bool:
        return self._last_reply_at is not None and self.missed(now) < DOWN_AFTER_MISSES

    def stats(self, now: float, unix_now: float, *, up: bool | None = None) -> PathStats:
        """``now`` monotonic, ``unix_now`` the same instant by the wall clock. Changes nothing that counts.

        Args:
            up: what is told of that, where somebody else decides; None: what this meter has found.
        """
        given_up = sum(self._is_counted(self._pending[sequence]) for sequence in self._given_up(now))
        if given_up:
            window = self._window + array("d", [LOST] * given_up)
            minimum, loss_ratio = _sum_up(window[-self._window_length :])
        else:
            minimum, loss_ratio = self._summary = self._summary or _sum_up(self._window)
        last = self._last_reply_at
        return PathStats(
            srtt_seconds=self._srtt,
            rttvar_seconds=self._rttvar,
            jitter_seconds=self._jitter,
            minimum_rtt_seconds=None if minimum == RTT_UNKNOWN else minimum,
            loss_ratio=loss_ratio,
            sent=self._sent,
            received=self._received,
            last_reply_at=None if last is None else unix_now - (now - last),
            up=self.is_up(now) if up is None else up,
        )

    def _note(self, rtt: float) -> None:
        self._window.append(rtt)
        if len(self._window) > self._window_length:
            del self._window[0]
        self._summary = None

    def _forget_silence(self) -> None:
        """It is over: what was lost since the last answer goes."""
        while self._window and math.isnan(self._window[-1]):
            self._window.pop()
        self._summary = None

    def _is_counted(self, probe: _Pending) -> bool:
        """Whether the path may be blamed for its loss."""
        was_silent = self._alive_since is not None and probe.sent_at < self._alive_since
        return not probe.quick and not was_silent

    def _session_lives(self, now: float) -> bool:
        if self._last_reply_at is None:
            return False
        return now - self._last_reply_at < (SESSION_SECONDS if self.is_up(now) else UNANSWERED_SECONDS)

    def _count_lost(self, probe: _Pending) -> None:
        if probe.sent_at > self._answered_sent_at:
            self._lost_in_a_row += 1
        if self._is_counted(probe):
            self._note(LOST)

    def _measure(self, rtt: float, sent_at: float, received_at: float) -> None:
        if self._alive_since is None:
            self._alive_since = received_at
            self._estimate_restarts = True
        if rtt == RTT_UNKNOWN:
            return
        if sent_at < self._alive_since:
            if self._last_rtt is None:
                self._srtt, self._rttvar = rtt, rtt / 2
            return
        if self._estimate_restarts:
            self._estimate_restarts = False
            self._srtt, self._rttvar = rtt, rtt / 2
        else:
            self._smooth(rtt)
        self._last_rtt = rtt

    def _smooth(self, rtt: float) -> None:
        """RFC 6298 section 2.3 (alpha 1/8, beta 1/4); RFC 3550 section 6.4.1 for the jitter."""
        assert self._srtt is not None and self._rttvar is not None and self._last_rtt is not None
        self._rttvar = 0.75 * self._rttvar + 0.25 * abs(self._srtt - rtt)
        self._srtt = 0.875 * self._srtt + 0.125 * rtt
        jitter = self._jitter or 0.0
        self._jitter = jitter + (abs(rtt - self._last_rtt) - jitter) / 16


def _sum_up(window: array[float]) -> tuple[float, float]:
    """Least round-trip time and share of lost probes; asked for more often than the window changes."""
    answered = [rtt for rtt in window if rtt == rtt]  # not LOST
    lost = len(window) - len(answered)
    return min(answered, default=RTT_UNKNOWN), lost / len(window) if lost else 0.0
