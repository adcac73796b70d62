"""The largest packet that one path carries, from rounds of probes of several sizes: no I/O, no clock.

A round is a handful of echoes sent at once, the largest first; whoever sends them says which
came back. A size is refuted by ``STRIKES`` rounds in which it alone stayed away while *every*
smaller one of the round was answered: plain loss seldom does that, and a path that loses
everything does it never. So a dead path changes nothing and a lossy one hardly ever.

A look at a path begins with one probe of the size that is expected to pass, which is all that a
healthy path costs. If that is lost, rounds with smaller sizes beside it follow. Once it is
refuted, the MTU falls at once to the largest size that was answered, and only then are the sizes
in between halved until none is left. Growing is decided at the end alone.

Sizes are those of the inner IP packet. WireGuard pads what it carries to a multiple of 16 bytes,
up to the interface's MTU (WireGuard paper, section 5.4.6), so only these are worth telling apart.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

STEP_BYTES: Final = 16
SAFE_BYTES: Final = (1200, 576)
"""Asked beside the expected size. 1200 fits WireGuard into an underlay of 1280 bytes, the least that
IPv6 allows (RFC 8200 section 5), and 576 into whatever carries IPv4 (RFC 791); below it nothing is tried."""

STRIKES: Final = 4
SILENT_ROUNDS: Final = 4
"""Rounds without any answer after which a look is given up: that path is down, not narrow."""


class SizeSearch:
    """``ceiling``: the interface's MTU. ``known``: what was found before this process, if anything.

    ``sizes`` says what to send next, ``judge`` takes what came back, until ``sizes`` is empty.
    """

    __slots__ = (
        "_alone",
        "_high",
        "_low",
        "_sent",
        "_silent",
        "_strikes",
        "_top",
        "ceiling",
        "measured",
        "mtu",
    )

    def __init__(self, ceiling: int, known: int | None = None) -> None:
        self.ceiling = ceiling
        self.mtu = min(known or ceiling, ceiling)
        self.measured = False
        self._top: int | None = None
        self._low: int | None = None
        self._high: int | None = None
        self._strikes: dict[int, int] = {}
        self._silent = 0
        self._alone = True
        self._sent: tuple[int, ...] = ()

    @property
    def active(self) -> bool:
        return self._top is not None

    @property
    def alone(self) -> bool:
        """The next round is the single probe that a healthy path costs."""
        return self._alone

    def start(self, *, grow: bool) -> None:
        """Look at the path: whether it still carries the MTU, or with ``grow`` whether it carries more."""
        self._top = self.ceiling if grow else self.mtu
        self._low = self._high = None
        self._strikes.clear()
        self._silent, self._alone = 0, True

    def abandon(self) -> None:
        """End the look; what it has not shown stays as it was."""
        self._top = None

    def sizes(self) -> tuple[int, ...]:
        """The next round, largest first; empty: there is nothing to find out."""
        self._sent = self._next_sizes()
        return self._sent

    def judge(self, answered: Collection[int], late: Collection[int] = ()) -> None:
        """``answered``: the sizes of this round that came back; ``late``: those of earlier rounds, which
        show what passes but are no witnesses against a size of this round."""
        if self._top is None:
            return
        if not answered and not late:
            self._silent += not self._alone
            self._alone = False
            if self._silent >= SILENT_ROUNDS:
                self.abandon()
            return
        self._silent, self._alone = 0, False
        best = max((*answered, *late))
        self._low = max(best, self._low or best)
        self._strike(best, answered)
        self._conclude(self._top, self._low)

    def _next_sizes(self) -> tuple[int, ...]:
        if self._top is None:
            return ()
        if self._alone:
            return (self._top,)
        if self._high is None:
            return tuple(dict.fromkeys((self._top, self.mtu, *_safe_below(self.mtu))))
        assert self._low is not None  # whatever refuted a size was answered itself
        middle = _between(self._low, self._high)
        return (middle, self._low) if middle is not None else ()

    def _strike(self, best: int, answered: Collection[int]) -> None:
        missing = [size for size in self._sent if size not in answered]
        if not missing or min(missing) < best:  # a larger one passed, so this was loss
            return
        suspect = min(missing)
        if suspect == min(self._sent):  # nothing smaller vouches for the path
            return
        self._strikes[suspect] = self._strikes.get(suspect, 0) + 1
        if self._strikes[suspect] >= STRIKES:
            self._high = suspect

    def _conclude(self, top: int, low: int) -> None:
        if low >= top:
            self.mtu = top
            self.abandon()
        elif self._high is not None:
            if self.mtu >= self._high:
                self.mtu = low
            if _between(low, self._high) is None:
                self.mtu = max(low, self.mtu)
                self.abandon()
        self.measured = self.measured or low >= self.mtu


def _safe_below(top: int) -> list[int]:
    return [size for size in SAFE_BYTES if size < top]


def _between(low: int, high: int) -> int | None:
    """The multiple of STEP_BYTES nearest to the middle that lies between both; None: there is none."""
    middle = (low + high) // 2 // STEP_BYTES * STEP_BYTES
    if middle <= low:
        middle = (low // STEP_BYTES + 1) * STEP_BYTES
    return middle if middle < high else None
