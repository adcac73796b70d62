"""What signing keys may not: administrators' beyond their pools, hosts' for others, too few of a root's."""

from __future__ import annotations

import fakemesh as fm
import msgspec
import pytest

from meshd.errors import RegistryError
from meshd.registry.canonical import encode_base64
from meshd.registry.ledger import Ledger
from meshd.registry.root import root_objects
from meshd.registry.root_changes import build_successor
from meshd.registry.signer import LogSigner
from meshd.registry.statement import Revoke

ADMIN = fm.key("admin0")
OTHER = fm.key("admin1")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


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
    after = fm.forge_statement(
        OTHER, fm.grant_body("eve", "10.77.16.99"), seq=2, prev=fm.hash_of(good), root=2
    )
    ledger.offer(*after)
    assert fm.names(ledger) == {"tesla"} and "registry_fork" not in fm.codes(ledger)
    assert ledger.heads()[OTHER.kid] == (1, fm.hash_of(good)) != (2, fm.hash_of(revoked_by_thief))
    with pytest.raises(RegistryError, match="not an admin key"):
        fm.grant(ledger, OTHER, "eve")


def test_admin_key_may_not_vanish_without_a_cut(ledger: Ledger) -> None:
    fm.grant(ledger, OTHER, "tesla")
    keys = {kid: value for kid, value in ledger.chain.root.keys.items() if kid != OTHER.kid}
    dropped = fm.sign_root(fm.next_root(ledger.chain, keys=keys), ADMIN)
    assert "refused" in {item.outcome for item in fm.offer_root(ledger, dropped)}
    assert fm.names(ledger) == {"tesla"}


def test_grant_outside_the_signers_pool(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    for body in (
        fm.grant_body("mallory", "10.77.0.9"),
        fm.grant_body("mallory", "10.77.16.9", "10.128.9.0/24"),
    ):
        victim = Ledger(ledger.chain)
        victim.offer(*fm.forge_statement(OTHER, body))
        assert fm.names(victim) == set() and "grant_outside_pool" in fm.codes(victim)


def test_address_grabbed_from_an_incumbent(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla", networks=["10.128.1.0/24"])
    head = ledger.own_log(ADMIN.kid)[-1]
    grab = fm.grant_body("mallory", "10.77.0.77", "10.128.1.128/25")
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


def test_revoke_is_final_for_a_hid(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla")
    LogSigner(ledger, OTHER).revoke(fm.key("tesla").kid, "lost", now=fm.NOW)
    with pytest.raises(RegistryError, match="revoked for good"):
        fm.grant(ledger, ADMIN, "tesla")
    head = ledger.own_log(ADMIN.kid)[-1]
    again = fm.forge_statement(ADMIN, fm.grant_body("tesla", "10.77.0.1"), seq=2, prev=head.hash)
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
    impostor = msgspec.structs.replace(fm.grant_body("mallory", "10.77.16.9"), name="tesla")
    ledger.offer(*fm.forge_statement(OTHER, impostor))
    hosts = ledger.membership(fm.NOW).hosts
    mallory = fm.key("mallory").kid
    assert hosts[fm.key("tesla").kid].name == "tesla"
    assert hosts[mallory].name == f"tesla.{mallory[:8]}"
    assert "registry_conflict" in fm.codes(ledger)


def test_revoke_that_comes_first_is_as_final(ledger: Ledger) -> None:
    early = fm.forge_statement(OTHER, Revoke(hid=fm.key("tesla").kid, why="never"))
    ledger.offer(*early)
    ledger.offer(*fm.forge_statement(ADMIN, fm.grant_body("tesla", "10.77.0.1")))
    assert fm.names(ledger) == set()
