"""One host with one peer, which has a place of its own and may be reached through a relay."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from msgspec.structs import replace

from meshd.mesh.desired import LocalDevice
from meshd.mesh.rotation import PairMigration, find_migrations
from meshd.mesh.view import MeshView, build_view
from meshd.model.device import Device, ObservedState, Peer, PeerConfig, PeerStats
from meshd.model.host import Host, HostKeys, Membership, Provenance
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import Endpoint, host_network

OWN, PEER = "1" * 32, "2" * 32
DIRECT = Endpoint.parse("198.18.0.2:51820")
RELAY = Endpoint.parse("198.18.0.9:51822")
_KEYS = {hid: PrivateKey.generate() for hid in (OWN, PEER)}
_NEXT = PrivateKey.generate()
KEY = _KEYS[PEER].public()


def _host(hid: str, next_key: PublicKey | None = None) -> Host:
    number = int(hid[0])
    return Host(
        hid=hid,
        name=f"host{number}",
        gen=1,
        identity_key=bytes(32),
        addresses=(ip_address(f"10.99.0.{number}"),),
        granted_networks=frozenset(),
        networks=frozenset(),
        region="",
        roles=frozenset(),
        tags=frozenset(),
        expires_at=None,
        provenance=Provenance(kid="a1b2c3d4" * 4, seq=1, statement="00" * 32, signed_at=1),
        record=HostKeys(
            version=1,
            public_key=_KEYS[hid].public(),
            next_public_key=next_key,
            listen_port=51820,
            endpoints=(Endpoint.parse(f"198.18.0.{number}:51820"),),
            announced=frozenset(),
            behind_nat=False,
            software="",
        ),
    )


def view(*, rotating: bool = False) -> MeshView:
    hosts = {OWN: _host(OWN), PEER: _host(PEER, _NEXT.public() if rotating else None)}
    membership = Membership(
        mesh_id="ab" * 16,
        mesh_name="test",
        generation=1,
        root_version=1,
        mesh_ranges=(ip_network("10.99.0.0/16"),),
        store_urls=(),
        hosts=hosts,
    )
    return build_view(membership, OWN)


def local() -> LocalDevice:
    return LocalDevice(
        interface="wg0",
        private_key=_KEYS[OWN],
        listen_port=51820,
        mtu_bytes=1420,
        behind_nat=False,
        persistent_keepalive_seconds=25,
        second_interface="wg100",
    )


def peer(endpoint: Endpoint, now: float) -> Peer:
    return Peer(
        config=PeerConfig(
            public_key=KEY,
            allowed_ips=frozenset({host_network(ip_address("10.99.0.2"))}),
            endpoint=endpoint,
        ),
        stats=PeerStats(latest_handshake_at=now - 10, transmit_bytes=int(now)),
    )


def watched(one: Peer) -> ObservedState:
    device = Device(
        name="wg0",
        implementation="memory",
        public_key=_KEYS[OWN].public(),
        listen_port=51820,
        peers={one.config.public_key: one},
    )
    return ObservedState(interface="wg0", device=device, up=True)


def migrating(main: ObservedState) -> dict[str, PairMigration]:
    """The pair while the other end rotates its key."""
    second = replace(main, interface="wg100", device=None)
    return find_migrations(view(rotating=True), local(), main, second, now=1000.0)
