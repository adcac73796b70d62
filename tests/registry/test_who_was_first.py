"""Two administrators wish for one place, name or host: who was first has it, and no thief is before them."""

from __future__ import annotations

import fakemesh as fm
import pytest
from rival_admins import addresses, append, appoint, link_only, record_heads, sign, small_mesh

from meshd.errors import RegistryError
from meshd.registry.ledger import Ledger
from meshd.registry.root_changes import add_key, build_successor, retire_admin
from meshd.registry.statement import check_body

ADMIN, OTHER, THIEF = fm.key("admin0"), fm.key("admin1"), fm.key("thief")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


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


def test_wishes_for_what_is_anothers_use_nothing_up(ledger: Ledger) -> None:
    """Grants that wait for alice's signature take no address of her pool and no name."""
    wishes = [fm.grant_body(f"w{number}", f"10.77.0.{number + 1}", called="newton") for number in range(9)]
    append(ledger, OTHER, *wishes)
    fm.grant(ledger, ADMIN, "newton")
    assert addresses(ledger) == {"newton": "10.77.0.1"}


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
