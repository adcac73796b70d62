"""What a stolen administrator's key can do beyond its own pools, and after its cut: nothing.

Over 400 lines: one list of attacks with one stolen key.
"""

from __future__ import annotations

from typing import Any

import fakemesh as fm
import msgspec
import pytest

from meshd.errors import RegistryError
from meshd.model.condition import Severity
from meshd.registry import log_room
from meshd.registry.document import Ranges, Root, Thresholds
from meshd.registry.ledger import Ledger
from meshd.registry.log_room import MAX_TWINS
from meshd.registry.root import RootChain
from meshd.registry.root_changes import add_key, build_successor, change_pools, newest_cut, retire_admin
from meshd.registry.signer import LogSigner
from meshd.registry.signing import SigningKey
from meshd.registry.statement import Body, Endorse, Grant, RawBody, Revoke, check_body

ADMIN, OTHER, THIEF = fm.key("admin0"), fm.key("admin1"), fm.key("thief")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


# --- a third party's word


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


# --- a doubtful own log


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
    monkeypatch.setattr(log_room, "MAX_TOTAL_BYTES", log_room.WALK_RESERVE_BYTES + 8_000)
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


# --- a cut while a true statement is withheld


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


# --- who was first


def link_only(name: str, **more: Any) -> Grant:
    """A grant that needs no pool: of the address that derives from the hid."""
    return fm.grant_body(name, str(fm.derived_address(name)), **more)


def append(
    ledger: Ledger, admin: SigningKey, *bodies: Body, after: fm.StoreObject | None = None, **more: Any
) -> list[fm.StoreObject]:
    """Forged statements one after the other, at the end of the log or after one of its statements."""
    made: list[fm.StoreObject] = []
    log = ledger.own_log(admin.kid)
    seq, prev = (log[-1].statement.seq, log[-1].hash) if log else (0, "")
    if after is not None:
        seq, prev = int(after[0].rpartition("/")[2].partition("-")[0]), fm.hash_of(after)
    for body in bodies:
        item = fm.forge_statement(admin, body, seq=seq + 1, prev=prev, **more)
        seq, prev = seq + 1, fm.hash_of(item)
        assert ledger.offer(*item).outcome == "new"
        made.append(item)
    return made


def appoint(ledger: Ledger, key: SigningKey, *pools: str, split: bool = False) -> None:
    """Name a further administrator, as ``wgctl admin add`` does."""
    asked = [fm.network(pool) for pool in pools]
    root = add_key(
        ledger,
        public=key.public,
        kid=key.kid,
        name="new",
        role="admin",
        now=fm.NOW,
        pools=asked,
        split=split,
    )
    sign(ledger, root)


def sign(ledger: Ledger, root: Root) -> None:
    fm.offer_root(ledger, fm.sign_root(root, ADMIN))
    assert ledger.chain.root == root


def record_heads(ledger: Ledger) -> None:
    """Any root records how far the logs have come."""
    sign(ledger, build_successor(ledger, now=fm.NOW, mesh_name="renamed"))


def addresses(ledger: Ledger) -> dict[str, str]:
    return {host.name: str(host.addresses[0]) for host in ledger.membership(fm.NOW).hosts.values()}


def small_mesh(max_hosts: int) -> Ledger:
    root = msgspec.structs.replace(fm.make_chain().root, max_hosts=max_hosts)
    return Ledger(RootChain.start(fm.sign_root(root, ADMIN)))


def test_an_administrator_without_a_pool_leaves_the_others_their_room() -> None:
    """By derived addresses it filled the mesh and put every real host out of its place."""
    ledger = small_mesh(8)
    for number in range(3):
        fm.grant(ledger, ADMIN, f"h{number}")
    appoint(ledger, THIEF)
    append(ledger, THIEF, *(link_only(f"m{number}") for number in range(8)))
    assert fm.names(ledger) == {"h0", "h1", "h2", "m0", "m1"} and "mesh_full" in fm.codes(ledger)
    for number in (3, 4):
        fm.grant(ledger, ADMIN, f"h{number}")
    assert {f"h{number}" for number in range(5)} < fm.names(ledger)
    with pytest.raises(RegistryError, match="its share of the 8"):
        fm.grant(ledger, ADMIN, "h5")


