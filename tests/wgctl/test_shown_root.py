"""Whoever signs a root reads all that it changes, and who gains power by it first."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from meshd.registry.document import FormerPools, Ranges, RetiredKey, Role, Root, RootKey, Thresholds
from meshd.registry.signer import build_root_key
from meshd.registry.signing import SigningKey, render_fingerprint
from wgctl.views.root_changes import describe_changes

ADA, BOB, OLD, THIEF = (SigningKey(bytes([number]) * 32) for number in range(4))


def retire(key: SigningKey, name: str, pool: str, seq: int = 3) -> RetiredKey:
    entry = build_root_key(key.public, ("admin",), name, ())
    cut = (seq, "ab" * 32)
    former = FormerPools(root=1, until=cut, overlay=(pool,), jail=())
    return RetiredKey(key=entry.key, name=name, since=1, former=(former,), cut=cut)


def admin(key: SigningKey, name: str, *roles: Role, pools: tuple[str, ...] = ()) -> RootKey:
    return msgspec.structs.replace(build_root_key(key.public, roles, name, ()), pools=pools)


ROOT = Root(
    format="wg-meshd-root/1",
    mesh="0" * 32,
    mesh_name="home",
    version=2,
    prev="00" * 32,
    keys={ADA.kid: admin(ADA, "ada", "root"), BOB.kid: admin(BOB, "bob", "admin", pools=("10.99.0.0/24",))},
    retired={OLD.kid: retire(OLD, "old", "10.99.1.0/24")},
    thresholds=Thresholds(root=2, admin=2),
    ranges=Ranges(overlay=("10.99.0.0/16",), jail=()),
    max_hosts=100,
    heads={BOB.kid: (3, "cd" * 32)},
    stores=("file:///srv/mesh",),
    created_at=0,
)


def changed(**fields: Any) -> list[str]:
    return list(describe_changes(ROOT, msgspec.structs.replace(ROOT, version=3, created_at=9, **fields)))


def test_a_key_that_comes_as_a_retired_one_is_shown() -> None:
    """Its log counts up to the cut, so the thief's hosts would be members."""
    thief = retire(THIEF, "thief", "10.99.7.0/24")
    line, powers = changed(retired={**ROOT.retired, THIEF.kid: thief})
    assert line.startswith("+") and render_fingerprint(THIEF.kid) in line
    assert "up to statement 3" in line and powers.startswith("+") and "10.99.7.0/24" in powers


def test_pools_that_grow_while_a_key_is_retired_are_shown() -> None:
    keys = {ADA.kid: ROOT.keys[ADA.kid]}
    retired = {**ROOT.retired, BOB.kid: retire(BOB, "bob", "10.99.0.0/16")}
    assert any(line[0] == "+" and "10.99.0.0/16" in line for line in changed(keys=keys, retired=retired))
    retired = {OLD.kid: retire(OLD, "old", "10.99.0.0/16")}
    assert [line[0] for line in changed(retired=retired)] == ["+", " "]


def test_who_gains_power_stands_first() -> None:
    lines = changed(
        keys={
            ADA.kid: admin(ADA, "ada2", "root"),
            BOB.kid: admin(BOB, "bob", "admin", "root", pools=("10.99.0.0/24", "10.99.2.0/24")),
            THIEF.kid: admin(THIEF, "thief", "root"),
        },
        retired={OLD.kid: retire(OLD, "old", "10.99.1.0/24", seq=9)},
        thresholds=Thresholds(root=1, admin=1),
        mesh_name="elsewhere",
    )
    assert [line[0] for line in lines] == list("+++++") + [" "] * 5
    assert "thief" in lines[0] and render_fingerprint(THIEF.kid) in lines[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mesh_name", "other"),
        ("mesh", "1" * 32),
        ("thresholds", Thresholds(root=1, admin=2)),
        ("thresholds", Thresholds(root=2, admin=1)),
        ("ranges", Ranges(overlay=("10.0.0.0/8",), jail=())),
        ("max_hosts", 7),
        ("heads", {}),
        ("heads", {BOB.kid: (4, "cd" * 32)}),
        ("stores", ()),
        ("retired", {}),
        ("retired", {OLD.kid: retire(OLD, "renamed", "10.99.1.0/24")}),
        ("keys", {ADA.kid: ROOT.keys[ADA.kid]}),
        ("keys", {**ROOT.keys, BOB.kid: admin(BOB, "bob", "admin")}),
        ("keys", {**ROOT.keys, BOB.kid: admin(BOB, "robert", "admin", pools=("10.99.0.0/24",))}),
        ("keys", {**ROOT.keys, ADA.kid: admin(THIEF, "ada", "root")}),
    ],
)
def test_no_change_is_without_a_line(field: str, value: object) -> None:
    assert changed(**{field: value}) and not changed()
