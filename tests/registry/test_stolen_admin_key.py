"""What a stolen administrator's key can do beyond its own pools, and after its cut: nothing."""

from __future__ import annotations

import fakemesh as fm
import pytest

from meshd.registry.canonical import encode_base64
from meshd.registry.ledger import Ledger
from meshd.registry.root_changes import newest_cut
from meshd.registry.signer import LogSigner
from meshd.registry.statement import Grant, RawBody, Revoke

ADMIN, OTHER = fm.key("admin0"), fm.key("admin1")


def grant_of(name: str, address: str, *networks: str, called: str = "", gen: int = 1) -> Grant:
    host = fm.key(name)
    return Grant(
        hid=host.kid,
        name=called or name,
        gen=gen,
        identity=encode_base64(host.public),
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


# --- a third party's word


def test_what_another_administrator_claims_to_have_seen_silences_nobody(ledger: Ledger) -> None:
    """One statement that names number 1,000,000,000 of alice's log kept alice from revoking."""
    fm.grant(ledger, ADMIN, "tesla")
    claim = {ADMIN.kid: (10**9, "e" * 64)}
    ledger.offer(*fm.forge_statement(OTHER, RawBody(kind="note", fields={}), seen=claim), now=fm.NOW)
    assert "registry_gap" in fm.codes(ledger)
    LogSigner(ledger, ADMIN).revoke(fm.key("tesla").kid, "stolen", now=fm.NOW)
    fm.grant(ledger, ADMIN, "newton")
    assert fm.names(ledger) == {"newton"}
    cut = newest_cut(ledger.reduction().logs[ADMIN.kid])
    assert cut == (3, ledger.own_log(ADMIN.kid)[-1].hash)


def test_a_claim_names_who_makes_it(ledger: Ledger) -> None:
    claim = {ADMIN.kid: (7, "e" * 64)}
    ledger.offer(*fm.forge_statement(OTHER, RawBody(kind="note", fields={}), seen=claim), now=fm.NOW)
    (gap,) = [each for each in ledger.membership(fm.NOW).conditions if each.code == "registry_gap"]
    assert gap.subject == ADMIN.kid and OTHER.kid[:8] in gap.text and "statement 7" in gap.text


# --- a cut while a true statement is withheld


def test_a_cut_binds_also_where_a_true_statement_is_withheld(ledger: Ledger) -> None:
    """With 4 withheld and the cut at 4, a forged 3 let the thief's host in."""
    true = [fm.grant(ledger, OTHER, name) for name in ("h1", "h2", "h3", "h4")]
    root = fm.retire(ledger.chain, OTHER.kid, (4, fm.hash_of(true[3])))
    forged = fm.forge_statement(OTHER, grant_of("mallory", "10.77.16.99"), seq=3, prev=fm.hash_of(true[1]))
    victim = Ledger(ledger.chain)
    fm.fill(victim, [*true[:3], forged])
    fm.offer_root(victim, fm.sign_root(root, ADMIN))
    assert "mallory" not in fm.names(victim) and "registry_gap" in fm.codes(victim)
    victim.offer(*true[3], now=fm.NOW)
    assert fm.names(victim) == {"h1", "h2", "h3", "h4"} and "registry_gap" not in fm.codes(victim)


def test_a_revoke_that_may_lie_below_a_withheld_cut_counts_already(ledger: Ledger) -> None:
    """What lets nobody in may count before it is proven; what takes trust away waits for nothing."""
    fm.grant(ledger, ADMIN, "tesla")
    revoke = LogSigner(ledger, OTHER).revoke(fm.key("tesla").kid, "stolen", now=fm.NOW)
    last = fm.grant(ledger, OTHER, "newton")
    root = fm.retire(ledger.chain, OTHER.kid, (2, fm.hash_of(last)))
    victim = Ledger(ledger.chain)
    fm.fill(victim, [item for item in ledger.objects() if item[0] != last[0]])
    fm.offer_root(victim, fm.sign_root(root, ADMIN))
    assert victim.body(revoke[0]) is not None and fm.names(victim) == set()
    above = fm.forge_statement(
        OTHER, Revoke(hid=fm.key("newton").kid, why="evil"), seq=3, prev=fm.hash_of(last)
    )
    fm.fill(victim, [above, last])
    assert fm.names(victim) == {"newton"}
