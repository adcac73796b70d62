"""Pools and ranges that a newer root narrows, splits or takes away: what was granted stays, no power does."""

from __future__ import annotations

import fakemesh as fm
import msgspec
import pytest
from rival_admins import append, appoint, ledger_item, link_only, record_heads, sign

from meshd.registry.document import Ranges
from meshd.registry.ledger import Ledger
from meshd.registry.root import RootChain
from meshd.registry.root_changes import build_successor, change_pools, newest_cut, retire_admin

ADMIN, OTHER, THIEF = fm.key("admin0"), fm.key("admin1"), fm.key("thief")


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


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
