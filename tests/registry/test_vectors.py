"""The test vectors: the code makes these very bytes, accepts what is valid, and refuses the rest."""

from __future__ import annotations

import base64
import json
import random
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import pytest
from nacl.bindings import crypto_sign_open
from scenario_vectors import render_service
from vectors import DIRECTORY, build_vectors, render

from meshd.errors import RegistryError
from meshd.model.keys import PrivateKey, PublicKey
from meshd.model.network import parse_address, parse_network
from meshd.model.rescue_key import rescue_public_key
from meshd.registry.allocation import allocate_address, derive_link_address
from meshd.registry.bundle import open_bundle, parse_request
from meshd.registry.canonical import decode, encode
from meshd.registry.ed25519 import is_good_signature
from meshd.registry.envelope import pae, parse_envelope, payload_hash, verify_signature
from meshd.registry.key_proof import KEY_PROOF_TYPE, is_key_proof
from meshd.registry.key_request import parse_key_request
from meshd.registry.ledger import Ledger
from meshd.registry.root import chain_from_envelopes, root_envelopes
from meshd.registry.signing import SigningKey, parse_recovery_words, render_fingerprint


def read(name: str) -> Any:
    return json.loads((DIRECTORY / name).read_text())


@pytest.mark.slow
def test_the_files_are_what_the_code_makes_today() -> None:
    made = {name: render(document) for name, document in build_vectors().items()}
    assert made == {path.name: path.read_text() for path in Path(DIRECTORY).glob("*.json")}


def test_keys_follow_from_their_seeds() -> None:
    for vector in read("keys.json"):
        key = SigningKey.from_seed(bytes.fromhex(vector["seed_hex"]))
        assert (key.public.hex(), key.kid) == (vector["public_hex"], vector["kid"])
        assert parse_recovery_words(vector["recovery_words"]) == key
        assert render_fingerprint(key.kid) == vector["fingerprint"]
        assert str(rescue_public_key(key.public)) == vector["rescue_public"]


def test_proofs_of_wireguard_keys_are_ordinary_ed25519_signatures() -> None:
    for vector in read("wireguard.json"):
        key, proof = PublicKey.parse(vector["public"]), base64.b64decode(vector["proof"])
        assert PrivateKey(bytes.fromhex(vector["private_hex"])).public() == key
        message = pae(KEY_PROOF_TYPE, f"{vector['hid']} {vector['public']}".encode())
        assert crypto_sign_open(proof + message, bytes.fromhex(vector["ed25519_hex"])) == message
        assert is_key_proof(proof, key, vector["hid"]) and not is_key_proof(proof, key, "0" * 32)


def test_canonical_bytes() -> None:
    vectors = read("canonical.json")
    for vector in vectors["accept"]:
        body = bytes.fromhex(vector["bytes_hex"])
        assert encode(vector["value"]) == body and decode(body) == vector["value"]
    for vector in vectors["refuse"]:
        with pytest.raises(RegistryError):
            decode(bytes.fromhex(vector["bytes_hex"]))


@pytest.mark.parametrize("verdict", ["accept", "refuse"])
def test_a_signature_that_verifiers_disagree_about_is_believed_by_nobody(verdict: str) -> None:
    for vector in read("signatures.json")[verdict]:
        public, message, signature = (
            bytes.fromhex(vector[name]) for name in ("public_hex", "message_hex", "signature_hex")
        )
        assert is_good_signature(signature, message, public) == (verdict == "accept"), vector["why"]


def test_envelopes_verify_under_their_signer_alone() -> None:
    publics = {vector["name"]: bytes.fromhex(vector["public_hex"]) for vector in read("keys.json")}
    for vector in read("envelopes.json"):
        envelope = parse_envelope(vector["envelope"].encode())
        assert envelope.payload == vector["payload"].encode()
        assert payload_hash(envelope.payload) == vector["payload_hash"]
        assert pae(envelope.payload_type, envelope.payload).hex() == vector["pae_hex"]
        assert envelope.signatures[0].sig.hex() == vector["signature_hex"]
        good = {name for name, public in publics.items() if verify_signature(envelope, public)}
        assert good == {vector["signer"]}


