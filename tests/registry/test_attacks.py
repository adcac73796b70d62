"""Attacks by forged, foreign or endless objects, which need neither a store nor a network."""

from __future__ import annotations

import base64
import json

import fakemesh as fm
import pytest

from meshd.errors import RegistryError
from meshd.registry import log_room
from meshd.registry.envelope import (
    ENROLLMENT_TYPE,
    HOST_RECORD_TYPE,
    ROOT_TYPE,
    STATEMENT_TYPE,
    payload_hash,
    render_envelope,
)
from meshd.registry.layout import host_key, log_key
from meshd.registry.ledger import Ledger
from meshd.registry.root import RootChain

ADMIN = fm.key("admin0")
OTHER = fm.key("admin1")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


def test_forged_grant(ledger: Ledger) -> None:
    stranger = fm.key("stranger")
    body = fm.grant_body("mallory", "10.77.0.9")
    own_name = fm.forge_statement(stranger, body)
    admins_name = fm.forge_statement(stranger, body, by=ADMIN.kid)
    assert ledger.offer(*own_name).outcome == "pending"
    assert ledger.offer(*admins_name).outcome == "refused"
    membership = ledger.membership(fm.NOW)
    assert (membership.hosts, membership.generation) == ({}, 1)


def test_root_only_key_does_not_grant(ledger: Ledger) -> None:
    forged = fm.forge_statement(fm.key("recovery"), fm.grant_body("mallory", "10.77.0.9"))
    assert ledger.offer(*forged).outcome == "pending"
    assert fm.names(ledger) == set()


