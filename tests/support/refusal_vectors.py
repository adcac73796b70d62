"""Vectors of what must be refused: statements, services, records and roots, each with why."""

from __future__ import annotations

from typing import Any

import fakemesh as fm
import msgspec
from scenario_vectors import body_of

from meshd.registry.canonical import encode, encode_base64
from meshd.registry.envelope import (
    HOST_RECORD_TYPE,
    ROOT_TYPE,
    STATEMENT_TYPE,
    parse_envelope,
    payload_hash,
    render_envelope,
)
from meshd.registry.layout import host_key, log_key, root_signature_key
from meshd.registry.ledger import Ledger
from meshd.registry.root import root_objects
from meshd.registry.signing import SigningKey

ADMIN, OTHER, RECOVERY = fm.key("admin0"), fm.key("admin1"), fm.key("recovery")
TESLA, NEWTON, BOHR = fm.key("tesla"), fm.key("newton"), fm.key("bohr")
Item = tuple[str, bytes]


def build_refusals() -> dict[str, Any]:
    """Given to a reader that holds root 1 and one grant (tesla), each on its own."""
    ledger = Ledger(fm.make_chain(2))
    granted = fm.grant(ledger, ADMIN, "tesla")
    cases: dict[str, Item] = {**_bad_statements(granted), **_bad_records(), **_bad_roots()}
    refusals = []
    for why, (key, body) in cases.items():
        fresh = Ledger(fm.make_chain(2))
        first = _signature_of(key, body) if key.startswith("root/000002") and "waits" not in why else []
        fm.fill(fresh, [granted, *first])
        outcome = fresh.offer(key, body).outcome
        given = {"first": [[name, text.decode()] for name, text in first]} if first else {}
        refusals.append({"why": why, "key": key, "body": body.decode(), "outcome": outcome, **given})
    held = [*root_objects(ledger.chain.current.envelope), granted]
    return {
        "now": int(fm.NOW),
        "held": [[key, body.decode()] for key, body in held],
        "refuse": refusals,
    }


def _signature_of(key: str, payload: bytes) -> list[Item]:
    """What a root key in force signed is read, and refused; without that it only waits."""
    name = key.replace(".json", f".{ADMIN.kid}.sig")
    return [(name, encode_base64(ADMIN.sign(payload, ROOT_TYPE).signatures[0].sig).encode())]


def _signed(payload: bytes, key: SigningKey, seq: int) -> Item:
    return log_key(ADMIN.kid, seq, payload_hash(payload)), render_envelope(key.sign(payload, STATEMENT_TYPE))


def _edited(granted: Item, key: SigningKey, seq: int = 2, **changes: Any) -> Item:
    fields = msgspec.json.decode(parse_envelope(granted[1]).payload)
    fields |= {"seq": seq, "prev": fm.hash_of(granted)} | {k: v for k, v in changes.items() if v is not None}
    for name in [name for name, value in changes.items() if value is None]:
        del fields[name]
    return _signed(encode(fields), key, seq)