def test_addresses() -> None:
    vectors = read("addresses.json")
    for vector in vectors["derived"]:
        assert str(derive_link_address(IPv6Network(vector["range"]), vector["hid"])) == vector["address"]
    lowest = vectors["lowest_free"]
    pools = [parse_network(text) for text in lowest["pools"]]
    used = {parse_address(text) for text in lowest["used"]}
    assert str(allocate_address(pools, used)) == lowest["address"]


def objects_of(pairs: list[list[str]]) -> list[tuple[str, bytes]]:
    return [(key, body.encode()) for key, body in pairs]


def open_ledger(objects: list[tuple[str, bytes]], fingerprint: str | None = None) -> Ledger:
    """A reader that trusts root 1 of these objects."""
    first = [item for item in objects if item[0].startswith("root/000001")]
    return Ledger(chain_from_envelopes(root_envelopes(first), fingerprint))


@pytest.mark.parametrize("scenario", read("scenarios.json"), ids=lambda scenario: scenario["name"])
@pytest.mark.parametrize("seed", range(3))
def test_scenarios_come_to_the_same_in_any_order(scenario: dict[str, Any], seed: int) -> None:
    objects, expected = objects_of(scenario["objects"]), scenario["expected"]
    random.Random(seed).shuffle(objects)
    ledger = open_ledger(objects, scenario["trusted_root"])
    for key, body in objects:
        assert ledger.offer(key, body).outcome in ("new", "known", "pending")
    membership = ledger.membership(scenario["now"])
    assert {kid: list(head) for kid, head in ledger.heads().items()} == expected["heads"]
    assert {hid: host.name for hid, host in membership.hosts.items()} == {
        hid: host["name"] for hid, host in expected["hosts"].items()
    }
    for hid, wanted in expected["hosts"].items():
        host = membership.hosts[hid]
        assert [str(address) for address in host.addresses] == wanted["addresses"]
        assert sorted(map(str, host.networks)) == wanted["networks"]
        assert (host.record.version if host.record else None) == wanted["record_version"]
        assert (str(host.record.public_key) if host.record else None) == wanted["wireguard"]
        assert [str(each) for each in (host.record.endpoints if host.record else ())] == wanted["endpoints"]
        assert host.rotate_not_before == wanted["rotate_not_before"]
        assert (host.rotation.statement if host.rotation else None) == wanted["rotation"]
    assert {name: render_service(each) for name, each in membership.services.items()} == expected["services"]
    assert sorted(membership.revoked) == expected["revoked"]
    assert sorted(membership.unplaced) == expected["unplaced"]
    assert (membership.root_version, membership.generation) == (
        expected["root_version"],
        expected["generation"],
    )
    said = {f"{item.code} {item.subject}".strip() for item in membership.conditions}
    assert sorted(said) == expected["conditions"]


@pytest.mark.parametrize("case", read("refuse.json")["refuse"], ids=lambda case: case["why"])
def test_what_must_be_refused(case: dict[str, Any]) -> None:
    vectors = read("refuse.json")
    held = objects_of(vectors["held"])
    ledger = open_ledger(held)
    for key, body in (*held, *objects_of(case.get("first", []))):
        ledger.offer(key, body)
    before = ledger.membership(vectors["now"])
    admission = ledger.offer(case["key"], case["body"].encode())
    assert admission.outcome == case["outcome"] and admission.outcome in ("refused", "pending")
    assert ledger.membership(vectors["now"]).hosts == before.hosts


def test_enrollment() -> None:
    vectors = read("enrollment.json")
    request = parse_request(vectors["request"])
    assert (request.name, request.hid) == (vectors["name"], vectors["hid"])
    for text in vectors["refuse_requests"].values():
        with pytest.raises(RegistryError):
            parse_request(text)
    for text in vectors["refuse_bundles"].values():
        with pytest.raises(RegistryError):
            open_bundle(text)
    ledger, bundle = open_bundle(vectors["bundle"])
    assert bundle.hid == vectors["hid"]
    hosts = ledger.membership(vectors["now"]).hosts.values()
    assert sorted(host.name for host in hosts) == vectors["bundle_hosts"]


def test_key_requests() -> None:
    vectors = read("key_request.json")
    request = parse_key_request(vectors["request"])
    assert (request.name, request.role, request.kid) == (vectors["name"], vectors["role"], vectors["kid"])
    for text in vectors["refuse"].values():
        with pytest.raises(RegistryError):
            parse_key_request(text)
