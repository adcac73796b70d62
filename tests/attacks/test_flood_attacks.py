"""What somebody who may write to a store, or has stolen one key, can pile up: it keeps nothing real out.

Over 400 lines: each way to fill a store or a log, on one arena.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import fakemesh as fm
import msgspec
import pytest
from arena import ADMIN, HOSTS, OTHER, RECOVERY, create_mesh
from meshes import NOW

from meshd.errors import RegistryError
from meshd.exchange.shared_ledger import WASTE_SECONDS_AT_ONCE, SharedLedger
from meshd.registry import log_room, unjudged
from meshd.registry.cache import RegistryCache
from meshd.registry.canonical import encode, encode_base64
from meshd.registry.document import MAX_POOLS, parse_root_payload
from meshd.registry.envelope import ROOT_TYPE, payload_hash
from meshd.registry.layout import log_prefix, mesh_prefix, root_key
from meshd.registry.ledger import Ledger
from meshd.registry.root import root_objects
from meshd.registry.root_assembly import MAX_PROPOSALS_PER_KEY
from meshd.registry.signer import LogSigner
from meshd.registry.statement import RawBody
from meshd.registry.sync import PollLimits, PollMemory, PollOutcome, poll, poll_to_the_end
from meshd.store.memory import MemoryStore

JUNK = encode_base64(bytes(64)).encode()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(fm.make_chain(2))


def outcome(ledger: Ledger, item: fm.StoreObject) -> str:
    return ledger.offer(*item).outcome


def count_calls(function: Callable[..., object], *args: Any) -> int:
    """How many calls of Python functions and methods one call makes: work, whatever the machine."""
    calls = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    return calls


def test_unsigned_roots_push_no_proposal_out(ledger: Ledger) -> None:
    """The root that cuts a thief off waits for its second signature; the thief invents 40 others."""
    two = msgspec.structs.replace(ledger.chain.root.thresholds, root=2)
    fm.offer_root(ledger, fm.sign_root(fm.next_root(ledger.chain, thresholds=two), ADMIN, RECOVERY))
    chain = ledger.chain
    payload, first, second = root_objects(fm.sign_root(fm.next_root(chain, max_hosts=9), ADMIN, RECOVERY))
    fm.fill(ledger, [payload, first])
    assert ledger.chain.version == 2
    junk = [root_objects(fm.sign_root(fm.next_root(chain, max_hosts=n), OTHER))[0] for n in range(10, 50)]
    fm.fill(ledger, [*junk, *((key.replace("json", f"{OTHER.kid}.sig"), JUNK) for key, _ in junk)])
    assert [each.root.hash for each in ledger.proposals()] == [payload_hash(payload[1])]
    assert outcome(ledger, second) == "new" and ledger.chain.version == 3


@pytest.mark.slow
def test_a_stolen_root_key_pushes_out_what_it_signed_itself_alone(ledger: Ledger) -> None:
    """One of two signatures is stolen: its proposals have places of their own, and few of them."""
    two = msgspec.structs.replace(ledger.chain.root.thresholds, root=2)
    fm.offer_root(ledger, fm.sign_root(fm.next_root(ledger.chain, thresholds=two), ADMIN, RECOVERY))
    chain = ledger.chain
    nine = fm.next_root(chain, max_hosts=9)
    honest, kept = (root_objects(fm.sign_root(nine, key)) for key in (ADMIN, RECOVERY))
    carried = root_objects(fm.sign_root(fm.next_root(chain, max_hosts=8), RECOVERY))
    fm.fill(ledger, [*honest, *carried])
    ledger.keep_proposal(2 + 1, payload_hash(carried[0][1]))
    for number in range(40):
        fm.fill(ledger, root_objects(fm.sign_root(fm.next_root(chain, max_hosts=100 + number), RECOVERY)))
    proposed = [each.root.root.max_hosts for each in ledger.proposals()]
    assert {8, 9} <= set(proposed) and len(proposed) == 2 + MAX_PROPOSALS_PER_KEY
    assert outcome(ledger, kept[1]) == "new" and ledger.chain.root.max_hosts == 9


def test_a_root_that_no_key_in_force_signed_is_not_even_read(ledger: Ledger) -> None:
    """64 KB of ranges to be compared in pairs: a second of every reader's time for each, unsigned."""
    jail = tuple(f"11.{number // 256}.{number % 256}.0/32" for number in range(3000))
    ranges = msgspec.structs.replace(ledger.chain.root.ranges, jail=jail)
    payload = encode(msgspec.structs.replace(fm.next_root(ledger.chain), ranges=ranges))
    key = root_key(2, payload_hash(payload))
    assert outcome(ledger, (key, payload)) == "pending"
    assert ledger.proposals() == () and ledger.refusals() == ()
    signature = encode_base64(ADMIN.sign(payload, ROOT_TYPE).signatures[0].sig).encode()
    admission = ledger.offer(key.replace("json", f"{ADMIN.kid}.sig"), signature)
    assert admission.outcome == "refused" and "at most 256" in admission.reason


