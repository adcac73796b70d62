"""Scenarios of the test vectors about WireGuard keys that are somebody's without a proof of his record."""

from __future__ import annotations

from typing import Any

import fakemesh as fm
from trust_vectors import Item, Scenario

from meshd.model.keys import PrivateKey
from meshd.model.rescue_key import rescue_private_key
from meshd.registry.canonical import encode_base64
from meshd.registry.ledger import Ledger

ADMIN = fm.key("admin0")
UNPROVEN = encode_base64(bytes(64))


def build_key_scenarios(scenario: Scenario) -> list[dict[str, Any]]:
    return [_rescue_keys(scenario), _clients(scenario)]


def _rescue_of(name: str) -> PrivateKey:
    return rescue_private_key(fm.key(name).seed())


def _named(name: str, key: PrivateKey, **more: Any) -> Item:
    """The record of a host that names this key as its own and cannot prove it."""
    return fm.record(name, changes={"wireguard": str(key.public()), "proof": UNPROVEN}, **more)


def _rescue_keys(scenario: Scenario) -> dict[str, Any]:
    ledger = Ledger(fm.make_chain(2))
    names = ("stranger", "meitner", "tesla", "newton", "bohr", "curie")
    grants = [fm.grant(ledger, ADMIN, name) for name in names]
    grants.append(fm.grant(ledger, ADMIN, "noether", expires_at=int(fm.NOW)))
    next_one = {"next": str(_rescue_of("tesla").public()), "next_proof": UNPROVEN}
    records = [
        fm.record("stranger", private_key=_rescue_of("tesla")),
        fm.record("meitner", changes=next_one),
        fm.record("tesla"),
        fm.record("newton", private_key=_rescue_of("newton")),
        _named("bohr", _rescue_of("bohr")),
        _named("curie", _rescue_of("noether")),
    ]
    return scenario(
        "rescue keys",
        "stranger and meitner were granted before tesla and name its rescue key, as their own with a proof "
        "and as their next one without: neither record counts. newton names its own rescue key and proves "
        "it, which counts; bohr does not prove it, which does not. The grant of noether has ended, so its "
        "rescue key is nobody's, and curie may name it.",
        [*grants, *records],
    )


def _clients(scenario: Scenario) -> dict[str, Any]:
    ledger = Ledger(fm.make_chain(2))
    grants = [
        fm.grant(ledger, ADMIN, name, roles=["client"] if name in ("phone", "tablet", "laptop") else [])
        for name in ("stranger", "phone", "tablet", "laptop", "tesla")
    ]
    phone, laptop = fm.wireguard_key("phone"), fm.wireguard_key("laptop")
    records = [
        _named("stranger", phone),
        _named("phone", phone, version=0, mesh=""),
        _named("tablet", phone, version=0, mesh=""),
        _named("laptop", laptop, version=0, mesh=""),
        fm.record("tesla", private_key=laptop),
    ]
    return scenario(
        "clients",
        "Three clients, whose records prove no key. stranger was granted before phone and names its key "
        "without a proof, tablet after it: phone keeps it. tesla names the key of laptop and proves it, so "
        "it is tesla's although laptop was granted first. The records of stranger, tablet and laptop do not "
        "count.",
        [*grants, *records],
    )
