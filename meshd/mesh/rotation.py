"""Key rotation without a lost packet: over which interface each pair of hosts talks, and what comes next.

WireGuard holds one key an interface, and one owner a prefix. So that nothing is lost while a host
changes its key, both ends of a pair have two interfaces for a while, each with a table of its own:
whatever arrives on either is accepted, and each end moves its routes when it sees a session there.

    steady     one interface; the record names one key
    moving     the record names the next key too: every host of the mesh has a peer for it on its
               second interface; traffic moves there pair by pair
    returning  nothing goes over the first interface any more, so its key was replaced in place; the
               record names the new key twice; traffic moves back, and the second interface goes

Each end decides from the two records and from what its own kernel says. No clocks have to agree and
no message has to arrive in time: a pair whose other end does not follow stays where it is, and the
rotating host waits for it. Two hosts that rotate at once need nothing else. Every step may be the
last for a day.

A host that was away while the others rotated knows none of their keys any more, and the store may be
reachable over the mesh alone. So a pair that has lost each other on the first interface for minutes
calls each other on the second, while no rotation needs that. They do so under the keys of their identities,
which the registry names. What they lack they then learn from each other, and the pair returns to the first.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from meshd.mesh.desired import LocalDevice
from meshd.mesh.endpoints import is_live
from meshd.mesh.view import MeshView
from meshd.model.device import ObservedState, Peer
from meshd.model.host import Host, HostKeys
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import host_network
from meshd.model.rescue_key import rescue_public_key

CALL_TURN_SECONDS: Final = 15.0
"""When the one end's call does not come through, the other one tries, and so on by turns."""

# The tables of docs/state-machines.md, as they are drawn there.


class InterfaceRole(StrEnum):
    """Which of a host's two WireGuard interfaces: its own, or the second one of rotations and rescues."""

    MAIN = "main"
    SECOND = "second"

    @property
    def other(self) -> InterfaceRole:
        return InterfaceRole.SECOND if self is InterfaceRole.MAIN else InterfaceRole.MAIN


class Phase(StrEnum):
    """Of one host's rotation; the three are explained at the head of this module."""

    STEADY = "steady"
    MOVING = "moving"
    RETURNING = "returning"


_MAIN, _SECOND = InterfaceRole.MAIN, InterfaceRole.SECOND
_STEADY, _MOVING, _RETURNING = Phase.STEADY, Phase.MOVING, Phase.RETURNING

TARGETS: Final[Mapping[tuple[Phase, Phase], InterfaceRole]] = {
    # this host, the other one: where the packets between them should go
    (_STEADY, _STEADY): _MAIN,
    (_STEADY, _MOVING): _SECOND,
    (_STEADY, _RETURNING): _MAIN,
    (_MOVING, _STEADY): _SECOND,
    (_MOVING, _MOVING): _SECOND,
    (_MOVING, _RETURNING): _SECOND,
    (_RETURNING, _STEADY): _MAIN,
    (_RETURNING, _MOVING): _SECOND,
    (_RETURNING, _RETURNING): _MAIN,
}

GOES_TO_TARGET: Final[Mapping[tuple[bool, bool, bool], bool]] = {
    # packets go to the target, a session on it, a session on the other interface: they go to the target next
    (False, True, True): True,
    (False, True, False): True,
    (False, False, True): False,
    (False, False, False): False,
    (True, True, True): True,
    (True, True, False): True,
    (True, False, True): False,
    (True, False, False): True,
}


class Caller(StrEnum):
    """Which end of a pair starts the handshake."""

    THIS = "this end"
    OTHER = "the other end"
    BY_TURNS = "by turns"
    LOWER_ID = "the lower id"


CALLERS: Final[Mapping[tuple[bool, bool], Caller]] = {
    # this end can be called, the other one can
    (True, False): Caller.OTHER,
    (False, True): Caller.THIS,
    (False, False): Caller.THIS,
    (True, True): Caller.BY_TURNS,
}
FIRST_TURNS: Final[Mapping[tuple[bool, bool], Caller]] = {
    # this host rotates, the other one does: who has the first of the turns
    (False, True): Caller.THIS,
    (True, False): Caller.OTHER,
    (True, True): Caller.LOWER_ID,
    (False, False): Caller.LOWER_ID,
}
"""Of one that rotates and one that follows the latter, as it is ready last."""


