"""A thief fills the log whose key was stolen: what its owner signs, and a cut, find room."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import fakemesh as fm
import pytest
from arena import ADMIN, OTHER, RECOVERY
from flooded_store import Flooded
from meshes import NOW

from meshd.errors import RegistryError
from meshd.registry import log_room, unjudged
from meshd.registry.bundle import build_bundle, open_bundle, render_bundle
from meshd.registry.cache import RegistryCache
from meshd.registry.export import build_export, open_export, render_export
from meshd.registry.layout import log_prefix
from meshd.registry.ledger import Ledger
from meshd.registry.root import root_objects
from meshd.registry.signer import LogSigner
from meshd.registry.signing import SigningKey
from meshd.registry.statement import RawBody
from meshd.registry.sync import PollLimits, PollMemory, poll


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


def outcome(ledger: Ledger, item: fm.StoreObject) -> str:
    return ledger.offer(*item).outcome


@pytest.fixture
def flooded() -> Flooded:
    return Flooded()


def forge(number: int, seq: int, *, mesh: str) -> fm.StoreObject:
    """A statement of the thief's, on a past that he made up."""
    body = RawBody(kind="note", fields={"n": f"{number:032x}", "why": "x" * 100})
    prev = "e" * 64 if seq > 1 else ""
    return fm.forge_statement(ADMIN, body, seq=seq, prev=prev, mesh=mesh)


def write_notes(ledger: Ledger, victim: SigningKey, numbers: range) -> None:
    """The thief's again, one a number, for as long as any goes in."""
    for number in numbers:
        body = RawBody(kind="note", fields={"n": number, "why": "x" * 100})
        ledger.offer(*fm.forge_statement(victim, body, seq=number, prev="e" * 64 * (number > 1)))