def test_endless_ranges_and_pools_of_a_root() -> None:
    """As many as one root may name are compared in one sweep: 100 times the work costs 100 times as much."""
    root = fm.make_chain().root
    key = root.keys[ADMIN.kid]

    def with_pools(count: int) -> bytes:
        pools = tuple(f"10.77.{number // 256}.{number % 256}/32" for number in range(count))
        return encode(
            msgspec.structs.replace(
                root, keys={**root.keys, ADMIN.kid: msgspec.structs.replace(key, pools=pools)}
            )
        )

    with pytest.raises(RegistryError, match=f"at most {MAX_POOLS}"):
        parse_root_payload(with_pools(MAX_POOLS + 1))
    few, many = (count_calls(parse_root_payload, with_pools(count)) for count in (20, 2000))
    assert many < 130 * few


class BusyLock:
    """The ledger's lock: which part of all calls of functions is made by whoever holds it."""

    def __init__(self) -> None:
        self.inside = self.all = 0
        self._is_held = False

    def __enter__(self) -> None:
        self._is_held = True

    def __exit__(self, *_: object) -> None:
        self._is_held = False

    @contextmanager
    def released(self) -> Iterator[None]:
        self._is_held = False
        yield
        self._is_held = True

    def share(self, function: Callable[[], object]) -> float:
        def note(_frame: object, event: str, _argument: object) -> None:
            if event in ("call", "c_call"):
                self.all += 1
                self.inside += self._is_held

        sys.setprofile(note)
        try:
            function()
        finally:
            sys.setprofile(None)
        return self.inside / self.all


def large_root(ledger: Ledger) -> list[fm.StoreObject]:
    """As much work as one root may be, signed by one of the two keys that it would need."""
    two = msgspec.structs.replace(ledger.chain.root.thresholds, root=2)
    fm.offer_root(ledger, fm.sign_root(fm.next_root(ledger.chain, thresholds=two), ADMIN, RECOVERY))
    key = ledger.chain.root.keys[ADMIN.kid]
    pools = tuple(f"10.77.{number // 256}.{number % 256}/32" for number in range(MAX_POOLS - 16))
    keys = {**ledger.chain.root.keys, ADMIN.kid: msgspec.structs.replace(key, pools=pools)}
    pieces = root_objects(fm.sign_root(fm.next_root(ledger.chain, keys=keys), ADMIN))
    parse_root_payload.cache_clear()  # who signed it has read it already
    return pieces


def test_a_root_keeps_nobody_from_the_ledger_while_it_is_judged(ledger: Ledger) -> None:
    """Who stole a root key has other hosts judge one costly root after the other: a revoke waits for none."""
    pieces, lock = large_root(ledger), BusyLock()
    desk = SharedLedger(ledger=ledger, lock=lock, hid="", identity=None, clock=lambda: fm.NOW)
    assert lock.share(lambda: desk.accept(pieces, giver="mallory")) < 0.02
    assert [each.root.hash for each in ledger.proposals()] == [payload_hash(pieces[0][1])]


def test_a_root_from_a_store_keeps_nobody_from_the_ledger_while_it_is_judged() -> None:
    flooded, lock = Flooded(), BusyLock()
    flooded.plant(*large_root(flooded.ledger))

    def read() -> None:
        with lock:
            poll(flooded.store, flooded.ledger, now=NOW, memory=flooded.memory, while_blocked=lock.released)

    assert lock.share(read) < 0.2
    assert len(flooded.ledger.proposals()) == 1


