"""A kernel in memory: the semantics of the real backends without the kernel.

It stands in for them wherever the rest of the program is tested or simulated, so it does
what they do, the surprising parts included: an allowed IP moves silently when another peer
receives it, a peer with the device's own key is ignored, a route needs an interface that is
up. Failures and third parties are data: see ``Failure`` and the ``third_party_`` methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from meshd.errors import BackendError
from meshd.model.device import Device, ObservedState, Peer, PeerConfig, PeerStats, PeerUpdate
from meshd.model.keys import PresharedKey, PrivateKey, PublicKey
from meshd.model.network import Endpoint, ForeignRoute, IPInterface, IPNetwork, Route

DEFAULT_MTU_BYTES: Final = 1420
NO_PRESHARED_KEY: Final = bytes(32)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The ``call``-th changing call (from 1) fails after ``after_items`` of its peers or routes."""

    call: int
    after_items: int = 0
    text: str = "injected failure"


class _Peer(msgspec.Struct):
    config: PeerConfig
    allowed_ips: set[IPNetwork] = msgspec.field(default_factory=set)
    stats: PeerStats = msgspec.field(default_factory=PeerStats)
    seen: Peer | None = None

    def value(self) -> Peer:
        if self.seen is None:
            config = replace(self.config, allowed_ips=frozenset(self.allowed_ips))
            self.seen = Peer(config=config, stats=self.stats)
        return self.seen


class _Interface(msgspec.Struct):
    wireguard: bool = True
    private_key: PrivateKey | None = None
    public_key: PublicKey | None = None
    listen_port: int = 0
    up: bool = False
    mtu_bytes: int = DEFAULT_MTU_BYTES
    strict_reverse_path: bool = False
    marked: bool = False
    addresses: set[IPInterface] = msgspec.field(default_factory=set)
    peers: dict[PublicKey, _Peer] = msgspec.field(default_factory=dict)
    owners: dict[IPNetwork, PublicKey] = msgspec.field(default_factory=dict)

    def device(self, name: str) -> Device | None:
        if not self.wireguard:
            return None
        return Device(
            name=name,
            implementation="memory",
            public_key=self.public_key,
            listen_port=self.listen_port,
            peers={key: peer.value() for key, peer in self.peers.items()},
        )

    def copy(self) -> _Interface:
        peers = {key: replace(peer, allowed_ips=set(peer.allowed_ips)) for key, peer in self.peers.items()}
        return replace(self, addresses=set(self.addresses), peers=peers, owners=dict(self.owners))

    def remove_peer(self, key: PublicKey) -> None:
        peer = self.peers.pop(key, None)
        for network in peer.allowed_ips if peer else ():
            del self.owners[network]

    def give(self, network: IPNetwork, key: PublicKey) -> None:
        self.take(network, self.owners.get(network))
        self.owners[network] = key
        self.peers[key].allowed_ips.add(network)
        self.peers[key].seen = None

    def take(self, network: IPNetwork, key: PublicKey | None) -> None:
        """Nothing happens unless the prefix belongs to that peer."""
        if key is not None and self.owners.get(network) == key:
            del self.owners[network]
            self.peers[key].allowed_ips.discard(network)
            self.peers[key].seen = None

    def update_peer(self, update: PeerUpdate) -> None:
        key = update.public_key
        if update.remove:
            self.remove_peer(key)
            return
        if key == self.public_key:
            return
        peer = self.peers.setdefault(key, _Peer(PeerConfig(public_key=key, allowed_ips=frozenset())))
        peer.config = _merge(peer.config, update)
        peer.seen = None
        for network in update.remove_allowed_ips - update.add_allowed_ips:
            self.take(network, key)
        for network in update.add_allowed_ips:
            self.give(network, key)


def _merge(config: PeerConfig, update: PeerUpdate) -> PeerConfig:
    endpoint = config.endpoint if update.endpoint is None else update.endpoint
    keepalive = update.persistent_keepalive_seconds
    if keepalive is None:
        keepalive = config.persistent_keepalive_seconds
    psk: PresharedKey | None = update.preshared_key
    if psk is None:
        psk = config.preshared_key
    elif psk.reveal() == NO_PRESHARED_KEY:
        psk = None
    return replace(config, endpoint=endpoint, persistent_keepalive_seconds=keepalive, preshared_key=psk)


