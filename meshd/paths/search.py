"""Which hosts are asked to carry a pair, and whose answer is taken. Pure.

Those nearest to this host are asked first, a few at once: their distance is half of the way, and is known
here. The other half is what they answer. Nobody's word is believed for longer than it takes to try it.
A way that loses less comes before one that is shorter, and one that loses some is better than none.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Container, Iterable, Mapping
from typing import Final

import msgspec

from meshd.model.network import Endpoint
from meshd.model.path import PathStats

ASKED_AT_ONCE: Final = 4
MAX_ASKED: Final = 16
"""Hosts of one search; the next one begins later."""
ANSWER_SECONDS: Final = 1.0
"""So long an answer is waited for."""
SECOND_BEST_SECONDS: Final = 0.15
"""So long after the first good answer a better one is waited for; all are, while the best one loses some."""
OPEN_SECONDS: Final = 1.5
MAX_RTT_SECONDS: Final = 60.0
MAX_RELAY_LOSS: Final = 0.5
"""Of a way through another host. One that loses more has four probes in a row lost every half a minute, so it
would be dead to probing as soon as it is taken."""
LOSS_STEP: Final = 0.05
"""Ways whose losses lie within one step are told apart by their length: three probes of a window of sixty."""
NO_ANSWER: Final = "no answer in time"


class PeerLook(msgspec.Struct, frozen=True, kw_only=True):
    """Another host as this one sees it now."""

    name: str
    path: PathStats
    """Measured as its packets go now."""
    endpoint: Endpoint | None
    """Where WireGuard sends to."""
    is_fresh: bool = True
    """No probe has been answered since that was seen: whatever answered had gone by then."""
    places: tuple[Endpoint, ...] = ()
    """Where its record says that it is, in the order in which they are tried."""
    may_relay: bool = True
    """Others can send to it unasked: it is not behind NAT."""
    is_settled: bool = True
    """Neither end of the pair rotates its key."""


class Way(msgspec.Struct, frozen=True):
    """From a host that was asked to the other end, by its own word."""

    rtt_seconds: float
    loss_ratio: float = 0.0

    @property
    def is_sensible(self) -> bool:
        return 0.0 <= self.rtt_seconds <= MAX_RTT_SECONDS and 0.0 <= self.loss_ratio <= 1.0


class Asked(msgspec.Struct):
    """A host that was asked for one pair."""

    own_rtt_seconds: float
    own_loss_ratio: float = 0.0
    is_last: bool = False
    """The pair has just left it: it is tried if nobody else can."""
    rtt_seconds: float | None = None
    """From it to the other end, by its own word."""
    loss_ratio: float = 0.0
    """Likewise."""
    answer: str = ""
    """Why not, for people; empty while it has not answered, and where it can."""
    is_over: bool = False
    """It has answered, or its time is over."""
    was_tried: bool = False

    @property
    def can(self) -> bool:
        return self.rtt_seconds is not None and not self.was_tried

    @property
    def total_seconds(self) -> float:
        return self.own_rtt_seconds + (math.inf if self.rtt_seconds is None else self.rtt_seconds)

    @property
    def rank(self) -> tuple[bool, int, float]:
        """The lowest is the best."""
        return self.is_last, loss_step(join_losses(self.own_loss_ratio, self.loss_ratio)), self.total_seconds


class Search(msgspec.Struct):
    """One search for a host that carries a pair."""

    number: int
    begins_at: float
    max_loss: float = MAX_RELAY_LOSS
    """Of the whole way; what loses more is no way."""
    asks_more: bool = True
    """Whoever may be able is asked; else those alone that are wanted."""
    wanted: list[str] = msgspec.field(default_factory=list)
    """To be asked before others."""
    asked: dict[str, Asked] = msgspec.field(default_factory=dict)
    ends_at: float = 0.0
    """When those that were asked last have had their time."""
    good_at: float | None = None
    """When the first of them could."""
    opening: str | None = None
    """The hid of who is to carry it."""

    def ask(
        self, hids: Iterable[str], peers: Mapping[str, PeerLook], left: Container[str], now: float
    ) -> None:
        """``left``: hosts that have carried the pair until just now."""
        self.ends_at, self.good_at = now + ANSWER_SECONDS, None
        for hid in hids:
            path = peers[hid].path
            self.asked[hid] = Asked(
                own_rtt_seconds=path.srtt_seconds or 0.0,
                own_loss_ratio=path.loss_ratio,
                is_last=hid in left,
            )

    def hear(self, hid: str, way: Way | None, answer: str, now: float) -> None:
        """An answer. ``way`` None: it cannot, for that reason."""
        asked = self.asked.get(hid)
        if asked is None or asked.is_over:
            return
        asked.is_over, asked.answer = True, answer
        if way is None:
            return
        if not way.is_sensible:
            asked.answer = "its answer makes no sense"
            return
        loss = join_losses(asked.own_loss_ratio, way.loss_ratio)
        if loss > self.max_loss:
            asked.answer = f"through it {loss:.0%} of the packets would be lost"
            return
        asked.rtt_seconds, asked.loss_ratio = way.rtt_seconds, way.loss_ratio
        self.good_at = now if self.good_at is None else self.good_at

    def expire(self, now: float) -> None:
        if now >= self.ends_at:
            for asked in self.asked.values():
                if not asked.is_over:
                    asked.is_over, asked.answer = True, NO_ANSWER

    @property
    def waits(self) -> bool:
        """Somebody has not answered yet."""
        return any(not asked.is_over for asked in self.asked.values())

    def best(self, now: float) -> str | None:
        """Who is to be tried now; None: nobody, or it is too early to choose."""
        can = [(asked.rank, hid) for hid, asked in self.asked.items() if asked.can]
        if not can:
            return None
        (is_last, losses, _), best = min(can)
        waits_for_all = is_last or losses > 0
        if self.waits and (waits_for_all or now < (self.good_at or 0.0) + SECOND_BEST_SECONDS):
            return None
        return best

    def wake_at(self) -> float:
        """When something is due, whatever is answered."""
        if self.opening is not None or not self.asked:
            return self.ends_at if self.asked else self.begins_at
        if self.good_at is not None:
            return min(self.ends_at, self.good_at + SECOND_BEST_SECONDS)
        return self.ends_at


def join_losses(first: float, second: float) -> float:
    """The share that is lost over both halves of a way."""
    return 1.0 - (1.0 - first) * (1.0 - second)


def loss_step(loss_ratio: float) -> int:
    """Ways of one step lose as good as the same."""
    return int(loss_ratio / LOSS_STEP)


def find_able(peers: Mapping[str, PeerLook], carried: Container[str]) -> frozenset[str]:
    """Hosts that may be able to carry a pair of this one, as far as can be seen from here.

    Args:
        carried: hosts that this one reaches through others: the way would have two relays.
    """
    return frozenset(
        hid
        for hid, look in peers.items()
        if look.path.up
        and look.path.loss_ratio <= MAX_RELAY_LOSS
        and look.may_relay
        and look.endpoint is not None
        and hid not in carried
    )


def choose_asked(
    able: Collection[str], peers: Mapping[str, PeerLook], *, max_loss: float, refused: Mapping[str, float]
) -> list[str]:
    """Whom to ask next, of those who may be able.

    Args:
        max_loss: of the whole way; who loses more on this half is not asked.
        refused: when a host that was asked before could not. It comes after all others, so that a few in
            each search are everybody in the end.
    """
    can = []
    for hid in able:
        path = peers[hid].path
        if path.loss_ratio <= max_loss:
            rank = refused.get(hid, -math.inf), loss_step(path.loss_ratio), path.srtt_seconds or 0.0
            can.append((rank, hid))
    return [hid for _, hid in sorted(can)[:ASKED_AT_ONCE]]