class PairMigration(msgspec.Struct, frozen=True, kw_only=True):
    """This host and another one, which have both interfaces while one of the two rotates its key."""

    host: Host
    """The other end."""
    target: InterfaceRole
    """Where our packets to it should end up."""
    active: InterfaceRole
    """Where they go with the plan that is made of this."""
    second_key: PublicKey
    """The other end's key on the second interface."""
    main: Peer | None
    """The kernel's peer of that host on the main interface."""
    second: Peer | None
    main_is_live: bool
    """The main interface has a session of the keys in force."""
    second_is_live: bool
    calls: bool
    """This end starts the handshake."""
    is_rescue: bool = False
    """Nobody rotates, and the two have lost each other on the main interface."""

    def is_live(self, role: InterfaceRole) -> bool:
        return self.main_is_live if role is InterfaceRole.MAIN else self.second_is_live

    def peer(self, role: InterfaceRole) -> Peer | None:
        return self.main if role is InterfaceRole.MAIN else self.second

    def is_idle(self, role: InterfaceRole) -> bool:
        """Nothing is carried there, and nothing is wanted there."""
        return role not in (self.active, self.target) and not self.is_rescue

    @property
    def is_present(self) -> bool:
        """Whether the host can be reached at all; one that cannot has nothing to lose."""
        return self.main_is_live or self.second_is_live


def phase_of(record: HostKeys | None) -> Phase:
    """What a host's record says of its rotation."""
    if record is None or record.next_public_key is None:
        return Phase.STEADY
    return Phase.RETURNING if record.next_public_key == record.public_key else Phase.MOVING


def own_phase(local: LocalDevice) -> Phase:
    """The same of this host, from its own files."""
    if local.next_private_key is None:
        return Phase.STEADY
    return Phase.RETURNING if local.next_private_key == local.private_key else Phase.MOVING


def says_step(record: HostKeys | None, local: LocalDevice) -> bool:
    """Whether this host's own record names the keys that it has on disk now, so that others can follow."""
    following = local.next_private_key.public() if local.next_private_key else None
    return (
        record is not None
        and record.public_key == local.private_key.public()
        and record.next_public_key == following
    )


def second_key_of(record: HostKeys | None) -> PublicKey | None:
    """The key that a host has on its second interface while somebody rotates."""
    return (record.next_public_key or record.public_key) if record else None


def find_migrations(
    view: MeshView,
    local: LocalDevice,
    main: ObservedState,
    second: ObservedState,
    *,
    now: float,
    lost: Container[str] = frozenset(),
    leaving: Container[str] = frozenset(),
    left: Container[str] = frozenset(),
    deserting: Container[str] = frozenset(),
) -> dict[str, PairMigration]:
    """The pairs that have both interfaces now, by the other end's hid.

    ``now``: unix seconds. All the others are hids. ``lost``: hosts without a session on the main interface
    for long; they count while nobody rotates. ``leaving``, ``left``: hosts whose rotation took too long, so
    that we go back to the main interface with them, or are back. ``deserting``: hosts that did so with us.
    """
    phase = own_phase(local)
    peers = view.peers if view.own else ()
    rotating = [
        host
        for host in peers
        if phase is not Phase.STEADY or (phase_of(host.record) is not Phase.STEADY and host.hid not in left)
    ]
    rescue = not rotating and local.rescue_key is not None
    both = _Both(
        view=view,
        local=local,
        main=main,
        second=second,
        now=now,
        rescue=rescue,
        leaving=leaving,
        deserting=deserting,
    )
    found = (both.pair(host) for host in (peers if rescue else rotating) if not rescue or host.hid in lost)
    return {migration.host.hid: migration for migration in found if migration is not None}


