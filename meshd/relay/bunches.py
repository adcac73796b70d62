"""Datagrams of pairs that leave this relay, passed on a bunch at a time. Pure.

WireGuard answers to where the last packet came from (roaming). A pair that goes back to its direct path has
packets under way through the relay. Each of them leads its receiver back there until one comes directly, and
what that end sends meanwhile leads the other one back: where many are under way, for ever. Packets that come
together lead back once. So each bunch holds few of those that the one before it caused, and soon none.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

BUNCH_SECONDS: Final = 0.04
"""So long the first one of a bunch waits."""
MAX_HELD: Final = 128
MAX_HELD_BYTES: Final = 128 << 10
"""From there on a bunch goes at once."""

T = TypeVar("T")


class Bunches(Generic[T]):
    """``T``: a datagram, and where it goes. Instants are monotonic seconds."""

    def __init__(self, seconds: float = BUNCH_SECONDS) -> None:
        self._seconds = seconds
        self._held: list[T] = []
        self._bytes = 0
        self.due_at: float | None = None
        """When ``release`` is to be asked next; None: nothing is held."""

    @property
    def is_full(self) -> bool:
        """Whether ``release`` is to be asked before anything more is held."""
        return len(self._held) >= MAX_HELD or self._bytes >= MAX_HELD_BYTES

    def hold(self, datagram: T, size: int, now: float) -> None:
        """Until ``release`` gives it. ``size``: its bytes."""
        if self.due_at is None:
            self.due_at = now + self._seconds
        self._held.append(datagram)
        self._bytes += size

    def release(self, now: float) -> list[T]:
        """All that are held, in the order in which they came, once the first has waited for long enough."""
        if self.due_at is None or (now < self.due_at and not self.is_full):
            return []
        held, self._held, self._bytes, self.due_at = self._held, [], 0, None
        return held
