"""When a change has proved itself, when it is given up, and what is not held against it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from meshd.model.path import PathStats
from meshd.plan.confirm import Trial, Verdict, is_worth_a_trial, judge
from meshd.plan.record import ChangeRecord

CONFIRM = 60.0


def record(watched: str, others: str = "", hosts: int | None = None) -> ChangeRecord:
    return ChangeRecord(
        digest="d",
        interface="wg0",
        applied_at=0.0,
        changes=1,
        hosts=len(watched) if hosts is None else hosts,
        watched=tuple(watched),
        others=tuple(others),
        state="trial",
    )


def paths(up: str, down: str = "", unasked: str = "") -> Mapping[str, PathStats]:
    return {
        **{hid: PathStats(sent=9, received=9, up=True) for hid in up},
        **{hid: PathStats(sent=9, received=3) for hid in down},
        **{hid: PathStats() for hid in unasked},
    }


def run(record: ChangeRecord, *looks: tuple[float, Mapping[str, PathStats]]) -> list[Verdict]:
    trial, verdicts = Trial(record=record, began_at=0.0), []
    for now, seen in looks:
        trial, verdict = judge(trial, seen, now=now, confirm_seconds=CONFIRM)
        verdicts.append(verdict)
    return verdicts


W, C, L = Verdict.WATCHING, Verdict.CONFIRMED, Verdict.LOST


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(5, paths("abcd")), (59, paths("abcd")), (60, paths("abcd"))], [W, W, C]),
        ([(2, paths("ab", "cd")), (61, paths("ab", "cd")), (62, paths("ab", "cd"))], [W, W, L]),
        ([(2, paths("", "abcd")), (62, paths("", "abcd"))], [W, L]),
        ([(2, paths("abc", "d")), (62, paths("abc", "d"))], [W, C]),  # one of four: chance, not the change
        ([(2, paths("", "abcd")), (50, paths("abcd")), (61, paths("abcd"))], [W, W, C]),
        # low, well, low again: only the second silence counts, and it is waited for beyond the time
        (
            [
                (2, paths("", "abcd")),
                (30, paths("abcd")),
                (40, paths("", "abcd")),
                (99, paths("", "abcd")),
                (100, paths("", "abcd")),
            ],
            [W, W, W, W, L],
        ),
        ([(2, paths("", "", "abcd")), (60, paths("", "", "abcd"))], [W, C]),  # nothing known against it
        ([(60, {})], [C]),
    ],
)
def test_half_of_the_touched_hosts_silent_without_a_break_is_a_lost_change(
    looks: list[tuple[float, Mapping[str, PathStats]]], expected: list[Verdict]
) -> None:
    assert run(record("abcd"), *looks) == expected


def test_a_silence_of_the_untouched_hosts_as_well_is_this_hosts_own_line() -> None:
    everybody = paths("", "abxy")
    assert run(record("ab", "xy"), (2, everybody), (90, everybody)) == [W, C]
    only_touched = paths("xy", "ab")
    assert run(record("ab", "xy"), (2, only_touched), (62, only_touched)) == [W, L]
    mostly_touched = paths("x", "aby")
    assert run(record("ab", "xy"), (2, mostly_touched), (62, mostly_touched)) == [W, L]


def test_a_trial_needs_several_touched_hosts_and_one_that_answered() -> None:
    assert is_worth_a_trial(record("a", hosts=2))
    assert not is_worth_a_trial(record("a", hosts=1))
    assert not is_worth_a_trial(record("", hosts=5))
