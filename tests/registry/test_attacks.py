"""One test for each attack on the registry that needs neither a store nor a network.

Over 400 lines: one list of attacks, of a few lines each.
"""

from __future__ import annotations

import base64
import json

import fakemesh as fm
import msgspec
import pytest

from meshd.errors import RegistryError
from meshd.model.rescue_key import rescue_public_key
from meshd.registry import log_room
from meshd.registry.canonical import encode_base64
from meshd.registry.envelope import (
    ENROLLMENT_TYPE,
    HOST_RECORD_TYPE,
    ROOT_TYPE,
    STATEMENT_TYPE,
    payload_hash,
    render_envelope,
)
from meshd.registry.key_proof import prove_key
from meshd.registry.layout import host_key, log_key
from meshd.registry.ledger import Ledger
from meshd.registry.root import RootChain, root_objects
from meshd.registry.root_changes import build_successor
from meshd.registry.signer import LogSigner
from meshd.registry.statement import Grant, Revoke

ADMIN = fm.key("admin0")
OTHER = fm.key("admin1")


def make_grant(name: str, address: str, *networks: str, gen: int = 1, identity: bytes | None = None) -> Grant:
    host = fm.key(name)
    return Grant(
        hid=host.kid,
        name=name,
        gen=gen,
        identity=encode_base64(identity or host.public),
        addresses=(address,),
        networks=networks,
        region="",
        roles=(),
        tags=(),
        expires=0,
    )


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


def test_forged_grant(ledger: Ledger) -> None:
    stranger = fm.key("stranger")
    body = make_grant("mallory", "10.77.0.9")
    own_name = fm.forge_statement(stranger, body)
    admins_name = fm.forge_statement(stranger, body, by=ADMIN.kid)
    assert ledger.offer(*own_name).outcome == "pending"
    assert ledger.offer(*admins_name).outcome == "refused"
    membership = ledger.membership(fm.NOW)
    assert (membership.hosts, membership.generation) == ({}, 1)


def test_root_only_key_does_not_grant(ledger: Ledger) -> None:
    forged = fm.forge_statement(fm.key("recovery"), make_grant("mallory", "10.77.0.9"))
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


