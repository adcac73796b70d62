"""When the way through another host is so much shorter than a direct path that is well. Pure.

Off unless the settings want it. It has to be shorter by a margin and by a share, for minutes, at each review
in a row. A pair goes back by the same rule and half of each: what lies between the two changes nothing. Each
time that a pair left its direct path within the last hour doubles the minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from meshd.paths.hysteresis import recent
from meshd.paths.search import ASKED_AT_ONCE, LOSS_STEP, PeerLook, Search

MAX_LOSS: Final = LOSS_STEP
"""Of a shorter way: one that loses more is worth nothing, whatever it saves."""
MIN_TIMES: Final = 3
"""Comparisons in a row, however seldom a large mesh has them."""
BACK_PART: Final = 0.5
"""Of margin and share, by which a way has to be shorter to be kept."""
REVIEW_SECONDS: Final = 30.0
"""Between two reviews of a pair."""
HOST_SECONDS: Final = 0.5
"""More for each host of the mesh: a host asks a few others twice a second at most."""
MAX_DOUBLINGS: Final = 5


class LatencyTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say, and what an end that has none goes by when the other one has chosen a way."""

    margin_seconds: float = 0.02
    share: float = 0.25
    hold_seconds: float = 300.0

    def is_shorter(self, way_seconds: float, direct_seconds: float, part: float = 1.0) -> bool:
        """Whether a round trip of ``way_seconds`` is worth it. ``part``: of margin and share."""
        saved = direct_seconds - way_seconds
        return saved >= self.margin_seconds * part and saved >= direct_seconds * self.share * part


class Verdict(msgspec.Struct):
    """What each comparison has said, in a row, and since when."""

    since: float | None = None
    times: int = 0

    def note(self, holds: bool, now: float) -> None:
        if not holds:
            self.since, self.times = None, 0
            return
        self.since = now if self.since is None else self.since
        self.times += 1

    def stands(self, seconds: float, now: float) -> bool:
        return self.since is not None and self.times >= MIN_TIMES and now - self.since >= seconds


class Review(msgspec.Struct):
    """Of one pair that goes directly."""

    next_at: float
    verdict: Verdict = msgspec.field(default_factory=Verdict)
    best: str | None = None
    """The hid of who had the shortest way last."""
    search: Search | None = None
    asked_at: dict[str, float] = msgspec.field(default_factory=dict)


def hold_seconds(terms: LatencyTerms, left_at: Iterable[float], now: float) -> float:
    """For how long a verdict has to stand. ``left_at``: when the pair left its direct path."""
    return terms.hold_seconds * (1 << min(len(recent(left_at, now)), MAX_DOUBLINGS))


def choose_reviewed(
    review: Review,
    able: Iterable[str],
    peers: Mapping[str, PeerLook],
    direct_seconds: float,
    terms: LatencyTerms,
) -> list[str]:
    """Whom to ask: who was best, and of those whose own half is short enough who was asked longest ago.

    The nearest ones first would be those next door, whose way is as long as this host's own.
    """
    near = [
        hid
        for hid in able
        if peers[hid].path.loss_ratio <= MAX_LOSS
        and terms.is_shorter(peers[hid].path.srtt_seconds or 0.0, direct_seconds)
    ]
    near.sort(key=lambda hid: (hid != review.best, review.asked_at.get(hid, 0.0), hid))
    return near[:ASKED_AT_ONCE]
