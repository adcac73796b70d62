"""A signed mesh for tests: administrators, hosts and their objects, made by the real signer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_network
from typing import Any

from meshd.model.host import CLIENT_ROLE, ENROLLMENT_VERSION
from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint, IPAddress, parse_network
from meshd.registry.canonical import encode_base64
from meshd.registry.layout import host_key
from meshd.registry.ledger import Ledger
from meshd.registry.record import HostRecord, build_record, sign_record
from meshd.registry.signer import LogSigner, NewMesh, create_mesh
from meshd.registry.signing import SigningKey
from meshd.registry.sync import publish
from meshd.store.base import ObjectStore
from meshd.store.memory import MemoryStore

NOW = 1_800_000_000.0
FIRST_UNDERLAY_ADDRESS = IPv4Address("198.18.0.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHost:
    name: str
    identity: SigningKey
    wireguard: PrivateKey
    record: HostRecord

    @property
    def hid(self) -> str:
        return self.identity.kid

    @property
    def key(self) -> str:
        return host_key(self.hid)

    def body(self, **changes: Any) -> bytes:
        """The host's record as bytes, signed by itself, with fields changed before signing."""
        return sign_record(_changed(self.record, changes), self.identity)


@dataclass(slots=True)
class SignedMesh:
    """``objects`` holds everything that a complete store would. ``seed``: every key follows from it and
    from what the key is for; empty: keys are random."""

    mesh: NewMesh
    ledger: Ledger
    signer: LogSigner
    objects: dict[str, bytes] = field(default_factory=dict)
    hosts: dict[str, SignedHost] = field(default_factory=dict)
    seed: str = ""

    @classmethod
    def create(cls, *, stores: tuple[str, ...] = ("file:///nowhere/registry",), seed: str = "") -> SignedMesh:
        mesh = create_mesh(
            name="test",
            overlay=[ip_network("10.99.0.0/16"), ip_network("fd12:3456:789a::/48")],
            jail=[ip_network("10.17.0.0/16")],
            stores=stores,
            now=NOW - 3600,
            admin_key=SigningKey.from_seed(_secret(seed, "admin")) if seed else None,
            recovery_key=SigningKey.from_seed(_secret(seed, "recovery")) if seed else None,
            mesh_id=_secret(seed, "mesh").hex()[:32] if seed else None,
        )
        ledger = Ledger(mesh.chain)
        return cls(
            mesh=mesh,
            ledger=ledger,
            signer=LogSigner(ledger, mesh.admin_key),
            objects=dict(mesh.objects),
            seed=seed,
        )

    def add(
        self,
        name: str,
        *,
        jails: tuple[str, ...] = (),
        roles: tuple[str, ...] = (),
        software: str = "",
        announced: tuple[str, ...] | None = None,
        expires_at: int | None = None,
        addresses: tuple[IPAddress, ...] | None = None,
        is_client: bool = False,
        region: str = "",
        at: float = NOW,
    ) -> SignedHost:
        """Grant a new host and publish its record. ``announced``: None, all that is granted; ``addresses``:
        None, free ones. ``is_client``: as ``wgctl add-client`` makes one, with its first record alone.
        ``at``: unix seconds, a minute after the administrator signs."""
        number = len(self.hosts) + 1
        identity, wireguard = self.make_keys(name)
        networks = [parse_network(text) for text in jails]
        record = build_record(
            mesh="" if is_client else self.ledger.mesh_id,
            hid=identity.kid,
            gen=1,
            version=ENROLLMENT_VERSION if is_client else int(NOW * 1000) - 1000 + number,
            private_key=wireguard,
            listen_port=51820,
            endpoints=[] if is_client else [Endpoint(FIRST_UNDERLAY_ADDRESS + number, 51820)],
            networks=networks if announced is None else [parse_network(text) for text in announced],
            software=software,
        )
        host = SignedHost(name=name, identity=identity, wireguard=wireguard, record=record)
        key, body = self.signer.grant(
            now=at - 60,
            hid=host.hid,
            identity=identity.public,
            name=name,
            region=region,
            networks=networks,
            roles=(*roles, CLIENT_ROLE) if is_client else roles,
            expires_at=expires_at,
            addresses=addresses,
        )
        self.hosts[name] = host
        self.objects[key] = body
        self.offer(host.key, host.body())
        return host

    def make_keys(self, name: str) -> tuple[SigningKey, PrivateKey]:
        if not self.seed:
            return SigningKey.generate(), PrivateKey.generate()
        identity = SigningKey.from_seed(_secret(self.seed, f"identity {name}"))
        return identity, PrivateKey(_secret(self.seed, f"wireguard {name}"))

    def revoke(self, name: str, why: str = "", *, at: float = NOW) -> tuple[str, bytes]:
        """Revoke a host -> the statement, which a store is to have."""
        key, body = self.signer.revoke(self.hosts[name].hid, why, now=at - 30)
        self.objects[key] = body
        return key, body

    def offer(self, key: str, body: bytes) -> None:
        assert self.ledger.offer(key, body).outcome == "new"
        self.objects[key] = body

    def copy(self) -> SignedMesh:
        """The same mesh in other hands: the same keys, and a log that goes its own way from here."""
        ledger = Ledger(self.mesh.chain)
        for key, body in self.objects.items():
            ledger.offer(key, body)
        return SignedMesh(
            mesh=self.mesh,
            ledger=ledger,
            signer=LogSigner(ledger, self.mesh.admin_key),
            objects=dict(self.objects),
            hosts=dict(self.hosts),
            seed=self.seed,
        )

    def publish(self, store: ObjectStore) -> None:
        publish(store, list(self.objects.items()), mesh_id=self.ledger.mesh_id)


def _changed(record: HostRecord, changes: dict[str, Any]) -> HostRecord:
    fields = {name: getattr(record, name) for name in record.__struct_fields__} | changes
    if fields["next"] not in ("", fields["wireguard"]):
        fields["next_proof"] = fields["next_proof"] or encode_base64(
            bytes(64)
        )  # no other host names that key
    return HostRecord(**fields)


def _secret(seed: str, purpose: str) -> bytes:
    return hashlib.sha256(f"{seed} {purpose}".encode()).digest()


def full_store(mesh: SignedMesh) -> MemoryStore:
    """A store that has all of the mesh."""
    store = MemoryStore()
    mesh.publish(store)
    return store
