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
reachable over the mesh alone. So while no rotation needs the second interface, a pair that has lost each
other on the first one for minutes calls each other on the second, under the keys of their identities, which
the registry names. What they lack they then learn from each other, and the pair returns to the first.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from meshd.mesh.desired import DesiredPeer, DesiredState, LocalDevice, allowed_ips
from meshd.mesh.endpoints import choose_endpoint, is_live
from meshd.mesh.view import MeshView
from meshd.model.device import ObservedState, Peer, PeerConfig
from meshd.model.host import Host, HostKeys
from meshd.model.keys import PrivateKey, PublicKey, rescue_public_key
from meshd.model.network import Endpoint, host_network

CALL_SECONDS: Final = 5
"""Keepalive of the end whose turn it is to call, until the pair has a session: WireGuard starts a
handshake by itself when there is something to send (REKEY_TIMEOUT, the same 5 s, is its own pace)."""
RARE_CALL_SECONDS: Final = 7
"""In a rescue both ends call, as either may have stale addresses of the other; at different paces, so that
two calls that met once do not meet again and again."""
CALL_TURN_SECONDS: Final = 15.0
"""When the one end's call does not come through, the other one tries, and so on by turns."""
PORT_OFFSET: Final = 1
"""The second interface listens on the next UDP port, at both ends and behind every forwarding."""


class Lane(StrEnum):
    MAIN = "main"
    SECOND = "second"

    @property
    def other(self) -> Lane:
        return Lane.SECOND if self is Lane.MAIN else Lane.MAIN


