"""How long the rotations of other hosts may have this host's second interface. Pure.

The interface serves one purpose at a time: while a host says that it rotates, the others can neither
begin a rotation nor look for those that they lost. A rotation takes minutes, so who says so for longer is
left alone, however many keys it makes meanwhile: first the pair goes back to the first interface, then the
second one is free again. What a host has used up comes back slowly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from meshd.mesh.rotation import Phase, phase_of
from meshd.model.host import Host

FOREIGN_SECONDS: Final = 900.0
"""A rotation waits three minutes for hosts that are away, and some more until everybody has read of it."""
LEAVE_SECONDS: Final = 60.0
"""For the way back: until the other end has noticed that we send over the first interface again."""
REGAIN_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """Hosts whose time is over, by hid: those that are being left, and those that are."""

    leaving: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()

    def __contains__(self, hid: object) -> bool:
        return hid in self.leaving or hid in self.left


class ForeignRotations:
    """Counts in seconds of a clock that is never set; a process that begins anew counts anew.

    ``limit_seconds``: how long a host may rotate.
    """

    def __init__(self, limit_seconds: float = FOREIGN_SECONDS) -> None:
        self._limit_seconds = limit_seconds
        self._spent: dict[str, float] = {}
        self._resting: set[str] = set()
        self._looked_at: float | None = None

    def look(self, hosts: Iterable[Host], now: float) -> Overdue:
        """``now``: seconds. May be asked as often as one likes: what counts is the time between."""
        elapsed = now - self._looked_at if self._looked_at is not None else 0.0
        self._looked_at = now
        before, self._spent = self._spent, {}
        for host in hosts:
            spent = before.get(host.hid, 0.0)
            is_rotating = phase_of(host.record) is not Phase.STEADY
            if is_rotating and host.hid not in self._resting:
                spent += elapsed
            else:
                spent -= elapsed * REGAIN_SHARE
            if spent > 0.0 or is_rotating:
                self._spent[host.hid] = max(spent, 0.0)
        end = self._limit_seconds + LEAVE_SECONDS
        self._resting = {
            hid
            for hid, spent in self._spent.items()
            if spent >= end or (hid in self._resting and spent > 0.0)
        }
        leaving = {hid for hid, spent in self._spent.items() if spent >= self._limit_seconds} - self._resting
        return Overdue(leaving=frozenset(leaving), left=frozenset(self._resting))
