"""Strategies: observed and desired states of small meshes, colliding on purpose."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Final

from hypothesis import strategies as st

from meshd.backend.memory import MemoryBackend
from meshd.mesh.desired import DesiredPeer, DesiredState
from meshd.model.device import PeerConfig, PeerUpdate
from meshd.model.keys import PresharedKey, PrivateKey, PublicKey
from meshd.model.network import Endpoint, ForeignRoute, IPNetwork, Route

KEYS = [PublicKey(bytes([number]) * 32) for number in range(1, 9)]
STRANGER = PublicKey(bytes([99]) * 32)
NETWORKS: list[IPNetwork] = [
    *(ipaddress.ip_network(f"10.99.0.{number}/32") for number in range(1, 7)),
    *(ipaddress.ip_network(f"10.17.{number}.0/24") for number in range(1, 7)),
    *(ipaddress.ip_network(f"fd99::{number}/128") for number in range(1, 4)),
]
ADDRESSES = [ipaddress.ip_interface(text) for text in ("10.99.0.77/32", "10.99.0.78/32", "fd99::77/128")]
ENDPOINTS = [Endpoint.parse(f"198.18.0.{number}:51820") for number in range(1, 4)]
OWN_KEY = PrivateKey(bytes([77]) * 32)
OTHER_OWN_KEY = PrivateKey(bytes([78]) * 32)


@st.composite
def desired_states(draw: st.DrawFn, *, presharing: bool = False, wild: bool = False) -> DesiredState:
    """A consistent desired state: every network belongs to one peer, every route has a peer.

    ``wild``: also what changes rarely: hosts with one of two keys each, this host's own key and
    addresses, the MTU of routes.
    """
    keys = draw(st.lists(st.sampled_from(KEYS), unique_by=hid_of if wild else None, unique=not wild))
    owner = {network: draw(st.sampled_from([None, *keys])) for network in NETWORKS} if keys else {}
    peers = {}
    for key in keys:
        config = PeerConfig(
            public_key=key,
            allowed_ips=frozenset(network for network, holder in owner.items() if holder == key),
            endpoint=draw(st.sampled_from([None, *ENDPOINTS])),
            persistent_keepalive_seconds=draw(st.sampled_from([0, 25])),
            preshared_key=PresharedKey(bytes([5]) * 32) if presharing and draw(st.booleans()) else None,
        )
        peers[key] = DesiredPeer(
            config=config,
            hid=hid_of(key) if wild else bytes(key).hex()[:32],
            label=f"host{bytes(key)[0]}",
            reason="granted",
            is_admin=draw(st.booleans()),
        )
    routed = [network for network, holder in owner.items() if holder is not None]
    own = draw(st.sampled_from([OWN_KEY, OTHER_OWN_KEY])) if wild else OWN_KEY
    addresses = draw(st.sets(st.sampled_from(ADDRESSES))) if wild else ADDRESSES[:1]
    mtus = {network: draw(st.sampled_from([None, 1300])) if wild else None for network in routed}
    return DesiredState(
        interface="wg0",
        private_key=own,
        public_key=own.public(),
        listen_port=draw(st.sampled_from([51820, 51821])),
        mtu_bytes=draw(st.sampled_from([1420, 1380])),
        addresses=frozenset(addresses),
        peers=peers,
        routes=frozenset(
            Route(destination=network, interface="wg0", mtu_bytes=mtus[network]) for network in routed
        ),
        route_labels=dict.fromkeys(routed, "host"),
    )


def hid_of(key: PublicKey) -> str:
    """Two keys a host."""
    return f"{bytes(key)[0] // 2:032x}"


def _stranger(kernel: MemoryBackend) -> None:
    kernel.create_interface("wg0")
    gone = frozenset(NETWORKS[:4])
    kernel.set_peers("wg0", [PeerUpdate(public_key=STRANGER, add_allowed_ips=gone)])


def _peer_gone(kernel: MemoryBackend) -> None:
    device = kernel.observe("wg0").device
    if device and device.peers:
        kernel.set_peers("wg0", [PeerUpdate(public_key=next(iter(device.peers)), remove=True)])


def _addresses_flushed(kernel: MemoryBackend) -> None:
    for address in kernel.observe("wg0").addresses:
        kernel.remove_address("wg0", address)


def _in_the_way(kernel: MemoryBackend) -> None:
    there = NETWORKS[4:8]
    kernel.third_party_routes(
        {
            network: ForeignRoute(destination=network, interface="eth0", description="via 192.0.2.1 dev eth0")
            for network in there
        }
    )


def _settings_changed(kernel: MemoryBackend) -> None:
    kernel.create_interface("wg0")
    kernel.set_mtu("wg0", 1280)
    kernel.set_listen_port("wg0", 1)
    kernel.add_address("wg0", ipaddress.ip_interface("192.0.2.77/24"))


DISTURBANCES: Final[Mapping[str, Callable[[MemoryBackend], None]]] = {
    "interface destroyed": lambda kernel: kernel.third_party_destroys("wg0"),
    "interface down": lambda kernel: kernel.third_party_downs("wg0"),
    "routes flushed": lambda kernel: kernel.third_party_flushes_routes(),
    "routes in the way": _in_the_way,
    "addresses flushed": _addresses_flushed,
    "a stranger as a peer": _stranger,
    "a peer gone": _peer_gone,
    "MTU, port and addresses changed": _settings_changed,
}


def disturbances() -> st.SearchStrategy[list[str]]:
    """What third parties did to a kernel, by name and in order."""
    return st.lists(st.sampled_from(sorted(DISTURBANCES)), max_size=3, unique=True)
