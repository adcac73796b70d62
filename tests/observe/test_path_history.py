"""What a day of a path costs in memory, and what it tells."""

from __future__ import annotations

from math import isnan

import pytest

from meshd.model.path import PathStats
from meshd.observe.history import (
    ABSENT_SECONDS,
    DAY_STEP_SECONDS,
    HOUR_STEP_SECONDS,
    SAMPLE_SECONDS,
    STEPS,
    PathHistory,
)

START = 1_795_000_200.0  # the first second of a step of either length


def path(rtt: float | None, *, up: bool = True, loss: float = 0.0, sent: int = 9) -> PathStats:
    return PathStats(up=up, srtt_seconds=rtt, loss_ratio=loss, sent=sent)


def test_a_step_is_the_mean_of_what_was_noted_in_it() -> None:
    history = PathHistory()
    for at, rtt, loss in ((0, 0.010, 0.0), (10, 0.020, 0.3), (20, 0.030, 0.0)):
        history.note({"a": path(rtt, loss=loss)}, START + at)
    span = history.read("a", HOUR_STEP_SECONDS, START + 29)
    assert span.rtt_seconds[-1] == pytest.approx(0.020) and span.loss_ratio[-1] == pytest.approx(0.1)
    assert all(isnan(value) for value in span.rtt_seconds[:-1])


def test_a_silent_path_has_loss_and_no_round_trip() -> None:
    history = PathHistory()
    history.note({"a": path(0.010, up=False, loss=1.0)}, START)
    span = history.read("a", DAY_STEP_SECONDS, START)
    assert isnan(span.rtt_seconds[-1]) and span.loss_ratio[-1] == 1.0


def test_a_path_that_was_never_probed_has_neither() -> None:
    history = PathHistory()
    history.note({"a": path(None, up=False, loss=0.0, sent=0)}, START)
    span = history.read("a", HOUR_STEP_SECONDS, START)
    assert all(map(isnan, (*span.rtt_seconds, *span.loss_ratio)))


def test_what_is_older_than_the_span_is_no_longer_shown() -> None:
    history = PathHistory()
    history.note({"a": path(0.010)}, START)
    count = STEPS[HOUR_STEP_SECONDS]
    at_its_end = history.read("a", HOUR_STEP_SECONDS, START + (count - 1) * HOUR_STEP_SECONDS)
    assert at_its_end.rtt_seconds[0] == pytest.approx(0.010)
    beyond = history.read("a", HOUR_STEP_SECONDS, START + count * HOUR_STEP_SECONDS)
    assert all(map(isnan, beyond.rtt_seconds))
    assert not isnan(history.read("a", DAY_STEP_SECONDS, START + 7200).rtt_seconds[-25])


def test_a_clock_that_is_set_back_shows_nothing_from_the_time_to_come() -> None:
    history = PathHistory()
    history.note({"a": path(0.010)}, START)
    assert all(map(isnan, history.read("a", HOUR_STEP_SECONDS, START - 600).rtt_seconds))
    history.note({"a": path(0.030)}, START - 600)
    assert history.read("a", HOUR_STEP_SECONDS, START - 600).rtt_seconds[-1] == pytest.approx(0.030)


def test_a_host_that_is_gone_for_an_hour_leaves_nothing_behind() -> None:
    history = PathHistory()
    history.note({"a": path(0.010), "b": path(0.020)}, START)
    history.note({"b": path(0.020)}, START + SAMPLE_SECONDS)
    assert set(history.hids()) == {"a", "b"}
    history.note({"b": path(0.020)}, START + ABSENT_SECONDS)
    assert history.hids() == ("b",)
    assert all(map(isnan, history.read("a", HOUR_STEP_SECONDS, START).rtt_seconds))


def test_a_clock_that_is_set_back_keeps_no_host_that_is_gone_for_ever() -> None:
    history = PathHistory()
    history.note({"a": path(0.010)}, START + 1e9)
    history.note({}, START)
    history.note({}, START + ABSENT_SECONDS)
    assert history.hids() == ()


def test_a_week_costs_no_more_than_a_day_and_the_first_minute_next_to_nothing() -> None:
    def size(history: PathHistory) -> int:
        """Of the figures, in bytes."""
        steps = [step for each in history._steps.values() for step in each._slots if step is not None]
        figures = [figure for step in steps for figure in (step.rtt, step.loss)]
        return sum(len(each._counts) + each._means.itemsize * len(each._means) for each in figures)

    history = PathHistory()
    paths = {f"host{number}": path(0.010) for number in range(10)}
    history.note(paths, START)
    assert size(history) < 50 * len(paths)
    for number in range(288):
        history.note(paths, START + number * DAY_STEP_SECONDS)
    after_a_day = size(history)
    for number in range(288, 7 * 288):
        history.note(paths, START + number * DAY_STEP_SECONDS)
    assert size(history) == after_a_day < 4_500 * len(paths)


def test_a_host_that_comes_shows_nothing_of_one_whose_place_it_took() -> None:
    history = PathHistory()
    history.note({"a": path(0.010), "b": path(0.020)}, START)
    history.note({"b": path(0.020)}, START + ABSENT_SECONDS - 1)
    history.note({"b": path(0.020)}, START + ABSENT_SECONDS)
    assert history.hids() == ("b",)
    history.note({"c": path(None, up=False, loss=1.0)}, START + ABSENT_SECONDS)
    span = history.read("c", DAY_STEP_SECONDS, START + ABSENT_SECONDS)
    assert all(isnan(value) for value in span.rtt_seconds)
    assert [value for value in span.loss_ratio if not isnan(value)] == [1.0]
    assert history.read("b", DAY_STEP_SECONDS, START + ABSENT_SECONDS).rtt_seconds[-1] == pytest.approx(0.02)
