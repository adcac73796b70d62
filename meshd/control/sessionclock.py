"""Steps of the wall clock, and WireGuard's handshake times without them.

The kernel stamps a handshake with the wall clock. After that was set by years, every session looks dead
(endpoints that peers roamed to would be given up) or young for years (a dead peer's other endpoints
would never be tried). So a step is noticed beside a clock that is never set. For as long as a session
may live, the stamps from before it are read as if they had been made in the time that is now.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec
from msgspec.structs import replace

from meshd.mesh.endpoints import REJECT_AFTER_SECONDS
from meshd.model.device import ObservedState, Peer

STEP_SECONDS: Final = 10.0
"""Less is slewing, or within what a session's life tolerates."""
SAID_SECONDS: Final = 60.0
"""Less is what an NTP daemon does at its start."""


def read_steady_seconds() -> float:
    """A clock that nobody sets and that goes on while the machine sleeps, where there is one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class ClockStep(msgspec.Struct, frozen=True, kw_only=True):
    """The wall clock was set."""

    seconds: float
    """How far forward; below 0: back."""
    wall_after: float
    """Unix seconds when it was noticed."""
    at: float
    """The same moment by the clock that nobody sets."""


class ClockSteps(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of steps, as a value: ``noticed`` gives the next one, and changes nothing here.

    So whoever only looks corrects what he sees, and the step is still new to the turn that follows.
    """

    drift: float
    """The wall clock less the one that nobody sets, when both were read last."""
    recent: tuple[ClockStep, ...] = ()
    """Those from before which a session may still live."""
    wall: float = 0.0
    """The wall clock when it was read last, unix seconds."""
    net: float = 0.0
    """Their sum since the start, or since an operator saw it, seconds."""

    @property
    def net_seconds(self) -> float:
        """How far the clock has been set since the start, or since an operator saw it; forward above 0."""
        return self.net if abs(self.net) > SAID_SECONDS else 0.0

    def accepted(self) -> ClockSteps:
        """An operator says that the clock is right as it is."""
        return replace(self, net=0.0)

    def noticed(self, wall: float, steady: float) -> ClockSteps:
        """With a step since the clocks were read last, if there is one."""
        seconds = wall - steady - self.drift
        recent = tuple(step for step in self.recent if steady - step.at < REJECT_AFTER_SECONDS)
        net = self.net
        if abs(seconds) >= STEP_SECONDS:
            recent = (*recent, ClockStep(seconds=seconds, wall_after=wall, at=steady))
            net += seconds
        return ClockSteps(drift=wall - steady, recent=recent, wall=wall, net=net)

    def correct(self, observed: ObservedState) -> ObservedState:
        """The same with handshakes from before a step in the time of now."""
        device = observed.device
        if not self.recent or device is None:
            return observed
        peers = {key: self._correct_peer(peer) for key, peer in device.peers.items()}
        return replace(observed, device=replace(device, peers=peers))

    def _correct_peer(self, peer: Peer) -> Peer:
        at = peer.stats.latest_handshake_at
        moved = self._moved_since(at) if at else 0.0
        if not moved:
            return peer
        return replace(peer, stats=replace(peer.stats, latest_handshake_at=at + moved))

    def _moved_since(self, at: float) -> float:
        """How far the clock was set since it showed ``at``, the last time that it did. Seconds.

        It ran from each step to the next one. Where two of these times overlap, the later one is taken: a
        session then looks younger by what the clock was set back, which is less than a session lives.
        """
        moved, until = 0.0, self.wall
        for step in reversed(self.recent):
            if step.wall_after <= at <= until:
                return moved
            moved, until = moved + step.seconds, step.wall_after - step.seconds
        return moved if at <= until else 0.0
