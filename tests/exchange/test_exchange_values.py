"""What a host lacks, whom to tell, what a witness says, and how much anybody may ask: values alone."""

from __future__ import annotations

import random
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meshes import NOW, SignedMesh
from trials import trials

from meshd.exchange.flood import ALL_UP_TO, FAN_OUT, MAX_QUEUED, PASS_ON, Flood, choose_targets
from meshd.exchange.host_sync import WitnessReport
from meshd.exchange.inventory import build_inventory, build_page, lacking
from meshd.exchange.messages import MAX_OFFER_OBJECTS, Object, ObjectsRequest
from meshd.exchange.rates import MAX_KEYS, TokenBuckets
from meshd.exchange.shared_ledger import SharedLedger
from meshd.exchange.stats import StatsRecorder
from meshd.exchange.witness import ShownHeads, StoreView, compare_views
from meshd.registry.ledger import Ledger

HIDS = [f"{number:032x}" for number in range(1, 101)]
URL = "s3+https://store.example/mesh"
KID = "ad" * 16


def build_mesh() -> SignedMesh:
    mesh = SignedMesh.create()
    for name in ("tesla", "newton", "bohr", "curie"):
        mesh.add(name)
    mesh.revoke("curie", "sold")
    return mesh


MESH = build_mesh()
THERE = MESH.copy()
MESH.revoke("bohr", "sold")
THERE.revoke("newton", "a copied key at work")
EVERYTHING = dict(MESH.objects) | dict(THERE.objects)


def ledger_of(keys: set[str]) -> Ledger:
    """A host that was given some of what there is, before and after what vouches for it."""
    ledger = Ledger(MESH.mesh.chain)
    for _ in range(2):
        for key in sorted(keys):
            ledger.offer(key, EVERYTHING[key])
    return ledger


def desk_of(ledger: Ledger) -> SharedLedger:
    return SharedLedger(ledger=ledger, lock=nullcontext(), hid="", identity=None, clock=lambda: NOW)


@pytest.mark.slow
@trials(60)
@given(st.sets(st.sampled_from(sorted(EVERYTHING))), st.sets(st.sampled_from(sorted(EVERYTHING))))
def test_two_hosts_that_compare_hold_the_same(ours: set[str], theirs: set[str]) -> None:
    one, two = ledger_of(ours), ledger_of(theirs)
    for _ in range(2):  # a record that waited for its grant goes with the second comparison
        for_two, for_one = list(lacking(one, build_inventory(two))), list(lacking(two, build_inventory(one)))
        assert desk_of(two).accept(for_two).forged == ""
        assert desk_of(one).accept(for_one).forged == ""
    assert build_inventory(one) == build_inventory(two)
    assert dict(one.objects()) == dict(two.objects())
    assert not list(lacking(one, build_inventory(two)))


def test_pages_bring_everything_once() -> None:
    full, empty = ledger_of(set(EVERYTHING)), Ledger(MESH.mesh.chain)
    have, after = build_inventory(empty), ""
    seen: list[Object] = []
    while True:
        page = build_page(full, ObjectsRequest(have=have, after=after), max_bytes=1000)
        assert (page.have is not None) == (after == "")
        seen += page.objects
        if not page.more:
            break
        after = page.objects[-1][0]
    assert seen == list(lacking(full, have))


def test_in_a_small_mesh_all_are_told_and_those_told_pass_it_on_to_a_few() -> None:
    rng = random.Random(1)
    assert choose_targets(HIDS[:6], (), None, rng) == (HIDS[:6], [])
    at_once, later = choose_targets(HIDS[:6], HIDS[:5], HIDS[0], rng)
    assert at_once == [HIDS[5]] and HIDS[0] not in later and len(later) == PASS_ON
    many, none = choose_targets(HIDS, HIDS[:20], HIDS[0], rng)
    assert len(HIDS) > ALL_UP_TO and len(many) == FAN_OUT and not set(many) & set(HIDS[:20]) and not none


