"""How much may be passed on: one budget, and of it a share for each host, whatever the others ask for.

Pure: ``now`` is in seconds of any clock that only goes forward.
"""

from __future__ import annotations

from typing import Final

BURST_SECONDS: Final = 0.25
MIN_BURST_BYTES: Final = 65536
"""Less would lose the first datagrams of every burst of TCP, however small the budget is on average."""
MIN_SHARE_BURST_BYTES: Final = 9216
"""A datagram of the largest frames that Ethernets carry passes, among however many sources."""


class Bucket:
    """Tokens that come back at ``rate`` a second, up to ``burst``. Full at first."""

    __slots__ = ("_at", "_burst", "_rate", "level")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self.level = burst
        self._at: float | None = None

    def refill(self, now: float) -> float:
        """The tokens that are there."""
        if self._at is not None and now > self._at:
            self.level = min(self._burst, self.level + (now - self._at) * self._rate)
        self._at = now
        return self.level

    def take(self, amount: float, now: float) -> bool:
        """True, and they are gone, where there are so many."""
        if self.refill(now) < amount:
            return False
        self.level -= amount
        return True

    def resize(self, rate: float, burst: float) -> None:
        """Another rate from here on; what was spent stays spent."""
        self._rate, self._burst = rate, burst
        self.level = min(self.level, burst)


class Budget:
    """Of bytes. Each source may spend its share whatever the others do, and what they leave.

    The shares add up to the whole, so in the long run no more than the whole is spent.
    """

    def __init__(self) -> None:
        self._whole = Bucket(0.0, 0.0)
        self._bytes_per_second = 0

    def divide(self, bytes_per_second: int, sources: list[Bucket]) -> None:
        """Give each source its share of a budget. Nothing at all is passed on where it is 0."""
        burst = max(bytes_per_second * BURST_SECONDS, MIN_BURST_BYTES) if bytes_per_second else 0.0
        if bytes_per_second != self._bytes_per_second:
            self._bytes_per_second = bytes_per_second
            self._whole = Bucket(bytes_per_second, burst)
        for share in sources:
            own = max(burst / len(sources), MIN_SHARE_BURST_BYTES) if bytes_per_second else 0.0
            share.resize(bytes_per_second / len(sources), own)

    def spend(self, share: Bucket, size: int, now: float) -> bool:
        """Whether a source may pass on so many bytes; they are spent then."""
        left = self._whole.refill(now)
        if not share.take(size, now) and left < size:
            return False
        self._whole.level -= size
        return True