def test_a_giver_who_wastes_the_processor_is_not_heard_and_others_are(ledger: Ledger) -> None:
    """By the exchange, under the lock of the ledger: whoever gives junk holds back what he gives, alone."""
    ticks = count()
    desk = SharedLedger(
        ledger=ledger,
        lock=nullcontext(),
        hid="",
        identity=None,
        clock=lambda: fm.NOW,
        processor=lambda: next(ticks) * WASTE_SECONDS_AT_ONCE / 8,
    )
    fork = Ledger(ledger.chain)
    good = fm.grant(fork, ADMIN, "tesla")
    junk = [(root_key(2, f"{number:064x}"), b"{}") for number in range(20)]
    outcomes = desk.accept([*junk, good], giver="mallory").outcomes
    assert 8 <= outcomes.count("refused") <= 10 and outcomes[-1] == "unknown"
    assert desk.accept([good], giver="tesla").outcomes == ("new",)


# --- names and objects that somebody who may write to the store makes


class Flooded:
    """A mesh in a store that others fill, and one reader who begins with root 1."""

    def __init__(self) -> None:
        self.mesh = create_mesh()
        self.store = MemoryStore()
        self.prefix = mesh_prefix(self.mesh.ledger.mesh_id)
        self.mesh.publish(self.store)
        self.ledger = Ledger(self.mesh.mesh.chain)
        self.memory = PollMemory()
        assert self.poll().complete

    def poll(self) -> PollOutcome:
        return poll(self.store, self.ledger, now=NOW, memory=self.memory)

    def plant(self, *objects: fm.StoreObject) -> None:
        for key, body in objects:
            self.store.plant(self.prefix + key, body)

    def poll_until_revoked(self, name: str) -> int:
        """Rounds until the reader has taken in that revoke; each is told from an outage."""
        for rounds in range(1, 40):
            outcome = self.poll()
            assert outcome.unreachable == ""
            if name not in fm.names(self.ledger, NOW):
                return rounds
        raise AssertionError(f"{name} is still there")


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


# --- a thief fills the log whose key he stole


def forge(number: int, seq: int, *, mesh: str) -> fm.StoreObject:
    """A statement of the thief's, on a past that he made up."""
    body = RawBody(kind="note", fields={"n": f"{number:032x}", "why": "x" * 100})
    prev = "e" * 64 if seq > 1 else ""
    return fm.forge_statement(ADMIN, body, seq=seq, prev=prev, mesh=mesh)


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
    for number in range(1, 200):
        body = RawBody(kind="note", fields={"n": number, "why": "x" * 100})
        reader.offer(*fm.forge_statement(OTHER, body, seq=number, prev="e" * 64 * (number > 1)))
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
    monkeypatch.setattr(log_room, "MAX_LOG_BYTES", 20_000)
    monkeypatch.setattr(log_room, "MAX_FORK_BYTES", 1_000)
    true_log = [fm.grant(ledger, OTHER, f"h{number}") for number in range(15)]
    reader = Ledger(ledger.chain)
    for number in range(1, 60):
        body = RawBody(kind="note", fields={"n": number, "why": "x" * 100})
        reader.offer(*fm.forge_statement(OTHER, body, seq=number, prev="e" * 64 * (number > 1)))
    root = fm.retire(ledger.chain, OTHER.kid, ledger.heads()[OTHER.kid])
    fm.offer_root(reader, fm.sign_root(root, ADMIN))
    fm.fill(reader, true_log)
    RegistryCache(tmp_path / "registry").create(reader)
    loaded = RegistryCache(tmp_path / "registry").load()
    assert len(fm.names(loaded)) == 15 and not loaded.wanted_by_cuts()


def test_records_of_a_thiefs_hosts_keep_no_revoke_and_no_record_out(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stolen key grants hosts beyond its share, each with a large record: these filled the whole."""
    monkeypatch.setattr(log_room, "MAX_RECORD_BYTES", 20_000)
    monkeypatch.setattr(log_room, "MAX_TOTAL_BYTES", 60_000)
    monkeypatch.setattr(log_room, "WALK_RESERVE_BYTES", 10_000)
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