def test_an_administrator_keeps_the_hosts_that_it_had_before_others_came() -> None:
    ledger = small_mesh(8)
    for number in range(7):
        fm.grant(ledger, ADMIN, f"h{number}")
    appoint(ledger, THIEF)
    append(ledger, THIEF, link_only("m0"))
    assert fm.names(ledger) == {f"h{number}" for number in range(7)}


@pytest.mark.parametrize("proof", ["a root has recorded it", "the other log has seen it"])
def test_the_host_id_of_another_admins_host_is_not_taken(ledger: Ledger, proof: str) -> None:
    """The thief grants the host that is there as if it were new, in a pool of its own."""
    for victim, thief in ((ADMIN, OTHER), (OTHER, ADMIN)):
        fresh = Ledger(ledger.chain)
        fm.grant(fresh, victim, "tesla")
        if proof == "a root has recorded it":
            record_heads(fresh)
        else:
            fm.grant(fresh, thief, "newton")
        before = addresses(fresh)["tesla"]
        pool = "10.77.16.99" if thief is OTHER else "10.77.0.99"
        append(fresh, thief, fm.grant_body("tesla", pool, called="mine", gen=1))
        append(fresh, thief, fm.grant_body("tesla", pool, gen=9, identity=fm.key("x").public))
        assert addresses(fresh)["tesla"] == before and "mine" not in fm.names(fresh)
        host = fresh.membership(fm.NOW).hosts[fm.key("tesla").kid]
        assert (host.gen, host.identity_key) == (1, fm.key("tesla").public)


def test_whom_roots_have_named_for_longer_is_believed_without_proof() -> None:
    """Of what nobody has seen: a junior's key, whatever it forks or predates, takes nothing of a senior's."""
    ledger = Ledger(fm.make_chain())
    appoint(ledger, THIEF, "10.77.32.0/20")
    (first,) = append(ledger, THIEF, link_only("m0"))
    fm.grant(ledger, ADMIN, "tesla")
    for after in (first, None):
        append(ledger, THIEF, fm.grant_body("tesla", "10.77.32.7"), after=after)
    append(ledger, THIEF, fm.grant_body("mallory", "10.77.32.8", called="tesla"))
    assert addresses(ledger)["tesla"] == "10.77.0.1"


def test_a_name_that_is_taken_puts_nobody_out_of_place(ledger: Ledger) -> None:
    """Whoever has it, both hosts stay where they are; and no grant can hold the name that the loser gets."""
    fm.grant(ledger, ADMIN, "tesla")
    fm.grant(ledger, OTHER, "newton")
    victim = fm.key("tesla").kid
    append(ledger, OTHER, fm.grant_body("mallory", "10.77.16.9", called="tesla"))
    hosts = ledger.membership(fm.NOW).hosts
    assert len(hosts) == 3 and hosts[victim].name == "tesla"
    assert ledger.membership(fm.NOW).conflicts == 1
    loser = hosts[fm.key("mallory").kid].name
    with pytest.raises(RegistryError, match="DNS label"):
        check_body(fm.grant_body("curie", "10.77.0.5", called=loser))


def test_what_was_signed_twice_ranks_behind_what_was_signed_once(ledger: Ledger) -> None:
    """The key of whoever is senior, forked below all that the others have seen of its log."""
    senior, junior = sorted((ADMIN, OTHER), key=lambda key: key.kid)
    pool = "10.77.0.99" if senior is ADMIN else "10.77.16.99"
    first = fm.grant(ledger, senior, "curie")
    fm.grant(ledger, senior, "meitner")
    fm.grant(ledger, junior, "tesla")
    before = addresses(ledger)["tesla"]
    append(ledger, senior, fm.grant_body("tesla", pool), after=first)
    assert addresses(ledger)["tesla"] == before


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


def test_wishes_for_what_is_anothers_use_nothing_up(ledger: Ledger) -> None:
    """Grants that wait for alice's signature take no address of her pool and no name."""
    wishes = [fm.grant_body(f"w{number}", f"10.77.0.{number + 1}", called="newton") for number in range(9)]
    append(ledger, OTHER, *wishes)
    fm.grant(ledger, ADMIN, "newton")
    assert addresses(ledger) == {"newton": "10.77.0.1"}