class Phase(StrEnum):
    STEADY = "steady"
    MOVING = "moving"
    RETURNING = "returning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A pair while one of its ends rotates. ``carrier``: where our packets to the host go now, or with
    the plan that is made of this; ``goal``: where they should end up. ``main`` and ``second``: the
    kernel's peers of that host. ``is_live``: by lane, whether it has a session of the keys in force.
    ``is_rescue``: nobody rotates, and the pair has lost each other on the main lane."""

    host: Host
    goal: Lane
    carrier: Lane
    second_key: PublicKey
    main: Peer | None
    second: Peer | None
    main_is_live: bool
    second_is_live: bool
    calls: bool
    is_rescue: bool = False

    def is_live(self, lane: Lane) -> bool:
        return self.main_is_live if lane is Lane.MAIN else self.second_is_live

    def peer(self, lane: Lane) -> Peer | None:
        return self.main if lane is Lane.MAIN else self.second

    def is_idle(self, lane: Lane) -> bool:
        """Nothing is carried there, and nothing is wanted there."""
        return lane not in (self.carrier, self.goal) and not self.is_rescue

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


def second_key_of(record: HostKeys | None) -> PublicKey | None:
    """The key that a host has on its second interface while somebody rotates."""
    return (record.next_public_key or record.public_key) if record else None


def find_crossings(
    view: MeshView,
    local: LocalDevice,
    main: ObservedState,
    second: ObservedState,
    *,
    now: float,
    lost: Container[str] = frozenset(),
) -> dict[str, Crossing]:
    """The pairs that have both interfaces now, by the other end's hid. ``now``: unix seconds. ``lost``:
    hids of hosts without a session on the main interface for long; they count while nobody rotates."""
    phase = own_phase(local)
    peers = view.peers if view.own else ()
    crossing = [
        host for host in peers if phase is not Phase.STEADY or phase_of(host.record) is not Phase.STEADY
    ]
    rescue = not crossing and local.rescue_key is not None
    look = _Look(view=view, local=local, main=main, second=second, now=now, rescue=rescue)
    found = (look.cross(host) for host in (peers if rescue else crossing) if not rescue or host.hid in lost)
    return {crossing.host.hid: crossing for crossing in found if crossing is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    view: MeshView
    local: LocalDevice
    main: ObservedState
    second: ObservedState
    now: float
    rescue: bool

    def cross(self, host: Host) -> Crossing | None:
        record = host.record
        second_key = rescue_public_key(host.identity_key) if self.rescue else second_key_of(record)
        if record is None or second_key is None:
            return None
        phase, theirs = own_phase(self.local), phase_of(record)
        goal = Lane.SECOND if Phase.MOVING in (phase, theirs) else Lane.MAIN
        first, other = _peer(self.main, record.public_key), _peer(self.second, second_key)
        main_is_live = first is not None and _is_live_on_main(first, self.local, phase, self.now)
        second_is_live = other is not None and self._is_in_force() and is_live(other, self.now)
        here = Lane.SECOND if self._is_on_second(host) else Lane.MAIN
        return Crossing(
            host=host,
            goal=goal,
            carrier=_choose_carrier(here, goal, {Lane.MAIN: main_is_live, Lane.SECOND: second_is_live}),
            second_key=second_key,
            main=first,
            second=other,
            main_is_live=main_is_live,
            second_is_live=second_is_live,
            calls=_is_lower(self.view, host) if self.rescue
            else _calls(self.view, host, phase, theirs, self.now),
            is_rescue=self.rescue,
        )

    def _is_in_force(self) -> bool:
        """Whether the second interface has the key that it should have: else its sessions are of another."""
        device = self.second.device
        return device is not None and device.public_key == _second_private(self.local, self.rescue).public()

    def _is_on_second(self, host: Host) -> bool:
        link = host_network(host.link_address)
        return any(route.destination == link for route in self.second.routes)


def _peer(observed: ObservedState, key: PublicKey) -> Peer | None:
    return observed.device.peers.get(key) if observed.device else None


def _second_private(local: LocalDevice, rescue: bool) -> PrivateKey:
    if rescue and local.rescue_key is not None:
        return local.rescue_key
    return local.next_private_key or local.private_key


def _choose_carrier(here: Lane, goal: Lane, live: Mapping[Lane, bool]) -> Lane:
    """Stay where packets are carried; go on when the goal can carry them, back when only it cannot."""
    if here is not goal:
        return goal if live[goal] else here
    return goal.other if live[goal.other] and not live[goal] else goal


def _is_live_on_main(peer: Peer, local: LocalDevice, phase: Phase, now: float) -> bool:
    """After the key was replaced in place the peers' old handshakes stand there still, without effect.

    A clock that was set back since leaves the plain rule.
    """
    since = local.returning_since
    stale = phase is Phase.RETURNING and now >= since and peer.stats.latest_handshake_at <= since
    return is_live(peer, now) and not stale


def _calls(view: MeshView, host: Host, phase: Phase, theirs: Phase, now: float) -> bool:
    """Whether this end starts the handshake: one end alone, for two that start together discard each
    other's. First the one that follows, which is ready last; of two that rotate the lower hid."""
    own, record = view.own, host.record
    assert own is not None and record is not None
    callable_here = own.record is None or bool(own.record.endpoints)
    if not record.endpoints:
        return not callable_here
    if not callable_here:
        return True
    if (phase is Phase.STEADY) != (theirs is Phase.STEADY):
        first = phase is Phase.STEADY
    else:
        first = own.hid < host.hid
    return first == (int(now // CALL_TURN_SECONDS) % 2 == 0)


def _is_lower(view: MeshView, host: Host) -> bool:
    return view.own is not None and view.own.hid < host.hid


def split_desired(
    desired: DesiredState,
    crossings: Mapping[str, Crossing],
    local: LocalDevice,
    *,
    now: float,
) -> tuple[DesiredState, DesiredState | None]:
    """``desired``, made as if there were one interface, -> (the main interface's, the second one's).

    None: no use for a second one. Routes keep their MTU on whichever interface they are.
    """
    main_key = local.private_key.public()
    retired = frozenset({local.retired_key} if local.retired_key else ())
    if not crossings:
        return replace(desired, retired_keys=retired), None
    by_name = {crossing.host.name: crossing for crossing in crossings.values()}
    carriers = {
        destination: by_name[name].carrier
        for destination, name in desired.route_labels.items()
        if name in by_name
    }
    moves = {
        destination: _why(by_name[name]) for destination, name in desired.route_labels.items()
        if name in by_name
    }

    def side(lane: Lane) -> dict[str, object]:
        here = {d for d in desired.route_labels if carriers.get(d, Lane.MAIN) is lane}
        interface = desired.interface if lane is Lane.MAIN else local.second_interface
        return {
            "interface": interface,
            "routes": frozenset(
                replace(route, interface=interface) for route in desired.routes if route.destination in here
            ),
            "route_labels": {d: name for d, name in desired.route_labels.items() if d in here},
            "moves": {d: why for d, why in moves.items() if d in here},
            "crossing": True,
        }

    first = replace(
        desired, **side(Lane.MAIN), retired_keys=retired,  # type: ignore[arg-type]
        peers={
            key: _on_main(peer, crossings.get(peer.hid), now) for key, peer in desired.peers.items()
        },
    )
    rescue = any(crossing.is_rescue for crossing in crossings.values())
    second_private = _second_private(local, rescue)
    own_keys = {main_key, *retired, *([local.rescue_key.public()] if local.rescue_key else [])}
    second = replace(
        desired,
        **side(Lane.SECOND),  # type: ignore[arg-type]
        is_second=True,
        private_key=second_private,
        public_key=second_private.public(),
        listen_port=local.listen_port + PORT_OFFSET,
        peers={
            peer.config.public_key: peer
            for crossing in crossings.values()
            for peer in [_on_second(crossing, desired, local, now)]
        },
        explained={},
        retired_keys=frozenset(own_keys),
    )
    return first, second


def _why(crossing: Crossing) -> str:
    if crossing.is_rescue:
        return f"{crossing.host.name} was lost on the first interface and found on the second, or back"
    return f"the key of {crossing.host.name} or of this host is rotated, and the pair has a session there"


def _on_main(peer: DesiredPeer, crossing: Crossing | None, now: float) -> DesiredPeer:
    if crossing is None:
        return peer
    config = peer.config
    endpoint = config.endpoint
    known = crossing.main.config.endpoint if crossing.main else None
    if known is not None and crossing.is_idle(Lane.MAIN):
        endpoint = known
    elif crossing.carrier is not Lane.MAIN:
        endpoint = _beside(crossing, Lane.MAIN, now)
    keepalive = _keepalive(crossing, Lane.MAIN, config.persistent_keepalive_seconds)
    return replace(
        peer, config=replace(config, endpoint=endpoint, persistent_keepalive_seconds=keepalive)
    )


def _on_second(crossing: Crossing, desired: DesiredState, local: LocalDevice, now: float) -> DesiredPeer:
    record = crossing.host.record
    assert record is not None
    of_host = desired.peers.get(record.public_key)
    normal = local.persistent_keepalive_seconds if local.behind_nat else 0
    config = PeerConfig(
        public_key=crossing.second_key,
        allowed_ips=allowed_ips(crossing.host),
        endpoint=_second_endpoint(crossing, now),
        persistent_keepalive_seconds=_keepalive(crossing, Lane.SECOND, normal),
    )
    return DesiredPeer(
        config=config,
        hid=crossing.host.hid,
        label=crossing.host.name,
        reason=f"{crossing.host.name} has no session on the first interface: called by its identity's key"
        if crossing.is_rescue
        else "a key rotation: both ends have a second interface until it is over",
        is_admin=of_host.is_admin if of_host else False,
    )


def _keepalive(crossing: Crossing, lane: Lane, normal: int) -> int:
    """An idle lane is silent, so that the other end can tell that it is left."""
    if lane is crossing.carrier:
        return normal
    if crossing.is_rescue and lane is Lane.SECOND:
        if crossing.main_is_live:
            return 0
        return CALL_SECONDS if crossing.calls else RARE_CALL_SECONDS
    return CALL_SECONDS if lane is crossing.goal and crossing.calls else 0


def _second_endpoint(crossing: Crossing, now: float) -> Endpoint | None:
    known = crossing.second.config.endpoint if crossing.second else None
    if known is not None and crossing.is_idle(Lane.SECOND):
        return known
    return _beside(crossing, Lane.SECOND, now)


def _beside(crossing: Crossing, lane: Lane, now: float) -> Endpoint | None:
    """Where to call on ``lane``: next to the place where the other lane reaches the host, if that is one
    of those that its record names, else those in turn. None: it calls us."""
    record = crossing.host.record
    assert record is not None
    offset = PORT_OFFSET if lane is Lane.SECOND else 0
    candidates = tuple(
        Endpoint(each.address, each.port + offset) for each in record.endpoints if each.port + offset < 65536
    )
    other = crossing.peer(lane.other)
    reached = other.config.endpoint if other and crossing.is_live(lane.other) else None
    near = tuple(each for each in candidates if reached and each.address == reached.address)
    return choose_endpoint(replace(record, endpoints=near or candidates), crossing.peer(lane), now)
