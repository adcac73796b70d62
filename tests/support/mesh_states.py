"""Strategies: observed and desired states of small meshes, colliding on purpose."""

from __future__ import annotations

import ipaddress

from hypothesis import strategies as st

from meshd.mesh.desired import DesiredPeer, DesiredState
from meshd.model.device import PeerConfig
from meshd.model.keys import PresharedKey, PrivateKey, PublicKey
from meshd.model.network import Endpoint, IPNetwork, Route

KEYS = [PublicKey(bytes([number]) * 32) for number in range(1, 7)]
NETWORKS: list[IPNetwork] = [
    *(ipaddress.ip_network(f"10.99.0.{number}/32") for number in range(1, 7)),
    *(ipaddress.ip_network(f"10.17.{number}.0/24") for number in range(1, 7)),
    *(ipaddress.ip_network(f"fd99::{number}/128") for number in range(1, 4)),
]
ENDPOINTS = [Endpoint.parse(f"198.18.0.{number}:51820") for number in range(1, 4)]
OWN_KEY = PrivateKey(bytes([77]) * 32)


@st.composite
def desired_states(draw: st.DrawFn, *, presharing: bool = False) -> DesiredState:
    """A consistent desired state: every network belongs to one peer, every route has a peer."""
    keys = draw(st.lists(st.sampled_from(KEYS), unique=True))
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
            config=config, hid=bytes(key).hex()[:32], label=f"host{bytes(key)[0]}", reason="granted",
            is_admin=draw(st.booleans()),
        )
    routed = [network for network, holder in owner.items() if holder is not None]
    return DesiredState(
        interface="wg0",
        private_key=OWN_KEY,
        public_key=OWN_KEY.public(),
        listen_port=draw(st.sampled_from([51820, 51821])),
        mtu_bytes=draw(st.sampled_from([1420, 1380])),
        addresses=frozenset({ipaddress.ip_interface("10.99.0.77/32")}),
        peers=peers,
        routes=frozenset(Route(destination=network, interface="wg0") for network in routed),
        route_labels=dict.fromkeys(routed, "host"),
    )
