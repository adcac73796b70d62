"""One desired state -> what each of the two interfaces should hold while pairs cross between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from meshd.mesh.desired import DesiredPeer, DesiredState, LocalDevice, allowed_ips
from meshd.mesh.endpoints import choose_in_turn
from meshd.mesh.rotation import Crossing, Lane, second_private_key
from meshd.model.device import PeerConfig
from meshd.model.network import Endpoint

CALL_SECONDS: Final = 5
"""Keepalive of the end whose turn it is to call, until the pair has a session: WireGuard starts a
handshake by itself when there is something to send (REKEY_TIMEOUT, the same 5 s, is its own pace)."""
RARE_CALL_SECONDS: Final = 7
"""In a rescue both ends call, as either may have stale addresses of the other; at different paces, so that
two calls that met once do not meet again and again."""
PORT_OFFSET: Final = 1
"""The second interface listens on the next UDP port, at both ends and behind every forwarding."""


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
        destination: _why(by_name[name])
        for destination, name in desired.route_labels.items()
        if name in by_name
    }

    def side(lane: Lane) -> DesiredState:
        here = {d for d in desired.route_labels if carriers.get(d, Lane.MAIN) is lane}
        interface = desired.interface if lane is Lane.MAIN else local.second_interface
        return replace(
            desired,
            interface=interface,
            routes=frozenset(
                replace(route, interface=interface) for route in desired.routes if route.destination in here
            ),
            route_labels={d: name for d, name in desired.route_labels.items() if d in here},
            moves={d: why for d, why in moves.items() if d in here},
            crossing=True,
        )

    first = replace(
        side(Lane.MAIN),
        retired_keys=retired,
        peers={key: _on_main(peer, crossings.get(peer.hid), now) for key, peer in desired.peers.items()},
    )
    rescue = any(crossing.is_rescue for crossing in crossings.values())
    second_private = second_private_key(local, rescue)
    own_keys = {main_key, *retired, *([local.rescue_key.public()] if local.rescue_key else [])}
    second = replace(
        side(Lane.SECOND),
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
    return replace(peer, config=replace(config, endpoint=endpoint, persistent_keepalive_seconds=keepalive))


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
    other = crossing.peer(lane.other)
    reached = other.config.endpoint if other and crossing.is_live(lane.other) else None
    offset = PORT_OFFSET if lane is Lane.SECOND else 0
    places = []
    for each in record.endpoints:
        if isinstance(each, Endpoint):
            places.append(each)
        elif reached is not None:  # a name stands for the place where it got us
            places.append(Endpoint(reached.address, each.port))
    candidates = tuple(
        Endpoint(each.address, each.port + offset) for each in places if each.port + offset < 65536
    )
    near = tuple(each for each in candidates if reached and each.address == reached.address)
    return choose_in_turn(near or candidates, crossing.peer(lane), now)
