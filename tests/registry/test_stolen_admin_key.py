"""What a stolen administrator's key can do beyond its own pools, and after its cut: nothing."""

from __future__ import annotations

import fakemesh as fm
import pytest
from rival_admins import addresses, append, link_only, record_heads, sign

from meshd.errors import RegistryError
from meshd.model.condition import Severity
from meshd.registry import log_room
from meshd.registry.document import Thresholds
from meshd.registry.ledger import Ledger
from meshd.registry.log_room import MAX_TWINS
from meshd.registry.root_changes import build_successor, newest_cut, retire_admin
from meshd.registry.signer import LogSigner
from meshd.registry.statement import Endorse, RawBody, Revoke

ADMIN, OTHER, THIEF = fm.key("admin0"), fm.key("admin1"), fm.key("thief")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


def test_what_another_administrator_claims_to_have_seen_silences_nobody(ledger: Ledger) -> None:
    """One statement that names number 1,000,000,000 of alice's log kept alice from revoking."""
    fm.grant(ledger, ADMIN, "tesla")
    claim = {ADMIN.kid: (10**9, "e" * 64)}
    ledger.offer(*fm.forge_statement(OTHER, RawBody(kind="note", fields={}), seen=claim))
    assert "registry_gap" in fm.codes(ledger)
    LogSigner(ledger, ADMIN).revoke(fm.key("tesla").kid, "stolen", now=fm.NOW)
    fm.grant(ledger, ADMIN, "newton")
    assert fm.names(ledger) == {"newton"}
    cut = newest_cut(ledger.reduction().logs[ADMIN.kid])
    assert cut == (3, ledger.own_log(ADMIN.kid)[-1].hash)


def test_a_claim_names_who_makes_it(ledger: Ledger) -> None:
    claim = {ADMIN.kid: (7, "e" * 64)}
    ledger.offer(*fm.forge_statement(OTHER, RawBody(kind="note", fields={}), seen=claim))
    (gap,) = [each for each in ledger.membership(fm.NOW).conditions if each.code == "registry_gap"]
    assert gap.subject == ADMIN.kid and OTHER.kid[:8] in gap.text and "statement 7" in gap.text


def test_a_liar_hides_nobody_elses_claim(ledger: Ledger) -> None:
    """The higher number is not the truer one: each claim stands beside the other, with its name."""
    ledger = Ledger(fm.make_chain(3))
    honest = fm.key("admin2")
    for key, number in ((OTHER, 10**9), (honest, 7)):
        claim = {ADMIN.kid: (number, "e" * 64)}
        ledger.offer(*fm.forge_statement(key, RawBody(kind="note", fields={}), seen=claim))
    (gap,) = [each for each in ledger.membership(fm.NOW).conditions if each.code == "registry_gap"]
    assert f"statement 7, which admin {honest.kid[:8]} claims" in gap.text
    assert f"statement 1000000000, which admin {OTHER.kid[:8]} claims" in gap.text


def test_a_claim_of_a_newer_root_names_who_makes_it_and_blocks_nothing() -> None:
    ledger = Ledger(fm.make_chain(3))
    honest = fm.key("admin2")
    fm.grant(ledger, ADMIN, "tesla")
    for key, number in ((OTHER, 999_999), (honest, 2)):
        ledger.offer(*fm.forge_statement(key, RawBody(kind="note", fields={}), root=number))
    (gap,) = [each for each in ledger.membership(fm.NOW).conditions if each.code == "registry_gap"]
    assert gap.subject == "root" and gap.severity == Severity.WARNING
    assert f"admin {honest.kid[:8]} (statement 1) names root 2" in gap.text
    assert f"admin {OTHER.kid[:8]} (statement 1) names root 999999" in gap.text
    LogSigner(ledger, ADMIN).revoke(fm.key("tesla").kid, "stolen", now=fm.NOW)
    fm.grant(ledger, ADMIN, "newton")
    sign(ledger, retire_admin(ledger, OTHER.kid, newest_cut(ledger.reduction().logs[OTHER.kid]), now=fm.NOW))
    assert fm.names(ledger) == {"newton"}


def test_a_forged_statement_far_above_keeps_nobody_from_revoking(ledger: Ledger) -> None:
    """One statement of number 1,000,000,000 in alice's log, behind a hole that nobody can fill."""
    fm.grant(ledger, ADMIN, "tesla")
    fm.grant(ledger, ADMIN, "newton")
    forged = fm.forge_statement(ADMIN, RawBody(kind="note", fields={}), seq=10**9, prev="e" * 64)
    fm.fill(ledger, [forged])
    with pytest.raises(RegistryError, match="cut"):
        fm.grant(ledger, ADMIN, "curie")
    LogSigner(ledger, ADMIN).revoke(fm.key("tesla").kid, "stolen", now=fm.NOW)
    assert fm.names(ledger) == {"newton"}


