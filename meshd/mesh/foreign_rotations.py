"""How long the rotations of other hosts may have this host's second interface. Pure.

The interface serves one purpose at a time: while a host says that it rotates, the others can neither
begin a rotation nor look for those that they lost. A rotation takes minutes, so who says so for longer is
left alone, however many keys it makes meanwhile: first the pair goes back to the first interface, then the
second one is free again. What a host has used up comes back slowly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from meshd.mesh.rotation import Phase, phase_of
from meshd.model.host import Host

FOREIGN_SECONDS: Final = 900.0
"""A rotation waits three minutes for hosts that are away, and some more until everybody has read of it."""
LEAVE_SECONDS: Final = 60.0
"""For the way back: until the other end has noticed that we send over the first interface again."""
REGAIN_SHARE: Final = 0.1


class Overdue(msgspec.Struct, frozen=True, kw_only=True):
    """Hosts whose time is over, by hid: those that are being left, and those that are."""

    leaving: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()

    def __contains__(self, hid: object) -> bool:
        return hid in self.leaving or hid in self.left


class ForeignRotations(msgspec.Struct, frozen=True, kw_only=True):
    """What hosts have used up of their time. Counts in seconds of a clock that is never set.

    A value: ``looked`` gives the next one. A process that begins anew counts anew.
    """

    limit_seconds: float = FOREIGN_SECONDS
    """How long a host may rotate."""
    spent: Mapping[str, float] = msgspec.field(default_factory=dict)
    """Seconds by hid, of those that have used up any."""
    resting: frozenset[str] = frozenset()
    """Those that have used up all; they have a time again when they have regained all."""
    looked_at: float | None = None
    """Seconds; None: not yet."""

    def looked(self, hosts: Iterable[Host], now: float) -> ForeignRotations:
        """After a look at these hosts. What counts is the time between looks, not how many there are.

        Args:
            now: seconds.
        """
        elapsed = now - self.looked_at if self.looked_at is not None else 0.0
        counted: dict[str, float] = {}
        for host in hosts:
            spent = self.spent.get(host.hid, 0.0)
            is_rotating = phase_of(host.record) is not Phase.STEADY
            if is_rotating and host.hid not in self.resting:
                spent += elapsed
            else:
                spent -= elapsed * REGAIN_SHARE
            if spent > 0.0 or is_rotating:
                counted[host.hid] = max(spent, 0.0)
        end = self.limit_seconds + LEAVE_SECONDS
        resting = frozenset(
            hid for hid, spent in counted.items() if spent >= end or (hid in self.resting and spent > 0.0)
        )
        return replace(self, spent=counted, resting=resting, looked_at=now)

    @property
    def overdue(self) -> Overdue:
        """Whose time is over."""
        leaving = {hid for hid, spent in self.spent.items() if spent >= self.limit_seconds}
        return Overdue(leaving=frozenset(leaving - self.resting), left=self.resting)
