"""Vectors of whole histories: what a reader that trusts root 1 is given, and what it must conclude."""

from __future__ import annotations

from typing import Any

import fakemesh as fm
from key_vectors import build_key_scenarios
from trust_vectors import build_trust_scenarios

from meshd.model.service import Service
from meshd.registry.canonical import encode_base64
from meshd.registry.key_proof import prove_key
from meshd.registry.ledger import Ledger
from meshd.registry.root import RootChain, root_objects
from meshd.registry.signer import LogSigner
from meshd.registry.signing import SigningKey
from meshd.registry.statement import Grant, Revoke, Rotate

ADMIN, OTHER = fm.key("admin0"), fm.key("admin1")
TESLA, NEWTON, BOHR = fm.key("tesla"), fm.key("newton"), fm.key("bohr")
Item = tuple[str, bytes]


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
