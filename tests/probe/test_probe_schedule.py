"""When targets are probed: evenly, in time, never too fast, with few wake-ups."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trials import trials

from meshd.probe.schedule import (
    BURST_PROBES,
    MIN_GAP_SECONDS,
    SEND_TICK_SECONDS,
    ProbeSchedule,
    auto_interval_seconds,
)

LATE = 0.002


def names(count: int) -> list[str]:
    return [f"host{number}" for number in range(count)]


def run(schedule: ProbeSchedule, start: float, end: float) -> tuple[dict[str, list[float]], int]:
    """Obey the schedule, always a little late: when each target was probed, and the wake-ups."""
    sends: dict[str, list[float]] = defaultdict(list)
    wakes, now = 0, start
    while (wake_at := schedule.wake_at) is not None and wake_at < end:
        now = max(now, wake_at) + LATE
        wakes += 1
        for name, _ in schedule.pop_due(now).sends:
            sends[name].append(now)
    return sends, wakes


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


@pytest.mark.parametrize(("targets", "seconds"), [(0, 1), (100, 1), (350, 3.5), (1000, 10), (5000, 10)])
def test_the_automatic_interval_is_a_second_per_hundred_targets(targets: int, seconds: float) -> None:
    assert auto_interval_seconds(targets) == seconds


@trials(40)
@given(st.integers(1, 60), st.floats(0.1, 20), st.floats(0, 1e6))
def test_every_target_is_probed_once_an_interval(count: int, interval: float, start: float) -> None:
    schedule = ProbeSchedule(interval)
    schedule.set_targets(names(count), start)
    sends, _ = run(schedule, start, start + 8 * interval + 1)
    assert set(sends) == set(names(count))
    tick = min(SEND_TICK_SECONDS, interval / 5)
    for times in sends.values():
        assert times[0] <= start + min(interval, 0.005 * count) + 0.02
        assert all(MIN_GAP_SECONDS <= gap <= interval + tick + MIN_GAP_SECONDS + LATE for gap in gaps(times))
        assert all(abs(gap - interval) <= tick + LATE for gap in gaps(times)[1:])


@pytest.mark.parametrize("count", [6, 20, 100, 1000])
def test_probes_are_spread_over_the_interval(count: int) -> None:
    schedule = ProbeSchedule()
    schedule.set_targets(names(count), 0.0)
    interval = schedule.interval_seconds
    run(schedule, 0.0, 2 * interval)
    sends, wakes = run(schedule, 2 * interval, 4 * interval)
    per_tick: dict[int, int] = defaultdict(int)
    for time in (time for times in sends.values() for time in times):
        per_tick[int(time / SEND_TICK_SECONDS)] += 1
    fair = count * SEND_TICK_SECONDS / interval
    assert max(per_tick.values()) <= fair * 1.3 + 1
    assert wakes <= 2 * interval / SEND_TICK_SECONDS + 1


def test_new_targets_are_probed_at_once_and_the_others_keep_their_places() -> None:
    schedule = ProbeSchedule(1.0)
    schedule.set_targets(names(3), 0.0)
    run(schedule, 0.0, 10.0)
    before, _ = run(schedule, 10.0, 12.0)
    schedule.set_targets(names(4), 12.0)
    after, _ = run(schedule, 12.0, 14.0)
    assert after["host3"][0] < 12.05
    for name in names(3):
        assert after[name][0] - before[name][-1] == pytest.approx(1.0, abs=0.01)


def test_a_removed_target_is_not_probed_again() -> None:
    schedule = ProbeSchedule(1.0)
    schedule.set_targets(names(3), 0.0)
    run(schedule, 0.0, 5.0)
    schedule.set_targets(names(1), 5.0)
    sends, _ = run(schedule, 5.0, 10.0)
    assert set(sends) == {"host0"}


def test_no_targets_no_wake_ups() -> None:
    assert ProbeSchedule().wake_at is None


def test_nudge_probes_everyone_within_a_moment() -> None:
    schedule = ProbeSchedule()
    schedule.set_targets(names(100), 0.0)
    run(schedule, 0.0, 20.0)
    schedule.probe_now(20.0)
    sends, _ = run(schedule, 20.0, 20.6)
    assert set(sends) == set(names(100))


def test_one_that_is_named_is_probed_now_and_the_others_when_it_is_their_time() -> None:
    schedule = ProbeSchedule(10.0)
    schedule.set_targets(names(5), 0.0)
    run(schedule, 0.0, 20.0)
    schedule.probe_now(20.0, ["host3"])
    sends, _ = run(schedule, 20.0, 20.2)
    assert "host3" in sends and len(sends) < 5
    sends, _ = run(schedule, 20.2, 31.0)
    assert set(sends) == set(names(5))


def test_after_a_pause_nothing_is_made_up_for() -> None:
    schedule = ProbeSchedule(1.0)
    schedule.set_targets(names(2), 0.0)
    run(schedule, 0.0, 3.0)
    assert len(schedule.pop_due(100.0).sends) == 2
    sends, _ = run(schedule, 100.0, 101.0)
    assert all(len(times) <= 1 for times in sends.values())


def test_a_burst_is_a_few_quick_probes_and_can_be_stopped() -> None:
    schedule = ProbeSchedule(10.0)
    schedule.set_targets(["a", "b"], 0.0)
    run(schedule, 0.0, 21.0)
    schedule.start_burst("a", 21.0)
    schedule.start_burst("b", 21.0)
    schedule.stop_burst("b")
    sends, _ = run(schedule, 21.0, 21.2)
    assert len(sends["a"]) == BURST_PROBES and "b" not in sends


Act = st.tuples(
    st.sampled_from(["targets", "probe_now", "burst", "stop"]), st.integers(1, 9), st.floats(0, 2)
)


@trials(60)
@given(st.lists(Act, max_size=25), st.sampled_from([0.0, 0.1, 1.0, 3.0]))
def test_no_two_probes_of_a_target_are_closer_than_the_least_gap(
    acts: list[tuple[str, int, float]], interval: float
) -> None:
    schedule = ProbeSchedule(interval)
    schedule.set_targets(names(5), 0.0)
    everything: dict[str, list[float]] = defaultdict(list)
    alive, now = set(names(5)), 0.0
    for act, number, pause in acts:
        for name, times in run(schedule, now, now + pause)[0].items():
            everything[name] += times
        now += pause + 2 * LATE
        name = f"host{number}"
        if act == "targets":
            for gone in alive - set(names(number)):
                everything.pop(gone, None)
            alive = set(names(number))
            schedule.set_targets(names(number), now)
        elif act == "probe_now":
            schedule.probe_now(now)
        elif name in alive:
            (schedule.start_burst if act == "burst" else lambda n, _: schedule.stop_burst(n))(name, now)
    for times in everything.values():
        assert all(gap >= MIN_GAP_SECONDS - 1e-9 for gap in gaps(times))
