"""Hosts and clients that name a WireGuard key which is another one's."""

from __future__ import annotations

import fakemesh as fm
import pytest

from meshd.model.rescue_key import rescue_public_key
from meshd.registry.canonical import encode_base64
from meshd.registry.key_proof import prove_key
from meshd.registry.ledger import Ledger

ADMIN = fm.key("admin0")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


def conditions_of(ledger: Ledger) -> dict[str, str]:
    """Code and subject -> text."""
    return {f"{item.code} {item.subject}": item.text for item in ledger.membership(fm.NOW).conditions}


def claim_of(victim: str, where: str, proof: bytes) -> dict[str, str]:
    """The fields of a record that names the victim's WireGuard key."""
    key = str(fm.wireguard_key(victim).public())
    named = {"wireguard": key, "proof": encode_base64(proof)}
    following = {"next": key, "next_proof": encode_base64(proof)}
    return named if where == "as its own" else following


@pytest.mark.parametrize("where", ["as its own", "as its next"])
@pytest.mark.parametrize("proof", ["copied", "of its own key", "junk"])
@pytest.mark.parametrize("first", ["mallory", "tesla"])
def test_wireguard_key_of_another_host(ledger: Ledger, where: str, proof: str, first: str) -> None:
    """Whoever was granted first: a key is its host's who proves to have it, and the other one is named."""
    for name in (first, "mallory" if first == "tesla" else "tesla"):
        fm.grant(ledger, ADMIN, name)
    proofs = {
        "copied": prove_key(fm.wireguard_key("tesla"), fm.key("tesla").kid),
        "of its own key": prove_key(fm.wireguard_key("mallory"), fm.key("mallory").kid),
        "junk": bytes(64),
    }
    lie = fm.record("mallory", version=9, at=fm.NOW, changes=claim_of("tesla", where, proofs[proof]))
    for records in ([lie, fm.record("tesla")], [fm.record("tesla"), lie]):
        reader = Ledger(ledger.chain)
        fm.fill(reader, [*ledger.objects(), *records])
        hosts = reader.membership(fm.NOW).hosts
        tesla = hosts[fm.key("tesla").kid].record
        assert tesla is not None and tesla.public_key == fm.wireguard_key("tesla").public()
        assert hosts[fm.key("mallory").kid].record is None
        (said,) = conditions_of(reader).items()
        assert said[0] == "wireguard_key_unproven mallory"
        assert "of tesla" in said[1] and "record 9 of 2023-11-14" in said[1]


def test_next_wireguard_key_of_another_host(ledger: Ledger) -> None:
    """It would become a peer beside the other host's on everybody's second interface."""
    fm.grant(ledger, ADMIN, "mallory")
    fm.grant(ledger, ADMIN, "tesla")
    following = fm.wireguard_key("tesla's next")
    lie = {"next": str(following.public()), "next_proof": encode_base64(bytes(64))}
    fm.fill(ledger, [fm.record("tesla", next_private_key=following), fm.record("mallory", changes=lie)])
    hosts = ledger.membership(fm.NOW).hosts
    tesla = hosts[fm.key("tesla").kid].record
    assert tesla is not None and tesla.next_public_key == following.public()
    assert hosts[fm.key("mallory").kid].record is None


@pytest.mark.parametrize("where", ["as its own", "as its next"])
@pytest.mark.parametrize("first", ["mallory", "phone"])
def test_who_names_a_clients_key_takes_no_client_out(ledger: Ledger, where: str, first: str) -> None:
    """A key that a phone made itself is proven by nobody. It is named by the grant's administrator, and stays
    the phone's against a member who names it too, whoever was granted first and whatever came first."""
    for name in (first, "mallory" if first == "phone" else "phone"):
        fm.grant(ledger, ADMIN, name, roles=["client"] if name == "phone" else [])
    phone = fm.record("phone", version=0, mesh="", changes={"proof": encode_base64(bytes(64))})
    lie = fm.record("mallory", version=9, changes=claim_of("phone", where, bytes(64)))
    for records in ([lie, phone], [phone, lie]):
        reader = Ledger(ledger.chain)
        fm.fill(reader, [*ledger.objects()])
        for each in records:  # one by one, as hosts hear of them
            reader.offer(*each)
            hosts = reader.membership(fm.NOW).hosts
        assert hosts[fm.key("phone").kid].record is not None
        assert hosts[fm.key("mallory").kid].record is None
        assert list(conditions_of(reader)) == ["wireguard_key_unproven mallory"]


