"""A signed registry of many hosts, made once by the real signer."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint, IPNetwork
from meshd.registry.layout import host_key
from meshd.registry.ledger import Ledger
from meshd.registry.record import build_record, sign_record
from meshd.registry.root import RootChain
from meshd.registry.signer import LogSigner, create_mesh
from meshd.registry.signing import SigningKey

NOW = 1_800_000_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticRegistry:
    """``objects``: logs, then records, as a store would list them; without roots."""

    chain: RootChain
    objects: list[tuple[str, bytes]]
    identities: list[SigningKey]
    keys: list[PrivateKey]

    def record(self, number: int, version: int) -> tuple[str, bytes]:
        """A record of host ``number``, signed now; an odd ``version`` announces no jail network, an even
        one does. (Another endpoint would change nothing: the one that WireGuard has stays.)"""
        return _record(self.chain.mesh_id, self.identities[number], self.keys[number], number, version)


def build_registry(hosts: int) -> SyntheticRegistry:
    """A mesh of ``hosts``, each with one jail network and one endpoint."""
    mesh = create_mesh(
        name="bench",
        overlay=[ip_network("10.96.0.0/14"), ip_network("fd12:3456:789a::/48")],
        jail=[ip_network("10.128.0.0/9")],
        stores=["file:///nowhere/registry"],
        now=NOW - 7200,
        max_hosts=max(hosts + 10, 100),
    )
    ledger = Ledger(mesh.chain)
    signer = LogSigner(ledger, mesh.admin_key)
    identities = [SigningKey.generate() for _ in range(hosts)]
    keys = [PrivateKey.generate() for _ in range(hosts)]
    objects = []
    for number, identity in enumerate(identities):
        objects.append(
            signer.grant(
                now=NOW - 3600,
                hid=identity.kid,
                identity=identity.public,
                name=f"host{number}",
                networks=[_jail_network(number)],
                region="eu",
            )
        )
    mesh_id = mesh.chain.mesh_id
    for number in range(hosts):
        objects.append(_record(mesh_id, identities[number], keys[number], number, 1_700_000_000_000))
    return SyntheticRegistry(chain=mesh.chain, objects=objects, identities=identities, keys=keys)


def _jail_network(number: int) -> IPNetwork:
    return ip_network((int(ip_address("10.128.0.0")) + (number << 8), 24))


def _record(
    mesh_id: str, identity: SigningKey, key: PrivateKey, number: int, version: int
) -> tuple[str, bytes]:
    record = build_record(
        mesh=mesh_id,
        hid=identity.kid,
        gen=1,
        version=version,
        private_key=key,
        listen_port=51820,
        endpoints=[Endpoint(ip_address(0xC6120000 + number), 51820)],
        networks=[] if version % 2 else [_jail_network(number)],
    )
    return host_key(identity.kid), sign_record(record, identity)