# --- older roots


def test_a_narrowed_pool_keeps_no_power() -> None:
    """The founder's stolen key named root 1 and took an address and a network of the second admin's host."""
    ledger = Ledger(fm.make_chain())
    fm.grant(ledger, ADMIN, "tesla", networks=["10.128.129.0/25"])
    appoint(ledger, THIEF, "10.77.1.0/24", "10.128.128.0/17", split=True)
    fm.grant(ledger, THIEF, "newton", networks=["10.128.130.0/24"])
    (newton,) = [each for each in ledger.membership(fm.NOW).hosts.values() if each.name == "newton"]
    for after, region in ((None, "eu"), (ledger_item(ledger, ADMIN, 1), "usa")):
        grab = fm.grant_body("mallory", str(newton.addresses[0]), "10.128.130.0/24", region=region)
        append(ledger, ADMIN, grab, after=after, root=1)
    assert fm.names(ledger) == {"tesla", "newton"} and "grant_outside_pool" in fm.codes(ledger)
    assert not any("first" in each.text for each in ledger.membership(fm.NOW).conditions)


def test_what_was_granted_before_a_split_is_first_and_stays() -> None:
    ledger = Ledger(fm.make_chain())
    fm.grant(ledger, ADMIN, "tesla", networks=["10.128.129.0/25"])
    appoint(ledger, THIEF, "10.77.0.0/24", "10.128.128.0/17", split=True)
    append(ledger, THIEF, fm.grant_body("mallory", "10.77.0.1"))
    append(ledger, THIEF, fm.grant_body("eve", "10.77.0.77", "10.128.129.64/26"))
    for _ in range(2):
        assert fm.names(ledger) == {"tesla"} and ledger.membership(fm.NOW).conflicts == 2
        record_heads(ledger)


def test_the_earlier_tenure_of_a_pool_is_first_whoever_is_the_senior(ledger: Ledger) -> None:
    """Also under a root that records no heads."""
    senior, junior = sorted((ADMIN, OTHER), key=lambda key: key.kid)
    address = "10.77.16.1" if junior is OTHER else "10.77.0.1"
    fm.grant(ledger, junior, "tesla")
    pool = fm.network(f"{address}/32")
    root = change_pools(ledger, senior.kid, add=(pool,), remove=(), split=True, now=fm.NOW)
    sign(ledger, msgspec.structs.replace(root, heads={}))
    append(ledger, senior, fm.grant_body("mallory", address))
    assert fm.names(ledger) == {"tesla"}


def test_whoever_gets_a_pool_manages_the_hosts_in_it() -> None:
    ledger = Ledger(fm.make_chain())
    fm.grant(ledger, ADMIN, "tesla")
    appoint(ledger, OTHER, "10.77.0.0/24", split=True)
    fm.grant(ledger, OTHER, "tesla", region="usa")
    assert next(iter(ledger.membership(fm.NOW).hosts.values())).region == "usa"
    append(ledger, ADMIN, fm.grant_body("tesla", "10.77.2.1", region="moon"), root=1)
    assert next(iter(ledger.membership(fm.NOW).hosts.values())).region == "usa"


def test_a_range_that_a_root_took_out_keeps_its_hosts_and_no_power(ledger: Ledger) -> None:
    fm.grant(ledger, ADMIN, "tesla", networks=["10.128.1.0/24"])
    keys = {
        kid: msgspec.structs.replace(
            key, pools=tuple(pool for pool in key.pools if pool.startswith("10.77."))
        )
        for kid, key in ledger.chain.root.keys.items()
    }
    ranges = Ranges(overlay=("10.77.0.0/16",), jail=())
    sign(ledger, build_successor(ledger, now=fm.NOW, keys=keys, ranges=ranges))
    assert fm.names(ledger) == {"tesla"}
    append(ledger, ADMIN, fm.grant_body("mallory", "10.77.0.9", "10.128.2.0/24"), root=1)
    assert fm.names(ledger) == {"tesla"}


