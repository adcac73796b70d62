"""Echoes along a direct path: when it counts as well, and how often it is asked."""

from __future__ import annotations

from ipaddress import ip_address

from meshd.model.network import Endpoint
from meshd.paths.direct import DirectMeter
from meshd.paths.hysteresis import HOUR_SECONDS, MAX_HOLD_SECONDS, hold_seconds

PLACE = Endpoint(ip_address("192.0.2.1"), 51820)
OTHER = Endpoint(ip_address("192.0.2.2"), 51820)


def run(meter: DirectMeter, begins_at: float, answers: str) -> float:
    """An echo a second: ``+`` is answered in 20 ms, ``-`` is not -> when it ended."""
    now = begins_at
    for answer in answers:
        for _, number in meter.due(now):
            if answer == "+":
                meter.answered(number, now + 0.02)
        now += 1.0
    return now


def meter(*places: Endpoint) -> DirectMeter:
    made = DirectMeter()
    made.use(places or (PLACE,), 0.0)
    return made


def test_a_path_is_well_when_it_has_answered_for_so_long() -> None:
    path = meter()
    assert path.well(10, run(path, 0.0, "+" * 10) - 0.9) is None
    assert path.well(10, run(path, 10.0, "+")) == PLACE


def test_a_lost_echo_makes_it_begin_anew() -> None:
    path = meter()
    now = run(path, 0.0, "+" * 9 + "--" + "+" * 9)
    assert path.well(10, now) is None
    assert path.well(10, run(path, now, "+++")) == PLACE


def test_one_lost_echo_of_many_is_forgiven() -> None:
    path = meter()
    now = run(path, 0.0, "+" * 40 + "-" + "+" * 5)
    assert path.well(40, now) == PLACE


def test_a_path_that_fell_silent_is_not_well_because_it_was() -> None:
    path = meter()
    assert path.well(10, run(path, 0.0, "+" * 20 + "---")) is None


def test_an_answer_that_comes_late_or_twice_is_none() -> None:
    path = meter()
    ((_, number),) = path.due(0.0)
    path.answered(number, 2.0)
    path.answered(number, 2.0)
    path.answered(77, 2.0)
    assert path.answering_since() is None


def test_the_place_that_answers_is_named() -> None:
    path = meter(PLACE, OTHER)
    now = 0.0
    for _ in range(12):
        for place, number in path.due(now):
            if place == OTHER:
                path.answered(number, now + 0.01)
        now += 1.0
    assert path.well(10, now) == OTHER


def test_a_place_that_never_answers_is_asked_rarely() -> None:
    path = meter()
    run(path, 0.0, "-" * 70)
    sent = sum(len(path.due(70.0 + second)) for second in range(60))
    assert sent <= 13


def test_each_time_that_a_pair_left_the_path_doubles_the_time_and_an_hour_forgets() -> None:
    assert [hold_seconds([0.0] * times, 1.0, was_lossy=False) for times in (1, 2, 3)] == [10, 20, 40]
    assert hold_seconds([0.0] * 50, 1.0, was_lossy=False) == MAX_HOLD_SECONDS
    assert hold_seconds([0.0] * 50, HOUR_SECONDS, was_lossy=False) == 10
    assert hold_seconds([0.0], 1.0, was_lossy=True) == 60
