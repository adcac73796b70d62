"""Signed requests for new WireGuard keys: whom they reach, from when on, and what they leave alone."""

from __future__ import annotations

import fakemesh as fm
import pytest

from meshd.errors import RegistryError
from meshd.model.host import Host
from meshd.registry.ledger import Ledger
from meshd.registry.signer import MAX_ROTATE_HIDS, MAX_SEEN, LogSigner
from meshd.registry.signing import SigningKey
from meshd.registry.statement import Rotate

ADMIN, OTHER = fm.key("admin0"), fm.key("admin1")
NOW = int(fm.NOW)


@pytest.fixture
def ledger() -> Ledger:
    """Three members."""
    ledger = Ledger(fm.make_chain(2))
    for name in ("tesla", "newton", "bohr"):
        fm.grant(ledger, ADMIN, name)
        fm.fill(ledger, [fm.record(name)])
    return ledger


def rotate(ledger: Ledger, *names: str, at: int = NOW, key: SigningKey = ADMIN) -> fm.StoreObject:
    return LogSigner(ledger, key).rotate([fm.key(name).kid for name in names], at, now=fm.NOW)


def hosts(ledger: Ledger, now: float = fm.NOW) -> dict[str, Host]:
    return {host.name: host for host in ledger.membership(now).hosts.values()}


def asked(ledger: Ledger, now: float = fm.NOW) -> dict[str, int]:
    return {name: host.rotate_not_before for name, host in hosts(ledger, now).items()}


def test_a_request_reaches_whom_it_names_and_says_who_asked(ledger: Ledger) -> None:
    before = hosts(ledger)
    assert before["tesla"].rotate_not_before == 0 and before["tesla"].rotation is None
    statement = rotate(ledger, "tesla", at=NOW - 5)
    after = hosts(ledger)
    assert asked(ledger) == {"tesla": NOW - 5, "newton": 0, "bohr": 0}
    said = after["tesla"].rotation
    assert said is not None and (said.kid, said.statement) == (ADMIN.kid, fm.hash_of(statement))
    assert after["tesla"].record is before["tesla"].record
    assert after["newton"] is before["newton"] and after["bohr"] is before["bohr"]


def test_a_request_to_nobody_is_to_everybody_later_members_included(ledger: Ledger) -> None:
    rotate(ledger)
    fm.grant(ledger, OTHER, "curie")
    assert set(asked(ledger).values()) == {NOW} and "curie" in asked(ledger)


def test_the_newest_request_that_is_due_holds(ledger: Ledger) -> None:
    rotate(ledger, at=NOW - 100)
    newest = rotate(ledger, "tesla", "newton", at=NOW, key=OTHER)
    rotate(ledger, "newton", at=NOW - 200)
    equal = rotate(ledger, "tesla", at=NOW)
    assert asked(ledger) == {"tesla": NOW, "newton": NOW, "bohr": NOW - 100}
    said = hosts(ledger)["tesla"].rotation
    assert said is not None and said.statement == min(fm.hash_of(newest), fm.hash_of(equal))


def test_a_request_waits_for_its_instant_and_is_seen_without_news(ledger: Ledger) -> None:
    rotate(ledger, "tesla", at=NOW - 50)
    rotate(ledger, at=NOW + 60)
    rotate(ledger, "tesla", at=2**53 - 1)
    early = hosts(ledger, NOW + 59)
    assert {name: host.rotate_not_before for name, host in early.items()} == {
        "tesla": NOW - 50,
        "newton": 0,
        "bohr": 0,
    }
    assert set(asked(ledger, NOW + 60).values()) == {NOW + 60}
    assert set(asked(ledger, NOW + 10**9).values()) == {NOW + 60}
    assert asked(ledger, NOW + 59)["newton"] == 0


def test_hosts_that_are_not_asked_anew_keep_their_identity(ledger: Ledger) -> None:
    rotate(ledger)
    before = hosts(ledger)
    rotate(ledger, "tesla", at=NOW + 1)
    fm.grant(ledger, ADMIN, "curie")
    fm.fill(ledger, [fm.record("bohr", version=2)])
    after = hosts(ledger, NOW + 1)
    assert {name for name in before if after[name] is not before[name]} == {"tesla", "bohr"}


def test_a_request_of_one_administrator_counts_where_grants_need_two() -> None:
    ledger = Ledger(fm.make_chain(2, admin_threshold=2))
    granted = fm.grant(ledger, ADMIN, "tesla")
    LogSigner(ledger, OTHER).endorse(fm.hash_of(granted), now=fm.NOW)
    rotate(ledger, "tesla")
    assert asked(ledger) == {"tesla": NOW}


def test_what_a_retired_administrator_asked_after_the_cut_never_was(ledger: Ledger) -> None:
    good = rotate(ledger, "tesla", at=NOW - 9, key=OTHER)
    rotate(ledger, key=OTHER)
    assert asked(ledger)["newton"] == NOW
    root = fm.sign_root(fm.retire(ledger.chain, OTHER.kid, (1, fm.hash_of(good))), ADMIN)
    fm.offer_root(ledger, root)
    assert asked(ledger) == {"tesla": NOW - 9, "newton": 0, "bohr": 0}


def test_the_signer_refuses_what_nobody_would_answer(ledger: Ledger) -> None:
    with pytest.raises(RegistryError, match="not granted"):
        rotate(ledger, "curie")
    LogSigner(ledger, ADMIN).revoke(fm.key("bohr").kid, "sold", now=fm.NOW)
    with pytest.raises(RegistryError, match="not granted"):
        rotate(ledger, "tesla", "bohr")
    with pytest.raises(RegistryError, match=f"at most {MAX_ROTATE_HIDS}"):
        LogSigner(ledger, ADMIN).rotate([fm.key("tesla").kid] * (MAX_ROTATE_HIDS + 1), NOW, now=fm.NOW)
    assert asked(ledger) == {"tesla": 0, "newton": 0}


def test_the_longest_request_fits_whatever_else_its_statement_names() -> None:
    ledger = Ledger(fm.make_chain(MAX_SEEN + 2))
    hids = [fm.key(f"host{number}").kid for number in range(MAX_ROTATE_HIDS)]
    for index in range(1, MAX_SEEN + 2):
        fm.grant(ledger, fm.key(f"admin{index}"), f"other{index}")
    for number in range(MAX_ROTATE_HIDS):
        fm.grant(ledger, fm.key("admin1"), f"host{number}")
    key, body = LogSigner(ledger, fm.key("admin0")).rotate(hids, 2**53 - 1, now=fm.NOW)
    assert Ledger(ledger.chain).offer(key, body).outcome == "new"
    entry = ledger.own_log(fm.key("admin0").kid)[-1]
    assert isinstance(entry.body, Rotate) and len(entry.statement.seen) == MAX_SEEN
