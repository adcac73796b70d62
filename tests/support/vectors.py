"""The test vectors of docs/registry-format.md: fixed seeds in, exact bytes out.

    .venv/bin/python tests/support/vectors.py      writes tests/vectors/*.json

Every key is the Ed25519 key whose seed is the SHA-256 of a name. Another implementation of
the format has to reproduce what can be made, accept what is valid, come to the same membership
and refuse the rest.

Over 400 lines: they are the vectors of one document, and build on each other's keys and statements.
"""

from __future__ import annotations

import json
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any, Final

import fakemesh as fm
import msgspec
from key_vectors import build_key_scenarios
from signature_vectors import build_signatures
from trust_vectors import build_trust_scenarios

from meshd.model.keys import PrivateKey
from meshd.model.network import Endpoint
from meshd.model.rescue_key import rescue_private_key
from meshd.model.service import Service
from meshd.registry.allocation import allocate_address, derive_link_address
from meshd.registry.bundle import build_bundle, build_request, render_bundle
from meshd.registry.canonical import decode_base64, encode, encode_base64
from meshd.registry.envelope import (
    ENROLLMENT_TYPE,
    HOST_RECORD_TYPE,
    KEY_REQUEST_TYPE,
    ROOT_TYPE,
    STATEMENT_TYPE,
    pae,
    parse_envelope,
    payload_hash,
    render_envelope,
)
from meshd.registry.key_proof import edwards_form, prove_key
from meshd.registry.key_request import build_key_request
from meshd.registry.layout import host_key, log_key, root_signature_key
from meshd.registry.ledger import Ledger
from meshd.registry.record import build_record
from meshd.registry.root import RootChain, root_objects
from meshd.registry.signer import LogSigner
from meshd.registry.signing import SigningKey, render_fingerprint, render_recovery_words
from meshd.registry.statement import Grant, Revoke, Rotate

DIRECTORY: Final = Path(__file__).resolve().parents[1] / "vectors"
NAMES: Final = ("admin0", "admin1", "recovery", "tesla", "newton", "bohr", "stranger")
ADMIN, OTHER, RECOVERY = fm.key("admin0"), fm.key("admin1"), fm.key("recovery")
TESLA, NEWTON, BOHR = fm.key("tesla"), fm.key("newton"), fm.key("bohr")

Item = tuple[str, bytes]


def build_vectors() -> dict[str, Any]:
    """File name -> document."""
    return {
        "keys.json": build_keys(),
        "canonical.json": build_canonical(),
        "signatures.json": build_signatures(),
        "envelopes.json": build_envelopes(),
        "addresses.json": build_addresses(),
        "scenarios.json": build_scenarios(),
        "refuse.json": build_refusals(),
        "enrollment.json": build_enrollment(),
        "key_request.json": build_key_requests(),
        "wireguard.json": build_key_proofs(),
    }


def build_keys() -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "seed_hex": key.seed().hex(),
            "public_hex": key.public.hex(),
            "public_base64": encode_base64(key.public),
            "kid": key.kid,
            "fingerprint": render_fingerprint(key.kid),
            "recovery_words": render_recovery_words(key),
            "rescue_public": str(rescue_private_key(key.seed()).public()),
        }
        for name, key in ((name, fm.key(name)) for name in NAMES)
    ]


def build_key_proofs() -> list[dict[str, str]]:
    """Both signs of the Ed25519 form occur among them."""
    proofs = []
    for name in NAMES:
        key, host = fm.wireguard_key(name), fm.key(name)
        proofs.append(
            {
                "private_hex": key.reveal().hex(),
                "public": str(key.public()),
                "ed25519_hex": edwards_form(key.public()).hex(),
                "hid": host.kid,
                "proof": encode_base64(prove_key(key, host.kid)),
            }
        )
    return proofs