class MemoryBackend:
    """A Backend over dictionaries. ``calls`` lists the changing calls made, in order.

    ``failures`` may be changed at any time; calls are counted from 1 over the whole life.
    ``strict_reverse_path``: how new interfaces start. ``ipv6_off``: why IPv6 addresses and routes are
    refused; empty: they are not.
    """

    name: str = "memory"

    def __init__(self, *, failures: Iterable[Failure] = ()) -> None:
        self.failures: dict[int, Failure] = {failure.call: failure for failure in failures}
        self.calls: list[str] = []
        self.strict_reverse_path = False
        self.ipv6_off = ""
        self._interfaces: dict[str, _Interface] = {}
        self._routes: dict[IPNetwork, Route] = {}
        self._foreign: dict[IPNetwork, ForeignRoute] = {}

    def observe(self, interface: str) -> ObservedState:
        found = self._interfaces.get(interface)
        ours = frozenset(route for route in self._routes.values() if route.interface == interface)
        foreign = dict(self._foreign)
        for route in self._routes.values():
            if route.interface != interface:
                foreign[route.destination] = ForeignRoute(
                    destination=route.destination, interface=route.interface, description="meshd"
                )
        if found is None:
            return ObservedState(
                interface=interface,
                foreign_routes=foreign,
                strict_reverse_path=self.strict_reverse_path,
                ipv6_off=self.ipv6_off,
            )
        return ObservedState(
            interface=interface,
            device=found.device(interface),
            up=found.up,
            mtu_bytes=found.mtu_bytes,
            addresses=frozenset(found.addresses),
            routes=ours,
            foreign_routes=foreign,
            strict_reverse_path=found.strict_reverse_path,
            marked=found.marked,
            ipv6_off=self.ipv6_off,
        )

    def find_marked(self) -> frozenset[str]:
        return frozenset(name for name, found in self._interfaces.items() if found.marked)

    def create_interface(self, interface: str) -> None:
        self._begin(f"create_interface {interface}")
        found = self._interfaces.setdefault(
            interface, _Interface(strict_reverse_path=self.strict_reverse_path, marked=True)
        )
        if not found.wireguard:
            raise BackendError(f"interface {interface}: not WireGuard, a WireGuard interface expected")

    def mark_interface(self, interface: str) -> None:
        self._begin(f"mark_interface {interface}")
        self._interface(interface).marked = True

    def destroy_interface(self, interface: str) -> None:
        self._begin(f"destroy_interface {interface}")
        self.third_party_destroys(interface)

    def read_private_key(self, interface: str) -> PrivateKey | None:
        found = self._interfaces.get(interface)
        return found.private_key if found is not None else None

    def set_private_key(self, interface: str, key: PrivateKey) -> None:
        self._begin(f"set_private_key {interface}")
        found = self._device(interface)
        found.private_key, found.public_key = key, key.public()
        found.remove_peer(found.public_key)

    def set_listen_port(self, interface: str, port: int) -> None:
        self._begin(f"set_listen_port {interface} {port}")
        self._device(interface).listen_port = port

    def set_peers(self, interface: str, updates: Sequence[PeerUpdate]) -> None:
        failure = self._start(f"set_peers {interface} {len(updates)}")
        found = self._device(interface)
        for update in updates[: failure.after_items] if failure else updates:
            found.update_peer(update)
        _fail(failure, "set_peers")

    def forget_sources(self, interface: str) -> None:
        self._begin(f"forget_sources {interface}")

    def set_mtu(self, interface: str, mtu_bytes: int) -> None:
        self._begin(f"set_mtu {interface} {mtu_bytes}")
        self._interface(interface).mtu_bytes = mtu_bytes

    def set_up(self, interface: str) -> None:
        self._begin(f"set_up {interface}")
        self._interface(interface).up = True

    def loosen_reverse_path(self, interface: str) -> None:
        self._begin(f"loosen_reverse_path {interface}")
        self._interface(interface).strict_reverse_path = False

    def add_address(self, interface: str, address: IPInterface) -> None:
        self._begin(f"add_address {interface} {address}")
        self._refuse_ipv6(f"address {address}", [address.version])
        self._interface(interface).addresses.add(address)

    def remove_address(self, interface: str, address: IPInterface) -> None:
        self._begin(f"remove_address {interface} {address}")
        if interface in self._interfaces:
            self._interfaces[interface].addresses.discard(address)

    def set_routes(self, interface: str, routes: Sequence[Route]) -> None:
        failure = self._start(f"set_routes {interface} {len(routes)}")
        found = self._interface(interface)
        if routes and not found.up:
            raise BackendError(f"routes through {interface}: the interface is down, up expected")
        self._refuse_ipv6(f"routes through {interface}", [route.destination.version for route in routes])
        for route in routes:
            foreign = self._foreign.get(route.destination)
            if foreign is not None and route.destination not in self._routes:
                raise BackendError(
                    f"route {route.destination}: {foreign.description} seen, no foreign route expected"
                )
        for route in routes[: failure.after_items] if failure else routes:
            self._routes[route.destination] = replace(route, interface=interface)
        _fail(failure, "set_routes")

    def remove_routes(self, interface: str, destinations: Sequence[IPNetwork]) -> None:
        failure = self._start(f"remove_routes {interface} {len(destinations)}")
        for destination in destinations[: failure.after_items] if failure else destinations:
            route = self._routes.get(destination)
            if route is not None and route.interface == interface:
                del self._routes[destination]
        _fail(failure, "remove_routes")

    def close(self) -> None:
        """Interfaces outlive the backend, as in a kernel: nothing to do."""

    def fork(self) -> MemoryBackend:
        """The same kernel, which goes its own way from here."""
        twin = MemoryBackend(failures=self.failures.values())
        twin.calls, twin.ipv6_off = list(self.calls), self.ipv6_off
        twin._interfaces = {name: found.copy() for name, found in self._interfaces.items()}
        twin._routes, twin._foreign = dict(self._routes), dict(self._foreign)
        return twin

    def third_party_interface(self, name: str) -> None:
        """Somebody else makes an interface that is not WireGuard."""
        self._interfaces[name] = _Interface(wireguard=False, mtu_bytes=1500)

    def third_party_wireguard(self, name: str, key: PrivateKey, peers: Iterable[PeerUpdate] = ()) -> None:
        """Somebody else makes a WireGuard interface, or gives one a key and peers of theirs."""
        found = self._interfaces.setdefault(name, _Interface(up=True))
        found.private_key, found.public_key = key, key.public()
        for update in peers:
            found.update_peer(update)

    def third_party_renames(self, name: str, to: str) -> None:
        """Somebody gives the interface another name, for which it has to be down: its routes go."""
        self.third_party_downs(name)
        self._interfaces[to] = self._interfaces.pop(name)

    def third_party_unmarks(self, name: str) -> None:
        """Somebody wipes the mark, or made the interface as it is."""
        self._interfaces[name].marked = False

    def third_party_switches_ipv6_off(self, why: str) -> None:
        """IPv6 addresses and routes go, and none is taken until it is on again."""
        self.ipv6_off = why
        for found in self._interfaces.values():
            found.addresses = {address for address in found.addresses if address.version == 4}
        self._routes = {d: r for d, r in self._routes.items() if d.version == 4}

    def third_party_destroys(self, name: str) -> None:
        """The interface goes, and with it every route through it."""
        if self._interfaces.pop(name, None) is not None:
            self._routes = {d: r for d, r in self._routes.items() if r.interface != name}
            self._foreign = {d: r for d, r in self._foreign.items() if r.interface != name}

    def third_party_downs(self, name: str) -> None:
        """The interface goes down, as on Linux: every route through it goes, the rest stays."""
        if name in self._interfaces:
            self._interfaces[name].up = False
            self._routes = {d: r for d, r in self._routes.items() if r.interface != name}

    def third_party_routes(self, routes: Mapping[IPNetwork, ForeignRoute]) -> None:
        """These are all the foreign routes from now on."""
        self._foreign = dict(routes)

    def third_party_flushes_routes(self) -> None:
        self._routes.clear()

    def peer_roams(self, interface: str, key: PublicKey, endpoint: Endpoint) -> None:
        """An authenticated packet of the peer came from another place."""
        peer = self._device(interface).peers[key]
        peer.config, peer.seen = replace(peer.config, endpoint=endpoint), None

    def peer_counts(self, interface: str, key: PublicKey, stats: PeerStats) -> None:
        peer = self._device(interface).peers[key]
        peer.stats, peer.seen = stats, None

    def _start(self, call: str) -> Failure | None:
        self.calls.append(call)
        return self.failures.get(len(self.calls))

    def _begin(self, call: str) -> None:
        _fail(self._start(call), call)

    def _refuse_ipv6(self, what: str, versions: Iterable[int]) -> None:
        if self.ipv6_off and 6 in versions:
            raise BackendError(f"{what}: permission denied seen ({self.ipv6_off}), IPv6 expected")

    def _interface(self, name: str) -> _Interface:
        found = self._interfaces.get(name)
        if found is None:
            raise BackendError(f"interface {name}: missing, expected to exist")
        return found

    def _device(self, name: str) -> _Interface:
        found = self._interface(name)
        if not found.wireguard:
            raise BackendError(f"interface {name}: not WireGuard, a WireGuard interface expected")
        return found


def _fail(failure: Failure | None, call: str) -> None:
    if failure is not None:
        raise BackendError(f"{call}: {failure.text}")
