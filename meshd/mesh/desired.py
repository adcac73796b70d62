"""View -> what the kernel should hold: interface, peers, routes, each with its reason."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from meshd.mesh.endpoints import choose_endpoint
from meshd.mesh.view import MeshView
from meshd.model.device import ObservedState, Peer, PeerConfig
from meshd.model.host import Host
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import IPAddress, IPInterface, IPNetwork, Route, host_network

ADMIN_ROLE: Final = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalDevice:
    """What this host decides itself. The private key stays a hidden value."""

    interface: str
    private_key: PrivateKey
    listen_port: int
    mtu_bytes: int
    behind_nat: bool
    persistent_keepalive_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredPeer:
    config: PeerConfig
    hid: str
    label: str
    reason: str
    is_admin: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """``explained`` names, by public key, the peers whose removal a signed statement explains."""

    interface: str
    private_key: PrivateKey
    public_key: PublicKey
    listen_port: int
    mtu_bytes: int
    addresses: frozenset[IPInterface]
    peers: Mapping[PublicKey, DesiredPeer]
    routes: Mapping[IPNetwork, Route]
    route_labels: Mapping[IPNetwork, str] = field(default_factory=dict)
    explained: Mapping[PublicKey, str] = field(default_factory=dict)


def allowed_ips(host: Host) -> frozenset[IPNetwork]:
    """Everything that may come from and go to this host: its addresses and announced networks."""
    return frozenset(host_network(address) for address in host.addresses) | host.networks


class DesiredBuilder:
    """Builds desired states, keeping the parts of hosts that did not change.

    The result depends on the arguments alone; the memory is only of ``Host`` values already
    turned into peers and routes, so that one changed record of a thousand costs one.
    """

    def __init__(self) -> None:
        self._parts: dict[str, tuple[Host, LocalDevice, PeerConfig, str, tuple[Route, ...]]] = {}

    def build(
        self, view: MeshView, local: LocalDevice, observed: ObservedState, *, now: float
    ) -> DesiredState:
        """The state that makes ``view`` true on this host. ``now``: unix seconds.

        Without an own grant there are no peers: the caller decides whether that may be applied.
        """
        present: Mapping[PublicKey, Peer] = observed.device.peers if observed.device else {}
        peers: dict[PublicKey, DesiredPeer] = {}
        routes: dict[IPNetwork, Route] = {}
        labels: dict[IPNetwork, str] = {}
        for host in view.peers if view.own else ():
            config, reason, host_routes = self._part(host, local)
            config = _with_endpoint(host, config, present.get(config.public_key), now)
            peers[config.public_key] = DesiredPeer(
                config=config,
                hid=host.hid,
                label=host.name,
                reason=reason,
                is_admin=ADMIN_ROLE in host.roles,
            )
            for route in host_routes:
                routes[route.destination] = route
                labels[route.destination] = host.name
        return DesiredState(
            interface=local.interface,
            private_key=local.private_key,
            public_key=local.private_key.public(),
            listen_port=local.listen_port,
            mtu_bytes=local.mtu_bytes,
            addresses=_interface_addresses(view.own),
            peers=peers,
            routes=routes,
            route_labels=labels,
            explained=_explain_removals(view, peers, present),
        )

    def _part(self, host: Host, local: LocalDevice) -> tuple[PeerConfig, str, tuple[Route, ...]]:
        known = self._parts.get(host.hid)
        if known is not None and known[0] is host and known[1] == local:
            return known[2], known[3], known[4]
        assert host.record is not None
        networks = allowed_ips(host)
        config = PeerConfig(
            public_key=host.record.public_key,
            allowed_ips=networks,
            persistent_keepalive_seconds=local.persistent_keepalive_seconds if local.behind_nat else 0,
        )
        reason = f"{host.name} granted by {host.provenance}, record version {host.record.version}"
        routes = tuple(Route(destination=network, interface=local.interface) for network in networks)
        self._parts[host.hid] = (host, local, config, reason, routes)
        return config, reason, routes


def _with_endpoint(host: Host, config: PeerConfig, observed: Peer | None, now: float) -> PeerConfig:
    assert host.record is not None
    endpoint = choose_endpoint(host.record, observed, now)
    if observed is not None and observed.config.endpoint == endpoint:
        current = observed.config
        if (
            current.allowed_ips == config.allowed_ips
            and current.persistent_keepalive_seconds == config.persistent_keepalive_seconds
            and current.preshared_key is None
        ):
            return current
    return PeerConfig(
        public_key=config.public_key,
        allowed_ips=config.allowed_ips,
        endpoint=endpoint,
        persistent_keepalive_seconds=config.persistent_keepalive_seconds,
    )


def _interface_addresses(own: Host | None) -> frozenset[IPInterface]:
    """Host prefixes: with one route per peer no range of the mesh is claimed as a whole, so a
    route of ours never covers a jail network of this host (Bastille decides on NAT by that)."""
    if own is None:
        return frozenset()
    return frozenset(
        ipaddress.ip_interface(f"{address}/{address.max_prefixlen}") for address in own.addresses
    )


def _explain_removals(
    view: MeshView, wanted: Mapping[PublicKey, DesiredPeer], present: Mapping[PublicKey, Peer]
) -> Mapping[PublicKey, str]:
    """A signed revoke, or a newer record with another key, explains that a peer goes."""
    leaving = [peer for key, peer in present.items() if key not in wanted]
    if not leaving:
        return {}
    if view.own_revocation is not None:
        why = f"this host was revoked by {view.own_revocation.provenance}: {view.own_revocation.why}"
        return {peer.config.public_key: why for peer in leaving}
    reasons: dict[IPNetwork, str] = {}
    for revocation in view.membership.revoked.values():
        text = f"{revocation.name} revoked by {revocation.provenance}: {revocation.why}"
        reasons.update(_by_network(revocation.addresses, text))
    for host in view.peers:
        assert host.record is not None
        text = f"{host.name} has another key since record version {host.record.version}"
        reasons.update(_by_network(host.addresses, text))
    explained = {}
    for peer in leaving:
        for network in peer.config.allowed_ips:
            if network in reasons:
                explained[peer.config.public_key] = reasons[network]
                break
    return explained


def _by_network(addresses: Iterable[IPAddress], text: str) -> dict[IPNetwork, str]:
    return {host_network(address): text for address in addresses}