def build_canonical() -> dict[str, Any]:
    values: list[Any] = [
        {},
        [],
        0,
        2**53 - 1,
        "",
        "plain",
        "Grüße, 世界",
        'quote " backslash \\',
        None,
        True,
        False,
        {"b": 2, "a": 1, "aa": {"z": [], "y": {}}},
        [1, [2, [3]]],
        {"port": 51820, "text": "a/b"},
    ]
    refuse = {
        "keys not sorted": b'{"b":1,"a":2}',
        "a key twice": b'{"a":1,"a":1}',
        "white space": b'{"a": 1}',
        "trailing white space": b'{"a":1} ',
        "a second value": b'{"a":1}{}',
        "a float": b'{"a":1.0}',
        "an exponent": b'{"a":1e3}',
        "a negative integer": b'{"a":-1}',
        "2 to the 53rd": b'{"a":9007199254740992}',
        "a leading zero": b'{"a":01}',
        "a needless escape": b'{"a":"\\u0041"}',
        "an escaped slash": b'{"a":"\\/"}',
        "a control character": b'{"a":"\\n"}',
        "a delete character": b'{"a":"\x7f"}',
        "a key outside ASCII": '{"é":1}'.encode(),
        "a direction-changing character": '{"a":"\u202e"}'.encode(),
        **{
            f"{name}, which nobody sees": f'{{"a":"{char}"}}'.encode()
            for name, char in {
                "Arabic letter mark": "\u061c",
                "soft hyphen": "\u00ad",
                "word joiner": "\u2060",
                "language tag": "\U000e0001",
                "Hangul filler": "\u3164",
                "variation selector": "\ufe0f",
                "no-break space": "\u00a0",
                "private use": "\ue000",
                "noncharacter": "\U0001fffe",
            }.items()
        },
        "a zero-width character": '{"a":"\u200b"}'.encode(),
        "not UTF-8": b'{"a":"\xff"}',
        "nothing": b"",
        "a byte order mark": b"\xef\xbb\xbf{}",
        "nested 17 deep": b"[" * 17 + b"1" + b"]" * 17,
        "NaN": b"NaN",
    }
    return {
        "accept": [{"value": value, "bytes_hex": encode(value).hex()} for value in values],
        "refuse": [{"why": why, "bytes_hex": body.hex()} for why, body in refuse.items()],
    }


def build_envelopes() -> list[dict[str, str]]:
    payload = encode({"hello": "world"})
    vectors = []
    for name, kind in (("tesla", HOST_RECORD_TYPE), ("admin0", STATEMENT_TYPE), ("recovery", ROOT_TYPE)):
        key = fm.key(name)
        envelope = key.sign(payload, kind)
        vectors.append(
            {
                "signer": name,
                "payload_type": kind,
                "payload": payload.decode(),
                "payload_hash": payload_hash(payload),
                "pae_hex": pae(kind, payload).hex(),
                "signature_hex": envelope.signatures[0].sig.hex(),
                "envelope": render_envelope(envelope).decode(),
            }
        )
    return vectors


def build_addresses() -> dict[str, Any]:
    ranges = ("fd12:3456:789a::/48", "fd12:3456:789a::/64", "2001:db8::/96")
    used = ("10.77.0.1", "10.77.0.2", "10.77.0.4")
    pools = ("10.77.8.0/30", "10.77.0.0/29")
    lowest = allocate_address(
        [fm.network(text) for text in pools],
        {fm.network(text).network_address for text in (f"{address}/32" for address in used)},
    )
    return {
        "derived": [
            {"range": text, "hid": hid, "address": str(derive_link_address(IPv6Network(text), hid))}
            for text in ranges
            for hid in (TESLA.kid, NEWTON.kid, "0" * 31 + "1", "f" * 32)
        ],
        "lowest_free": {"pools": pools, "used": used, "address": str(lowest)},
    }


def body_of(
    name: str,
    address: str,
    *networks: str,
    gen: int = 1,
    signer: SigningKey | None = None,
    hid: str = "",
    host_name: str = "",
) -> Grant:
    return Grant(
        hid=hid or fm.key(name).kid,
        name=host_name or name,
        gen=gen,
        identity=encode_base64((signer or fm.key(name)).public),
        addresses=(address,),
        networks=networks,
        region="eu",
        roles=(),
        tags=(),
        expires=0,
    )


def build_scenarios() -> list[dict[str, Any]]:
    """Each: what a reader that trusts root 1 is given, in any order, and what it must conclude."""
    return [
        _grants(),
        _withheld(),
        _conflicts(),
        _generations(),
        _fork_and_cut(),
        _rotations(),
        _wireguard_keys(),
        *build_key_scenarios(_scenario),
        *build_trust_scenarios(_scenario),
    ]


