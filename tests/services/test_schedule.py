"""When modules run: after quiet, apart from the other hosts, and never again what was bad."""

from __future__ import annotations

import pytest

from meshd.services.schedule import Gate, Outcome, Schedule, Timing, host_share, restart_slot

TIMING = Timing(quiet=5, quiet_at_most=60, spread=30, look=60)


def schedule(share: float = 0.0) -> Schedule:
    made = Schedule(TIMING, share)
    made.see("first", 0.0)
    assert made.is_due(0.0), "a host that boots waits for nobody"
    made.ended(Outcome.APPLIED, 0.0, "first")
    return made


def test_a_change_waits_for_quiet() -> None:
    made = schedule()
    made.see("second", 10.0)
    assert not made.is_due(14.9) and made.is_due(15.0)
    made.see("third", 14.0)
    assert not made.is_due(15.0) and made.is_due(19.0)


def test_unrest_puts_it_off_for_a_minute_at_most() -> None:
    made = schedule()
    for second in range(0, 100, 3):
        made.see(f"input {second}", 100.0 + second)
        if made.is_due(100.0 + second):
            assert second >= 60
            return
    pytest.fail("never due")


@pytest.mark.parametrize("outcome", [Outcome.APPLIED, Outcome.FAILED, Outcome.REFUSED, Outcome.HELD])
def test_a_change_that_comes_while_it_runs_is_not_forgotten(outcome: Outcome) -> None:
    made = schedule()
    made.see("second", 10.0)
    assert made.is_due(15.0)
    made.see("third", 16.0)  # the run with the second input has begun
    made.ended(outcome, 18.0, "second")
    assert not made.is_due(20.9) and made.is_due(21.0)
    made.see("fourth", 22.0)
    made.ended(outcome, 50.0, "third")  # it took its time
    assert not made.is_due(54.9) and made.is_due(55.0)
    made.ended(Outcome.APPLIED, 56.0, "fourth")
    assert not made.is_due(100.0)


def test_hosts_change_apart_and_each_always_at_its_own_place() -> None:
    shares = [host_share(f"{number:032x}", "haproxy") for number in range(200)]
    assert all(0 <= share < 1 for share in shares) and len({round(share, 3) for share in shares}) > 100
    assert host_share("a", "b") == host_share("a", "b")
    late = schedule(0.5)
    late.see("second", 10.0)
    assert not late.is_due(29.0) and late.is_due(30.0)


def test_a_failure_is_tried_three_times_ever_later_and_then_parked() -> None:
    made = schedule()
    made.see("second", 10.0)
    made.ended(Outcome.FAILED, 15.0, "second")
    assert not made.is_due(19.0) and made.is_due(20.0)
    made.ended(Outcome.FAILED, 20.0, "second")
    assert not made.is_due(39.0) and made.is_due(40.0)
    made.ended(Outcome.FAILED, 40.0, "second")
    assert made.parked and not made.is_due(1e9)
    made.see("third", 1e6)
    assert made.is_due(1e6 + 5), "a new input is always tried"


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.ROLLED_BACK, Outcome.BROKEN])
def test_what_was_bad_is_not_repeated_before_somebody_asks(outcome: Outcome) -> None:
    made = schedule()
    made.see("second", 10.0)
    made.ended(outcome, 15.0, "second")
    made.see("second", 20.0)
    assert not made.is_due(1e9)
    made.ask(30.0)
    assert made.is_due(30.0)


def test_restarts_go_one_region_after_the_other() -> None:
    regions = ["west", "east", "east"]
    assert restart_slot(regions, "east", 0.99) < restart_slot(regions, "west", 0.0)


def test_a_gate_opens_no_more_often_than_it_says() -> None:
    gate = Gate(5.0)
    assert gate.opens(0.0) and not gate.opens(4.9) and gate.opens(5.0)
