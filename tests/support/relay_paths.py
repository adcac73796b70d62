"""Paths of hosts that relay for each other, and what probing says of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from meshd.model.path import PathStats

DOWN_AFTER_MISSES = 3
SILENT_AFTER_MISSES = 15
WINDOW = 60


@dataclass(slots=True)
class Link:
    """One way between two hosts."""

    is_cut: bool = False
    only_echoes: bool = False
    """A firewall lets the relay's port through, and not WireGuard's."""
    loss: float = 0.0
    delay: float = 0.01
    noise: float = 0.0


@dataclass(slots=True)
class Meter:
    """What probing says of one path."""

    window: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    srtt: float | None = None
    sent: int = 0
    received: int = 0
    misses: int = 0

    def note(self, rtt: float | None) -> None:
        self.sent += 1
        if rtt is None:
            self.window.append(False)
            self.misses += 1
            return
        if not self.received or self.misses >= SILENT_AFTER_MISSES:
            while self.window and not self.window[-1]:
                self.window.pop()
        self.window.append(True)
        self.received, self.misses = self.received + 1, 0
        self.srtt = rtt if self.srtt is None else 0.875 * self.srtt + 0.125 * rtt

    def stats(self) -> PathStats:
        return PathStats(
            up=self.received > 0 and self.misses < DOWN_AFTER_MISSES,
            srtt_seconds=self.srtt,
            loss_ratio=self.window.count(False) / len(self.window) if self.window else 0.0,
            sent=self.sent,
            received=self.received,
            last_reply_at=1.0 if self.received else None,
        )
