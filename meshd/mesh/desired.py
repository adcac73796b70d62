"""View -> what the kernel should hold: interface, peers, routes, each with its reason."""

from __future__ import annotations

import ipaddress
from collections.abc import Container, Iterable, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from meshd.mesh.endpoints import choose_endpoint, first_endpoint
from meshd.mesh.pathmtu import build_routes, kept_mtu, kernel_mtus
from meshd.mesh.view import MeshView
from meshd.model.connected import ConnectedNetworks, find_connected
from meshd.model.device import ObservedState, Peer, PeerConfig
from meshd.model.host import Host
from meshd.model.instant import render_time
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import (
    Endpoint,
    ForeignRoute,
    IPAddress,
    IPInterface,
    IPNetwork,
    Route,
    host_network,
)

ADMIN_ROLE: Final = "admin"
GRANT_ENDED: Final = "the grant of"
"""How the explanation of a removal begins that follows from the clock."""


class LocalDevice(msgspec.Struct, frozen=True, kw_only=True):
    """What this host decides itself. The private keys stay hidden values.

    ``second_interface`` serves key rotations, on UDP port ``listen_port`` + 1. ``next_private_key``
    is there during a rotation of this host: another key while traffic moves to the second interface,
    the same one while it returns; ``retired_key`` is then the one before, and ``returning_since``
    (unix seconds) when it was given up. ``rescue_key`` is that of this host's identity, for peers that
    are lost. See meshd.mesh.rotation.

    ``link_routes_stay_wide``: see ``build_routes``.
    """

    interface: str
    private_key: PrivateKey
    listen_port: int
    mtu_bytes: int
    behind_nat: bool
    persistent_keepalive_seconds: int
    link_routes_stay_wide: bool = False
    second_interface: str = ""
    next_private_key: PrivateKey | None = None
    retired_key: PublicKey | None = None
    returning_since: float = 0.0
    rescue_key: PrivateKey | None = None


class DesiredPeer(msgspec.Struct, frozen=True, kw_only=True):
    config: PeerConfig
    hid: str
    label: str
    reason: str
    is_admin: bool
    endpoint_reason: str = ""
    """Why it is to have another endpoint; empty: it does not answer at the one that it has."""


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """Why a network has no route here. ``host``: the name of its host; ``connected``: what it is part of."""

    host: str
    connected: ForeignRoute


class DesiredState(msgspec.Struct, frozen=True, kw_only=True):
    """``route_labels``: for every destination of a route the host behind it. ``explained`` names,
    by public key, the peers whose removal a signed statement explains.

    During a key rotation: ``is_second`` of its second interface; ``migrating`` while pairs have both;
    ``retired_keys``, which may be replaced in place as nothing goes over them; ``moves``, by
    destination, why a route comes from the other interface."""

    interface: str
    private_key: PrivateKey
    public_key: PublicKey
    listen_port: int
    mtu_bytes: int
    addresses: frozenset[IPInterface]
    peers: Mapping[PublicKey, DesiredPeer]
    routes: frozenset[Route]
    route_labels: Mapping[IPNetwork, str] = msgspec.field(default_factory=dict)
    explained: Mapping[PublicKey, str] = msgspec.field(default_factory=dict)
    ended: frozenset[PublicKey] = frozenset()
    """Of those explained, the ones whose membership is over, or whose host takes no part any more."""
    is_second: bool = False
    migrating: bool = False
    retired_keys: frozenset[PublicKey] = frozenset()
    moves: Mapping[IPNetwork, str] = msgspec.field(default_factory=dict)
    left_out: Mapping[IPNetwork, LeftOut] = msgspec.field(default_factory=dict)
    """Destinations of peers that get no route, as they are part of a network of this host's own links."""


def allowed_ips(host: Host) -> frozenset[IPNetwork]:
    """Everything that may come from and go to this host: its addresses and announced networks."""
    return frozenset(host_network(address) for address in host.addresses) | host.networks


class _Part(msgspec.Struct):
    """One host, turned into a peer and routes once; ``peer`` is the newest form of it.
    ``mtu_bytes``: what its routes were made with."""

    host: Host
    peer: DesiredPeer
    mtu_bytes: int | None
    routes: tuple[Route, ...]
    left_out: Mapping[IPNetwork, LeftOut]


