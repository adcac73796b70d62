"""The way back from a plan: the desired state that holds what was there before it.

Only what the plan touched goes back. Everything else stays as the registry wants it now, so a host
that holds a way back goes on repairing itself and takes in whatever else is signed. What a signature
took away does not come back: a revoked host, a replaced key, a network that is granted no longer or to
somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_interface
from typing import Any

from msgspec.structs import replace

from meshd.mesh.desired import DesiredPeer, DesiredState, explain_removals
from meshd.mesh.endpoints import is_live
from meshd.mesh.view import MeshView
from meshd.model.device import ObservedState, Peer, PeerConfig, PeerStats
from meshd.model.keys import PublicKey
from meshd.model.network import Endpoint, Route, contained_in_any, host_network, parse_network
from meshd.plan.record import ChangeRecord, PeerBefore


def restore(
    desired: DesiredState, record: ChangeRecord, view: MeshView, observed: ObservedState, *, now: float
) -> DesiredState:
    """``desired`` with what the record touched as it was before. ``now``: unix seconds."""
    present = observed.device.peers if observed.device else {}
    before = {PublicKey.parse(text): peer for text, peer in record.peers.items()}
    peers = {key: peer for key, peer in desired.peers.items() if key not in before}
    taken = {network for peer in peers.values() for network in peer.config.allowed_ips}
    for key, config in _configs_before(before, desired, view).items():
        seen = present.get(key)
        if seen is not None:
            live = is_live(seen, now) or config.endpoint is None
            config = replace(
                config,
                endpoint=seen.config.endpoint if live else config.endpoint,
                preshared_key=seen.config.preshared_key,
            )
        config = replace(config, allowed_ips=config.allowed_ips - taken)
        taken |= config.allowed_ips
        peers[key] = _restored_peer(desired.peers.get(key), before[key], config)
    gone = {key: "added by a plan that was rolled back" for key in before if key not in peers}
    return replace(
        desired,
        peers=peers,
        explained={**gone, **desired.explained},
        listen_port=desired.listen_port if record.listen_port is None else record.listen_port,
        mtu_bytes=desired.mtu_bytes if record.mtu_bytes is None else record.mtu_bytes,
        addresses=(
            desired.addresses if record.addresses is None else frozenset(map(ip_interface, record.addresses))
        ),
        **_restored_routes(desired, record, peers),
    )


def _configs_before(
    before: Mapping[PublicKey, PeerBefore | None], desired: DesiredState, view: MeshView
) -> dict[PublicKey, PeerConfig]:
    """The peers that there were, without what a signature has ended since."""
    configs = {
        key: PeerConfig(
            public_key=key,
            allowed_ips=frozenset(parse_network(text) for text in peer.allowed_ips),
            endpoint=Endpoint.parse(peer.endpoint) if peer.endpoint else None,
            persistent_keepalive_seconds=peer.keepalive_seconds,
        )
        for key, peer in before.items()
        if peer is not None
    }
    as_peers = {key: Peer(config=config, stats=PeerStats()) for key, config in configs.items()}
    for key in explain_removals(view, desired.peers, as_peers):
        del configs[key]
    hosts = {host.record.public_key: host for host in view.configured if host.record is not None}
    for key, config in configs.items():
        host = hosts.get(key)
        if host is not None:
            granted = {*map(host_network, host.addresses), *host.granted_networks}
            kept = frozenset(n for n in config.allowed_ips if contained_in_any(n, granted))
            configs[key] = replace(config, allowed_ips=kept)
    return configs


def _restored_peer(wanted: DesiredPeer | None, before: PeerBefore | None, config: PeerConfig) -> DesiredPeer:
    assert before is not None
    reason = "as before a plan that was rolled back"
    if wanted is not None:
        return replace(wanted, config=config, reason=reason)
    return DesiredPeer(config=config, hid="", label=before.label, reason=reason, is_admin=False)


def _restored_routes(
    desired: DesiredState, record: ChangeRecord, peers: Mapping[PublicKey, DesiredPeer]
) -> dict[str, Any]:
    """Routes and their labels: to every prefix that has a peer behind it, and to no other."""
    labels = {n: peer.label for peer in peers.values() for n in peer.config.allowed_ips}
    routes = {route.destination: route for route in desired.routes}
    for text, before in record.routes.items():
        destination = parse_network(text)
        if before is None:
            routes.pop(destination, None)
        elif destination not in routes and destination not in desired.left_out:
            routes[destination] = Route(
                destination=destination, interface=desired.interface, mtu_bytes=before.mtu_bytes
            )
    kept = frozenset(route for destination, route in routes.items() if destination in labels)
    return {"routes": kept, "route_labels": {route.destination: labels[route.destination] for route in kept}}
