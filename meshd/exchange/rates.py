"""Token buckets: how much each of many may have, in the long run and at once. Pure."""

from __future__ import annotations

from typing import Final

MAX_KEYS: Final = 4096


class TokenBuckets:
    """One bucket a key, full at first: ``burst`` at once, ``rate`` a second for ever. Not thread-safe."""

    def __init__(self, *, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str, now: float, amount: float = 1.0) -> bool:
        """True, and ``amount`` is gone, when the bucket holds as much. ``now``: seconds of any clock.

        0 asks whether the bucket is in debt.
        """
        level, at = self._buckets.get(key, (self._burst, now))
        level = min(self._burst, level + max(now - at, 0.0) * self._rate)
        allowed = level >= amount
        if len(self._buckets) >= MAX_KEYS and key not in self._buckets:
            self._drop_full(now)
        self._buckets[key] = (level - amount if allowed else level, now)
        return allowed

    def spend(self, key: str, now: float, amount: float) -> None:
        """What was used, known only afterwards: the bucket may then be in debt."""
        self.take(key, now, 0.0)
        level, at = self._buckets[key]
        self._buckets[key] = (level - amount, at)

    def _drop_full(self, now: float) -> None:
        """A bucket that is full again says nothing; if none is, the oldest goes."""
        refill_seconds = self._burst / self._rate
        kept = {key: held for key, held in self._buckets.items() if now - held[1] < refill_seconds}
        if len(kept) >= MAX_KEYS:
            del kept[next(iter(kept))]
        self._buckets = kept