class DesiredBuilder:
    """Builds desired states, keeping the parts of hosts that did not change.

    The result depends on the arguments alone; the memory is only of ``Host`` values already
    turned into peers and routes, so that one changed record of a thousand costs one.
    """

    def __init__(self) -> None:
        self._local: LocalDevice | None = None
        self._parts: dict[str, _Part] = {}
        self._routes: set[Route] = set()
        self._labels: dict[IPNetwork, str] = {}
        self._left_out: dict[IPNetwork, LeftOut] = {}
        self._connected = ConnectedNetworks()

    def build(
        self,
        view: MeshView,
        local: LocalDevice,
        observed: ObservedState,
        *,
        deferred: Container[str] = frozenset(),
        endpoints: Mapping[str, Endpoint] | None = None,
        path_mtus: Mapping[str, int] | None = None,
        second_routes: frozenset[Route] = frozenset(),
    ) -> DesiredState:
        """The state that makes ``view`` true on this host. ``deferred``: the hids whose turn it is to
        speak first; ``endpoints``: by hid, those that are to change (``Advice``), None: nobody chose any.

        ``path_mtus``: by hid the largest packet that the path is known to carry, bytes. The routes of a
        host that is not in it keep what they have in the kernel, so that a restart widens none before
        it is measured. None: the routes have the interface's MTU. ``second_routes``: those of ours that
        go over the second interface now.

        Without an own grant there are no peers: the caller decides whether that may be applied.
        """
        present: Mapping[PublicKey, Peer] = observed.device.peers if observed.device else {}
        in_kernel = kernel_mtus(observed.routes, second_routes) if path_mtus is not None else {}
        connected = find_connected(observed.foreign_routes, (local.interface, local.second_interface))
        self._begin_with(local, connected)
        self._learn(view.configured if view.own else (), local, path_mtus, in_kernel)
        peers: dict[PublicKey, DesiredPeer] = {}
        moving = endpoints or {}
        for hid, part in self._parts.items():
            known = part.peer.config
            key = known.public_key
            seen = present.get(key)
            # Most peers of most turns are as they were left, and one look tells.
            if seen is None or seen.config is not known or known.endpoint is None or hid in moving:
                config = _current_config(part, seen, endpoints, deferred=hid in deferred)
                if config is not known:
                    part.peer = replace(part.peer, config=config)
            peers[key] = part.peer
        return DesiredState(
            interface=local.interface,
            private_key=local.private_key,
            public_key=local.private_key.public(),
            listen_port=local.listen_port,
            mtu_bytes=local.mtu_bytes,
            addresses=_interface_addresses(view.own),
            peers=peers,
            routes=frozenset(self._routes),
            route_labels=dict(self._labels),
            explained=explain_removals(view, peers, present),
            ended=ended_keys(view, present),
            left_out=dict(self._left_out),
        )

    def _begin_with(self, local: LocalDevice, connected: Mapping[IPNetwork, ForeignRoute]) -> None:
        """Forget every part when something changed that is in all of them."""
        if local != self._local or connected != self._connected.networks:
            self._local, self._connected, self._parts = local, ConnectedNetworks(connected), {}
            self._routes, self._labels, self._left_out = set(), {}, {}

    def _learn(
        self,
        hosts: Iterable[Host],
        local: LocalDevice,
        path_mtus: Mapping[str, int] | None,
        in_kernel: Mapping[IPNetwork, int],
    ) -> None:
        known, self._parts = self._parts, {}
        changed = []
        for host in hosts:
            part = known.pop(host.hid, None)
            mtu_bytes = None
            if path_mtus is not None:
                mtu_bytes = path_mtus.get(host.hid) or kept_mtu(host, in_kernel)
            if part is None or part.host is not host or part.mtu_bytes != mtu_bytes:
                if part is not None:
                    self._forget(part)
                changed.append(host)
                part = _build_part(host, local, mtu_bytes, self._connected)
            self._parts[host.hid] = part
        for part in known.values():
            self._forget(part)
        for host in changed:  # last, as a prefix may have moved from one host to another
            for route in self._parts[host.hid].routes:
                self._routes.add(route)
                self._labels[route.destination] = host.name
            self._left_out.update(self._parts[host.hid].left_out)

    def _forget(self, part: _Part) -> None:
        for route in part.routes:
            self._routes.discard(route)
            self._labels.pop(route.destination, None)
        for destination in part.left_out:
            self._left_out.pop(destination, None)


