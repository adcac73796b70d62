"""Schedule and meters together on a simulated network: how soon a dead path is known."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trials import trials

from meshd.probe.engine import ProbeEngine
from meshd.probe.schedule import BURST_PROBES

LATE = 0.001
UNIX = 1_700_000_000.0

Answer = Callable[[str, float], float | None]
"""(hid, sent at) -> round-trip time, or None: lost."""


class Network:
    """Drives an engine the way the transport does; replies are only read on wake-ups."""

    def __init__(self, engine: ProbeEngine, answer: Answer) -> None:
        self.engine, self.answer, self.now = engine, answer, 0.0
        self.changes: list[tuple[float, str, bool]] = []
        self.sent: list[tuple[float, str]] = []
        self._replies: list[tuple[float, str, int]] = []

    def run(self, until: float) -> None:
        while (wake_at := self.engine.wake_at) is not None and wake_at < until:
            self.now = max(self.now, wake_at) + LATE
            while self._replies and self._replies[0][0] <= self.now:
                at, hid, sequence = heappop(self._replies)
                self._note(self.engine.received(hid, sequence, at))
            probes, changes = self.engine.due(self.now)
            for change in changes:
                self._note(change)
            for probe in probes:
                self.engine.sent(probe, self.now)
                self.sent.append((self.now, probe.hid))
                rtt = self.answer(probe.hid, self.now)
                if rtt is not None:
                    heappush(self._replies, (self.now + rtt, probe.hid, probe.sequence))

    def _note(self, change: tuple[str, bool] | None) -> None:
        if change is not None:
            self.changes.append((self.now, *change))


def hids(count: int) -> list[str]:
    return [f"h{number}" for number in range(count)]


@trials(40)
@given(st.integers(1, 20), st.floats(0.0002, 0.1), st.floats(40, 42), st.randoms(use_true_random=False))
def test_a_dead_path_is_known_within_a_second_and_a_half(
    count: int, rtt: float, dies_at: float, random: object
) -> None:
    engine = ProbeEngine(interval_seconds=1.0, window=60)
    engine.set_targets(hids(count), 0.0)
    network = Network(engine, lambda hid, at: None if hid == "h0" and at + rtt > dies_at else rtt)
    network.run(dies_at + 3)
    downs = [(at, hid) for at, hid, up in network.changes if not up]
    assert [hid for _, hid in downs] == ["h0"]
    assert dies_at < downs[0][0] <= dies_at + 1.5
    assert not engine.snapshot(network.now, UNIX)["h0"].up


def test_a_path_that_comes_back_is_up_with_its_first_reply() -> None:
    engine = ProbeEngine(interval_seconds=1.0, window=60)
    engine.set_targets(["a"], 0.0)
    network = Network(engine, lambda hid, at: None if 20 < at < 30 else 0.02)
    network.run(40.0)
    assert [up for _, _, up in network.changes] == [True, False, True]
    assert 30 < network.changes[-1][0] < 31.5


@pytest.mark.slow
@trials(30)
@given(st.randoms(use_true_random=False), st.floats(0, 1), st.floats(0.001, 2.0))
def test_the_rate_to_one_target_is_bounded_whatever_is_lost(random, loss: float, rtt: float) -> None:  # type: ignore[no-untyped-def]
    engine = ProbeEngine(interval_seconds=1.0, window=60)
    engine.set_targets(hids(3), 0.0)
    network = Network(engine, lambda hid, at: None if random.random() < loss else rtt)
    network.run(60.0)
    for hid in hids(3):
        times = [at for at, name in network.sent if name == hid]
        for start in range(0, 50, 10):
            in_ten_seconds = sum(start <= at < start + 10 for at in times)
            assert 9 <= in_ten_seconds <= 11 * (1 + BURST_PROBES)


@trials(30)
@given(st.floats(0.3, 2.5))
def test_a_path_that_becomes_slow_is_measured_and_settles(rtt: float) -> None:
    engine = ProbeEngine(interval_seconds=1.0, window=60)
    engine.set_targets(["a"], 0.0)
    network = Network(engine, lambda hid, at: 0.02 if at < 30 else rtt)
    network.run(60.0)
    assert all(at < 45 for at, _, _ in network.changes)
    network.run(100.0)
    stats = engine.snapshot(network.now, UNIX)["a"]
    assert stats.up and stats.srtt_seconds is not None and abs(stats.srtt_seconds - rtt) < 0.1 * rtt


def test_one_lost_probe_costs_a_burst_and_not_the_path() -> None:
    engine = ProbeEngine(interval_seconds=1.0, window=60)
    engine.set_targets(["a"], 0.0)
    regular: list[float] = []

    def lose_the_tenth(hid: str, at: float) -> float | None:
        if not regular or at - regular[-1] > 0.5:
            regular.append(at)
            return None if len(regular) == 10 else 0.01
        return 0.01

    network = Network(engine, lose_the_tenth)
    network.run(30.0)
    assert [up for _, _, up in network.changes] == [True]
    stats = engine.snapshot(network.now, UNIX)["a"]
    assert 0.03 < stats.loss_ratio < 0.04
    assert 1 <= stats.sent - len(regular) <= BURST_PROBES + 1


def test_a_host_that_never_answered_gets_no_bursts() -> None:
    engine = ProbeEngine(interval_seconds=1.0, window=60)
    engine.set_targets(["a"], 0.0)
    network = Network(engine, lambda hid, at: None)
    network.run(30.0)
    assert len(network.sent) <= 31


def test_statistics_survive_for_targets_that_stay_and_only_for_those() -> None:
    engine = ProbeEngine(interval_seconds=1.0, window=60)
    engine.set_targets(["a", "b"], 0.0)
    network = Network(engine, lambda hid, at: 0.01)
    network.run(10.0)
    received = engine.snapshot(10.0, UNIX)["a"].received
    engine.set_targets(["a", "c"], 10.0)
    after = engine.snapshot(10.0, UNIX)
    assert set(after) == {"a", "c"}
    assert after["a"].received == received and after["c"].sent == 0


def test_a_refused_send_takes_the_path_down_and_is_explained() -> None:
    engine = ProbeEngine(interval_seconds=1.0, window=60)
    engine.set_targets(["a"], 0.0)
    network = Network(engine, lambda hid, at: 0.01)
    network.run(5.0)
    changes = []
    while (wake_at := engine.wake_at) is not None and wake_at < 7.0:
        probes, found = engine.due(wake_at + LATE)
        changes += found
        for probe in probes:
            engine.refused(probe, wake_at + LATE, "No route to host")
    assert [(hid, up) for hid, up in changes] == [("a", False)]
    assert engine.refusals() == {"a": "No route to host"}


@trials(20)
@given(st.integers(1, 20), st.floats(0.001, 0.1))
def test_a_pause_of_the_machine_is_held_against_no_path_and_everybody_is_asked_at_once(
    count: int, rtt: float
) -> None:
    engine = ProbeEngine(interval_seconds=10.0, window=60)
    engine.set_targets(hids(count), 0.0)
    network = Network(engine, lambda hid, at: None if 55 < at < 60 else rtt)  # it falls asleep at 60
    network.run(60.0)
    before = network.engine.snapshot(60.0, UNIX)
    asked = len(network.sent)
    network.now = 4000.0
    engine.resume(4000.0)
    network.run(4000.0 + 1.0)
    assert {hid for _, hid in network.sent[asked:]} == set(hids(count))
    after = network.engine.snapshot(network.now, UNIX)
    assert all(path.up for path in after.values())
    assert all(after[hid].loss_ratio <= before[hid].loss_ratio for hid in before)
