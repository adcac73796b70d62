"""How far a key rotation is: what has been silent for how long, whom it waits for, and the next step.

Pure: instants come in as arguments. What is counted here is lost with the process and counted again by the
next one, which costs the rotation some seconds and the traffic nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from meshd.mesh.endpoints import is_live
from meshd.mesh.rotation import Crossing, Lane, Phase
from meshd.model.device import ObservedState
from meshd.model.host import Host

DRAIN_SECONDS: Final = 5.0
"""A lane that nothing came in by for this long is left by the other end too, whose probes and answers to
ours would come that way at least once in two probe intervals."""
ABSENT_SECONDS: Final = 180.0
"""A host without any session for this long (REJECT_AFTER_TIME) is not waited for. What it misses it
learns from a store or another host when it is back."""
LOST_SECONDS: Final = 60.0
"""After so long without a session on the main interface (whose end took REJECT_AFTER_TIME already, unless
there never was one) a host is called under the key of its identity, too."""
SLOT_SECONDS: Final = 20.0
"""Between the starts of two hosts that were asked together: about what one rotation takes."""


class Step(StrEnum):
    """What the rotating host does next with its keys on disk; each is one atomic write."""

    COMMIT = "commit"
    FINISH = "finish"


@dataclass(slots=True)
class _Seen:
    received: dict[Lane, int] = field(default_factory=dict)
    silent_since: dict[Lane, float] = field(default_factory=dict)
    absent_since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One look. ``settled``, ``absent``, ``waiting``: hosts by name. ``is_restless``: look again soon."""

    phase: Phase
    settled: tuple[str, ...]
    absent: tuple[str, ...]
    waiting: tuple[str, ...]
    is_restless: bool

    @property
    def step(self) -> Step | None:
        """Due when nobody is waited for and somebody proves that the new key works, or there is nobody."""
        if self.phase is Phase.STEADY or self.waiting or (self.absent and not self.settled):
            return None
        return self.forced_step

    @property
    def forced_step(self) -> Step:
        """The same, whoever is waited for."""
        return Step.COMMIT if self.phase is Phase.MOVING else Step.FINISH


class RotationWatch:
    """Looks at every turn while pairs cross. ``probe_seconds``: the interval of the probes that keep a lane
    in use audible."""

    def __init__(self, *, probe_seconds: float = 1.0) -> None:
        self._drain_seconds = max(DRAIN_SECONDS, 3 * probe_seconds)
        self._seen: dict[str, _Seen] = {}

    def look(self, crossings: Mapping[str, Crossing], phase: Phase, *, now: float) -> Progress:
        """``now``: seconds of a clock that is never set."""
        before, self._seen = self._seen, {}
        settled, absent, waiting = [], [], []
        restless = False
        for hid, crossing in crossings.items():
            seen = self._seen[hid] = before.get(hid) or _Seen()
            _count(seen, crossing, now)
            name = crossing.host.name
            moves = crossing.carrier is not crossing.goal
            if seen.absent_since is not None and now - seen.absent_since >= ABSENT_SECONDS:
                absent.append(name)
            elif moves or not crossing.is_live(crossing.goal) or not self._is_drained(seen, crossing, now):
                waiting.append(name)
                restless = restless or (crossing.is_present and (moves or phase is not Phase.STEADY))
            else:
                settled.append(name)
        return Progress(
            phase=phase,
            settled=tuple(settled),
            absent=tuple(absent),
            waiting=tuple(waiting),
            is_restless=restless,
        )

    def _is_drained(self, seen: _Seen, crossing: Crossing, now: float) -> bool:
        since = seen.silent_since.get(crossing.goal.other)
        return since is not None and now - since >= self._drain_seconds


def _count(seen: _Seen, crossing: Crossing, now: float) -> None:
    for lane in Lane:
        peer = crossing.peer(lane)
        received = peer.stats.receive_bytes if peer else -1
        if seen.received.get(lane) != received:
            seen.received[lane] = received
            seen.silent_since[lane] = now
    if crossing.is_present:
        seen.absent_since = None
    elif seen.absent_since is None:
        seen.absent_since = now


class Absences:
    """Since when each host has had no session on the main interface."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def look(self, hosts: Iterable[Host], main: ObservedState, *, at: float, now: float) -> frozenset[str]:
        """The hids of those lost for LOST_SECONDS; a host whose daemon has never run cannot be lost.

        ``at``: unix seconds, as the kernel's handshakes are; ``now``: seconds of a clock that is never set.
        """
        peers = main.device.peers if main.device else {}
        before, self._since = self._since, {}
        for host in hosts:
            record = host.record
            if record is None or not record.has_run:
                continue
            peer = peers.get(record.public_key)
            if peer is None or not is_live(peer, at):
                self._since[host.hid] = before.get(host.hid, now)
        return frozenset(hid for hid, since in self._since.items() if now - since >= LOST_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Why this host should make a new key. ``statement``: the hash of the signed request, empty for the
    host's own schedule. ``not_before``: unix seconds; ``rank``: this host's among those asked."""

    statement: str
    reason: str
    not_before: float
    rank: int = 0


def find_request(
    own: Host,
    hosts: Iterable[Host],
    *,
    key_created_at: float,
    obeyed: str,
    lifetime_seconds: float,
    share: float,
    now: float,
) -> Request | None:
    """What asks this host for a new key, if anything does. ``now`` and instants: unix seconds.

    A signed request is obeyed once, whatever the clocks say: ``obeyed`` is the hash of the last one. A key
    that is younger than the request needs no other one. ``lifetime_seconds`` 0: no schedule; ``share``
    (0 to 1) spreads the hosts that were set up together over its last tenth.
    """
    asked = own.rotation
    # A time ahead of our clock, which was wrong then or is now, is no proof of youth.
    made_at = key_created_at if key_created_at <= now else 0.0
    if asked is not None and asked.statement != obeyed and made_at < own.rotate_not_before:
        together = sorted(
            host.hid for host in hosts if host.rotation and host.rotation.statement == asked.statement
        )
        return Request(
            statement=asked.statement,
            reason=f"asked for by {asked}",
            not_before=float(max(own.rotate_not_before, asked.signed_at)),
            rank=together.index(own.hid),
        )
    if lifetime_seconds and now - key_created_at >= lifetime_seconds * (1.0 - 0.1 * share):
        return Request(
            statement="", reason=f"the key is {(now - key_created_at) / 86400:.0f} days old", not_before=0.0
        )
    return None
