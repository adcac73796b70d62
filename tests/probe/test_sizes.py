"""The search for path MTUs on a simulated network: what is found, how soon, and at what cost."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from hypothesis import example, given
from hypothesis import strategies as st
from trials import trials

from meshd.probe.sizes import (
    ECHOES_PER_SECOND,
    GROW_FIRST_SECONDS,
    GROW_SECONDS,
    MtuChange,
    SizeEngine,
    SizeTarget,
)

LATE = 0.001
CEILING = 1420
FLOOR = 576
SEEDS = st.integers(0, 2**32)
RTTS = st.floats(0.0002, 0.3)
TRUE_MTUS = st.integers(FLOOR, 1600)

Carries = Callable[[float], int]
"""Instant -> the largest packet that every path carries then."""


def findable(true_mtu: int) -> int:
    """The interface's MTU where it fits, else the largest multiple of 16."""
    return CEILING if true_mtu >= CEILING else true_mtu // 16 * 16


@dataclass
class Network:
    """Drives an engine as the transport does: replies are read on its wake-ups alone."""

    carries: Carries
    rtt: float = 0.02
    loss: Callable[[float], float] = lambda at: 0.0
    targets: int = 1
    known: int | None = None
    seed: int = 0
    refuse_over: int | None = None
    now: float = 0.0
    sent: list[tuple[float, str, int]] = field(default_factory=list)
    changes: list[tuple[float, MtuChange]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._replies: list[tuple[float, str, int, int]] = []
        self.engine = SizeEngine(self._random.random)
        self.engine.set_targets(
            {f"h{number}": SizeTarget(CEILING, self.known) for number in range(self.targets)}, 0.0
        )
        for number in range(self.targets):
            self.engine.set_up(f"h{number}", True, 0.0)

    def run(self, until: float) -> Network:
        while (wake_at := self.engine.wake_at) is not None and wake_at < until:
            self.now = max(self.now, wake_at) + LATE
            while self._replies and self._replies[0][0] <= self.now:
                at, hid, sequence, size = heappop(self._replies)
                self.engine.received(hid, sequence, size, at)
            probes, changes = self.engine.due(self.now)
            self.changes += [(self.now, change) for change in changes]
            for hid, sequence, size in probes:
                if self.refuse_over is not None and size > self.refuse_over:
                    self.engine.refused(hid, self.now)
                    continue
                self.sent.append((self.now, hid, size))
                if size <= self.carries(self.now) and self._random.random() >= self.loss(self.now):
                    heappush(self._replies, (self.now + self.rtt, hid, sequence, size))
        self.now = until
        return self

    @property
    def found(self) -> int | None:
        return self.engine.found().get("h0")


@trials()
@given(TRUE_MTUS, RTTS, SEEDS)
def test_any_mtu_is_found_exactly_with_a_bounded_number_of_probes(mtu: int, rtt: float, seed: int) -> None:
    network = Network(lambda at: mtu, rtt=rtt, seed=seed).run(40.0)
    assert network.found == findable(mtu)
    settled = max((at for at, _ in network.changes), default=0.0)
    assert settled < 30.0
    assert sum(at <= settled + 3.0 for at, _, _ in network.sent) <= 70


@trials()
@given(RTTS, SEEDS)
def test_a_healthy_path_costs_one_probe_and_then_six_a_minute(rtt: float, seed: int) -> None:
    network = Network(lambda at: 1500, rtt=rtt, seed=seed).run(5.0)
    assert [size for _, _, size in network.sent] == [CEILING] and network.found == CEILING
    network.run(3605.0)
    assert 5 * 60 <= len(network.sent) <= 7.5 * 60
    assert not network.changes


@trials()
@given(st.integers(FLOOR, CEILING - 1), st.floats(0.0002, 0.1), st.floats(50, 70), SEEDS)
def test_a_path_that_shrinks_is_safe_again_within_fifteen_seconds(
    mtu: int, rtt: float, shrinks_at: float, seed: int
) -> None:
    network = Network(lambda at: CEILING if at < shrinks_at else mtu, rtt=rtt, seed=seed)
    network.run(shrinks_at + 15.0)
    assert network.found is not None and network.found <= mtu
    first = next(change for at, change in network.changes if at > shrinks_at)
    assert first.old == CEILING and first.new <= mtu  # down at once, and only then up to the exact one
    network.run(shrinks_at + 30.0)
    assert network.found == findable(mtu)


@trials(60)
@given(TRUE_MTUS, st.floats(0.0, 0.2), SEEDS)
def test_loss_never_leaves_it_below_the_true_mtu_for_good_and_never_above(
    mtu: int, loss: float, seed: int
) -> None:
    network = Network(lambda at: mtu, seed=seed, loss=lambda at: loss if at < 1800 else 0.0).run(120.0)
    assert network.found is not None
    network.run(1800.0)
    assert all(change.new <= findable(mtu) for _, change in network.changes)
    network.run(1800.0 + 2 * GROW_SECONDS)
    assert network.found == findable(mtu)


@trials(20)
@given(st.floats(0.0, 0.05), SEEDS)
@example(loss=0.046875, seed=18972517)
def test_plain_loss_of_up_to_a_twentieth_costs_hardly_a_minute_in_hours(loss: float, seed: int) -> None:
    """Every probe of a look may be lost by chance. What that took away is back with the next attempt."""
    hours = 6 * 3600.0
    network = Network(lambda at: 1500, seed=seed, loss=lambda at: loss).run(hours)
    times = [at for at, _ in network.changes]
    lowered = sum(
        later - at
        for (at, change), later in zip(network.changes, [*times[1:], hours], strict=False)
        if change.new < CEILING
    )
    assert lowered <= 3 * GROW_FIRST_SECONDS, network.changes
    assert len(times) <= 4


@trials()
@given(st.sampled_from([None, 1216]), SEEDS)
def test_a_path_that_loses_everything_changes_nothing_and_is_asked_ever_more_seldom(
    known: int | None, seed: int
) -> None:
    network = Network(lambda at: 1500, known=known, seed=seed, loss=lambda at: float(at > 30)).run(30.0)
    before = network.found
    network.run(600.0)
    assert network.found == before == CEILING
    assert sum(at > 540 for at, _, _ in network.sent) <= 6 * 15


def test_a_path_that_is_down_is_not_asked_and_one_that_comes_back_at_once() -> None:
    network = Network(lambda at: 1500).run(25.0)
    network.engine.set_up("h0", False, 25.0)
    count = len(network.sent)
    network.run(500.0)
    assert len(network.sent) == count and network.found == CEILING
    network.engine.set_up("h0", True, 500.0)
    network.run(501.0)
    assert network.sent[-1][2] == CEILING and len(network.sent) == count + 1


def test_what_an_earlier_process_found_stands_until_more_is_answered() -> None:
    narrow = Network(lambda at: 1220, known=1216).run(60.0)
    assert narrow.found == 1216 and not narrow.changes
    healed = Network(lambda at: 1500, known=1216).run(5.0)
    assert [change for _, change in healed.changes] == [MtuChange("h0", 1216, CEILING)]
    assert len(healed.sent) == 1


def test_a_first_finding_has_no_past_and_a_later_one_has() -> None:
    network = Network(lambda at: 1220 if at < 100 else 1000).run(200.0)
    first, *_, last = [change for _, change in network.changes]
    assert first.old is None and last.new == 992
    assert MtuChange("h0", 1216, 576) in [change for _, change in network.changes]


def test_a_healed_path_grows_back_by_itself_and_at_once_when_it_leads_elsewhere() -> None:
    network = Network(lambda at: 1220 if at < 3000 else 1500).run(3000.0)
    assert network.found == 1216
    network.run(3000.0 + GROW_SECONDS + 20.0)
    assert network.found == CEILING
    moved = Network(lambda at: 1220 if at < 3000 else 1500).run(3000.0)
    moved.engine.recheck("h0", 3000.0)
    assert moved.run(3001.0).found == CEILING


def test_a_search_goes_on_below_when_the_path_shrinks_in_the_midst_of_it() -> None:
    for shrinks_again_at in (10.9, 11.1, 11.5, 12.0, 12.5, 13.0, 14.0):

        def carries(at: float, again: float = shrinks_again_at) -> int:
            return 1500 if at < 10 else 1300 if at < again else 700

        assert Network(carries).run(60.0).found == 688, shrinks_again_at


def test_a_system_that_refuses_what_exceeds_the_route_is_left_at_what_was_shown_to_pass() -> None:
    network = Network(lambda at: 1220).run(2.0)
    network.refuse_over = network.engine.found()["h0"]
    network.run(2000.0)
    assert network.found == 1200
    assert {change.new for _, change in network.changes} <= {1200, 1216}
    assert len(network.sent) < 2000 / 10 * 3


def test_a_host_whose_every_path_is_searched_at_once_is_asked_no_faster_than_it_answers() -> None:
    """Seen from one of a hundred hosts: each of the others may be searching the same host as it does."""
    hosts = 100
    network = Network(lambda at: 1220, targets=hosts).run(120.0)
    assert set(network.engine.found().values()) == {1216}
    for hid in ("h0", "h50", "h99"):
        times = [at for at, name, _ in network.sent if name == hid]
        for start in range(0, 110, 10):
            asked = sum(start <= at < start + 10 for at in times) * hosts / 10
            assert asked <= ECHOES_PER_SECOND + 4 * hosts / 10


def test_an_answer_of_another_size_or_to_another_question_counts_for_nothing() -> None:
    engine = SizeEngine(lambda: 0.0)
    engine.set_targets({"a": SizeTarget(CEILING)}, 0.0)
    engine.set_up("a", True, 0.0)
    (probe,), _ = engine.due(0.0)
    engine.received("a", probe.sequence, 1200, 0.01)
    engine.received("a", probe.sequence + 1, CEILING, 0.01)
    engine.received("b", probe.sequence, CEILING, 0.01)
    engine.due(5.0)
    assert engine.found() == {}


def test_a_new_interface_mtu_is_a_new_question() -> None:
    network = Network(lambda at: 1500).run(5.0)
    network.engine.set_targets({"h0": SizeTarget(1380)}, 5.0)
    assert network.run(6.0).found == 1380
    network.engine.set_targets({"h0": SizeTarget(CEILING)}, 6.0)
    assert network.found == 1380  # wider only when that is shown
    assert network.run(7.0).found == CEILING
    network.engine.set_targets({}, 7.0)
    assert network.engine.found() == {} and network.engine.wake_at is None
