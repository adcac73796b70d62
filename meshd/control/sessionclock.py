"""Steps of the wall clock, and WireGuard's handshake times without them.

The kernel stamps a handshake with the wall clock. After that was set by years, every session looks dead
(endpoints that peers roamed to would be given up) or young for years (a dead peer's other endpoints would
never be tried). So a step is noticed beside a clock that is never set, and for as long as a session may
live, the stamps from before it are read as if it had been made in the time that is now.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from meshd.mesh.endpoints import REJECT_AFTER_SECONDS
from meshd.model.condition import Condition, Severity
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """``seconds``: how far forward; ``wall_after``: unix seconds when it was noticed; ``at``: steady."""

    seconds: float
    wall_after: float
    at: float


class SessionClock:
    """``wall``: unix seconds; ``steady``: see ``read_steady_seconds``."""

    def __init__(self, wall: Callable[[], float], steady: Callable[[], float] = read_steady_seconds) -> None:
        self._wall = wall
        self._steady = steady
        self._drift = wall() - steady()
        self._steps: list[Step] = []
        self._net = 0.0

    @property
    def net_seconds(self) -> float:
        """How far the clock has been set since the start, or since an operator saw it; forward above 0."""
        return self._net if abs(self._net) > SAID_SECONDS else 0.0

    def accept(self) -> None:
        """An operator says that the clock is right as it is."""
        self._net = 0.0

    def look(self) -> None:
        """Notice a step since the last look."""
        wall, steady = self._wall(), self._steady()
        seconds = wall - steady - self._drift
        self._drift = wall - steady
        self._steps = [step for step in self._steps if steady - step.at < REJECT_AFTER_SECONDS]
        if abs(seconds) >= STEP_SECONDS:
            self._steps.append(Step(seconds=seconds, wall_after=wall, at=steady))
            self._net += seconds

    def correct(self, observed: ObservedState) -> ObservedState:
        """The same with handshakes from before a step in the time of now."""
        device = observed.device
        if not self._steps or device is None:
            return observed
        peers = {key: self._correct_peer(peer) for key, peer in device.peers.items()}
        return replace(observed, device=replace(device, peers=peers))

    def _correct_peer(self, peer: Peer) -> Peer:
        at = before = peer.stats.latest_handshake_at
        for step in self._steps:
            if at and _is_from_before(at, step):
                at += step.seconds
        return peer if at == before else replace(peer, stats=replace(peer.stats, latest_handshake_at=at))

    def conditions(self) -> tuple[Condition, ...]:
        net = self.net_seconds
        if not net:
            return ()
        way = "forward" if net > 0 else "back"
        return (
            Condition(
                code="clock_stepped",
                severity=Severity.WARNING,
                text=f"this host's clock was set {way} by {abs(net):.0f} s: the mesh goes on, but ends of "
                "grants and answers of stores are judged by it; check its time service (chronyc tracking, "
                "ntpq -p); if it is right now: wgctl apply --force",
            ),
        )


def _is_from_before(at: float, step: Step) -> bool:
    """Set forward: older than the moment of the step was called then. Set back: not yet come."""
    return at <= step.wall_after - step.seconds if step.seconds > 0 else at > step.wall_after