@trials(20)
@given(st.integers(2, 60), st.integers(0, 10_000), st.sets(st.integers(0, 59), max_size=20))
def test_news_reaches_nearly_all_even_if_the_first_teller_reaches_few(
    count: int, seed: int, unreached: set[int]
) -> None:
    rng, hids = random.Random(seed), HIDS[:count]
    blocked = {hids[number] for number in unreached if 0 < number < count - 1}
    knows = {hids[0]}
    queue: list[tuple[str, str | None, tuple[str, ...]]] = [(hids[0], None, ())]
    while queue:
        hid, source, told = queue.pop()
        at_once, later = choose_targets([each for each in hids if each != hid], told, source, rng)
        targets = at_once + later
        telling = [target for target in targets if hid != hids[0] or target not in blocked]
        for target in telling:
            if target not in knows:
                knows.add(target)
                queue.append((target, hid, (hid, *telling, *told)))
    assert len(knows) >= 0.9 * count


def test_each_object_goes_once_to_each_and_never_back() -> None:
    flood, items = Flood(), [("host/a.json", b"a"), ("host/b.json", b"b")]
    flood.note_held("giver", items[:1])
    flood.enqueue(items, ["giver", "other"])
    assert flood.next_batch("giver")[0] == (items[1],)
    assert flood.next_batch("other")[0] == tuple(items)
    flood.enqueue(items, ["giver", "other"])
    assert flood.next_batch("other")[0] == (), "one offer at a time"
    flood.delivered("other")
    flood.requeue("giver")
    flood.enqueue(items, ["giver", "other"])
    assert flood.next_batch("other")[0] == ()
    assert flood.next_batch("giver")[0] == (items[1],), "what failed is offered again"
    assert flood.queued == 0


def test_a_newer_record_takes_the_place_of_the_one_that_waits() -> None:
    flood = Flood()
    for body in (b"1", b"2", b"3"):
        flood.enqueue([("host/a.json", body)], ["other"])
    assert flood.next_batch("other")[0] == (("host/a.json", b"3"),)


def test_what_waits_for_a_host_that_is_away_is_bounded_and_then_compared_whole() -> None:
    flood = Flood()
    for number in range(3 * MAX_QUEUED):
        flood.enqueue([(f"log/{number:04d}", str(number).encode())], ["away"])
    assert flood.queued == MAX_QUEUED
    compare_all = False
    while offer := flood.next_batch("away")[0]:
        assert len(offer) <= MAX_OFFER_OBJECTS
        compare_all = flood.delivered("away")
    assert compare_all
    flood.enqueue([("log/x", b"x")], ["gone"])
    flood.keep_only(["away"])
    assert flood.queued == 0


def view(seq: int, *, age: int, polled_ago: int = 0) -> tuple[StoreView, ...]:
    head = (seq, f"{seq:064x}", age) if seq else (0, "", age)
    return (StoreView(url=URL, polled_ago=polled_ago, heads={KID: head}),)


def test_a_store_that_showed_one_host_less_after_it_showed_another_more_has_two_faces() -> None:
    assert compare_views(view(8, age=500), view(10, age=60), name="newton")
    assert compare_views(view(10, age=60), view(8, age=500), name="newton")
    assert compare_views(view(0, age=0), view(10, age=60), name="newton")


def test_a_host_that_has_not_looked_since_is_no_evidence() -> None:
    assert not compare_views(view(8, age=500, polled_ago=55), view(10, age=60), name="newton")
    assert not compare_views(view(8, age=500), view(10, age=5), name="newton"), "half-replicated, perhaps"
    assert not compare_views(view(10, age=60), view(10, age=9), name="newton")
    assert not compare_views(view(10, age=60), (), name="newton")


