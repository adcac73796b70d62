"""How far a key rotation is: what has been silent for how long, whom it waits for, and the next step.

Pure: instants come in as arguments. What is counted here is lost with the process and counted again by the
next one, which costs the rotation some seconds and the traffic nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from meshd.mesh.endpoints import is_live
from meshd.mesh.rotation import InterfaceRole, PairMigration, Phase
from meshd.model.device import ObservedState
from meshd.model.host import Host
from meshd.model.rescue_key import rescue_public_key

DRAIN_SECONDS: Final = 5.0
"""An interface that nothing came in by for this long is left by the other end too. Its probes and its answers
to ours would come that way at least once in two probe intervals."""
ABSENT_SECONDS: Final = 180.0
"""A host without any session for this long (REJECT_AFTER_TIME) is not waited for. What it misses it
learns from a store or another host when it is back."""
LOST_SECONDS: Final = 60.0
"""After so long without a session on the main interface (whose end took REJECT_AFTER_TIME already, unless
there never was one) a host is called under the key of its identity, too."""
LEFT_SECONDS: Final = 30.0
"""After a host was last heard under the key of its identity, it has left the second interface: it looks where
its sessions are at least every ten seconds."""
SLOT_SECONDS: Final = 20.0
"""Between the starts of two hosts that were asked together: about what one rotation takes."""


class RotationStep(StrEnum):
    """What the rotating host does next with its keys on disk; each is one atomic write."""

    COMMIT = "commit"
    FINISH = "finish"


NEXT_STEPS: Final[Mapping[Phase, RotationStep]] = {
    Phase.MOVING: RotationStep.COMMIT,
    Phase.RETURNING: RotationStep.FINISH,
}
"""From steady a rotation begins when one is asked for (``find_key_request``); nobody is waited for there."""


class _Seen(msgspec.Struct):
    received: dict[InterfaceRole, int] = msgspec.field(default_factory=dict)
    silent_since: dict[InterfaceRole, float] = msgspec.field(default_factory=dict)
    absent_since: float | None = None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the rotation is, by one observation of the kernel."""

    phase: Phase
    settled: tuple[str, ...]
    """Names of hosts whose pair with this one has moved, and whose old way is silent."""
    absent: tuple[str, ...]
    """Names of hosts without any session for so long that nobody waits for them."""
    waited_for: tuple[str, ...]
    """Names of the others: the rotation stays where it is until they follow."""
    needs_fast_look: bool
    """A pair is about to move: observe the kernel again soon."""

    @property
    def step(self) -> RotationStep | None:
        """Due when nobody is waited for and somebody proves that the new key works, or there is nobody."""
        if self.waited_for or (self.absent and not self.settled):
            return None
        return self.forced_step

    @property
    def forced_step(self) -> RotationStep | None:
        """The same, whoever is waited for."""
        return NEXT_STEPS.get(self.phase)


class DrainTracker:
    """Which interfaces are silent, observed at every turn while pairs migrate.

    ``probe_seconds``: the interval of the probes that keep an interface in use audible.
    """

    def __init__(self, *, probe_seconds: float = 1.0) -> None:
        self._drain_seconds = max(DRAIN_SECONDS, 3 * probe_seconds)
        self._seen: dict[str, _Seen] = {}

    def look(self, migrations: Mapping[str, PairMigration], phase: Phase, *, now: float) -> Progress:
        """``now``: seconds of a clock that is never set."""
        before, self._seen = self._seen, {}
        settled, absent, waited_for = [], [], []
        fast = False
        for hid, migration in migrations.items():
            seen = self._seen[hid] = before.get(hid) or _Seen()
            _count(seen, migration, now)
            name = migration.host.name
            moves = migration.active is not migration.target
            if seen.absent_since is not None and now - seen.absent_since >= ABSENT_SECONDS:
                absent.append(name)
            elif (
                moves or not migration.is_live(migration.target) or not self._is_drained(seen, migration, now)
            ):
                waited_for.append(name)
                fast = fast or (migration.is_present and (moves or phase is not Phase.STEADY))
            else:
                settled.append(name)
        return Progress(
            phase=phase,
            settled=tuple(settled),
            absent=tuple(absent),
            waited_for=tuple(waited_for),
            needs_fast_look=fast,
        )

    def deserting(self, now: float) -> frozenset[str]:
        """Hosts, by hid, that speak to us over the main interface alone, although they have both."""
        return frozenset(
            hid
            for hid, seen in self._seen.items()
            if now - seen.silent_since.get(InterfaceRole.SECOND, now) >= self._drain_seconds
            and now - seen.silent_since.get(InterfaceRole.MAIN, 0.0) < self._drain_seconds
        )

    def _is_drained(self, seen: _Seen, migration: PairMigration, now: float) -> bool:
        since = seen.silent_since.get(migration.target.other)
        return since is not None and now - since >= self._drain_seconds


