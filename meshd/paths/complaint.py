"""Whether a direct path is bad enough to go another way. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from meshd.model.path import PathStats
from meshd.paths.search import MAX_RELAY_LOSS

UNREACHED_SECONDS: Final = 15.0
"""So long a new pair has time to meet by itself: candidates of six seconds each, and the other end's turn."""
LOSS_SAMPLES: Final = 20
"""Probes before a share of lost ones says anything."""
PROBE_WINDOW: Final = 60
"""Probes whose loss is looked at, where the settings say nothing else."""
LOSS_GOOD_SHARE: Final = 0.5
"""A path that is complained of for its loss is well again below this share of what it was complained for."""


def fresh_probes(window: int) -> int:
    """Probes after which a window of so many holds none of what was before.

    It does not hold the three quick ones that follow a missing answer, and they are counted as sent all the
    same: where one of five is lost, 1.6 for each that it holds.
    """
    return window * 8 // 5


class Complaint(StrEnum):
    """What is wrong with a direct path."""

    DEAD = "dead"
    """It answered, and does not any more."""
    UNREACHED = "never reached"
    """It has not answered since this process knows of the host, as of two hosts that nobody can call."""
    LOSSY = "lossy"
    SLOW = "slow"
    """It is well, and the way through another host is shorter (``meshd.paths.latency``)."""


def find_complaint(path: PathStats, *, watched_seconds: float, loss_ratio: float) -> Complaint | None:
    """What is wrong with a path that nobody relays; None: nothing is, or nothing is known yet.

    Args:
        watched_seconds: since this process first wanted to reach the host.
        loss_ratio: from which a path loses too much; 0: that is no reason.
    """
    if not path.up:
        if path.last_reply_at is not None:
            return Complaint.DEAD
        return Complaint.UNREACHED if path.sent and watched_seconds >= UNREACHED_SECONDS else None
    if 0 < loss_ratio <= path.loss_ratio and path.sent >= LOSS_SAMPLES:
        return Complaint.LOSSY
    return None


def is_well(path: PathStats, complaint: Complaint | None, *, loss_ratio: float) -> bool:
    """Whether a path that was complained of gives no more reason for that."""
    if complaint is Complaint.LOSSY and loss_ratio:
        return path.up and path.loss_ratio < loss_ratio * LOSS_GOOD_SHARE
    return path.up


def bearable_loss(path: PathStats, complaint: Complaint | None) -> float:
    """The share of packets that may be lost through another host for that to be better than this path."""
    if complaint is Complaint.LOSSY:
        return min(MAX_RELAY_LOSS, path.loss_ratio * LOSS_GOOD_SHARE)
    return MAX_RELAY_LOSS