def test_a_store_withholds_what_it_does_not_show_poll_after_poll() -> None:
    shown = ShownHeads(URL)
    old, new = {KID: (8, "8")}, {KID: (9, "9")}
    shown.update(old, old, now=0)
    assert not shown.lags
    shown.update(old, new, now=30)
    assert shown.lags and not shown.withheld(30, polls=2, seconds=45)
    shown.update(old, new, now=60)
    assert not shown.withheld(60, polls=2, seconds=45)
    shown.update(old, new, now=90)
    assert shown.withheld(90, polls=2, seconds=45) == [(KID, (9, "9"))]
    found = shown.view(100)
    assert found is not None and found.polled_ago == 10 and found.heads == {KID: (8, "8", 100)}
    shown.update(new, new, now=120)
    assert not shown.withheld(120, polls=2, seconds=45)


def test_what_a_store_showed_by_a_clock_of_2099_has_an_age_once_the_clock_is_right() -> None:
    """Or this host would be no evidence of a store with two faces until then, nor see what it withholds."""
    shown, old, new = ShownHeads(URL), {KID: (8, "8")}, {KID: (9, "9")}
    shown.update(new, new, now=NOW + 1e9)
    for number in range(3):
        shown.update(new, new, now=NOW + 30 * number)
    found, less = shown.view(NOW + 60), StoreView(url=URL, polled_ago=5, heads={KID: (8, "8", 100)})
    assert found is not None and found.heads == {KID: (9, "9", 60)}
    assert compare_views([found], [less], name="bob")
    withholding = ShownHeads(URL)
    for now in (NOW + 1e9, NOW, NOW + 30, NOW + 60):
        withholding.update(old, new, now=now)
    assert withholding.withheld(NOW + 60, polls=2, seconds=45) == [(KID, (9, "9"))]


def test_a_bucket_gives_a_burst_and_then_its_rate() -> None:
    buckets = TokenBuckets(rate=2.0, burst=10.0)
    assert [buckets.take("a", 0.0) for _ in range(11)] == [True] * 10 + [False]
    assert buckets.take("b", 0.0)
    assert not buckets.take("a", 0.4) and buckets.take("a", 0.6)
    assert [buckets.take("a", 100.0, 10.0), buckets.take("a", 100.0)] == [True, False]
    assert not buckets.take("a", 50.0, 10.0), "a clock that goes back gives nothing"


def test_a_suspect_is_asked_first_and_forgotten_when_it_is_gone() -> None:
    recorder = StatsRecorder()
    good = WitnessReport(hid="a", name="ada", at=NOW, outcome="agreed")
    bad = WitnessReport(hid="b", name="bob", at=NOW, outcome="unproven", why="statement 9")
    silent = WitnessReport(hid="b", name="bob", at=NOW, outcome="silent")
    recorder.begin_round()
    for report in (bad, good):
        recorder.note(report, NOW)
    assert recorder.agrees is False and recorder.suspects() == ["b"]
    recorder.begin_round()
    recorder.note(silent, NOW + 60)
    assert recorder.suspects() == ["b"], "silence is no denial"
    assert [condition.code for condition in recorder.conditions({})] == ["witness_refuted"]
    recorder.forget(["a"], NOW + 60)
    assert recorder.conditions({}) == ()


def test_callers_without_end_are_remembered_in_bounded_memory() -> None:
    """Who has used up what it may have is forgotten last: names that nobody bears free no one of a debt."""
    buckets = TokenBuckets(rate=1.0, burst=10.0)
    for number in range(MAX_KEYS - 1):
        assert buckets.take(f"old {number}", 0.0)
    assert buckets.take("greedy", 95.0, 10.0)
    for number in range(MAX_KEYS - 1):
        assert buckets.take(f"new {number}", 96.0)
    assert not buckets.take("greedy", 97.0, 5.0)
    for number in range(3 * MAX_KEYS):
        buckets.take(f"endless {number}", 97.0)
    assert len(buckets._buckets) <= MAX_KEYS