def _scenario(name: str, text: str, objects: list[Item], *, chain: RootChain | None = None) -> dict[str, Any]:
    chain = chain or fm.make_chain(2)
    ledger = Ledger(chain)
    objects = [*root_objects(chain.current.envelope), *objects]
    fm.fill(ledger, objects)
    membership = ledger.membership(fm.NOW)
    return {
        "name": name,
        "text": text,
        "now": int(fm.NOW),
        "trusted_root": chain.fingerprint,
        "objects": [[key, body.decode()] for key, body in objects],
        "expected": {
            "root_version": membership.root_version,
            "generation": membership.generation,
            "heads": {kid: list(head) for kid, head in sorted(ledger.heads().items())},
            "hosts": {
                host.hid: {
                    "name": host.name,
                    "gen": host.gen,
                    "addresses": [str(address) for address in host.addresses],
                    "networks": sorted(str(network) for network in host.networks),
                    "record_version": host.record.version if host.record else None,
                    "wireguard": str(host.record.public_key) if host.record else None,
                    "endpoints": [str(each) for each in host.record.endpoints] if host.record else [],
                    "rotate_not_before": host.rotate_not_before,
                    "rotation": host.rotation.statement if host.rotation else None,
                }
                for host in membership.hosts.values()
            },
            "services": {name: render_service(each) for name, each in membership.services.items()},
            "revoked": sorted(membership.revoked),
            "unplaced": sorted(membership.unplaced),
            "conditions": sorted({f"{item.code} {item.subject}".strip() for item in membership.conditions}),
        },
    }


def render_service(service: Service) -> dict[str, Any]:
    """As a scenario expects it."""
    return {
        "kind": service.kind,
        "port": service.port,
        "scope": service.scope,
        "min_endpoints": service.min_endpoints,
        "check": service.check,
        "state": "retired" if service.retired else "active",
        "places": [
            [each.hid, each.jail, str(each.address), dict(each.tags), each.state]
            for each in service.placements
        ],
    }


def _grants() -> dict[str, Any]:
    ledger = Ledger(fm.make_chain(2))
    objects = [
        fm.grant(ledger, ADMIN, "tesla", networks=["10.128.1.0/24"]),
        fm.grant(ledger, OTHER, "newton", networks=["10.129.1.0/24"]),
        fm.grant(ledger, ADMIN, "bohr"),
        fm.record("tesla", version=5, networks=["10.128.1.0/25", "10.128.9.0/24"]),
        fm.record(
            "newton",
            version=0,
            mesh="",
            endpoints=[
                "newton.example.org:51820",
                "xn--bcher-kva.example:1",
                "[2001:db8::7]:51820",
                "192.0.2.7:65535",
            ],
        ),
    ]
    objects.append(LogSigner(ledger, OTHER).revoke(BOHR.kid, "sold", now=fm.NOW))
    return _scenario(
        "grants",
        "Two administrators, three hosts, one revoked by the other administrator. tesla announces "
        "half of its grant and a network without one; newton has its enrollment record alone, with names "
        "for endpoints.",
        objects,
    )


def _withheld() -> dict[str, Any]:
    ledger = Ledger(fm.make_chain(2))
    first = fm.grant(ledger, ADMIN, "tesla")
    fm.grant(ledger, ADMIN, "newton")
    revoke = LogSigner(ledger, ADMIN).revoke(TESLA.kid, "stolen", now=fm.NOW)
    return _scenario(
        "withheld", "Statement 2 is missing: the revoke above the hole counts all the same.", [first, revoke]
    )


def _conflicts() -> dict[str, Any]:
    first = fm.forge_statement(ADMIN, body_of("tesla", "10.77.0.1", "10.128.1.0/24"))
    chain = [first]
    bodies = [
        body_of("newton", "10.77.0.1"),
        body_of("bohr", "10.77.0.3", host_name="tesla"),
        body_of("stranger", "10.77.0.4", "10.128.1.128/25"),
        body_of("curie", "10.77.99.1"),
    ]
    for number, body in enumerate(bodies, 2):
        chain.append(fm.forge_statement(ADMIN, body, seq=number, prev=fm.hash_of(chain[-1])))
    return _scenario(
        "conflicts",
        "An address, a name and a network of an incumbent, and a range outside the pool: "
        "the incumbent stays, the others are configured nowhere.",
        chain,
    )


