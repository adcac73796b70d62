"""Peers that go through another host: what a plan says of it, where a migrating pair is called. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from meshd.mesh.desired import DesiredState
from meshd.mesh.endpoints import first_endpoint
from meshd.model.host import Host
from meshd.model.network import Endpoint
from meshd.model.path import PinnedEndpoint


def with_reasons(desired: DesiredState, pinned: Mapping[str, PinnedEndpoint]) -> DesiredState:
    """Each pinned peer says why its endpoint is what it is."""
    if not pinned:
        return desired
    return msgspec.structs.replace(
        desired,
        peers={
            key: msgspec.structs.replace(peer, endpoint_reason=pinned[peer.hid].reason)
            if peer.hid in pinned
            else peer
            for key, peer in desired.peers.items()
        },
    )


def without_relays(
    desired: DesiredState, pinned: Mapping[str, PinnedEndpoint], hosts: Mapping[str, Host]
) -> DesiredState:
    """As it is where nobody relays, as at boot: each peer is called where its record says that it is."""
    relayed = relay_endpoints(pinned)
    if not relayed:
        return desired
    peers = dict(desired.peers)
    for key, peer in desired.peers.items():
        host = hosts.get(peer.hid)
        if peer.hid in relayed and peer.config.endpoint == relayed[peer.hid]:
            place = first_endpoint(host.record) if host is not None and host.record is not None else None
            config = msgspec.structs.replace(peer.config, endpoint=place)
            peers[key] = msgspec.structs.replace(peer, config=config)
    return msgspec.structs.replace(desired, peers=peers)


def relay_endpoints(pinned: Mapping[str, PinnedEndpoint]) -> dict[str, Endpoint]:
    """By hid, the relay through which a peer is reached, on whichever interface."""
    return {hid: pin.endpoint for hid, pin in pinned.items() if pin.is_relay}


def due_endpoints(pinned: Mapping[str, PinnedEndpoint]) -> frozenset[Endpoint]:
    """Those that the kernel may not have yet."""
    return frozenset(pin.endpoint for pin in pinned.values() if pin.is_due)
