"""A small mesh with real keys and signatures: what an administrator and his hosts would publish."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint
from meshd.registry.canonical import encode, encode_base64
from meshd.registry.document import Ranges, Role, Root, RootKey, Thresholds
from meshd.registry.envelope import ROOT_TYPE, STATEMENT_TYPE, Envelope, payload_hash, render_envelope
from meshd.registry.layout import host_key, log_key
from meshd.registry.ledger import Ledger
from meshd.registry.record import build_record, sign_record
from meshd.registry.root import RootChain, root_objects
from meshd.registry.signing import SigningKey
from meshd.registry.statement import Body, Grant, Revoke, Statement, encode_statement

NOW = 1_800_000_000.0

Object = tuple[str, bytes]


def key_of(name: str) -> SigningKey:
    """The same key for the same name in every run."""
    return SigningKey.from_seed(hashlib.sha256(name.encode()).digest())


@dataclass(slots=True)
class SignedMesh:
    """One root key, one admin; ``objects`` is everything signed so far, in order."""

    mesh_id: str = "0123456789abcdef" * 2
    max_hosts: int = 1000
    roots: list[Envelope] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    _log: list[str] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        self.sign_root()

    @property
    def admin(self) -> SigningKey:
        return key_of("admin")

    @property
    def log_keys(self) -> list[str]:
        return [key for key in self.objects if key.startswith("log/")]

    def ledger(self, *objects: Object) -> Ledger:
        """A host that trusts root 1 and was given these objects."""
        ledger = Ledger(RootChain.start(self.roots[0]))
        for key, body in objects:
            assert ledger.offer(key, body).outcome in ("new", "known"), key
        return ledger

    def full_ledger(self) -> Ledger:
        return self.ledger(*self.objects.items())

    def sign_root(self, *admins: str) -> list[Object]:
        """The next root: the same keys, and further admins by name without pools."""
        root_key, version = key_of("root"), len(self.roots) + 1
        keys = {
            root_key.kid: _entry(root_key, "root", "root"),
            self.admin.kid: _entry(self.admin, "admin", "ada", "10.90.0.0/16", "10.91.0.0/16"),
        }
        keys |= {key_of(name).kid: _entry(key_of(name), "admin", name) for name in admins}
        root = Root(
            format="wg-meshd-root/1",
            mesh=self.mesh_id,
            mesh_name="test",
            version=version,
            prev=payload_hash(self.roots[-1].payload) if self.roots else "",
            keys=keys,
            retired={},
            thresholds=Thresholds(root=1, admin=1),
            max_hosts=self.max_hosts,
            heads={},
            stores=(),
            ranges=Ranges(overlay=("10.90.0.0/16",), jail=("10.91.0.0/16",)),
            created_at=int(NOW),
        )
        self.roots.append(root_key.sign(encode(root), ROOT_TYPE))
        return self._add(root_objects(self.roots[-1]))

    def sign(self, body: Body) -> Object:
        """The admin's next statement."""
        seq = len(self._log) + 1
        statement = Statement(
            mesh=self.mesh_id,
            by=self.admin.kid,
            seq=seq,
            prev=self._log[-1] if self._log else "",
            seen={},
            root=len(self.roots),
            at=int(NOW),
            body=None,
        )
        payload = encode_statement(statement, body)
        self._log.append(payload_hash(payload))
        envelope = self.admin.sign(payload, STATEMENT_TYPE)
        [item] = self._add([(log_key(self.admin.kid, seq, self._log[-1]), render_envelope(envelope))])
        return item

    def grant(self, name: str) -> Object:
        host, self._count = key_of(name), self._count + 1
        return self.sign(
            Grant(
                hid=host.kid,
                name=name,
                gen=1,
                identity=encode_base64(host.public),
                addresses=(str(IPv4Address("10.90.0.0") + self._count),),
                networks=(),
                region="eu",
                roles=(),
                tags=(),
                expires=0,
            )
        )

    def revoke(self, name: str) -> Object:
        return self.sign(Revoke(hid=key_of(name).kid, why="gone"))

    def record(self, name: str, version: int = 1, *, port: int = 51820) -> Object:
        """A record as that host signs it, with a version in milliseconds."""
        host = key_of(name)
        record = build_record(
            mesh=self.mesh_id,
            hid=host.kid,
            gen=1,
            version=version,
            private_key=PrivateKey(host.seed()),
            listen_port=port,
            endpoints=(Endpoint.parse("192.0.2.1:51820"),),
        )
        return self._add([(host_key(host.kid), sign_record(record, host))])[0]

    def host(self, name: str) -> list[Object]:
        return [self.grant(name), self.record(name)]

    def _add(self, items: list[Object]) -> list[Object]:
        self.objects.update(items)
        return items


def _entry(key: SigningKey, role: Role, name: str, *pools: str, since: int = 1) -> RootKey:
    roles: tuple[Role, ...] = (role,)
    return RootKey(key=encode_base64(key.public), roles=roles, name=name, pools=pools, since=since, former=())