def take_in_a_walk(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> tuple[Ledger, list[fm.StoreObject]]:
    """A log is filled by a thief and cut by the root, and only then its true statements come.

    -> who holds both, and these.
    """
    monkeypatch.setattr(log_room, "MAX_LOG_BYTES", 20_000)
    monkeypatch.setattr(log_room, "MAX_FORK_BYTES", 1_000)
    true_log = [fm.grant(ledger, OTHER, f"h{number}") for number in range(15)]
    reader = Ledger(ledger.chain)
    write_notes(reader, OTHER, range(1, 60))
    root = fm.retire(ledger.chain, OTHER.kid, ledger.heads()[OTHER.kid])
    fm.offer_root(reader, fm.sign_root(root, ADMIN))
    fm.fill(reader, true_log)
    return reader, true_log


def test_forks_of_a_stolen_key_leave_room_for_what_its_owner_signs(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers signed twice cost the thief his own little room, not the true log its."""
    monkeypatch.setattr(log_room, "MAX_FORK_BYTES", 60_000)
    first = fm.grant(ledger, ADMIN, "tesla")
    same = Counter(outcome(ledger, forge(n, 1, mesh=ledger.mesh_id)) for n in range(40))
    assert same["new"] == log_room.MAX_TWINS - 1
    other = Counter(outcome(ledger, forge(n, 2 + n % 40, mesh=ledger.mesh_id)) for n in range(300))
    assert 40 < other["new"] < 40 + 60_000 // 600 and other["refused"] > 150
    assert ledger.body(first[0]) is not None
    assert outcome(ledger, forge(1, 99, mesh=ledger.mesh_id)) == "new"


def test_what_follows_a_fork_is_of_the_log_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a number that is held already makes a fork; both branches go on in the room of the log."""
    monkeypatch.setattr(log_room, "MAX_FORK_BYTES", 1_000)
    first, twin = forge(1, 1, mesh=ledger.mesh_id), forge(2, 1, mesh=ledger.mesh_id)
    assert [outcome(ledger, each) for each in (first, twin)] == ["new", "new"]
    for seq, prev in enumerate((twin, first, twin), 2):
        body = RawBody(kind="note", fields={"why": "x" * 100})
        assert outcome(ledger, fm.forge_statement(ADMIN, body, seq=seq, prev=fm.hash_of(prev))) == "new"
    assert outcome(ledger, forge(3, 2, mesh=ledger.mesh_id)) == "refused"


def test_a_full_log_takes_in_the_walk_to_its_cut(flooded: Flooded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thief's statements are there first, until nothing more goes in; then the root cuts his key off."""
    mesh = flooded.mesh
    mesh.revoke("newton")
    cut = mesh.ledger.heads()[ADMIN.kid]
    true_log = [(key, body) for key, body in mesh.objects.items() if key.startswith("log/")]
    monkeypatch.setattr(log_room, "MAX_LOG_BYTES", 12_000)
    monkeypatch.setattr(log_room, "MAX_FORK_BYTES", 1_000)
    reader = Ledger(mesh.mesh.chain)
    for number in range(1, 40):
        item = forge(number, number, mesh=reader.mesh_id)
        reader.offer(*item)
        flooded.plant(item)
    flooded.plant(*true_log)
    memory = PollMemory()
    poll(flooded.store, reader, now=NOW, memory=memory)
    held = [key for key, _ in true_log if reader.body(key) is not None]
    assert len(held) <= 2 and fm.names(reader, NOW).isdisjoint({"newton"})
    heir = fm.retire(mesh.ledger.chain, ADMIN.kid, cut)
    flooded.plant(*root_objects(fm.sign_root(heir, RECOVERY)))
    # Nor is the walk to be found in a listing: a crowd of names at each of its numbers.
    crowds = (
        f"{log_prefix(ADMIN.kid)}{seq:010d}-{junk:064x}.json"
        for seq in range(cut[0] + 1)
        for junk in range(300)
    )
    flooded.plant(*((name, b"{}") for name in crowds))
    poll(flooded.store, reader, now=NOW, memory=memory, limits=PollLimits(listed_keys=100))
    assert reader.chain.version == 2
    assert all(reader.body(key) is not None for key, _ in true_log)
    assert fm.names(reader, NOW) == {"tesla", "bohr"}


@pytest.mark.slow
@pytest.mark.parametrize("order", ["up", "down", "mixed"])
def test_a_walk_to_a_cut_is_taken_in_by_one_round_in_any_order(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """Offered from the first number up, as hosts and bundles do it, it took a round for each statement."""
    true_log = [fm.grant(ledger, OTHER, f"h{number}") for number in range(40)]
    monkeypatch.setattr(log_room, "MAX_LOG_BYTES", 40_000)
    monkeypatch.setattr(log_room, "MAX_FORK_BYTES", 1_000)
    reader = Ledger(ledger.chain)
    write_notes(reader, OTHER, range(1, 200))
    root = fm.retire(ledger.chain, OTHER.kid, ledger.heads()[OTHER.kid])
    fm.offer_root(reader, fm.sign_root(root, ADMIN))
    offered = {"up": true_log, "down": true_log[::-1], "mixed": true_log[20:] + true_log[:20]}[order]
    outcomes = Counter(each.outcome for each in fm.fill(reader, offered))
    assert set(outcomes) <= {"new", "pending"} and len(fm.names(reader)) == 40
    assert not reader.wanted_by_cuts() and not any(reader.is_refused(key) for key, _ in true_log)


@pytest.mark.slow
def test_what_may_lie_on_a_walk_waits_in_bounded_memory(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thief's statements below the cut are none of the walk, and there is no end of them."""
    true_log = [fm.grant(ledger, OTHER, f"h{number}") for number in range(40)]
    monkeypatch.setattr(log_room, "MAX_LOG_BYTES", 40_000)
    monkeypatch.setattr(log_room, "MAX_FORK_BYTES", 1_000)
    monkeypatch.setattr(unjudged, "MAX_WAITING_BYTES", 20_000)
    reader = Ledger(ledger.chain)
    root = fm.retire(ledger.chain, OTHER.kid, ledger.heads()[OTHER.kid])
    fm.offer_root(reader, fm.sign_root(root, ADMIN))
    for number in range(300):
        body = RawBody(kind="note", fields={"n": number, "why": "x" * 100})
        forged = fm.forge_statement(OTHER, body, seq=2 + number % 38, prev="e" * 64)
        assert outcome(reader, forged) in ("new", "refused", "pending")
    rounds = 0
    while reader.wanted_by_cuts() and (rounds := rounds + 1) < 5:
        fm.fill(reader, true_log)
    assert len(fm.names(reader)) == 40
    queue = unjudged.WalkQueue()
    for number in range(300):
        queue.put(str(number % 200), b"x" * 1_000)
    assert queue.size_bytes == 20_000 and queue.take("99") and queue.take("80") and not queue.take("79")


def test_a_walk_that_was_taken_in_is_loaded_from_the_cache(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also once the cache was written anew, in the order of names, into a log that is full of forgeries."""
    reader, _ = take_in_a_walk(ledger, monkeypatch)
    RegistryCache(tmp_path / "registry").create(reader)
    loaded = RegistryCache(tmp_path / "registry").load()
    assert len(fm.names(loaded)) == 15 and not loaded.wanted_by_cuts()


def test_thieves_who_filled_the_registry_leave_it_to_the_others_once_they_are_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two stolen keys fill what all logs share. Nothing of that counts after their cuts, so it takes no room
    either, not even from who loads the cache."""
    monkeypatch.setattr(log_room, "MAX_TOTAL_BYTES", 60_000)
    monkeypatch.setattr(log_room, "REVOKE_RESERVE_BYTES", 10_000)
    ledger, victims = Ledger(fm.make_chain(3)), (OTHER, fm.key("admin2"))
    for victim in victims:
        fm.grant(ledger, victim, f"of-{victim.kid[:4]}")
    good = ledger.heads()
    for victim in victims:
        write_notes(ledger, victim, range(2, 60))
    with pytest.raises(RegistryError, match="bytes in all"):
        fm.grant(ledger, ADMIN, "tesla")
    for victim in victims:
        fm.offer_root(ledger, fm.sign_root(fm.retire(ledger.chain, victim.kid, good[victim.kid]), ADMIN))
    fm.grant(ledger, ADMIN, "tesla")
    assert fm.names(ledger) == {"tesla", *(f"of-{victim.kid[:4]}" for victim in victims)}
    again = Ledger(ledger.chain)
    fm.fill(again, list(ledger.objects()))
    assert fm.names(again) == fm.names(ledger)


def test_a_thiefs_forks_take_nothing_out_of_a_cache_or_a_bundle(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They fill their room to the brim. In another order than that in which they came some true statements
    are the second ones of their number, and too many: a restart lost hosts, and nobody could join."""
    true_log = [fm.grant(ledger, OTHER, f"h{number}") for number in range(40)]
    small = RawBody(kind="note", fields={})
    twins = [
        fm.forge_statement(OTHER, small, seq=seq, prev="e" * 64 if seq > 1 else "")
        for seq in range(1, len(true_log) + 1)
    ]
    monkeypatch.setattr(log_room, "MAX_FORK_BYTES", sum(len(body) for _, body in twins))
    assert {each.outcome for each in fm.fill(ledger, twins)} == {"new"}
    RegistryCache(tmp_path / "registry").create(ledger)
    loaded = RegistryCache(tmp_path / "registry").load()
    assert fm.names(loaded) == fm.names(ledger) and loaded.generation == ledger.generation
    joined, _ = open_bundle(render_bundle(build_bundle(ledger, fm.key("h39").kid)))
    exported, _ = open_export(render_export(build_export(ledger, now=fm.NOW)))
    for other in (joined, exported):
        assert fm.names(other) == fm.names(ledger)


def test_a_log_that_was_filled_and_cut_is_no_part_of_a_bundle(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for what counts of it: a newborn needs no more, and what a thief signed could make it too large."""
    reader, true_log = take_in_a_walk(ledger, monkeypatch)
    bundle = build_bundle(reader, fm.key("h3").kid)
    joined, _ = open_bundle(render_bundle(bundle))
    exported, _ = open_export(render_export(build_export(reader, now=fm.NOW)))
    assert {key for key, _ in bundle.objects} == {key for key, _ in true_log}
    assert fm.names(joined) == fm.names(exported) == fm.names(reader) and len(fm.names(joined)) == 15


def test_records_of_a_thiefs_hosts_keep_no_revoke_and_no_record_out(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stolen key grants hosts beyond its share, each with a large record: these filled the whole."""
    monkeypatch.setattr(log_room, "MAX_RECORD_BYTES", 20_000)
    monkeypatch.setattr(log_room, "MAX_TOTAL_BYTES", 60_000)
    monkeypatch.setattr(log_room, "REVOKE_RESERVE_BYTES", 10_000)
    fm.offer_root(ledger, fm.sign_root(fm.next_root(ledger.chain, max_hosts=4), ADMIN))
    fm.grant(ledger, ADMIN, "tesla")
    prev = ""
    for number in range(30):
        body = fm.grant_body(f"m{number}", f"10.77.16.{number + 1}")
        item = fm.forge_statement(OTHER, body, seq=number + 1, prev=prev)
        prev = fm.hash_of(item)
        assert outcome(ledger, item) == "new"
        networks = [f"10.129.{each}.0/24" for each in range(20)]
        assert outcome(ledger, fm.record(f"m{number}", networks=networks)) == "new"
    kept = sum(len(body) for key, body in ledger.objects() if key.startswith("host/"))
    assert kept < 20_000
    record = fm.record("tesla", networks=["10.128.1.0/24"])
    assert outcome(ledger, record) == "new" and ledger.body(record[0]) == record[1]
    fm.grant(ledger, ADMIN, "newton")
    LogSigner(ledger, ADMIN).revoke(fm.key("m0").kid, "thief", now=fm.NOW)
    assert {"tesla", "newton", "m1"} <= fm.names(ledger) and "m0" not in fm.names(ledger)
