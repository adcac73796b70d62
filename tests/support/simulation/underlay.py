"""The network below the mesh: who stands where, how long a packet takes, and which packets are lost."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Final

from meshd.lab.geography import AP_SOUTH, EU_NORTH, EU_WEST, SA_EAST, US_EAST, US_WEST, Site, delay_seconds

SITES: Final = (EU_WEST, EU_NORTH, US_EAST, US_WEST, AP_SOUTH, SA_EAST)
JITTER_SHARE: Final = 0.03
"""Mean of what queues add to a delay, as a share of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flapping:
    """A path whose delay jumps up and back."""

    period_seconds: float
    factor: float

    def at(self, now: float) -> float:
        return self.factor if now % self.period_seconds >= self.period_seconds / 2 else 1.0


@dataclass(slots=True)
class Underlay:
    """Hosts are numbers, and host N stands at site N modulo the number of sites.

    ``cut_pairs`` lose everything both ways. So does every pair with exactly one end in ``cut_regions``: what
    is in a lost region still reaches each other. ``losses``: share of packets, by pair. ``down``: hosts
    without power.
    """

    rng: random.Random
    cut_pairs: set[frozenset[int]] = field(default_factory=set)
    cut_regions: set[str] = field(default_factory=set)
    losses: dict[frozenset[int], float] = field(default_factory=dict)
    flapping: dict[frozenset[int], Flapping] = field(default_factory=dict)
    down: set[int] = field(default_factory=set)
    revision: int = 0
    """Counts the changes of cuts: for whoever remembers that two hosts reached each other."""

    def site(self, host: int) -> Site:
        return SITES[host % len(SITES)]

    def cut(self, first: int, second: int) -> None:
        self.cut_pairs.add(frozenset((first, second)))

    def mend(self, first: int, second: int) -> None:
        self.cut_pairs.discard(frozenset((first, second)))

    def is_whole(self, first: int, second: int) -> bool:
        """Whether packets between the two arrive at all."""
        if self.cut_regions:
            here, there = self.site(first).region, self.site(second).region
            if (here in self.cut_regions or there in self.cut_regions) and here != there:
                return False
        if self.down and (first in self.down or second in self.down):
            return False
        return not self.cut_pairs or frozenset((first, second)) not in self.cut_pairs

    def round_trip(self, first: int, second: int, now: float) -> float | None:
        """Seconds there and back, or None: one of the two packets was lost."""
        if not self.is_whole(first, second):
            return None
        seconds = _ROUND_TRIPS[first % len(SITES)][second % len(SITES)]
        seconds -= math.log(1.0 - self.rng.random()) * seconds * JITTER_SHARE
        if self.losses or self.flapping:
            pair = frozenset((first, second))
            loss = self.losses.get(pair)
            if loss is not None and self.rng.random() >= (1 - loss) ** 2:
                return None
            flapping = self.flapping.get(pair)
            if flapping is not None:
                seconds *= flapping.at(now)
        return seconds


_ROUND_TRIPS: Final = [[2 * delay_seconds(here, there) for there in SITES] for here in SITES]