def _bad_statements(granted: Item) -> dict[str, Item]:
    good = msgspec.json.decode(parse_envelope(granted[1]).payload)["body"]
    body = {
        **good,
        "hid": NEWTON.kid,
        "name": "newton",
        "identity": encode_base64(NEWTON.public),
        "addresses": ["10.77.0.9"],
    }
    valid = _edited(granted, ADMIN, body=body)

    def grant(**changes: Any) -> Item:
        return _edited(granted, ADMIN, body={**body, **changes})

    payload = parse_envelope(valid[1]).payload
    stranger = fm.key("stranger")
    by_stranger = _edited(granted, stranger, body=body)
    return {
        "signed by another key": by_stranger,
        "signed by another key in the administrator's name": (
            by_stranger[0],
            by_stranger[1].replace(stranger.kid.encode(), ADMIN.kid.encode()),
        ),
        "by a key that no root names": fm.forge_statement(stranger, body_of("newton", "10.77.0.9")),
        "by a root key without the admin role": fm.forge_statement(RECOVERY, body_of("newton", "10.77.0.9")),
        "two signatures": (valid[0], render_envelope(stranger.cosign(parse_envelope(valid[1])))),
        "another hash in the key": (log_key(ADMIN.kid, 2, "0" * 64), valid[1]),
        "another number in the key": (log_key(ADMIN.kid, 3, payload_hash(payload)), valid[1]),
        "another administrator in the key": (log_key(OTHER.kid, 2, payload_hash(payload)), valid[1]),
        "signed as a host record": fm.forge_statement(
            ADMIN, body_of("newton", "10.77.0.9"), payload_type=HOST_RECORD_TYPE
        ),
        "of another mesh": _edited(granted, ADMIN, body=body, mesh="cd" * 16),
        "an unknown field": _edited(granted, ADMIN, body=body, extra=1),
        "a field less": _edited(granted, ADMIN, body=body, at=None),
        "a field twice": _signed(payload.replace(b'"seq":2', b'"seq":2,"seq":2'), ADMIN, 2),
        "white space in the payload": _signed(payload + b" ", ADMIN, 2),
        "white space around the envelope": (valid[0], valid[1] + b"\n"),
        "number 0": _edited(granted, ADMIN, seq=0, body=body),
        "statement 1 with a predecessor": _edited(granted, ADMIN, seq=1, body=body),
        "statement 2 without a predecessor": _edited(granted, ADMIN, body=body, prev=""),
        "a log that has seen itself": _edited(
            granted, ADMIN, body=body, seen={ADMIN.kid: [1, fm.hash_of(granted)]}
        ),
        "a body without a type": _edited(granted, ADMIN, body={}),
        "a grant with an unknown field": grant(colour="red"),
        "a host id that is not of its first key": grant(hid=BOHR.kid),
        "a host name in capitals": grant(name="Newton"),
        "generation 0": grant(gen=0),
        "no address": grant(addresses=[]),
        "nine addresses": grant(addresses=[f"10.77.0.{number}" for number in range(9, 18)]),
        "an address twice": grant(addresses=["10.77.0.9", "10.77.0.9"]),
        "a network with host bits": grant(networks=["10.128.1.1/24"]),
        "a network with a netmask": grant(networks=["10.128.1.0/255.255.255.0"]),
        "an IPv6 address in capitals": grant(addresses=["FD12:3456:789A::1"]),
        "an IPv6 address that is not compressed": grant(addresses=["fd12:3456:789a:0:0:0:0:1"]),
        "an IPv4 address inside IPv6": grant(addresses=["::ffff:10.77.0.9"]),
        "two networks that overlap": grant(networks=["10.128.1.0/24", "10.128.1.128/25"]),
        "a role twice": grant(roles=["web", "web"]),
        "a revoke of no host id": _edited(
            granted, ADMIN, body={"type": "revoke", "hid": "newton", "why": ""}
        ),
        "a rotation of no host id": _edited(
            granted, ADMIN, body={"type": "rotate", "hids": ["newton"], "not_before": 1}
        ),
        "a rotation without an instant": _edited(granted, ADMIN, body={"type": "rotate", "hids": []}),
        "a reason of 201 characters": _edited(
            granted, ADMIN, body={"type": "revoke", "hid": NEWTON.kid, "why": "x" * 201}
        ),
        "an envelope of over 3,000 bytes": grant(tags=[f"tag{number:04d}" for number in range(200)]),
        **_bad_services(granted),
    }


def _bad_services(granted: Item) -> dict[str, Item]:
    service: dict[str, Any] = {
        "type": "service",
        "name": "db",
        "kind": "patroni",
        "port": 5432,
        "scope": "mesh",
    }
    service |= {"min_endpoints": 1, "check": "tcp", "state": "active"}
    place: dict[str, Any] = {
        "type": "place",
        "hid": TESLA.kid,
        "service": "db",
        "jail": "",
        "address": "10.77.0.1",
    }
    place |= {"tags": {}, "state": "active"}

    def declared(**changes: Any) -> Item:
        return _edited(granted, ADMIN, body={**service, **changes})

    def placed(**changes: Any) -> Item:
        return _edited(granted, ADMIN, body={**place, **changes})

    return {
        "a service check of an unknown kind": declared(check="exec"),
        "a service check of port 0": declared(check="tcp=:0"),
        "a service check of port 65536": declared(check="http=:65536/"),
        "a TCP check with a path": declared(check="tcp=:80/up"),
        "a service check of another host": declared(check="http=192.0.2.1:80/"),
        "a service check with a space in its path": declared(check="http=:80/a b"),
        "a service check of 201 characters": declared(check="http=:80/" + "x" * 192),
        "a service on port 0": declared(port=0),
        "a service of an unknown scope": declared(scope="world"),
        "a service that is draining": declared(state="draining"),
        "a service that wants 1,001 endpoints": declared(min_endpoints=1001),
        "a service that wants true endpoints": declared(min_endpoints=True),
        "a place at a network": placed(address="10.77.0.0/24"),
        "a place of no host id": placed(hid="tesla"),
        "a place with a tag that is no text": placed(tags={"weight": 1}),
        "a place with a tag outside ASCII": placed(tags={"role": "\u00e9"}),
    }


