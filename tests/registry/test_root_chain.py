"""Root documents: what is right in itself, and how the chain grows from pieces."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import fakemesh as fm
import msgspec
import pytest

from meshd.errors import RegistryError
from meshd.registry.canonical import encode_base64
from meshd.registry.ledger import Ledger
from meshd.registry.root import (
    Ranges,
    RetiredKey,
    RootChain,
    RootKey,
    Thresholds,
    chain_from_envelopes,
    parse_root,
    root_envelopes,
    root_objects,
)
from meshd.registry.root_changes import change_pools
from meshd.registry.signer import build_root_key, create_mesh
from meshd.registry.signing import SigningKey

ADMIN, RECOVERY = fm.key("admin0"), fm.key("recovery")
BASE = fm.make_chain(2).root


def with_key(**changes: Any) -> dict[str, Any]:
    keys = dict(BASE.keys)
    keys[ADMIN.kid] = msgspec.structs.replace(keys[ADMIN.kid], **changes)
    return {"keys": keys}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mesh": "xyz"}, "mesh"),
        ({"mesh_name": "a b"}, "mesh_name"),
        ({"version": 0}, "version"),
        ({"version": 2}, "prev"),
        ({"prev": "0" * 64}, "prev"),
        ({"max_hosts": 0}, "max_hosts"),
        ({"thresholds": Thresholds(root=3, admin=1)}, "thresholds.root"),
        ({"thresholds": Thresholds(root=0, admin=1)}, "thresholds.root"),
        ({"thresholds": Thresholds(root=1, admin=3)}, "thresholds.admin"),
        ({"stores": ("https://key:secret@s3.example",)}, "credentials"),
        ({"ranges": Ranges(overlay=(), jail=BASE.ranges.jail)}, "overlay"),
        ({"ranges": Ranges(overlay=BASE.ranges.overlay, jail=("10.77.3.0/24",))}, "overlaps"),
        ({"ranges": Ranges(overlay=("fd00::/120", "10.77.0.0/16"), jail=BASE.ranges.jail)}, "/96"),
        (with_key(pools=("10.77.16.0/24",)), "overlaps"),
        (with_key(pools=("192.0.2.0/24",)), "outside the ranges"),
        (with_key(pools=("10.77.0.1/20",)), "host bits"),
        (with_key(roles=()), "role"),
        (with_key(key=encode_base64(fm.key("x").public)), "key id"),
        (with_key(key="AAAA"), "32 expected"),
        (with_key(name="\u0430dmin"), "name"),
        (
            {
                "retired": {
                    fm.key("x").kid: RetiredKey(
                        key=encode_base64(fm.key("x").public), name="x", since=1, former=(), cut=(3, "")
                    )
                }
            },
            "cut",
        ),
    ],
)
def test_a_root_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        parse_root(fm.sign_root(msgspec.structs.replace(BASE, **changes), ADMIN))


def make_three_roots() -> RootChain:
    chain: RootChain = fm.make_chain(2)
    two = fm.next_root(chain, thresholds=Thresholds(root=2, admin=1))
    chain = chain.advance(fm.sign_root(two, ADMIN, RECOVERY))
    return chain.advance(fm.sign_root(fm.next_root(chain, max_hosts=9), ADMIN, RECOVERY))


def test_root_objects_give_the_chain_back() -> None:
    chain = make_three_roots()
    objects = [item for envelope in chain.envelopes for item in root_objects(envelope)]
    assert chain_from_envelopes(root_envelopes(reversed(objects))) == chain
    for root in chain.roots:
        assert chain_from_envelopes(chain.envelopes, root.hash) == chain
    with pytest.raises(RegistryError, match="fingerprint"):
        chain_from_envelopes(chain.envelopes, "0" * 64)
    with pytest.raises(RegistryError, match="must come first"):
        chain_from_envelopes([chain.envelopes[0], chain.envelopes[2]])


def test_a_root_follows_the_one_it_names() -> None:
    chain = fm.make_chain(2)
    strange = fm.next_root(chain, prev="0" * 64)
    with pytest.raises(RegistryError, match="follows"):
        chain.advance(fm.sign_root(strange, ADMIN))
    with pytest.raises(RegistryError, match="must come first"):
        chain.advance(fm.sign_root(fm.next_root(chain, version=3), ADMIN))


def make_many_keys(prefix: str) -> tuple[list[SigningKey], dict[str, RootKey]]:
    keys = [fm.key(f"{prefix}{index}") for index in range(10)]
    return keys, {key.kid: build_root_key(key.public, ("root",), "board", ()) for key in keys}


def test_more_signers_than_an_envelope_holds() -> None:
    """All root keys replaced at once, and everybody old and new signs."""
    old, old_keys = make_many_keys("old")
    new, new_keys = make_many_keys("new")
    two = Thresholds(root=2, admin=1)
    admins = {kid: key for kid, key in BASE.keys.items() if "admin" in key.roles}
    first = msgspec.structs.replace(BASE, keys={**admins, **old_keys}, thresholds=two)
    chain = RootChain.start(fm.sign_root(first, *old[:2]))
    second = fm.sign_root(fm.next_root(chain, keys={**admins, **new_keys}), *old, *new)
    ledger = Ledger(chain)
    payload, *signatures = root_objects(second)
    junk = encode_base64(bytes(64)).encode()
    broken = {
        signature[0]
        for signature in signatures
        if signature[0].split(".")[1] in {key.kid for key in (*old[:8], *new[:8])}
    }
    fm.fill(ledger, [(name, junk if name in broken else body) for name, body in signatures])
    fm.fill(ledger, [payload])
    assert ledger.chain.version == 2
    ledger = Ledger(chain)
    fm.fill(ledger, [payload, *signatures])
    assert ledger.chain.version == 2
    fresh = Ledger(chain)
    fm.fill(fresh, [*signatures, payload])
    assert fresh.chain.version == 2
    assert len(fresh.chain.current.envelope.signatures) <= 8


def test_pieces_of_roots_may_come_in_any_order() -> None:
    chain = make_three_roots()
    pieces = [item for envelope in chain.envelopes[1:] for item in root_objects(envelope)]
    for order in list(permutations(pieces))[::17]:
        ledger = Ledger(fm.make_chain(2))
        outcomes = [item.outcome for item in fm.fill(ledger, order)]
        assert ledger.chain.version == 3 and ledger.chain.fingerprint == chain.fingerprint
        assert "refused" not in outcomes and ledger.refusals() == ()
        assert ledger.generation == 3
        assert {key for key, _ in ledger.objects()} >= {key for key, _ in pieces}


def test_bad_signatures_do_not_keep_a_good_root_out() -> None:
    chain = fm.make_chain()
    payload, signature = root_objects(fm.sign_root(fm.next_root(chain, max_hosts=9), ADMIN))
    bogus = encode_base64(bytes(64)).encode()
    ledger = Ledger(chain)
    for index in range(300):
        name = payload[0].replace(".json", f".{fm.key(str(index)).kid}.sig")
        ledger.offer(name, bogus)
    ledger.offer(signature[0], bogus)
    assert ledger.offer(*payload).outcome == "pending"
    assert ledger.offer(*signature).outcome == "new"
    assert ledger.chain.root.max_hosts == 9


def test_statements_of_a_new_admin_wait_for_the_root_that_names_it() -> None:
    chain = fm.make_chain(1)
    wider = fm.make_chain(2).root.keys
    second = fm.sign_root(fm.next_root(chain, keys=wider), ADMIN)
    author = Ledger(chain.advance(second))
    granted = fm.grant(author, fm.key("admin1"), "tesla")
    signed = fm.record("tesla")
    reader = Ledger(chain)
    assert [item.outcome for item in fm.fill(reader, [signed, granted])] == ["pending", "pending"]
    fm.offer_root(reader, second)
    assert fm.names(reader) == {"tesla"}
    assert reader.record_bytes(fm.key("tesla").kid) == signed[1]


def test_narrowing_a_pool_takes_no_host_away() -> None:
    ledger = Ledger(fm.make_chain(2))
    fm.grant(ledger, ADMIN, "tesla", addresses=[fm.network("10.77.15.9/32").network_address])
    pool = fm.network("10.77.8.0/21")
    root = change_pools(ledger, ADMIN.kid, add=(), remove=(pool,), split=False, now=fm.NOW)
    fm.offer_root(ledger, fm.sign_root(root, ADMIN))
    assert fm.names(ledger) == {"tesla"} and fm.codes(ledger) == set()
    with pytest.raises(RegistryError, match="outside the pools"):
        fm.grant(ledger, ADMIN, "newton", addresses=[fm.network("10.77.15.10/32").network_address])


def test_nobody_becomes_senior_in_a_later_root() -> None:
    chain = fm.make_chain(2)
    chain = chain.advance(fm.sign_root(fm.next_root(chain), ADMIN))
    keys = dict(chain.root.keys)
    keys[ADMIN.kid] = msgspec.structs.replace(keys[ADMIN.kid], since=2)
    with pytest.raises(RegistryError, match="since 2 seen, 1 expected"):
        chain.advance(fm.sign_root(fm.next_root(chain, keys=keys), ADMIN))


def test_a_retired_key_may_not_come_back() -> None:
    chain = fm.make_chain(2)
    other = fm.key("admin1")
    retired = chain.advance(fm.sign_root(fm.retire(chain, other.kid, (0, "")), ADMIN))
    keys = {**retired.root.keys, other.kid: chain.root.keys[other.kid]}
    with pytest.raises(RegistryError, match="may not come back"):
        retired.advance(fm.sign_root(fm.next_root(retired, keys=keys, retired={}), ADMIN))


def test_create_mesh_makes_a_root_that_others_accept() -> None:
    made = create_mesh(name="m", overlay=fm.OVERLAY, jail=fm.JAIL, now=fm.NOW)
    chain = chain_from_envelopes(root_envelopes(made.objects), made.chain.fingerprint)
    assert chain.root.mesh_name == "m" and chain.current.is_admin(made.admin_key.kid)
    assert not chain.current.is_admin(made.recovery_key.kid)
    recovered = fm.sign_root(fm.next_root(chain, max_hosts=3), made.recovery_key)
    assert chain.advance(recovered).root.max_hosts == 3
    with pytest.raises(RegistryError):
        create_mesh(name="m", overlay=[*fm.OVERLAY, fm.network("10.77.1.0/24")], now=fm.NOW)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "hex digits expected"),
        ("1568", "4 hex digits seen, 20 at least expected"),
        ("1568-f03d-eaad-c92c-223", "19 hex digits seen, 20 at least expected"),
        ("newton", "hex digits expected"),
    ],
)
def test_what_is_too_short_or_no_fingerprint_is_told_from_another_mesh(typed: str, said: str) -> None:
    with pytest.raises(RegistryError, match=said):
        chain_from_envelopes([], typed)