def test_a_reader_of_the_newest_root_alone_comes_to_the_same() -> None:
    """What ``meshd trust-root`` and a late bundle begin with: no root before it is needed."""
    ledger = Ledger(fm.make_chain(2))
    fm.grant(ledger, ADMIN, "tesla", addresses=[fm.network("10.77.15.9/32").network_address])
    fm.grant(ledger, OTHER, "newton")
    pool = fm.network("10.77.8.0/21")
    sign(ledger, change_pools(ledger, ADMIN.kid, add=(), remove=(pool,), split=False, now=fm.NOW))
    sign(ledger, retire_admin(ledger, OTHER.kid, newest_cut(ledger.reduction().logs[OTHER.kid]), now=fm.NOW))
    fm.grant(ledger, ADMIN, "curie")
    late = Ledger(RootChain.start(ledger.chain.current.envelope))
    fm.fill(late, [item for item in ledger.objects() if item[0].startswith("log/")])
    assert late.membership(fm.NOW).hosts == ledger.membership(fm.NOW).hosts
    assert fm.names(late) == {"tesla", "newton", "curie"} and fm.codes(late) == set()


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


# --- outside of the own pools


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


def test_a_host_in_nobodys_pool_is_its_granters_and_then_the_seniors() -> None:
    ledger = Ledger(fm.make_chain())
    appoint(ledger, OTHER)
    append(ledger, OTHER, link_only("tesla"), link_only("tesla", region="one"))
    record_heads(ledger)
    tesla = fm.key("tesla").kid
    append(ledger, ADMIN, link_only("tesla", region="two"))
    assert ledger.membership(fm.NOW).hosts[tesla].region == "one"
    cut = newest_cut(ledger.reduction().logs[OTHER.kid])
    sign(ledger, retire_admin(ledger, OTHER.kid, cut, now=fm.NOW))
    assert ledger.membership(fm.NOW).hosts[tesla].region == "two"


def test_a_root_that_is_signed_later_settles_no_dispute(ledger: Ledger) -> None:
    """Whatever a thief asked for before a root for another matter was signed: it stays behind."""
    senior, junior = sorted((ADMIN, OTHER), key=lambda key: key.kid)
    fm.grant(ledger, junior, "tesla")
    record_heads(ledger)
    append(ledger, senior, link_only("mallory", called="tesla"))
    for number in range(3):
        sign(ledger, build_successor(ledger, now=fm.NOW, max_hosts=900 + number))
        assert ledger.membership(fm.NOW).hosts[fm.key("tesla").kid].name == "tesla"


@pytest.mark.parametrize("cuts", [False, True])
@pytest.mark.parametrize("claim", ["name", "address"])
def test_a_dispute_over_one_host_puts_no_other_out_of_place(claim: str, cuts: bool) -> None:
    """A thief took the name of a junior's first host: that log was not recorded any more, and whatever root
    came next, the cut of the thief as well, shared the mesh out anew and left its other hosts no room."""
    senior, junior = sorted((ADMIN, OTHER), key=lambda key: key.kid)
    ledger = Ledger(fm.make_chain(2))
    sign(ledger, build_successor(ledger, now=fm.NOW, max_hosts=8))
    hosts = {f"host{number}" for number in range(4)}
    for name in sorted(hosts):
        append(ledger, junior, link_only(name))
    if claim == "name":
        append(ledger, senior, link_only("mallory", called="host0"))
    else:
        hid = fm.key("host0").kid[:16] + "0" * 16
        address = str(fm.derived_address("host0"))
        append(ledger, senior, fm.grant_body("mallory", address, hid=hid, gen=2))
    for name in ("carol", "dave"):
        key = fm.key(name)
        root = add_key(ledger, public=key.public, kid=key.kid, name=name, role="admin", now=fm.NOW)
        sign(ledger, root)
    if cuts:
        sign(ledger, retire_admin(ledger, senior.kid, (0, ""), now=fm.NOW))
    missing = set() if cuts or claim == "name" else {"host0"}
    placed = {hid for hid, host in ledger.membership(fm.NOW).hosts.items()}
    assert {name for name in hosts if fm.key(name).kid not in placed} == missing


def ledger_item(ledger: Ledger, admin: SigningKey, seq: int) -> fm.StoreObject:
    prefix = f"log/{admin.kid}/{seq:010d}-"
    (item,) = [each for each in ledger.objects() if each[0].startswith(prefix)]
    return item