def _bad_records() -> dict[str, Item]:
    good = fm.record("tesla")
    payload = msgspec.json.decode(parse_envelope(good[1]).payload)

    def record(signer: SigningKey = TESLA, kind: str = HOST_RECORD_TYPE, **changes: Any) -> Item:
        return good[0], render_envelope(signer.sign(encode({**payload, **changes}), kind))

    return {
        "a record signed by another host": fm.record("tesla", signer=NEWTON),
        "a record under another host's key": (host_key(NEWTON.kid), good[1]),
        "a record of a host without a grant": fm.record("newton"),
        "a record of a generation that is not granted": fm.record("tesla", gen=2),
        "a record of another mesh": fm.record("tesla", mesh="cd" * 16),
        "a record signed as a statement": record(kind=STATEMENT_TYPE),
        "version 0 with a mesh": record(version=0),
        "a version without a mesh": record(mesh=""),
        "port 0": record(listen_port=0),
        "nine endpoints": record(endpoints=[f"192.0.2.{number}:1" for number in range(1, 10)]),
        "an endpoint with a padded port": record(endpoints=["192.0.2.7:051820"]),
        "an IPv4 endpoint in brackets": record(endpoints=["[192.0.2.7]:51820"]),
        "an endpoint's name in capitals": record(endpoints=["Tesla.example.org:51820"]),
        "an endpoint's name of one label": record(endpoints=["tesla:51820"]),
        "an endpoint's name with a dot at its end": record(endpoints=["tesla.example.org.:51820"]),
        "an endpoint's name in brackets": record(endpoints=["[tesla.example.org]:51820"]),
        "an endpoint's name with an underscore": record(endpoints=["te_sla.example.org:51820"]),
        "a number for an endpoint's name": record(endpoints=["192.0.2.0x7:51820"]),
        "an endpoint's name of 254 characters": record(endpoints=["a." * 125 + "abcd:51820"]),
        "a WireGuard key of 31 bytes": record(wireguard=encode_base64(bytes(31))),
        "a proof of 63 bytes": record(proof=encode_base64(bytes(63))),
        "a next key without a proof": record(next=encode_base64(bytes(32))),
        "a proof without a next key": record(next_proof=encode_base64(bytes(64))),
        "a second proof of the same key": record(next=payload["wireguard"], next_proof=payload["proof"]),
        "a network with host bits in a record": record(networks=["10.128.1.1/24"]),
        "software of 81 characters": record(software="x" * 81),
        "true as a number": record(gen=True),
    }


def _bad_roots() -> dict[str, Item]:
    chain = fm.make_chain(2)

    def payload(**changes: Any) -> Item:
        return root_objects(fm.sign_root(fm.next_root(chain, **changes), ADMIN))[0]

    good = root_objects(fm.sign_root(fm.next_root(chain), ADMIN))
    thresholds = chain.root.thresholds
    without = {kid: value for kid, value in chain.root.keys.items() if kid != OTHER.kid}
    twin = msgspec.structs.replace(chain.root, max_hosts=5)
    strange = encode(msgspec.structs.replace(fm.next_root(chain), prev="0" * 64))
    return {
        "a root without signatures (waits)": good[0],
        "a root whose predecessor is another one": (f"root/000002-{payload_hash(strange)}.json", strange),
        "a signature without its root (waits)": good[1],
        "another root of the trusted version": root_objects(fm.sign_root(twin, ADMIN))[0],
        "a trusted root with a changed byte": (
            root_objects(chain.current.envelope)[0][0],
            chain.current.envelope.payload.replace(b"labnet", b"labnot"),
        ),
        "a damaged signature of a trusted root": (
            root_signature_key(1, chain.fingerprint, ADMIN.kid),
            encode_base64(bytes(64)).encode(),
        ),
        "a root of another mesh": payload(mesh="cd" * 16),
        "an administrator gone without a cut": payload(keys=without),
        "another version than the key says": _unchecked(fm.next_root(chain, version=3), named=2),
        "a threshold above the number of keys": _unchecked(
            fm.next_root(chain, thresholds=msgspec.structs.replace(thresholds, root=3))
        ),
        "a store URL with credentials": _unchecked(fm.next_root(chain, stores=("https://a:b@host/x",))),
        "a range with a netmask": _unchecked(
            fm.next_root(
                chain, ranges=msgspec.structs.replace(chain.root.ranges, overlay=("10.77.0.0/255.255.0.0",))
            )
        ),
        "0 hosts": _unchecked(fm.next_root(chain, max_hosts=0)),
    }


def _unchecked(root: Any, named: int = 0) -> Item:
    payload = encode(root)
    return f"root/{named or root.version:06d}-{payload_hash(payload)}.json", payload
