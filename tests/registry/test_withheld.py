"""Objects that a store shows to some and withholds from others, or shows again when they are old."""

from __future__ import annotations

import fakemesh as fm
import msgspec
import pytest

from meshd.errors import RegistryError
from meshd.registry.ledger import Ledger
from meshd.registry.signer import LogSigner

ADMIN = fm.key("admin0")
OTHER = fm.key("admin1")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


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
        OTHER, fm.grant_body("eve", "10.77.16.99"), seq=2, prev=ledger.own_log(OTHER.kid)[0].hash
    )
    victim.offer(*twin)
    assert fm.names(victim) == set() and fm.key("tesla").kid not in victim.membership(fm.NOW).revoked
    victim.offer(*last)
    assert fm.names(victim) == {"tesla", "newton"}


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
