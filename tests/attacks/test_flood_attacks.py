"""Names and objects that somebody who may write to a store piles up there: they keep nothing real out."""

from __future__ import annotations

import fakemesh as fm
import pytest
from arena import ADMIN, HOSTS, OTHER
from flooded_store import Flooded
from meshes import NOW

from meshd.registry.canonical import encode_base64
from meshd.registry.layout import log_prefix
from meshd.registry.ledger import Ledger
from meshd.registry.root import root_objects
from meshd.registry.sync import PollLimits, poll, poll_to_the_end

JUNK = encode_base64(bytes(64)).encode()


@pytest.fixture
def flooded() -> Flooded:
    return Flooded()


@pytest.mark.slow
def test_endless_names_below_a_log_hide_no_revoke(flooded: Flooded) -> None:
    """40,001 names at the head's number, at the next one, and at numbers after it."""
    mesh = flooded.mesh
    prefix = log_prefix(ADMIN.kid)
    seq = flooded.ledger.heads()[ADMIN.kid][0]
    for number in range(20_001):
        flooded.plant((f"{prefix}{seq:010d}-{number:064x}.json", b"{}"))
        flooded.plant((f"{prefix}{seq + 2 + number:010d}-{number:064x}.json", b"{}"))
    mesh.revoke("newton")
    flooded.plant(*((key, body) for key, body in mesh.objects.items()))
    assert flooded.poll_until_revoked("newton") == 1
    for number in range(5_001):
        flooded.plant((f"{prefix}{seq + 2:010d}-{number:064x}.json", b"{}"))
    mesh.revoke("bohr")
    flooded.plant(*((key, body) for key, body in mesh.objects.items()))
    # Somewhere in the crowd of one number: a part of it in each round.
    assert flooded.poll_until_revoked("bohr") <= 4
    assert flooded.store.calls["get"] < 60_000


def test_endless_names_of_one_number_are_stepped_over(flooded: Flooded) -> None:
    """More statements of the head's number than one listing has names for: what follows is found at once."""
    seq = flooded.ledger.heads()[ADMIN.kid][0]
    names = (f"{log_prefix(ADMIN.kid)}{seq:010d}-{number:064x}.json" for number in range(2_000))
    flooded.plant(*((name, b"{}") for name in names))
    flooded.mesh.revoke("newton")
    flooded.plant(*flooded.mesh.objects.items())
    limits = PollLimits(listed_keys=100)
    poll(flooded.store, flooded.ledger, now=NOW, memory=flooded.memory, limits=limits)
    assert "newton" not in fm.names(flooded.ledger, NOW)


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_endless_names_below_root_hide_no_cut(flooded: Flooded, version: int) -> None:
    """At the trusted version and the next: only what a root key in force is said to have signed is got."""
    flooded.plant(*((f"root/{version:06d}-{number:064x}.json", b"{}") for number in range(4_500)))
    flooded.plant(*((f"root/{version:06d}-{number:064x}.{'0' * 32}.sig", JUNK) for number in range(4_500)))
    chain = flooded.mesh.ledger.chain
    flooded.plant(*root_objects(fm.sign_root(fm.retire(chain, OTHER.kid, (0, "")), ADMIN)))
    flooded.store.calls.clear()
    for _ in range(6):
        assert flooded.poll().unreachable == ""
    assert flooded.ledger.chain.version == 2
    # Where a listing ends among pieces of one root, that root is asked for by name: a few each round.
    assert flooded.store.calls["get"] < 40


@pytest.mark.slow
def test_endless_names_beside_the_root_that_cuts_hide_none_of_its_pieces(flooded: Flooded) -> None:
    """9,000 junk signatures of that very root, whose names sort before those of the real one."""
    payload, signature = root_objects(
        fm.sign_root(fm.retire(flooded.mesh.ledger.chain, OTHER.kid, (0, "")), ADMIN)
    )
    stem = payload[0].removesuffix(".json")
    flooded.plant(*((f"{stem}.{number:032x}.sig", JUNK) for number in range(9_000)), payload, signature)
    assert flooded.poll().unreachable == ""
    assert flooded.ledger.chain.version == 2


def test_endless_names_below_host_cost_no_record_and_no_right_to_sign(flooded: Flooded) -> None:
    flooded.plant(*((f"host/{number:032x}.json", b"{}") for number in range(5_001)))
    mesh = flooded.mesh
    record = mesh.hosts["newton"].body(version=int(NOW * 1000) + 5)
    flooded.plant((mesh.hosts["newton"].key, record))
    outcome = flooded.poll()
    assert outcome.complete and "names below host/" in outcome.remaining[0]
    assert flooded.ledger.record_bytes(mesh.hosts["newton"].hid) == record


def test_an_unusable_object_is_no_outage(flooded: Flooded) -> None:
    """A record with a header of 70 KB, a statement of 65 KB, a name that is none: the rest is followed."""
    mesh = flooded.mesh
    record, prefix = mesh.hosts["newton"].key, log_prefix(ADMIN.kid)
    large, broken = f"{prefix}9999999999-{'a' * 64}.json", f"{prefix}8888888888-{'b' * 64}.json"
    flooded.plant((record, b"x"), (large, b"x" * 65_000), (broken, b"x"), ("host/\x01", b"x"))
    flooded.store.faults.unusable = {flooded.prefix + record, flooded.prefix + broken}
    mesh.revoke("bohr")
    flooded.plant(*((key, body) for key, body in mesh.objects.items() if key.startswith("log/")))
    outcome = flooded.poll()
    assert outcome.complete and outcome.unreachable == ""
    assert {key for key, _ in outcome.unusable} == {record, large, broken}
    assert "bohr" not in fm.names(flooded.ledger, NOW)


def test_a_listing_that_does_not_end_goes_on_in_the_next_round(flooded: Flooded) -> None:
    """So many names that are no keys that not even a listing comes past them."""
    flooded.plant(*((f"root/{version:06d}-!{number}", b"x") for version in (1, 2) for number in range(300)))
    flooded.plant(*((f"log/{ADMIN.kid}/{number:010d}!", b"x") for number in range(300)))
    flooded.store.faults.listed_at_once = 100
    flooded.mesh.revoke("newton")
    chain = flooded.mesh.ledger.chain
    flooded.plant(*flooded.mesh.objects.items())
    flooded.plant(*root_objects(fm.sign_root(fm.next_root(chain, max_hosts=77), ADMIN)))
    assert flooded.poll_until_revoked("newton") < 12
    for _ in range(12):
        flooded.poll()
    assert flooded.ledger.chain.root.max_hosts == 77


@pytest.mark.slow
def test_who_asks_once_walks_through_a_flood(flooded: Flooded) -> None:
    """wgctl asks once and must know all that there is: round after round, to the end."""
    kid = ADMIN.kid
    flooded.plant(*((f"root/000002-{number:064x}.{kid}.sig", JUNK) for number in range(9_000)))
    fresh = Ledger(flooded.mesh.mesh.chain)
    outcome = poll_to_the_end(flooded.store, fresh, now=NOW)
    assert outcome.complete and outcome.error == ""
    assert fm.names(fresh, NOW) == set(HOSTS)
