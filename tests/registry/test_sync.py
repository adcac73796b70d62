"""Following a store that fails, forgets and lies; what was verified once stays in force.

Over 400 lines: polls and publishing share one set of stores with faults.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from signed_mesh import NOW, SignedMesh, key_of

from meshd.errors import StoreError
from meshd.registry.layout import host_key, log_prefix
from meshd.registry.ledger import Ledger
from meshd.registry.sync import (
    THOROUGH_EVERY_POLLS,
    PollLimits,
    PollMemory,
    PollOutcome,
    poll,
    poll_interval_seconds,
    publish,
    spread_pause,
)
from meshd.store.base import ObjectInfo, StoredObject
from meshd.store.directory import DirectoryStore
from meshd.store.memory import MemoryStore

NAMES = ("tesla", "newton", "bohr")
TESLA = host_key(key_of("tesla").kid)
DEADLINE_SECONDS = 20.0


class Fleet:
    """A mesh, its store, and one host that follows it."""

    def __init__(self) -> None:
        self.mesh = SignedMesh()
        self.store = MemoryStore()
        self.ledger = self.mesh.ledger()
        self.memory = PollMemory()

    def path(self, key: str) -> str:
        return f"v1/{self.mesh.mesh_id}/{key}"

    def publish(self, *objects: tuple[str, bytes]) -> None:
        publish(self.store, objects, mesh_id=self.mesh.mesh_id)

    def poll(self, limits: PollLimits | None = None) -> PollOutcome:
        return poll(self.store, self.ledger, now=NOW, memory=self.memory, limits=limits)

    def names(self, ledger: Ledger | None = None) -> set[str]:
        return {host.name for host in (ledger or self.ledger).membership(NOW).hosts.values()}

    def recorded(self) -> set[str]:
        return {host.name for host in self.ledger.membership(NOW).hosts.values() if host.record is not None}


@pytest.fixture
def fleet() -> Fleet:
    """Three hosts, published; the follower has seen nothing yet."""
    fleet = Fleet()
    for name in NAMES:
        fleet.publish(*fleet.mesh.host(name))
    return fleet


@pytest.fixture
def settled(fleet: Fleet) -> Fleet:
    """The follower has taken everything in."""
    assert fleet.poll().complete
    return fleet


def test_one_poll_takes_in_all_that_is_published(fleet: Fleet) -> None:
    outcome = fleet.poll()
    assert outcome.complete and outcome.error == ""
    assert len(outcome.new) == 6
    assert fleet.recorded() == set(NAMES)
    assert outcome.fetched_bytes >= sum(len(body) for key, body in fleet.mesh.objects.items() if "log" in key)


def test_an_unchanged_registry_costs_listings_only(settled: Fleet) -> None:
    for _ in range(THOROUGH_EVERY_POLLS + 1):
        settled.store.calls.clear()
        outcome = settled.poll()
        assert outcome.complete and outcome.new == ()
        assert settled.store.calls == {"list": 3}
        assert (outcome.requests, outcome.fetched_bytes) == (3, 0)


def test_a_restart_from_the_cache_fetches_nothing_that_is_held(settled: Fleet) -> None:
    settled.memory = PollMemory()
    settled.store.calls.clear()
    assert settled.poll().complete
    assert settled.store.calls["get"] == 0
    settled.publish(settled.mesh.record("tesla", 2))
    assert settled.poll().new == (TESLA,)


def test_a_changed_record_and_a_new_statement_cost_one_fetch_each(settled: Fleet) -> None:
    settled.publish(settled.mesh.record("tesla", 2, port=5000), settled.mesh.revoke("bohr"))
    settled.store.calls.clear()
    outcome = settled.poll()
    assert len(outcome.new) == 2
    assert settled.store.calls == {"list": 3, "get": 2}
    assert settled.names() == {"tesla", "newton"}


def test_a_new_admin_is_followed_from_the_poll_that_brings_his_root(settled: Fleet) -> None:
    settled.publish(*settled.mesh.sign_root("grace"))
    settled.store.calls.clear()
    assert settled.poll().complete
    assert settled.ledger.chain.version == 2
    assert settled.store.calls["list"] == 4


def test_freeze_a_store_that_stops_takes_nothing_away(settled: Fleet) -> None:
    for fault in ("unreachable", "hang"):
        setattr(settled.store.faults, fault, True)
        outcome = settled.poll()
        assert settled.store.url in outcome.unreachable
        assert settled.recorded() == set(NAMES)
        setattr(settled.store.faults, fault, False)
    assert settled.poll().complete


def test_rollback_of_a_record_or_a_log_changes_nothing(settled: Fleet) -> None:
    revision = settled.store.revision
    settled.publish(settled.mesh.record("tesla", 2, port=5000), settled.mesh.revoke("bohr"))
    settled.poll()
    settled.store.faults.frozen_at = revision
    for _ in range(THOROUGH_EVERY_POLLS + 1):
        settled.poll()
    assert settled.names() == {"tesla", "newton"}
    record = settled.ledger.membership(NOW).hosts[key_of("tesla").kid].record
    assert record is not None and record.version == 2


def test_reads_that_go_back_in_time_change_nothing(settled: Fleet) -> None:
    settled.publish(settled.mesh.record("tesla", 2))
    settled.store.faults.old_reads = 1
    assert settled.poll().new == ()
    assert settled.poll().new == (TESLA,)
    settled.store.faults.old_reads = 9
    settled.memory = PollMemory()
    settled.poll()
    record = settled.ledger.membership(NOW).hosts[key_of("tesla").kid].record
    assert record is not None and record.version == 2


def test_deletion_by_a_member_with_write_access_changes_nothing(settled: Fleet) -> None:
    for info in list(settled.store.list("")):
        settled.store.delete(info.key)
    outcome = settled.poll()
    assert outcome.complete
    assert settled.recorded() == set(NAMES)


def test_overwriting_by_a_member_with_write_access_changes_nothing(settled: Fleet) -> None:
    for info in list(settled.store.list("")):
        settled.store.plant(info.key, b"{}")
    outcome = settled.poll()
    assert {admission.key for admission in outcome.refused} >= {TESLA}
    assert settled.recorded() == set(NAMES)
    newcomer = poll(settled.store, settled.mesh.ledger(), now=NOW, memory=PollMemory())
    assert newcomer.new == () and newcomer.refused


def test_a_refused_object_is_not_fetched_again_until_it_may_be_judged_otherwise(settled: Fleet) -> None:
    settled.store.plant(settled.path(TESLA), b"{}")
    settled.poll()
    settled.store.calls.clear()
    settled.poll()
    assert settled.store.calls["get"] == 0
    settled.publish(settled.mesh.grant("curie"))
    settled.poll()
    assert settled.store.calls["get"] == 2 + 1


def test_withheld_statements_are_taken_as_soon_as_they_show(settled: Fleet) -> None:
    settled.publish(settled.mesh.revoke("bohr"), settled.mesh.grant("curie"))
    withheld, later = settled.mesh.log_keys[-2:]
    settled.store.faults.hidden = {settled.path(withheld)}
    settled.poll()
    assert "curie" not in settled.names()
    settled.store.faults.hidden = set()
    assert settled.poll().new == (withheld,)
    assert settled.names() == {"tesla", "newton", "curie"}
    assert settled.ledger.body(later) is not None


def test_a_lying_listing_takes_nothing_away_and_is_made_good_by_the_next(fleet: Fleet) -> None:
    fleet.store.faults.list_limit = 1
    fleet.poll()
    assert fleet.names() == {"tesla"}
    fleet.store.faults.list_limit = 0
    fleet.poll()
    assert fleet.names() == {"tesla"}
    fleet.store.faults.list_limit = None
    fleet.poll()
    assert fleet.recorded() == set(NAMES)


def test_split_view_two_hosts_shown_different_heads_agree_through_another_store(settled: Fleet) -> None:
    settled.publish(settled.mesh.revoke("bohr"))
    lying, other = settled.store.reader(), settled.mesh.full_ledger()
    lying.faults.hidden = {settled.path(settled.mesh.log_keys[-1])}
    poll(lying, settled.ledger, now=NOW, memory=settled.memory)
    assert settled.names() == set(NAMES)
    assert settled.ledger.heads() != other.heads()
    settled.poll()
    assert settled.ledger.heads() == other.heads()


def test_a_fork_below_the_head_is_found_by_a_thorough_poll(settled: Fleet) -> None:
    """A copied admin key: the other branch carries lower numbers than the head that is known."""
    twin = SignedMesh()
    twin.grant("tesla")
    key, body = twin.grant("mallory")
    settled.publish((key, body))
    polls = 0
    while settled.ledger.body(key) is None:
        assert settled.poll().complete
        polls += 1
        assert polls <= THOROUGH_EVERY_POLLS
    assert settled.ledger.membership(NOW).forks == 1


def test_endless_data_strange_host_names_do_not_hide_the_real_ones(fleet: Fleet) -> None:
    small = SignedMesh(max_hosts=3)
    fleet.mesh, fleet.ledger, fleet.store = small, small.ledger(), MemoryStore()
    for name in NAMES:
        fleet.publish(*small.host(name))
    for number in range(1500):
        fleet.store.plant(fleet.path(f"host/{number:032x}.json"), b"x" * 100)
    fleet.store.calls.clear()
    outcome = fleet.poll()
    assert "over 1012 names below host/" in outcome.remaining[0] and outcome.complete
    assert fleet.recorded() == set(NAMES)
    assert fleet.store.calls["get"] < 20


def test_endless_data_junk_statements_cost_bounded_bytes_and_real_ones_arrive(fleet: Fleet) -> None:
    junk = [f"{log_prefix(fleet.mesh.admin.kid)}{seq:010d}-{'f' * 64}.json" for seq in range(4, 60)]
    for key in junk:
        fleet.store.plant(fleet.path(key), b"x" * 3_000)
    limits = PollLimits(fetched_bytes=30_000)
    rounds = 0
    while not (outcome := fleet.poll(limits=limits)).complete:
        assert outcome.fetched_bytes < 40_000 and "than one round fetches" in outcome.error
        assert outcome.unreachable == ""
        rounds += 1
        assert rounds < 20
    assert rounds >= 5
    assert fleet.recorded() == set(NAMES)
    fleet.store.calls.clear()
    assert fleet.poll(limits=limits).complete
    assert fleet.store.calls["get"] == 0


def test_endless_data_oversized_objects_are_refused_unread(settled: Fleet) -> None:
    settled.store.plant(settled.path(TESLA), b"x" * 100_000)
    settled.store.calls.clear()
    outcome = settled.poll()
    assert [admission.key for admission in outcome.refused] == [TESLA]
    assert "100000 bytes seen" in outcome.refused[0].reason
    assert settled.store.calls["get"] == 0
    assert settled.recorded() == set(NAMES)


def test_endless_data_junk_roots_are_counted_off(settled: Fleet) -> None:
    for number in range(40):
        settled.store.plant(settled.path(f"root/000002-{number:064x}.json"), b"x" * 1000)
    settled.store.calls.clear()
    outcome = settled.poll(limits=PollLimits(root_objects=20))
    # Where a listing ends among pieces of one root, that root alone is asked for.
    assert "names below root/" in outcome.remaining[0] and settled.store.calls["get"] <= 6
    assert settled.recorded() == set(NAMES) and settled.ledger.chain.version == 1


def test_a_poll_that_takes_too_long_ends_and_keeps_what_it_learned(fleet: Fleet) -> None:
    outcome = fleet.poll(limits=PollLimits(seconds=0))
    assert "0 s long" in outcome.error and not outcome.complete
    assert fleet.poll().complete


def test_one_object_that_cannot_be_read_does_not_stop_the_others(fleet: Fleet) -> None:
    fleet.store.faults.failing_gets = {fleet.path(TESLA)}
    outcome = fleet.poll()
    assert outcome.complete and "503" in dict(outcome.unusable)[TESLA]
    assert fleet.recorded() == {"newton", "bohr"}
    fleet.store.faults.failing_gets = set()
    assert fleet.poll().new == (TESLA,)


class ParallelStore(MemoryStore):
    parallel_requests = 4


def test_parallel_fetches_give_the_same_and_a_dead_store_ends_them(fleet: Fleet) -> None:
    store = ParallelStore()
    for key, body in fleet.mesh.objects.items():
        store.put(fleet.path(key), body)
    failing = {fleet.path(key) for key in fleet.mesh.log_keys}
    store.faults.failing_gets = failing
    outcome = poll(store, fleet.ledger, now=NOW, memory=fleet.memory)
    assert not outcome.complete and outcome.new == ()
    store.faults.failing_gets = set()
    outcome = poll(store, fleet.ledger, now=NOW, memory=fleet.memory)
    assert outcome.complete
    assert fleet.recorded() == set(NAMES)
    assert fleet.ledger.membership(NOW) == fleet.mesh.full_ledger().membership(NOW)


def test_a_record_before_its_grant_counts_once_the_grant_is_there(settled: Fleet) -> None:
    grant, record = settled.mesh.host("curie")
    settled.publish(record)
    settled.poll()
    settled.publish(grant)
    settled.poll()
    assert settled.recorded() == {*NAMES, "curie"}


def test_the_own_record_is_seen_missing_or_different(settled: Fleet) -> None:
    own = settled.mesh.objects[TESLA]
    assert settled.memory.shows(TESLA, own)
    settled.store.plant(settled.path(TESLA), b"{}")
    settled.poll()
    assert not settled.memory.shows(TESLA, own)
    settled.publish((TESLA, own))
    settled.poll()
    assert settled.memory.shows(TESLA, own)
    settled.store.delete(settled.path(TESLA))
    settled.poll()
    assert not settled.memory.shows(TESLA, own)


def test_publishing_goes_on_until_the_bytes_read_back() -> None:
    store, mesh = MemoryStore(), SignedMesh()
    pauses: list[float] = []
    store.faults.lost_puts = 1
    store.faults.refused_puts = 1
    publish(store, [("host/a.json", b"x")], mesh_id=mesh.mesh_id, pause=pauses.append)
    got = store.get(f"v1/{mesh.mesh_id}/host/a.json")
    assert got is not None and got.body == b"x"
    assert len(pauses) == 2
    store.faults.taken_puts = 1
    publish(store, [("host/a.json", b"y")], mesh_id=mesh.mesh_id, pause=pauses.append)
    assert len(pauses) == 2


@pytest.mark.parametrize(("fault", "said"), [("lost_puts", "does not read back"), ("refused_puts", "503")])
def test_publishing_gives_up_after_four_attempts_and_says_why(fault: str, said: str) -> None:
    store, pauses = MemoryStore(), list[float]()
    setattr(store.faults, fault, 99)
    with pytest.raises(StoreError, match=said):
        publish(store, [("log/a", b"x"), ("log/b", b"x")], mesh_id="m", pause=pauses.append)
    assert (store.calls["put"], len(pauses)) == (4, 3)


class BesideStore(MemoryStore):
    """Takes a record when a statement is written, too, and notes the order in which statements are there."""

    parallel_requests = 4

    def __init__(self) -> None:
        super().__init__()
        self.meeting = threading.Barrier(2)
        self.order: list[str] = []

    def put(self, key: str, body: bytes) -> None:
        if not key.endswith("2"):
            self.meeting.wait(DEADLINE_SECONDS)
        super().put(key, body)
        self.order.append(key.rpartition("/")[2])


def test_records_are_published_beside_statements_which_keep_their_order() -> None:
    store = BesideStore()
    publish(store, [("log/a/1", b"x"), ("log/a/2", b"x"), ("host/3", b"x")], mesh_id="m")
    assert sorted(store.order) == ["1", "2", "3"]
    assert store.order.index("1") < store.order.index("2")


class RecordlessStore(MemoryStore):
    """Takes no record, and no statement before it has refused that for good."""

    parallel_requests = 4

    def __init__(self) -> None:
        super().__init__()
        self.refused = threading.Event()

    def put(self, key: str, body: bytes) -> None:
        if "/host/" in key:
            raise StoreError("no records here")
        self.refused.wait(DEADLINE_SECONDS)
        super().put(key, body)

    def get(self, key: str) -> StoredObject | None:
        if "/host/" in key and self.calls["get"] >= 3:
            self.refused.set()
        return super().get(key)


def test_a_store_that_refuses_records_gets_every_statement() -> None:
    store = RecordlessStore()
    statements = [(f"log/a/{number:02}", b"x") for number in range(30)]
    with pytest.raises(StoreError, match="no records here"):
        publish(store, [*statements, ("host/b", b"x")], mesh_id="m", pause=lambda seconds: None)
    assert all(store.get(f"v1/m/{key}") is not None for key, _ in statements)


def test_the_poll_interval_grows_with_the_fleet_and_is_short_for_a_directory() -> None:
    remote, local = ParallelStore(), MemoryStore()
    assert [poll_interval_seconds(hosts, store=remote) for hosts in (1, 100, 500, 5000)] == [30, 30, 150, 300]
    assert [poll_interval_seconds(hosts, store=local) for hosts in (1, 3, 6, 500)] == [1, 1, 2, 5]
    assert poll_interval_seconds(500, store=local, are_told=False) == 1
    assert spread_pause(150, -1) == pytest.approx(105)
    assert spread_pause(150, 5) == pytest.approx(195)


class EndlessStore(MemoryStore):
    """Lists names without end, whatever it is asked for, and counts them."""

    listed = 0

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        number = 0
        while True:
            number += 1
            self.listed += 1
            yield ObjectInfo(key=f"{prefix}{number:032x}.json", etag="", size_bytes=1)


def test_endless_data_a_listing_without_end_is_left(settled: Fleet) -> None:
    store = EndlessStore()
    limits = PollLimits(listed_keys=500, root_objects=500, seconds=20)
    outcome = poll(store, settled.ledger, now=NOW, memory=PollMemory(), limits=limits)
    assert not outcome.complete
    assert store.listed < 20 * limits.listed_keys
    assert settled.recorded() == set(NAMES)


def test_a_synced_folder_works_like_a_bucket(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = DirectoryStore(tmp_path_factory.mktemp("registry"))
    publish(store, list(fleet.mesh.objects.items()), mesh_id=fleet.mesh.mesh_id)
    assert poll(store, fleet.ledger, now=NOW, memory=fleet.memory).complete
    again = poll(store, fleet.ledger, now=NOW, memory=fleet.memory)
    assert (again.requests, again.fetched_bytes) == (3, 0)
    assert fleet.recorded() == set(NAMES)


class SilentStore(MemoryStore):
    """Takes every request and answers none; each costs the whole time-out on a clock of its own."""

    TIMEOUT = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.faults.hang = True
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def get(self, key: str) -> StoredObject | None:
        self.now += self.TIMEOUT
        return super().get(key)

    def put(self, key: str, body: bytes) -> None:
        self.now += self.TIMEOUT
        super().put(key, body)


def test_a_store_that_never_answers_costs_a_writer_two_time_outs_for_all_objects() -> None:
    mesh, store = SignedMesh(), SilentStore()
    with pytest.raises(StoreError, match="memory"):
        publish(store, mesh.host("tesla"), mesh_id=mesh.mesh_id, pause=lambda _: None, clock=store.clock)
    assert store.now == 2 * SilentStore.TIMEOUT