def test_rollback_of_a_record(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    old, new = fm.record("tesla", version=5), fm.record("tesla", version=6)
    assert [item.outcome for item in fm.fill(ledger, [old, new])] == ["new", "new"]
    before = ledger.membership(fm.NOW)
    assert ledger.offer(*old).outcome == "refused"
    assert ledger.membership(fm.NOW) is before
    assert ledger.record_bytes(fm.key("tesla").kid) == new[1]


def test_rollback_of_a_log_by_a_shorter_one_changes_nothing(ledger: Ledger) -> None:
    first = fm.grant(ledger, ADMIN, "tesla")
    LogSigner(ledger, ADMIN).revoke(fm.key("tesla").kid, "sold", now=fm.NOW)
    assert ledger.offer(*first).outcome == "known"
    assert fm.names(ledger) == set()


def test_rollback_of_the_root(ledger: Ledger) -> None:
    chain = ledger.chain
    second = fm.sign_root(fm.next_root(chain, max_hosts=5), ADMIN)
    assert fm.offer_root(ledger, second)[-1].outcome == "new"
    assert {item.outcome for item in fm.offer_root(ledger, chain.current.envelope)} == {"known"}
    assert ledger.chain.version == 2
    with pytest.raises(RegistryError, match="already trusted"):
        ledger.chain.advance(chain.current.envelope)
    with pytest.raises(RegistryError, match="older than the trusted root"):
        older = msgspec.structs.replace(chain.root, max_hosts=7)
        ledger.chain.advance(fm.sign_root(older, ADMIN))


def test_another_root_of_the_trusted_version(ledger: Ledger) -> None:
    twin = fm.sign_root(msgspec.structs.replace(ledger.chain.root, max_hosts=5), ADMIN)
    assert {item.outcome for item in fm.offer_root(ledger, twin)} == {"refused"}
    assert ledger.chain.root.max_hosts != 5
    with pytest.raises(RegistryError, match="two roots were signed"):
        ledger.chain.advance(twin)


def test_withheld_revoke_shows_in_what_another_admin_has_seen(ledger: Ledger) -> None:
    granted = fm.grant(ledger, ADMIN, "tesla")
    LogSigner(ledger, ADMIN).revoke(fm.key("tesla").kid, "stolen", now=fm.NOW)
    seen_by_other = fm.grant(ledger, OTHER, "newton")
    victim = Ledger(ledger.chain)
    fm.fill(victim, [granted, seen_by_other])
    assert fm.names(victim) == {"tesla", "newton"}
    assert "registry_gap" in fm.codes(victim) and victim.membership(fm.NOW).gaps == 1


def test_withheld_statement_does_not_hold_a_later_revoke_back(ledger: Ledger) -> None:
    first = fm.grant(ledger, ADMIN, "tesla")
    fm.grant(ledger, ADMIN, "newton")
    revoke = LogSigner(ledger, ADMIN).revoke(fm.key("tesla").kid, "stolen", now=fm.NOW)
    victim = Ledger(ledger.chain)
    fm.fill(victim, [first, revoke])
    assert fm.names(victim) == set() and "registry_gap" in fm.codes(victim)


def test_withheld_root(ledger: Ledger) -> None:
    assert fm.offer_root(ledger, fm.sign_root(fm.next_root(ledger.chain), ADMIN))[-1].outcome == "new"
    granted = fm.grant(ledger, ADMIN, "tesla")
    victim = Ledger(fm.make_chain(2))
    victim.offer(*granted)
    assert fm.names(victim) == {"tesla"} and "registry_gap" in fm.codes(victim)


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
    one = fm.forge_statement(ADMIN, make_grant("tesla", "10.77.0.9"))
    twin = fm.forge_statement(ADMIN, make_grant("newton", "10.77.0.10"))
    assert ledger.offer(one[0], twin[1]).outcome == "refused"
    assert ledger.offer(*one).outcome == "new"


def test_a_record_signed_by_a_clock_of_2099_is_followed_by_the_next_one(ledger: Ledger) -> None:
    """No clock decides which of a host's records is the newest, whoever's was wrong for a minute."""
    later = fm.NOW + 73 * 365 * 86400.0
    fm.grant(ledger, ADMIN, "tesla")
    wrong = fm.record("tesla", version=7, at=later)
    for now in (fm.NOW, later):
        reader = Ledger(ledger.chain)
        fm.fill(reader, [*ledger.objects(), wrong], now=now)
        again = fm.record("tesla", version=8, at=fm.NOW)
        assert reader.offer(*again).outcome == "new"
        assert reader.record_bytes(fm.key("tesla").kid) == again[1]


def test_fast_forward_of_a_record_version_ends_with_the_identity(ledger: Ledger) -> None:
    """Who has a host's key can take its last number; a grant of the next generation begins anew."""
    second = fm.key("tesla's second identity")
    fm.grant(ledger, ADMIN, "tesla")
    ledger.offer(*fm.record("tesla", version=2**53 - 1))
    fm.grant(ledger, ADMIN, "tesla", gen=2, identity=second.public)
    honest = fm.record("tesla", version=1, gen=2, signer=second)
    assert ledger.offer(*honest).outcome == "new"
    assert ledger.record_bytes(fm.key("tesla").kid) == honest[1]


def test_endless_data_per_object(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    name, body = fm.record("tesla")
    padded = json.dumps({**json.loads(body), "signatures": json.loads(body)["signatures"] * 9}).encode()
    for junk in (b"[" * 60_000, b"{" + b'"a":{' * 5_000, b"x" * 70_000, body + b" " * 3_000, padded):
        assert ledger.offer(name, junk).outcome == "refused"
    assert ledger.record_bytes(fm.key("tesla").kid) is None


def test_endless_data_in_all(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_room, "MAX_TOTAL_BYTES", 4_000 + log_room.WALK_RESERVE_BYTES)
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


def test_copied_admin_key_forks_its_log_and_loses_no_host(ledger: Ledger) -> None:
    copy = Ledger(ledger.chain)
    shared = fm.grant(ledger, ADMIN, "tesla")
    copy.offer(*shared)
    ours = fm.grant(ledger, ADMIN, "newton")
    theirs = fm.grant(copy, ADMIN, "bohr", addresses=[fm.network("10.77.9.9/32").network_address])
    fm.fill(ledger, [theirs])
    fm.fill(copy, [ours])
    assert fm.names(ledger) == fm.names(copy) == {"tesla", "newton", "bohr"}
    assert "registry_fork" in fm.codes(ledger) and ledger.membership(fm.NOW).forks == 1


def test_signer_stops_when_its_log_goes_on_elsewhere(ledger: Ledger) -> None:
    """A statement of its own key above a hole proves that another copy of the key went on."""
    restored = Ledger(ledger.chain)
    fm.fill(restored, [fm.grant(ledger, ADMIN, "tesla")])
    later = [fm.grant(ledger, ADMIN, "newton"), fm.grant(ledger, ADMIN, "bohr")]
    fm.fill(restored, later[1:])
    with pytest.raises(RegistryError, match="own log"):
        fm.grant(restored, ADMIN, "curie")
    fm.fill(restored, later[:1])
    fm.grant(restored, ADMIN, "curie")
    assert restored.membership(fm.NOW).forks == 0


def test_stolen_admin_key_then_cut(ledger: Ledger) -> None:
    good = fm.grant(ledger, OTHER, "tesla")
    revoked_by_thief = LogSigner(ledger, OTHER).revoke(fm.key("tesla").kid, "evil", now=fm.NOW)
    fm.grant(ledger, OTHER, "mallory")
    assert fm.names(ledger) == {"mallory"}
    cut = fm.retire(ledger.chain, OTHER.kid, (1, fm.hash_of(good)))
    assert fm.offer_root(ledger, fm.sign_root(cut, ADMIN))[-1].outcome == "new"
    assert fm.names(ledger) == {"tesla"}
    after = fm.forge_statement(OTHER, make_grant("eve", "10.77.16.99"), seq=2, prev=fm.hash_of(good), root=2)
    ledger.offer(*after)
    assert fm.names(ledger) == {"tesla"} and "registry_fork" not in fm.codes(ledger)
    assert ledger.heads()[OTHER.kid] == (1, fm.hash_of(good)) != (2, fm.hash_of(revoked_by_thief))
    with pytest.raises(RegistryError, match="not an admin key"):
        fm.grant(ledger, OTHER, "eve")


def test_cut_whose_statement_is_withheld_counts_again_once_it_is_found(ledger: Ledger) -> None:
    first = fm.grant(ledger, OTHER, "tesla")
    last = fm.grant(ledger, OTHER, "newton")
    root = fm.retire(ledger.chain, OTHER.kid, (2, fm.hash_of(last)))
    victim = Ledger(ledger.chain)
    victim.offer(*first)
    fm.offer_root(victim, fm.sign_root(root, ADMIN))
    assert fm.names(victim) == set() and "registry_gap" in fm.codes(victim)
    victim.offer(*last)
    assert fm.names(victim) == {"tesla", "newton"} and "registry_gap" not in fm.codes(victim)


def test_withheld_cut_lets_nothing_above_it_count(ledger: Ledger) -> None:
    fm.grant(ledger, OTHER, "tesla")
    last = fm.grant(ledger, OTHER, "newton")
    thief = fm.grant(ledger, OTHER, "mallory")
    revoke = LogSigner(ledger, OTHER).revoke(fm.key("tesla").kid, "evil", now=fm.NOW)
    root = fm.retire(ledger.chain, OTHER.kid, (2, fm.hash_of(last)))
    victim = Ledger(ledger.chain)
    fm.fill(victim, [item for item in ledger.objects() if item[0] not in (last[0], revoke[0])])
    fm.offer_root(victim, fm.sign_root(root, ADMIN))
    victim.offer(*revoke)
    assert victim.body(thief[0]) is not None
    assert fm.names(victim) == set()
    twin = fm.forge_statement(
        OTHER, make_grant("eve", "10.77.16.99"), seq=2, prev=ledger.own_log(OTHER.kid)[0].hash
    )
    victim.offer(*twin)
    assert fm.names(victim) == set() and fm.key("tesla").kid not in victim.membership(fm.NOW).revoked
    victim.offer(*last)
    assert fm.names(victim) == {"tesla", "newton"}


def test_admin_key_may_not_vanish_without_a_cut(ledger: Ledger) -> None:
    fm.grant(ledger, OTHER, "tesla")
    keys = {kid: value for kid, value in ledger.chain.root.keys.items() if kid != OTHER.kid}
    dropped = fm.sign_root(fm.next_root(ledger.chain, keys=keys), ADMIN)
    assert "refused" in {item.outcome for item in fm.offer_root(ledger, dropped)}
    assert fm.names(ledger) == {"tesla"}


def test_grant_outside_the_signers_pool(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    for body in (make_grant("mallory", "10.77.0.9"), make_grant("mallory", "10.77.16.9", "10.128.9.0/24")):
        victim = Ledger(ledger.chain)
        victim.offer(*fm.forge_statement(OTHER, body))
        assert fm.names(victim) == set() and "grant_outside_pool" in fm.codes(victim)


def test_address_grabbed_from_an_incumbent(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla", networks=["10.128.1.0/24"])
    head = ledger.own_log(ADMIN.kid)[-1]
    grab = make_grant("mallory", "10.77.0.77", "10.128.1.128/25")
    ledger.offer(*fm.forge_statement(ADMIN, grab, seq=2, prev=head.hash))
    membership = ledger.membership(fm.NOW)
    assert fm.names(ledger) == {"tesla"}
    assert "tesla" in membership.unplaced[fm.key("mallory").kid] and membership.conflicts == 1


def test_fewer_than_threshold_root_keys() -> None:
    chain = fm.make_chain(2)
    thresholds = msgspec.structs.replace(chain.root.thresholds, root=2)
    two = fm.next_root(chain, thresholds=thresholds)
    with pytest.raises(RegistryError, match="too few good signatures"):
        chain.advance(fm.sign_root(two, ADMIN))
    chain = chain.advance(fm.sign_root(two, ADMIN, fm.key("recovery")))
    third = fm.next_root(chain, max_hosts=9)
    for signers in ([ADMIN], [fm.key("recovery")], [ADMIN, OTHER], [fm.key("stranger"), ADMIN]):
        with pytest.raises(RegistryError, match="too few good signatures"):
            chain.advance(fm.sign_root(third, *signers))
    ledger = Ledger(chain)
    assert [item.outcome for item in fm.offer_root(ledger, fm.sign_root(third, ADMIN))] == ["pending"] * 2
    assert ledger.chain.version == 2
    added = root_objects(fm.sign_root(third, fm.key("recovery")))
    assert ledger.offer(*added[1]).outcome == "new"
    assert ledger.chain.version == 3


def test_new_root_key_cannot_vote_itself_in() -> None:
    chain = fm.make_chain()
    stranger = fm.key("stranger")
    keys = dict(chain.root.keys)
    keys[stranger.kid] = msgspec.structs.replace(
        keys[ADMIN.kid], key=encode_base64(stranger.public), name="stranger", pools=()
    )
    with pytest.raises(RegistryError, match="too few good signatures"):
        chain.advance(fm.sign_root(fm.next_root(chain, keys=keys), stranger))


def test_stolen_host_key_signs_for_no_other_host(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    fm.grant(ledger, ADMIN, "newton")
    forged = fm.record("tesla", version=9, signer=fm.key("newton"))
    assert ledger.offer(*forged).outcome == "refused"
    assert ledger.record_bytes(fm.key("tesla").kid) is None


def test_stolen_host_key_is_worthless_after_a_grant_of_the_next_generation(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    ledger.offer(*fm.record("tesla", version=5))
    fresh = fm.key("tesla's second identity")
    hid = fm.key("tesla").kid
    fm.grant(ledger, ADMIN, "tesla", gen=2, identity=fresh.public)
    assert ledger.membership(fm.NOW).hosts[hid].record is None
    honest = fm.record("tesla", version=6, gen=2, signer=fresh)
    assert ledger.offer(*honest).outcome == "new"
    fm.fill(ledger, [fm.record("tesla", version=99), fm.record("tesla", version=99, gen=2)])
    held = ledger.membership(fm.NOW).hosts[hid].record
    assert held is not None and held.version == 6
    assert ledger.record_bytes(hid) == honest[1]


def test_stale_regrant_does_not_bring_a_replaced_identity_back(ledger: Ledger) -> None:
    first = fm.grant(ledger, ADMIN, "tesla")
    stale = Ledger(ledger.chain)
    stale.offer(*first)
    fm.grant(ledger, ADMIN, "tesla", gen=2, identity=fm.key("second").public)
    for number in range(3):  # a restored backup of the same home
        ledger.offer(*fm.grant(stale, ADMIN, "tesla", region=f"r{number}"))
    assert ledger.membership(fm.NOW).hosts[fm.key("tesla").kid].identity_key == fm.key("second").public


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


def test_cross_kind_replay(ledger: Ledger) -> None:
    body = make_grant("tesla", "10.77.0.9")
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
    name, body = fm.forge_statement(ADMIN, make_grant("tesla", "10.77.0.9"))
    payload = base64.b64decode(json.loads(body)["payload"])
    doubled = payload.replace(b'"seq":1', b'"seq":1,"seq":1')
    signed = ADMIN.sign(doubled, "application/vnd.wg-meshd.statement.v1+json")
    digest = payload_hash(doubled)
    refused = ledger.offer(log_key(ADMIN.kid, 1, digest), render_envelope(signed))
    assert refused.outcome == "refused" and "canonical" in refused.reason
    envelope_twice = body.replace(b'{"payload":', b'{"payload":"","payload":', 1)
    assert ledger.offer(name, envelope_twice).outcome == "refused"


@pytest.mark.parametrize("off", [-365 * 86400.0, 365 * 86400.0])
def test_clock_a_year_off_takes_what_honest_hosts_say(ledger: Ledger, off: float) -> None:
    granted = fm.grant(ledger, ADMIN, "tesla")
    newborn = Ledger(ledger.chain)
    fm.fill(newborn, [granted, fm.record("tesla", at=fm.NOW)], now=fm.NOW + off)
    assert newborn.membership(fm.NOW + off).hosts[fm.key("tesla").kid].record is not None


def test_split_view_shows_in_the_heads(ledger: Ledger) -> None:
    first = fm.grant(ledger, ADMIN, "tesla")
    left, right = Ledger(ledger.chain), Ledger(ledger.chain)
    second = fm.grant(ledger, ADMIN, "newton")
    fm.fill(left, [first, second])
    fm.fill(right, [first])
    assert left.heads() != right.heads()
    fm.fill(right, list(left.objects()))
    assert left.heads() == right.heads()


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


def test_revoke_is_final_for_a_hid(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    LogSigner(ledger, OTHER).revoke(fm.key("tesla").kid, "lost", now=fm.NOW)
    with pytest.raises(RegistryError, match="revoked for good"):
        fm.grant(ledger, ADMIN, "tesla")
    head = ledger.own_log(ADMIN.kid)[-1]
    again = fm.forge_statement(ADMIN, make_grant("tesla", "10.77.0.1"), seq=2, prev=head.hash)
    ledger.offer(*again)
    assert fm.names(ledger) == set()
    revocation = ledger.membership(fm.NOW).revoked[fm.key("tesla").kid]
    assert (revocation.name, revocation.why, revocation.provenance.kid) == ("tesla", "lost", OTHER.kid)
    assert revocation.addresses != ()


def test_of_two_revokes_the_first_is_named(ledger: Ledger) -> None:
    """First is what the other one has seen."""
    fm.grant(ledger, ADMIN, "tesla")
    hid = fm.key("tesla").kid
    ours = LogSigner(ledger, ADMIN).revoke(hid, "first", now=fm.NOW)
    seen = {ADMIN.kid: (2, fm.hash_of(ours))}
    ledger.offer(*fm.forge_statement(OTHER, Revoke(hid=hid, why="second"), seen=seen))
    assert ledger.membership(fm.NOW).revoked[hid].why == "first"


def test_name_of_an_incumbent(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    fm.offer_root(ledger, fm.sign_root(build_successor(ledger, now=fm.NOW), ADMIN))
    impostor = msgspec.structs.replace(make_grant("mallory", "10.77.16.9"), name="tesla")
    ledger.offer(*fm.forge_statement(OTHER, impostor))
    hosts = ledger.membership(fm.NOW).hosts
    mallory = fm.key("mallory").kid
    assert hosts[fm.key("tesla").kid].name == "tesla"
    assert hosts[mallory].name == f"tesla.{mallory[:8]}"
    assert "registry_conflict" in fm.codes(ledger)


def test_revoke_that_comes_first_is_as_final(ledger: Ledger) -> None:
    early = fm.forge_statement(OTHER, Revoke(hid=fm.key("tesla").kid, why="never"))
    ledger.offer(*early)
    ledger.offer(*fm.forge_statement(ADMIN, make_grant("tesla", "10.77.0.1")))
    assert fm.names(ledger) == set()