def test_host_announcing_more_than_granted(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla", networks=["10.128.1.0/24"])
    announced = ["10.128.1.0/25", "10.128.0.0/16", "0.0.0.0/0", "10.128.2.0/24"]
    ledger.offer(*fm.record("tesla", networks=announced))
    membership = ledger.membership(fm.NOW)
    tesla = membership.hosts[fm.key("tesla").kid]
    assert tesla.networks == {fm.network("10.128.1.0/25")}
    assert tesla.record is not None
    (condition,) = [item for item in membership.conditions if item.code == "network_not_granted"]
    assert condition.subject == "tesla" and "10.128.2.0/24" in condition.text


NO_UNDERLAY = (
    "127.0.0.1:22",
    "[::1]:22",
    "0.0.0.0:51820",
    "[::]:51820",
    "255.255.255.255:51820",
    "239.1.2.3:51820",
    "[ff02::1]:51820",
    "169.254.169.254:80",
    "[fe80::1]:51820",
    "10.77.0.3:51820",
)


@pytest.mark.parametrize("endpoint", NO_UNDERLAY)
def test_a_record_that_points_its_peers_at_themselves(ledger: Ledger, endpoint: str) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    ledger.offer(*fm.record("tesla", endpoints=(endpoint, "198.18.0.2:51820")))
    membership = ledger.membership(fm.NOW)
    record = membership.hosts[fm.key("tesla").kid].record
    assert record is not None and [str(each) for each in record.endpoints] == ["198.18.0.2:51820"]
    (condition,) = membership.conditions
    assert (condition.code, condition.subject) == ("endpoint_unusable", "tesla")
    assert endpoint in condition.text and "198.18.0.2" not in condition.text


def test_mix_and_match_under_other_keys(ledger: Ledger) -> None:
    first, second = fm.grant(ledger, ADMIN, "tesla"), fm.grant(ledger, ADMIN, "newton")
    record = fm.record("tesla")
    fresh = Ledger(ledger.chain)
    digest = fm.hash_of(first)
    mixed = [
        (first[0], second[1]),
        (log_key(OTHER.kid, 1, digest), first[1]),
        (log_key(ADMIN.kid, 2, digest), first[1]),
        (host_key(fm.key("newton").kid), record[1]),
        (host_key(fm.key("tesla").kid), first[1]),
        (first[0], record[1]),
    ]
    assert {item.outcome for item in fm.fill(fresh, mixed)} == {"refused"}
    assert fresh.generation == 1


def test_statement_under_the_name_of_its_twin(ledger: Ledger) -> None:
    one = fm.forge_statement(ADMIN, fm.grant_body("tesla", "10.77.0.9"))
    twin = fm.forge_statement(ADMIN, fm.grant_body("newton", "10.77.0.10"))
    assert ledger.offer(one[0], twin[1]).outcome == "refused"
    assert ledger.offer(*one).outcome == "new"


def test_endless_data_per_object(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    name, body = fm.record("tesla")
    padded = json.dumps({**json.loads(body), "signatures": json.loads(body)["signatures"] * 9}).encode()
    for junk in (b"[" * 60_000, b"{" + b'"a":{' * 5_000, b"x" * 70_000, body + b" " * 3_000, padded):
        assert ledger.offer(name, junk).outcome == "refused"
    assert ledger.record_bytes(fm.key("tesla").kid) is None


def test_endless_data_in_all(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_room, "MAX_TOTAL_BYTES", 4_000)
    monkeypatch.setattr(log_room, "REVOKE_RESERVE_BYTES", 0)
    fm.grant(ledger, ADMIN, "tesla")
    with pytest.raises(RegistryError, match="bytes in all"):
        for index in range(10):
            fm.grant(ledger, ADMIN, f"host{index}")
    assert "tesla" in fm.names(ledger)


def test_endless_data_of_one_stolen_key(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_room, "MAX_LOG_BYTES", 2_000)
    with pytest.raises(RegistryError, match="log of"):
        for index in range(10):
            fm.grant(ledger, OTHER, f"host{index}")
    fm.grant(ledger, ADMIN, "tesla")
    assert "tesla" in fm.names(ledger)


def test_endless_strange_keys_and_pending_objects_are_bounded(ledger: Ledger) -> None:
    size = len(list(ledger.objects()))
    for index in range(600):
        ledger.offer(f"log/{index:032x}/{1:010d}-{index:064x}.json", b"{}")
        ledger.offer(f"junk-{index}", b"{}")
    assert len(ledger.refusals()) <= 256
    assert len(list(ledger.objects())) == size


def test_cross_kind_replay(ledger: Ledger) -> None:
    body = fm.grant_body("tesla", "10.77.0.9")
    for wrong in (HOST_RECORD_TYPE, ROOT_TYPE):
        forged = fm.forge_statement(ADMIN, body, payload_type=wrong)
        assert ledger.offer(*forged).outcome == "refused"
    name, signed = fm.forge_statement(ADMIN, body, payload_type=HOST_RECORD_TYPE)
    relabelled = signed.replace(HOST_RECORD_TYPE.encode(), b"application/vnd.wg-meshd.statement.v1+json")
    assert ledger.offer(name, relabelled).outcome == "refused"
    assert fm.names(ledger) == set()


def test_host_record_signed_as_another_kind(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    name, body = fm.record("tesla")
    payload = base64.b64decode(json.loads(body)["payload"])
    for kind in (STATEMENT_TYPE, ENROLLMENT_TYPE):
        signed = render_envelope(fm.key("tesla").sign(payload, kind))
        assert ledger.offer(name, signed).outcome == "refused"


def test_cross_mesh_replay() -> None:
    elsewhere = Ledger(fm.make_chain(mesh="cd" * 16))
    granted = fm.grant(elsewhere, ADMIN, "tesla")
    foreign_record = fm.record("tesla", mesh="cd" * 16)
    here = Ledger(fm.make_chain())
    assert here.offer(*granted).outcome == "refused"
    fm.grant(here, ADMIN, "tesla")
    assert here.offer(*foreign_record).outcome == "refused"
    foreign_root = fm.next_root(here.chain, mesh="cd" * 16)
    with pytest.raises(RegistryError, match="mesh"):
        here.chain.advance(fm.sign_root(foreign_root, ADMIN))


def test_duplicate_json_keys(ledger: Ledger) -> None:
    name, body = fm.forge_statement(ADMIN, fm.grant_body("tesla", "10.77.0.9"))
    payload = base64.b64decode(json.loads(body)["payload"])
    doubled = payload.replace(b'"seq":1', b'"seq":1,"seq":1')
    signed = ADMIN.sign(doubled, "application/vnd.wg-meshd.statement.v1+json")
    digest = payload_hash(doubled)
    refused = ledger.offer(log_key(ADMIN.kid, 1, digest), render_envelope(signed))
    assert refused.outcome == "refused" and "canonical" in refused.reason
    envelope_twice = body.replace(b'{"payload":', b'{"payload":"","payload":', 1)
    assert ledger.offer(name, envelope_twice).outcome == "refused"


@pytest.mark.parametrize("position", range(0, 700, 41))
def test_a_changed_byte(position: int) -> None:
    ledger = Ledger(fm.make_chain())
    other = Ledger(ledger.chain)
    granted = fm.grant(other, ADMIN, "tesla")
    assert ledger.offer(*fm.flip(granted, position)).outcome == "refused"
    assert [item.code for item in ledger.refusals()] == ["registry_object_refused"]
    assert ledger.offer(*granted).outcome == "new"
    assert ledger.refusals() == ()
    signed = fm.record("tesla")
    assert ledger.offer(*fm.flip(signed, position)).outcome == "refused"
    assert ledger.offer(*signed).outcome == "new"


def test_trust_on_a_wrong_fingerprint() -> None:
    chain = fm.make_chain()
    with pytest.raises(RegistryError, match="fingerprint"):
        RootChain.start(chain.current.envelope, "0" * 64)
    with pytest.raises(RegistryError, match="fingerprint"):
        RootChain.start(chain.current.envelope, chain.fingerprint[:12])