def _generations() -> dict[str, Any]:
    second = fm.key("tesla's second identity")
    chain = [fm.forge_statement(ADMIN, body_of("tesla", "10.77.0.1"))]
    for number, body in enumerate(
        (body_of("tesla", "10.77.0.1", gen=2, signer=second), body_of("tesla", "10.77.0.1")), 2
    ):
        chain.append(fm.forge_statement(ADMIN, body, seq=number, prev=fm.hash_of(chain[-1])))
    records = [fm.record("tesla", version=9), fm.record("tesla", version=3, gen=2, signer=second)]
    return _scenario(
        "generations",
        "A second identity, then a later re-grant of the first: the higher generation holds, "
        "and only its record counts, though its version is lower.",
        [*chain, *records],
    )


def _fork_and_cut() -> dict[str, Any]:
    chain = fm.make_chain(2)
    good = fm.forge_statement(OTHER, body_of("tesla", "10.77.16.1"))
    twin = fm.forge_statement(OTHER, body_of("newton", "10.77.16.2"))
    evil = Revoke(hid=TESLA.kid, why="evil")
    after = fm.forge_statement(OTHER, evil, seq=2, prev=fm.hash_of(good))
    root = fm.sign_root(fm.retire(chain, OTHER.kid, (1, fm.hash_of(good))), ADMIN)
    return _scenario(
        "fork and cut",
        "A copied key signed statement 1 twice and a revoke after it; root 2 cuts the log at "
        "the first statement 1. Only that one counts.",
        [good, twin, after, *root_objects(root)],
    )


def _rotations() -> dict[str, Any]:
    ledger = Ledger(fm.make_chain(2))
    now = int(fm.NOW)
    objects = [fm.grant(ledger, ADMIN, name) for name in ("tesla", "newton", "bohr")]
    objects += [fm.record("tesla"), fm.record("newton")]
    asked: list[tuple[SigningKey, tuple[str, ...], int]] = [
        (OTHER, (), now - 100),
        (ADMIN, (TESLA.kid, fm.key("stranger").kid), now),
        (OTHER, (TESLA.kid, NEWTON.kid), now),
        (ADMIN, (NEWTON.kid,), now - 200),
        (ADMIN, (), now + 1),
        (OTHER, (BOHR.kid,), 2**53 - 1),
    ]
    for key, hids, not_before in asked:
        objects.append(LogSigner(ledger, key).append(Rotate(hids=hids, not_before=not_before), now=fm.NOW))
    after_a_hole = fm.forge_statement(OTHER, Rotate(hids=(), not_before=now), seq=9, prev="0" * 64)
    return _scenario(
        "rotations",
        "Requests for new WireGuard keys: to all, to some, one to come and one of the end of "
        "time, and one above a hole. Of two that ask tesla for the same, the one of the lower hash is named.",
        [*objects, after_a_hole],
    )


def _wireguard_keys() -> dict[str, Any]:
    """Four hosts, of which two name keys of others, and one has the copied disk of another."""
    ledger = Ledger(fm.make_chain(2))
    names = ("stranger", "tesla", "newton", "bohr")
    grants = [fm.grant(ledger, ADMIN, name) for name in names]
    tesla, following = fm.wireguard_key("tesla"), fm.wireguard_key("newton's next")
    copied = {"wireguard": str(tesla.public()), "proof": encode_base64(prove_key(tesla, TESLA.kid))}
    records = [
        fm.record("stranger", changes=copied),
        fm.record("tesla"),
        fm.record("newton", next_private_key=following),
        fm.record("bohr", private_key=following),
    ]
    return _scenario(
        "wireguard keys",
        "stranger was granted first, and names the key of tesla with the proof that tesla gave: a proof "
        "names its host, so tesla keeps the key. bohr has newton's next key and proves it: newton was "
        "granted first. The records of stranger and bohr do not count.",
        [*grants, *records],
    )


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


