"""A mesh with several administrators to attack: real keys, real signatures, no store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import msgspec

from meshd.model.keys import PrivateKey
from meshd.model.network import IPNetwork, parse_endpoint, parse_network
from meshd.registry.allocation import derive_link_address
from meshd.registry.canonical import encode, encode_base64
from meshd.registry.envelope import ROOT_TYPE, STATEMENT_TYPE, Envelope, payload_hash, render_envelope
from meshd.registry.layout import host_key, log_key
from meshd.registry.ledger import Admission, Ledger
from meshd.registry.record import build_record, sign_record
from meshd.registry.root import Root, RootChain, RootKey, root_objects
from meshd.registry.root_changes import retired_entry
from meshd.registry.signer import LogSigner, build_root_key, create_mesh
from meshd.registry.signing import SigningKey
from meshd.registry.statement import Body, Grant, Statement, encode_statement

NOW = 1_700_000_000.0
MESH = "ab" * 16
OVERLAY = (parse_network("10.77.0.0/16"), parse_network("fd12:3456:789a::/64"))
JAIL = (parse_network("10.128.0.0/12"),)

StoreObject = tuple[str, bytes]


def key(name: str) -> SigningKey:
    """The same key for the same name, in every test."""
    return SigningKey.from_seed(hashlib.sha256(name.encode()).digest())


def network(text: str) -> IPNetwork:
    return parse_network(text)


def derived_address(name: str) -> IPv6Address:
    """What a host of that name may have from anybody."""
    (overlay,) = [each for each in OVERLAY if isinstance(each, IPv6Network)]
    return derive_link_address(overlay, key(name).kid)


def admin_pools(index: int) -> list[IPNetwork]:
    return [network(f"10.77.{index * 16}.0/20"), network(f"10.{128 + index}.0.0/16")]


def make_chain(admins: int = 1, *, mesh: str = MESH, admin_threshold: int = 1) -> RootChain:
    """Root 1 with ``admins`` administrators of disjoint pools, and a recovery key."""
    made = create_mesh(
        name="labnet",
        overlay=OVERLAY,
        jail=JAIL,
        now=NOW,
        stores=["file:///mesh"],
        pools=admin_pools(0),
        admin_key=key("admin0"),
        recovery_key=key("recovery"),
        mesh_id=mesh,
    )
    root = made.chain.root
    keys = dict(root.keys)
    for index in range(1, admins):
        other = key(f"admin{index}")
        keys[other.kid] = build_root_key(other.public, ("admin",), f"admin{index}", admin_pools(index))
    thresholds = msgspec.structs.replace(root.thresholds, admin=admin_threshold)
    root = msgspec.structs.replace(root, keys=keys, thresholds=thresholds)
    return RootChain.start(sign_root(root, key("admin0")))


def sign_root(root: Root, *keys: SigningKey) -> Envelope:
    envelope = keys[0].sign(encode(root), ROOT_TYPE)
    for other in keys[1:]:
        envelope = other.cosign(envelope)
    return envelope


def next_root(chain: RootChain, **changes: Any) -> Root:
    return msgspec.structs.replace(
        chain.root, **{"version": chain.version + 1, "prev": chain.fingerprint, **changes}
    )


def retire(chain: RootChain, kid: str, cut: tuple[int, str], **changes: Any) -> Root:
    """Root N+1 without this admin, whose log counts up to ``cut``."""
    keys: dict[str, RootKey] = {name: value for name, value in chain.root.keys.items() if name != kid}
    retired = {**chain.root.retired, kid: retired_entry(chain, kid, cut)}
    return next_root(chain, keys=keys, retired=retired, **changes)


def offer_root(ledger: Ledger, envelope: Envelope) -> list[Admission]:
    return [ledger.offer(name, body) for name, body in root_objects(envelope)]


def grant(
    ledger: Ledger, admin: SigningKey, name: str, *, networks: Iterable[str] = (), gen: int = 1, **more: Any
) -> StoreObject:
    host = key(name)
    return LogSigner(ledger, admin).grant(
        now=NOW,
        hid=host.kid,
        identity=more.pop("identity", host.public),
        name=name,
        gen=gen,
        networks=[network(text) for text in networks],
        **more,
    )


def wireguard_key(name: str) -> PrivateKey:
    """The same for the same name in every run."""
    return PrivateKey(hashlib.sha256(b"wg" + name.encode()).digest())


def record(
    name: str,
    *,
    version: int = 1,
    mesh: str = MESH,
    signer: SigningKey | None = None,
    changes: Mapping[str, Any] | None = None,
    **more: Any,
) -> StoreObject:
    """A host record of ``name``. ``changes``: fields of the payload as they are to be, right or wrong."""
    host = key(name)
    made = build_record(
        mesh=mesh,
        hid=more.pop("hid", host.kid),
        gen=more.pop("gen", 1),
        version=version,
        private_key=more.pop("private_key", wireguard_key(name)),
        listen_port=51820,
        endpoints=[parse_endpoint(text) for text in more.pop("endpoints", ("192.0.2.7:51820",))],
        networks=[network(text) for text in more.pop("networks", ())],
        software="test",
        **more,
    )
    return host_key(made.hid), sign_record(msgspec.structs.replace(made, **(changes or {})), signer or host)


def grant_body(name: str, address: str, *networks: str, called: str = "", gen: int = 1, **more: Any) -> Grant:
    """A grant of that host as a signer may write it, asking nobody."""
    host = key(name)
    fields: dict[str, Any] = {"region": "", "roles": (), "tags": (), "expires": 0}
    return Grant(
        hid=more.pop("hid", host.kid),
        name=called or name,
        gen=gen,
        identity=encode_base64(more.pop("identity", host.public)),
        addresses=(address, *more.pop("addresses", ())),
        networks=networks,
        **{**fields, **more},
    )


def forge_statement(
    admin: SigningKey,
    body: Body,
    *,
    seq: int = 1,
    prev: str = "",
    by: str | None = None,
    mesh: str = MESH,
    seen: dict[str, tuple[int, str]] | None = None,
    root: int = 1,
    payload_type: str = STATEMENT_TYPE,
) -> StoreObject:
    """A statement that no honest signer would make, signed all the same."""
    statement = Statement(
        mesh=mesh,
        by=by or admin.kid,
        seq=seq,
        prev=prev,
        seen=seen or {},
        root=root,
        at=int(NOW),
        body=None,
    )
    payload = encode_statement(statement, body)
    name = log_key(statement.by, seq, payload_hash(payload))
    return name, render_envelope(admin.sign(payload, payload_type))


def fill(ledger: Ledger, objects: Sequence[StoreObject], *, now: float = NOW) -> list[Admission]:
    return [ledger.offer(name, body) for name, body in objects]


def hash_of(item: StoreObject) -> str:
    """The statement hash that a log object's key carries."""
    return item[0].rpartition("-")[2].removesuffix(".json")


def codes(ledger: Ledger, now: float = NOW) -> set[str]:
    return {condition.code for condition in ledger.membership(now).conditions}


def names(ledger: Ledger, now: float = NOW) -> set[str]:
    return {host.name for host in ledger.membership(now).hosts.values()}


def flip(item: StoreObject, index: int) -> StoreObject:
    name, body = item
    changed = bytearray(body)
    changed[index % len(body)] ^= 1
    return name, bytes(changed)