def test_forged_twins_keep_nobody_from_revoking(ledger: Ledger) -> None:
    """The thief signs the next number as often as a reader keeps it. The owner goes on behind his own last
    statement, so that a cut there keeps what he revoked."""
    tesla, newton = fm.grant(ledger, ADMIN, "tesla"), fm.grant(ledger, OTHER, "newton")
    append(ledger, ADMIN, RawBody(kind="note", fields={"n": 0}))
    for count in range(1, MAX_TWINS):
        twin = RawBody(kind="note", fields={"n": count})
        append(ledger, ADMIN, twin, after=tesla)
    reader = Ledger(ledger.chain)
    fm.fill(reader, list(ledger.objects()))
    own = (1, fm.hash_of(tesla))
    revoke = LogSigner(ledger, ADMIN).revoke(fm.key("newton").kid, "stolen", now=fm.NOW, after=own)
    assert reader.offer(*revoke).outcome == "new"
    assert fm.names(ledger) == fm.names(reader) == {"tesla"}
    sign_by = fm.retire(ledger.chain, ADMIN.kid, (2, fm.hash_of(revoke)))
    fm.offer_root(reader, fm.sign_root(sign_by, fm.key("recovery")))
    assert reader.chain.version == 2 and fm.names(reader) == {"tesla"}
    assert reader.body(newton[0]) is not None