def _count(seen: _Seen, migration: PairMigration, now: float) -> None:
    for role in InterfaceRole:
        peer = migration.peer(role)
        received = peer.stats.receive_bytes if peer else -1
        if seen.received.get(role) != received:
            seen.received[role] = received
            seen.silent_since[role] = now
    if migration.is_present:
        seen.absent_since = None
    elif seen.absent_since is None:
        seen.absent_since = now


class LostPeers(msgspec.Struct, frozen=True):
    """Hosts that are called under the key of their identity. A value: ``observed`` gives the next."""

    _since: Mapping[str, float] = msgspec.field(default_factory=dict)
    """By hid, since when it has had no session on the main interface."""
    _heard: Mapping[str, tuple[int, float]] = msgspec.field(default_factory=dict)
    """By hid, how many bytes the second interface has had of it, and when there were more last."""

    def observed(
        self, hosts: Iterable[Host], main: ObservedState, rescue: ObservedState, *, at: float, now: float
    ) -> LostPeers:
        """With what the kernel says now; a host whose daemon has never run cannot be lost.

        Args:
            rescue: the second interface, if it has the key of this host's identity.
            at: unix seconds, as the kernel's handshakes are.
            now: seconds of a clock that is never set.
        """
        peers = main.device.peers if main.device else {}
        rescued = rescue.device.peers if rescue.device else {}
        since, heard = {}, {}
        for host in hosts:
            record = host.record
            if record is None or not record.has_run:
                continue
            peer = peers.get(record.public_key)
            if peer is None or not is_live(peer, at):
                since[host.hid] = self._since.get(host.hid, now)
            key = rescue_public_key(host.identity_key) if rescued else None
            if key is not None and (second := rescued.get(key)) is not None:
                size = second.stats.receive_bytes
                known = self._heard.get(host.hid)
                heard[host.hid] = known if known is not None and known[0] == size else (size, now)
        return LostPeers(since, heard)

    def hids(self, now: float) -> frozenset[str]:
        """Those lost for LOST_SECONDS, and those that were found and may send by the second interface still.

        Who has a session on the main one again may see it up to ten seconds before the other end does, whose
        packets come by the second one until then.
        """
        lost = {hid for hid, since in self._since.items() if now - since >= LOST_SECONDS}
        return frozenset(lost | {hid for hid, (_, at) in self._heard.items() if now - at < LEFT_SECONDS})


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Why this host should make a new key. ``statement``: the hash of the signed request, empty for the
    host's own schedule. ``not_before``: unix seconds; ``rank``: this host's among those asked."""

    statement: str
    reason: str
    not_before: float
    rank: int = 0


def find_key_request(
    own: Host,
    hosts: Iterable[Host],
    *,
    key_created_at: float,
    obeyed: str,
    lifetime_seconds: float,
    share: float,
    now: float,
) -> KeyRequest | None:
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
        return KeyRequest(
            statement=asked.statement,
            reason=f"asked for by {asked}",
            not_before=float(max(own.rotate_not_before, asked.signed_at)),
            rank=together.index(own.hid),
        )
    # For the schedule such a key is as old as it can be, which is as old as this host's grant.
    age_seconds = now - (key_created_at if key_created_at <= now else own.provenance.signed_at)
    if lifetime_seconds and age_seconds >= lifetime_seconds * (1.0 - 0.1 * share):
        return KeyRequest(
            statement="", reason=f"the key is {age_seconds / 86400:.0f} days old", not_before=0.0
        )
    return None
