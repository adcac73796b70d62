"""Which accepted changes the kernel did not carry out. Pure.

Some tools say yes and do nothing: wg(8) of FreeBSD between 5ecc60fb and 025f004 exits 0 and
changes nothing when it cannot encode a request. Whoever believes the exit code plans the same
change for ever and never says so.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshd.model.device import ObservedState
from meshd.plan.changes import (
    AddAddress,
    AddPeer,
    AddRoute,
    Change,
    CreateInterface,
    PeerChange,
    RemoveAddress,
    RemovePeer,
    RemoveRoute,
    SetListenPort,
    SetMtu,
    SetPeer,
    SetPrivateKey,
    SetRoute,
    SetUp,
)


def find_ineffective(changes: Iterable[Change], observed: ObservedState) -> tuple[Change, ...]:
    """Those of ``changes``, all of them accepted, that ``observed`` from after them contradicts.

    Of several changes of one peer the last one counts. Endpoints are not looked at: a peer may
    have roamed since. Changes of other interfaces are passed over.
    """
    last: dict[object, Change] = {}
    for change in changes:
        if change.interface == observed.interface:
            last[change.public_key if isinstance(change, PeerChange) else id(change)] = change
    return tuple(change for change in last.values() if not _is_true(change, observed))


def _is_true(change: Change, observed: ObservedState) -> bool:
    device = observed.device
    match change:
        case CreateInterface():
            return device is not None
        case SetPrivateKey(new=key):
            return device is not None and device.public_key == key
        case SetListenPort(new=port):
            return device is not None and device.listen_port == port
        case SetMtu(new=mtu_bytes):
            return observed.mtu_bytes == mtu_bytes
        case SetUp():
            return observed.up
        case AddAddress(new=address):
            return address in observed.addresses
        case RemoveAddress(old=address):
            return address not in observed.addresses
        case AddRoute(new=route) | SetRoute(new=route):
            return route in observed.routes or route.interface != observed.interface
        case RemoveRoute(old=route):
            return all(route.destination != left.destination for left in observed.routes)
        case PeerChange():
            return _is_peer_true(change, observed)
    return True


def _is_peer_true(change: PeerChange, observed: ObservedState) -> bool:
    peers = observed.device.peers if observed.device else {}
    peer = peers.get(change.public_key)
    match change:
        case RemovePeer():
            return peer is None
        case AddPeer(new=wanted) | SetPeer(new=wanted):
            return peer is not None and (
                peer.config.allowed_ips == wanted.allowed_ips
                and peer.config.persistent_keepalive_seconds == wanted.persistent_keepalive_seconds
                and peer.config.preshared_key == wanted.preshared_key
            )
    return True