def test_a_log_that_a_thief_filled_has_room_for_a_revoke(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    tesla = fm.grant(ledger, ADMIN, "tesla")
    monkeypatch.setattr(log_room, "MAX_LOG_BYTES", 2_000)
    monkeypatch.setattr(log_room, "MAX_TOTAL_BYTES", 8_000)
    monkeypatch.setattr(log_room, "REVOKE_RESERVE_BYTES", 2_000)
    seq, outcome = 2, "new"
    while outcome == "new":
        junk = fm.forge_statement(OTHER, RawBody(kind="note", fields={}), seq=seq, prev="e" * 64)
        outcome, seq = ledger.offer(*junk).outcome, seq + 1
    revoke = LogSigner(ledger, OTHER).revoke(fm.key("tesla").kid, "stolen", now=fm.NOW, after=(0, ""))
    assert fm.names(ledger) == set() and ledger.body(revoke[0]) and ledger.body(tesla[0])


def test_revokes_without_end_fill_nothing_but_their_room(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second word of a log against one host is like any other statement."""
    monkeypatch.setattr(log_room, "MAX_LOG_BYTES", 0)
    body = Revoke(hid=fm.key("tesla").kid, why="x")
    first = fm.forge_statement(OTHER, body, seq=1, prev="")
    second = fm.forge_statement(OTHER, body, seq=2, prev=fm.hash_of(first))
    monkeypatch.setattr(log_room, "MAX_REVOKE_BYTES", 4_000)
    outcomes = [each.outcome for each in fm.fill(ledger, [first, second])]
    for number in range(40):
        other = Revoke(hid=fm.key(f"h{number}").kid, why="x")
        outcomes.append(ledger.offer(*fm.forge_statement(OTHER, other, seq=3, prev="e" * 64)).outcome)
    assert outcomes[:2] == ["new", "refused"]
    assert 2 < outcomes.count("new") < 12


def test_a_host_whose_grant_waits_is_revoked_for_good(ledger: Ledger) -> None:
    sign(ledger, build_successor(ledger, now=fm.NOW, thresholds=Thresholds(root=1, admin=2)))
    waits = fm.grant(ledger, ADMIN, "tesla")
    assert [each.grant.name for each in ledger.reduction().unendorsed] == ["tesla"]
    LogSigner(ledger, OTHER).revoke(fm.key("tesla").kid, "a swapped request", now=fm.NOW)
    assert ledger.reduction().unendorsed == ()
    append(ledger, OTHER, Endorse(hash=fm.hash_of(waits)))
    assert fm.names(ledger) == set() and fm.key("tesla").kid in ledger.reduction().revoked
    with pytest.raises(RegistryError, match="already revoked"):
        LogSigner(ledger, ADMIN).revoke(fm.key("tesla").kid, "", now=fm.NOW)
    with pytest.raises(RegistryError, match="no grant"):
        LogSigner(ledger, ADMIN).revoke("0" * 32, "", now=fm.NOW)


def test_a_cut_binds_also_where_a_true_statement_is_withheld(ledger: Ledger) -> None:
    """With 4 withheld and the cut at 4, a forged 3 let the thief's host in."""
    true = [fm.grant(ledger, OTHER, name) for name in ("h1", "h2", "h3", "h4")]
    root = fm.retire(ledger.chain, OTHER.kid, (4, fm.hash_of(true[3])))
    forged = fm.forge_statement(
        OTHER, fm.grant_body("mallory", "10.77.16.99"), seq=3, prev=fm.hash_of(true[1])
    )
    victim = Ledger(ledger.chain)
    fm.fill(victim, [*true[:3], forged])
    fm.offer_root(victim, fm.sign_root(root, ADMIN))
    assert "mallory" not in fm.names(victim) and "registry_gap" in fm.codes(victim)
    victim.offer(*true[3])
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


def test_a_signer_that_counts_to_the_end_silences_nobody(ledger: Ledger) -> None:
    """Generations and numbers at their end: after the cut, and before it, what others grant takes effect."""
    fm.grant(ledger, ADMIN, "tesla", networks=["10.128.1.0/24"])
    last = fm.grant(ledger, OTHER, "newton")
    append(ledger, OTHER, fm.grant_body("tesla", "10.77.16.9", gen=10**6), link_only("mallory"))
    fm.grant(ledger, ADMIN, "tesla", networks=[])
    assert ledger.membership(fm.NOW).hosts[fm.key("tesla").kid].granted_networks == set()
    cut = (1, fm.hash_of(last))
    sign(ledger, retire_admin(ledger, OTHER.kid, cut, now=fm.NOW))
    for number in range(24):
        fm.grant(ledger, ADMIN, f"h{number}")
    for networks in (["10.128.2.0/24"], [], ["10.128.3.0/24"]):
        fm.grant(ledger, ADMIN, "tesla", networks=networks)
        granted = ledger.membership(fm.NOW).hosts[fm.key("tesla").kid].granted_networks
        assert granted == {fm.network(text) for text in networks}
    assert fm.names(ledger) == {"tesla", "newton", *(f"h{number}" for number in range(24))}


def test_what_a_root_recorded_of_a_cut_log_counts_below_a_hole(ledger: Ledger) -> None:
    """A store that withholds the statement at the cut takes away what came after the record alone."""
    true = [fm.grant(ledger, OTHER, name) for name in ("h1", "h2")]
    record_heads(ledger)
    true += [fm.grant(ledger, OTHER, name) for name in ("h3", "h4")]
    sign(ledger, retire_admin(ledger, OTHER.kid, (4, fm.hash_of(true[3])), now=fm.NOW))
    victim = Ledger(ledger.chain)
    forged = fm.forge_statement(
        OTHER, fm.grant_body("mallory", "10.77.16.9"), seq=3, prev=fm.hash_of(true[1])
    )
    address = addresses(ledger)["h1"]
    taken = fm.grant_body("h1", address, gen=2, identity=fm.key("x").public)
    takeover = fm.forge_statement(OTHER, taken, seq=3, prev=fm.hash_of(true[1]))
    fm.fill(victim, [*true[:3], forged, takeover])
    assert victim.membership(fm.NOW).hosts[fm.key("h1").kid].gen == 1
    assert fm.names(victim) == {"h1", "h2"} and "registry_gap" in fm.codes(victim)


@pytest.mark.parametrize("gen", [1, 2])
def test_another_admins_host_is_changed_with_that_admins_signature_alone(ledger: Ledger, gen: int) -> None:
    fm.grant(ledger, ADMIN, "tesla", networks=["10.128.1.0/24"])
    fm.grant(ledger, OTHER, "newton")
    key = fm.key("tesla" if gen == 1 else "thief's own").public
    derived = str(fm.derived_address("tesla"))
    wishes = append(
        ledger,
        OTHER,
        fm.grant_body("tesla", "10.77.0.1", gen=gen, identity=key, expires=1),
        fm.grant_body("tesla", "10.77.16.9", gen=gen, identity=key),
        fm.grant_body("tesla", derived, gen=gen, identity=key),
    )
    assert addresses(ledger)["tesla"] == "10.77.0.1"
    assert [len(each.wanted) for each in ledger.reduction().unendorsed] == [1, 1, 1]
    LogSigner(ledger, ADMIN).endorse(fm.hash_of(wishes[1]), now=fm.NOW)
    assert addresses(ledger)["tesla"] == "10.77.16.9"


def test_a_revoke_of_anybody_waits_for_nobody(ledger: Ledger) -> None:
    """What takes trust away: any administrator, at once; the cut of its author undoes it."""
    fm.grant(ledger, ADMIN, "tesla")
    LogSigner(ledger, OTHER).revoke(fm.key("tesla").kid, "stolen", now=fm.NOW)
    assert fm.names(ledger) == set()
    sign(ledger, retire_admin(ledger, OTHER.kid, (0, ""), now=fm.NOW))
    assert fm.names(ledger) == {"tesla"}
