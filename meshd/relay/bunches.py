"""Datagrams of pairs that leave this relay, passed on a bunch at a time. Pure.

WireGuard answers to where the last packet came from (roaming). A pair that goes back to its direct path has
packets under way through the relay. Each of them leads its receiver back there until one comes directly, and
what that end sends meanwhile leads the other one back: where many are under way, for ever. Packets that come
together lead back once. So each bunch holds few of those that the one before it caused, and soon none.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

BUNCH_SECONDS: Final = 0.04
"""So long the first one of a bunch waits."""
MAX_HELD: Final = 128
MAX_HELD_BYTES: Final = 128 << 10
"""Of one pair; from there on its bunch goes at once. So all pairs that there may be hold some 32 MiB."""

T = TypeVar("T")


class _Bunch(Generic[T]):
    def __init__(self, due_at: float) -> None:
        self.due_at = due_at
        self.held: list[T] = []
        self.bytes = 0

    @property
    def is_full(self) -> bool:
        return len(self.held) >= MAX_HELD or self.bytes >= MAX_HELD_BYTES


class Bunches(Generic[T]):
    """Each pair has its own: what one sends makes those of another no smaller. ``T``: a datagram, and where
    it goes. Instants are monotonic seconds."""

    def __init__(self, seconds: float = BUNCH_SECONDS) -> None:
        self._seconds = seconds
        self._bunches: dict[Hashable, _Bunch[T]] = {}
        """By pair, in the order in which they are due."""
        self.is_full = False
        """Whether ``release`` is to be asked before anything more is held."""

    @property
    def due_at(self) -> float | None:
        """When ``release`` is to be asked next; None: nothing is held."""
        return next((bunch.due_at for bunch in self._bunches.values()), None)

    def hold(self, pair: Hashable, datagram: T, size: int, now: float) -> None:
        """Until ``release`` gives it. ``size``: its bytes."""
        bunch = self._bunches.get(pair)
        if bunch is None:
            bunch = self._bunches[pair] = _Bunch(now + self._seconds)
        bunch.held.append(datagram)
        bunch.bytes += size
        self.is_full |= bunch.is_full

    def release(self, now: float) -> list[T]:
        """All of those pairs of which the first has waited for long enough, each in the order in which they
        came."""
        due_at = self.due_at
        if due_at is None or (now < due_at and not self.is_full):
            return []
        ready = [pair for pair, bunch in self._bunches.items() if now >= bunch.due_at or bunch.is_full]
        self.is_full = False
        return [datagram for pair in ready for datagram in self._bunches.pop(pair).held]