class _Both(msgspec.Struct, frozen=True, kw_only=True):
    """This host's two interfaces as they are, and what is known of the others' rotations."""

    view: MeshView
    local: LocalDevice
    main: ObservedState
    second: ObservedState
    now: float
    rescue: bool
    leaving: Container[str]
    deserting: Container[str]

    def pair(self, host: Host) -> PairMigration | None:
        record = host.record
        second_key = rescue_public_key(host.identity_key) if self.rescue else second_key_of(record)
        if record is None or second_key is None:
            return None
        phase, theirs = own_phase(self.local), phase_of(record)
        target = TARGETS[phase, theirs]
        if phase is Phase.STEADY and host.hid in self.leaving:
            target = InterfaceRole.MAIN
        first, other = _peer(self.main, record.public_key), _peer(self.second, second_key)
        main_is_live = first is not None and _is_live_on_main(first, self.local, phase, self.now)
        second_is_live = other is not None and self._is_in_force() and is_live(other, self.now)
        if phase is Phase.MOVING and theirs is Phase.STEADY and host.hid in self.deserting:
            second_is_live = False
        here = InterfaceRole.SECOND if self._is_on_second(host) else InterfaceRole.MAIN
        return PairMigration(
            host=host,
            target=target,
            active=_choose_active(
                here, target, {InterfaceRole.MAIN: main_is_live, InterfaceRole.SECOND: second_is_live}
            ),
            second_key=second_key,
            main=first,
            second=other,
            main_is_live=main_is_live,
            second_is_live=second_is_live,
            calls=_is_lower(self.view, host)
            if self.rescue
            else _calls(self.view, host, phase, theirs, self.now),
            is_rescue=self.rescue,
        )

    def _is_in_force(self) -> bool:
        """Whether the second interface has the key that it should have: else its sessions are of another."""
        device, key = self.second.device, second_private_key(self.local, self.rescue)
        return device is not None and device.public_key == key.public()

    def _is_on_second(self, host: Host) -> bool:
        link = host_network(host.link_address)
        return any(route.destination == link for route in self.second.routes)


def _peer(observed: ObservedState, key: PublicKey) -> Peer | None:
    return observed.device.peers.get(key) if observed.device else None


def second_private_key(local: LocalDevice, rescue: bool) -> PrivateKey:
    """The key of this host's second interface; in a ``rescue`` that of its identity."""
    if rescue and local.rescue_key is not None:
        return local.rescue_key
    return local.next_private_key or local.private_key


def _choose_active(
    here: InterfaceRole, target: InterfaceRole, live: Mapping[InterfaceRole, bool]
) -> InterfaceRole:
    """Stay where packets are carried; go on when the target can carry them, back when only it cannot."""
    goes = GOES_TO_TARGET[here is target, live[target], live[target.other]]
    return target if goes else target.other


def _is_live_on_main(peer: Peer, local: LocalDevice, phase: Phase, now: float) -> bool:
    """After the key was replaced in place the peers' old handshakes stand there still, without effect.

    A clock that was set back since leaves the plain rule.
    """
    since = local.returning_since
    stale = phase is Phase.RETURNING and now >= since and peer.stats.latest_handshake_at <= since
    return is_live(peer, now) and not stale


def _calls(view: MeshView, host: Host, phase: Phase, theirs: Phase, now: float) -> bool:
    """Whether this end starts the handshake now: two that start together discard each other's."""
    own, record = view.own, host.record
    assert own is not None and record is not None
    caller = CALLERS[own.record is None or bool(own.record.endpoints), bool(record.endpoints)]
    if caller is not Caller.BY_TURNS:
        return caller is Caller.THIS
    first = FIRST_TURNS[phase is not _STEADY, theirs is not _STEADY]
    is_first = _is_lower(view, host) if first is Caller.LOWER_ID else first is Caller.THIS
    return is_first == (int(now // CALL_TURN_SECONDS) % 2 == 0)


def _is_lower(view: MeshView, host: Host) -> bool:
    return view.own is not None and view.own.hid < host.hid