def _build_part(host: Host, local: LocalDevice, mtu_bytes: int | None, connected: ConnectedNetworks) -> _Part:
    assert host.record is not None
    networks = allowed_ips(host)
    config = PeerConfig(
        public_key=host.record.public_key,
        allowed_ips=networks,
        persistent_keepalive_seconds=local.persistent_keepalive_seconds if local.behind_nat else 0,
    )
    peer = DesiredPeer(
        config=config,
        hid=host.hid,
        label=host.name,
        reason=f"{host.name} granted by {host.provenance}, record version {host.record.version}",
        is_admin=ADMIN_ROLE in host.roles,
    )
    left_out = {
        network: LeftOut(host=host.name, connected=holder)
        for network in networks
        if (holder := connected.holder(network)) is not None
    }
    routes = build_routes(
        host,
        networks - left_out.keys() if left_out else networks,
        local.interface,
        interface_mtu_bytes=local.mtu_bytes,
        mtu_bytes=mtu_bytes,
        link_stays_wide=local.link_routes_stay_wide,
    )
    return _Part(host=host, peer=peer, mtu_bytes=mtu_bytes, routes=routes, left_out=left_out)


def _current_config(
    part: _Part, observed: Peer | None, endpoints: Mapping[str, Endpoint] | None, *, deferred: bool
) -> PeerConfig:
    """The peer's configuration with the endpoint it should have now; the kernel's own value
    when that says the same, so that the planner sees at a glance that nothing differs."""
    record, config = part.host.record, part.peer.config
    assert record is not None
    advised = endpoints.get(part.host.hid) if endpoints is not None else None
    if endpoints is None and (observed is None or observed.config.endpoint is None):
        advised = first_endpoint(record)
    endpoint = choose_endpoint(observed, advised, deferred=deferred)
    if observed is not None:
        current = observed.config
        if (
            current.endpoint == endpoint
            and current.persistent_keepalive_seconds == config.persistent_keepalive_seconds
            and current.preshared_key is None
            and current.allowed_ips == config.allowed_ips
        ):
            return current
    return config if config.endpoint == endpoint else replace(config, endpoint=endpoint)


def _interface_addresses(own: Host | None) -> frozenset[IPInterface]:
    """Host prefixes, as there is one route per peer and no range of the mesh is claimed as a whole.

    So a route of ours never covers a jail network of this host. Bastille decides on NAT by that.
    """
    if own is None:
        return frozenset()
    return frozenset(
        ipaddress.ip_interface(f"{address}/{address.max_prefixlen}") for address in own.addresses
    )


def explain_removals(
    view: MeshView, wanted: Mapping[PublicKey, DesiredPeer], present: Mapping[PublicKey, Peer]
) -> Mapping[PublicKey, str]:
    """A signed revoke, a signed end of a grant, or a newer record with another key explains that
    a peer goes."""
    if present.keys() <= wanted.keys():
        return {}
    leaving = [peer for key, peer in present.items() if key not in wanted]
    if view.own_revocation is not None:
        why = f"this host was revoked by {view.own_revocation.provenance}: {view.own_revocation.why}"
        return {peer.config.public_key: why for peer in leaving}
    reasons: dict[IPNetwork, str] = {}
    for revocation in view.membership.revoked.values():
        text = f"{revocation.name} revoked by {revocation.provenance}: {revocation.why}"
        reasons.update(_by_network(revocation.addresses, text))
    for host in view.membership.expired.values():
        text = f"{GRANT_ENDED} {host.name} by {host.provenance} ended at {render_time(host.expires_at or 0)}"
        reasons.update(_by_network(host.addresses, text))
    for host in view.configured:
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


def ended_keys(view: MeshView, present: Mapping[PublicKey, Peer]) -> frozenset[PublicKey]:
    """The keys of peers that a revoke or the end of a grant takes away, and not a newer record."""
    if view.own_revocation is not None:
        return frozenset(present)
    over = {
        host_network(address)
        for addresses in (
            *(each.addresses for each in view.membership.revoked.values()),
            *(each.addresses for each in view.membership.expired.values()),
        )
        for address in addresses
    }
    if not over:
        return frozenset()
    return frozenset(key for key, peer in present.items() if not over.isdisjoint(peer.config.allowed_ips))


def _by_network(addresses: Iterable[IPAddress], text: str) -> dict[IPNetwork, str]:
    return {host_network(address): text for address in addresses}