def build_enrollment() -> dict[str, Any]:
    record = build_record(
        mesh="",
        hid=NEWTON.kid,
        gen=1,
        version=0,
        private_key=PrivateKey(bytes(range(32))),
        listen_port=51820,
        endpoints=[Endpoint.parse("192.0.2.7:51820")],
        networks=[fm.network("10.128.2.0/24")],
        software="meshd/1",
    )
    request = build_request("newton", NEWTON, record)
    ledger = Ledger(fm.make_chain(2))
    fm.grant(ledger, ADMIN, "tesla")
    fm.grant(ledger, ADMIN, "newton", networks=["10.128.2.0/24"])
    fm.fill(ledger, [fm.record("tesla")])
    bundle = build_bundle(ledger, NEWTON.kid)
    more = {**bundle.heads, OTHER.kid: (1, "0" * 64)}
    return {
        "now": int(fm.NOW),
        "request": request,
        "name": "newton",
        "hid": NEWTON.kid,
        "refuse_requests": _bad_requests(request),
        "bundle": render_bundle(bundle),
        "bundle_hosts": sorted(fm.names(ledger)),
        "refuse_bundles": {
            "no heads": render_bundle(msgspec.structs.replace(bundle, heads={})),
            "the head of a log that is not in it": render_bundle(msgspec.structs.replace(bundle, heads=more)),
            "a statement less": render_bundle(msgspec.structs.replace(bundle, objects=bundle.objects[1:])),
            "for a host without a grant": render_bundle(msgspec.structs.replace(bundle, hid=BOHR.kid)),
            "the fingerprint of another root": render_bundle(
                msgspec.structs.replace(bundle, fingerprint="0" * 64)
            ),
        },
    }


def _bad_requests(request: str) -> dict[str, str]:
    stranger = fm.key("stranger")
    envelope = parse_envelope(request.encode(), 8192)
    fields = msgspec.json.decode(envelope.payload)
    record = parse_envelope(decode_base64(fields["record"], "record"))
    said = msgspec.json.decode(record.payload)

    def asked(**changes: Any) -> str:
        """Signed again by the host, with another record of its own."""
        inner = NEWTON.sign(encode({**said, **changes}), HOST_RECORD_TYPE)
        return around(render_envelope(inner))

    def around(inner: bytes) -> str:
        payload = encode({**fields, "record": encode_base64(inner)})
        return render_envelope(NEWTON.sign(payload, ENROLLMENT_TYPE)).decode()

    return {
        "signed by another key": render_envelope(stranger.sign(envelope.payload, ENROLLMENT_TYPE)).decode(),
        "a byte more": request + "x",
        "two signatures": render_envelope(stranger.cosign(envelope)).decode(),
        "two signatures of the record": around(render_envelope(stranger.cosign(record))),
        "a record of another host": asked(hid=TESLA.kid),
        "a record of version 1": asked(version=1, mesh=fm.make_chain(2).mesh_id),
        "the proof of another WireGuard key": asked(
            proof=encode_base64(prove_key(fm.wireguard_key("tesla"), NEWTON.kid))
        ),
        "the proof for another host": asked(
            proof=encode_base64(prove_key(PrivateKey(bytes(range(32))), TESLA.kid))
        ),
        "signed as a record": render_envelope(NEWTON.sign(envelope.payload, HOST_RECORD_TYPE)).decode(),
    }


def build_key_requests() -> dict[str, Any]:
    request = build_key_request("bohr", "admin", BOHR)
    envelope = parse_envelope(request.encode())
    fields = msgspec.json.decode(envelope.payload)

    def asked(**changes: Any) -> str:
        return render_envelope(BOHR.sign(encode({**fields, **changes}), KEY_REQUEST_TYPE)).decode()

    return {
        "request": request,
        "name": "bohr",
        "role": "admin",
        "kid": BOHR.kid,
        "refuse": {
            "the key of another": asked(key=encode_base64(NEWTON.public)),
            "two signatures": render_envelope(NEWTON.cosign(envelope)).decode(),
            "an unknown role": asked(role="host"),
            "a name with a space": asked(name="niels bohr"),
            "a field more": asked(extra=1),
            "over 4,096 bytes": request + " " * 4096 + "x",
        },
    }


def render(document: Any) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    for name, document in build_vectors().items():
        (DIRECTORY / name).write_text(render(document), encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
