"""The next root, before anybody signs it: what it says, and what would follow from it."""

from __future__ import annotations

import fakemesh as fm
import pytest

from meshd.errors import RegistryError
from meshd.registry.document import Root
from meshd.registry.key_request import build_key_request, parse_key_request
from meshd.registry.ledger import Ledger
from meshd.registry.root import RootChain
from meshd.registry.root_changes import (
    add_key,
    change_pools,
    change_thresholds,
    find_cut,
    find_key,
    foresee,
    newest_cut,
    retire_admin,
)
from meshd.registry.signing import SigningKey

ADMIN, OTHER, NEW = fm.key("admin0"), fm.key("admin1"), fm.key("new")


def add(chain: RootChain, *pools: str, split: bool = False, key: SigningKey = NEW, name: str = "new") -> Root:
    return add_key(
        Ledger(chain),
        public=key.public,
        kid=key.kid,
        name=name,
        role="admin",
        now=fm.NOW,
        split=split,
        pools=[fm.network(pool) for pool in pools],
    )


def test_a_split_pool_covers_what_the_whole_one_did() -> None:
    chain = fm.make_chain(2)
    root = add(chain, "10.77.4.0/22", "10.128.7.0/24", split=True)
    fm_root = chain.advance(fm.sign_root(root, ADMIN))
    pools = {kid: [fm.network(text) for text in key.pools] for kid, key in fm_root.root.keys.items()}
    before = sum(fm.network(text).num_addresses for text in chain.root.keys[ADMIN.kid].pools)
    after = sum(pool.num_addresses for kid in (ADMIN.kid, NEW.kid) for pool in pools[kid])
    assert before == after
    assert pools[OTHER.kid] == [fm.network(text) for text in chain.root.keys[OTHER.kid].pools]


def test_a_pool_around_anothers_takes_it_whole() -> None:
    chain = fm.make_chain(2)
    root = add(chain, "10.77.0.0/18", split=True)
    assert chain.advance(fm.sign_root(root, ADMIN)).root.keys[NEW.kid].pools == ("10.77.0.0/18",)
    assert not any(text.startswith("10.77.") for text in root.keys[ADMIN.kid].pools)


@pytest.mark.parametrize(
    ("pools", "message"),
    [
        (["10.77.4.0/22"], "overlaps pool 10.77.0.0/20 of admin: .*--split"),
        (["10.77.16.0/24"], "overlaps pool 10.77.16.0/20 of admin1"),
        (["192.0.2.0/24"], "outside the ranges"),
    ],
)
def test_a_pool_that_is_not_free_is_named(pools: list[str], message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        add(fm.make_chain(2), *pools)


def test_keys_and_names_are_named_once() -> None:
    chain = fm.make_chain(2)
    with pytest.raises(RegistryError, match="knows it already"):
        add(chain, key=OTHER)
    with pytest.raises(RegistryError, match="has a key of that name"):
        add(chain, name="admin1")
    retired = chain.advance(fm.sign_root(fm.retire(chain, OTHER.kid, (0, "")), ADMIN))
    with pytest.raises(RegistryError, match="knows it already"):
        add(retired, key=OTHER, name="again")


def test_what_a_threshold_would_do_is_seen_before() -> None:
    ledger = Ledger(fm.make_chain(2))
    fm.grant(ledger, ADMIN, "tesla")
    fm.grant(ledger, OTHER, "newton")
    effects = foresee(ledger, change_thresholds(ledger, root=None, admin=2, now=fm.NOW))
    assert effects.lost == ("newton", "tesla") and effects.is_unsafe
    assert fm.names(ledger) == {"tesla", "newton"}  # only looked at


def test_a_retired_admin_keeps_what_was_granted_before_its_pool_shrank() -> None:
    ledger = Ledger(fm.make_chain(2))
    fm.grant(ledger, OTHER, "tesla", addresses=[fm.network("10.77.17.9/32").network_address])
    pool = fm.network("10.77.17.0/24")
    fm.offer_root(
        ledger,
        fm.sign_root(change_pools(ledger, OTHER.kid, add=(), remove=(pool,), split=False, now=fm.NOW), ADMIN),
    )
    cut = newest_cut(ledger.reduction().logs[OTHER.kid])
    root = retire_admin(ledger, OTHER.kid, cut, now=fm.NOW)
    assert foresee(ledger, root).lost == ()
    fm.offer_root(ledger, fm.sign_root(root, ADMIN))
    assert fm.names(ledger) == {"tesla"} and not fm.codes(ledger)


def test_cuts_are_found_by_number_and_hash() -> None:
    ledger = Ledger(fm.make_chain(2))
    first = fm.grant(ledger, OTHER, "tesla")
    fm.grant(ledger, OTHER, "newton")
    entries = ledger.entries()
    assert find_cut(entries, OTHER.kid, "1") == (1, fm.hash_of(first))
    assert find_cut(entries, OTHER.kid, fm.hash_of(first)[:9].upper()) == (1, fm.hash_of(first))
    assert find_cut(entries, OTHER.kid, "0") == (0, "")
    for text in ("3", "abc", fm.hash_of(fm.grant(ledger, ADMIN, "bohr"))):
        with pytest.raises(RegistryError, match="no such number"):
            find_cut(ledger.entries(), OTHER.kid, text)


def test_a_log_with_a_hole_is_not_ended_by_guessing() -> None:
    ledger = Ledger(fm.make_chain(2))
    fm.grant(ledger, OTHER, "tesla")
    second = fm.grant(ledger, OTHER, "newton")
    reader = Ledger(ledger.chain)
    reader.offer(*second)
    with pytest.raises(RegistryError, match="is missing"):
        newest_cut(reader.reduction().logs[OTHER.kid])


def test_names_and_ids_of_keys() -> None:
    root = fm.make_chain(2).root
    assert find_key(root, "admin1") == OTHER.kid == find_key(root, OTHER.kid[:6])
    for text in ("nobody", OTHER.kid[:3], ""):
        with pytest.raises(RegistryError, match="which names"):
            find_key(root, text)


def test_a_key_request_proves_its_key_and_nothing_else_is_one() -> None:
    text = build_key_request("bob", "admin", NEW)
    request = parse_key_request(f" {text}\n")
    assert (request.name, request.role, request.kid) == ("bob", "admin", NEW.kid)
    for index in range(10, len(text), 17):
        other = "A" if text[index] != "A" else "B"
        with pytest.raises(RegistryError):
            parse_key_request(text[:index] + other + text[index + 1 :])
    with pytest.raises(RegistryError, match="name"):
        build_key_request("b ob", "admin", NEW)


def test_a_proposal_counts_good_signatures_alone() -> None:
    chain = fm.make_chain(2)
    two = chain.advance(
        fm.sign_root(
            change_thresholds(Ledger(chain), root=2, admin=None, now=fm.NOW), ADMIN, fm.key("recovery")
        )
    )
    ledger = Ledger(two)
    root = add(two)
    fm.offer_root(ledger, fm.sign_root(root, ADMIN, fm.key("stranger")))
    (proposal,) = ledger.proposals()
    assert [signature.kid for signature in proposal.signatures] == [ADMIN.kid]
    assert proposal.signers(two.current) == (ADMIN.kid,) == proposal.signers(proposal.root)
    fm.offer_root(ledger, fm.sign_root(root, fm.key("recovery")))
    assert ledger.proposals() == () and ledger.chain.version == 3