def test_of_two_clients_of_one_key_the_first_one_keeps_it(ledger: Ledger) -> None:
    zero = {"proof": encode_base64(bytes(64)), "wireguard": str(fm.wireguard_key("phone").public())}
    for name in ("phone", "tablet"):
        fm.grant(ledger, ADMIN, name, roles=["client"])
        ledger.offer(*fm.record(name, version=0, mesh="", changes=zero))
    hosts = ledger.membership(fm.NOW).hosts
    assert hosts[fm.key("phone").kid].record is not None and hosts[fm.key("tablet").kid].record is None
    fm.grant(ledger, ADMIN, "tesla")
    ledger.offer(*fm.record("tesla", private_key=fm.wireguard_key("phone")))
    hosts = ledger.membership(fm.NOW).hosts
    assert hosts[fm.key("tesla").kid].record is not None, "who has the key and proves it wins"
    assert hosts[fm.key("phone").kid].record is None


@pytest.mark.parametrize("where", ["as its own", "as its next"])
@pytest.mark.parametrize("first", ["mallory", "tesla"])
@pytest.mark.parametrize("is_client", [False, True])
def test_a_hosts_rescue_key_is_named_by_no_other_host(
    ledger: Ledger, where: str, first: str, is_client: bool
) -> None:
    """The Curve25519 form of its identity stands in no record, and is a WireGuard key of that host all the
    same: others call it by that key when they have lost it, and relays know its datagrams by it."""
    for name in (first, "mallory" if first == "tesla" else "tesla"):
        fm.grant(ledger, ADMIN, name, roles=["client"] if is_client and name == "mallory" else [])
    key = str(rescue_public_key(fm.key("tesla").public))
    proof = encode_base64(bytes(64))
    own, following = {"wireguard": key, "proof": proof}, {"next": key, "next_proof": proof}
    lie = fm.record("mallory", version=9, changes=own if where == "as its own" else following)
    for records in ([lie, fm.record("tesla")], [fm.record("tesla"), lie]):
        reader = Ledger(ledger.chain)
        fm.fill(reader, [*ledger.objects()])
        for each in records:
            reader.offer(*each)
            hosts = reader.membership(fm.NOW).hosts
        assert hosts[fm.key("tesla").kid].record is not None
        assert hosts[fm.key("mallory").kid].record is None
        assert list(conditions_of(reader)) == ["wireguard_key_unproven mallory"]
    reader.offer(*fm.record("mallory", version=10))
    membership = reader.membership(fm.NOW)
    assert all(host.record is not None for host in membership.hosts.values())
    assert membership.conditions == ()


def test_a_copied_disk_leaves_the_key_to_the_host_that_was_granted_first(ledger: Ledger) -> None:
    """Both have the key and prove it: WireGuard holds one peer a key, and somebody has to look."""
    fm.grant(ledger, ADMIN, "tesla")
    fm.grant(ledger, ADMIN, "newton")
    fm.fill(ledger, [fm.record("tesla"), fm.record("newton", private_key=fm.wireguard_key("tesla"))])
    hosts = ledger.membership(fm.NOW).hosts
    assert hosts[fm.key("tesla").kid].record is not None
    assert hosts[fm.key("newton").kid].record is None
    assert list(conditions_of(ledger)) == ["wireguard_key_conflict newton"]


def test_a_claim_that_was_taken_back_costs_nobody_anything(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "mallory")
    fm.grant(ledger, ADMIN, "tesla")
    lie = fm.record("mallory", version=1, changes=claim_of("tesla", "as its own", bytes(64)))
    fm.fill(ledger, [lie, fm.record("tesla")])
    assert ledger.membership(fm.NOW).hosts[fm.key("mallory").kid].record is None
    ledger.offer(*fm.record("mallory", version=2))
    membership = ledger.membership(fm.NOW)
    assert all(host.record is not None for host in membership.hosts.values())
    assert membership.conditions == ()
