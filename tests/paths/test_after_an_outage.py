"""A direct path that was away and is back: what was lost meanwhile is no reason to leave it."""

from __future__ import annotations

import msgspec
from pair_end import DEAD, FAR, OTHER, UP, PairEnd

from meshd.model.path import PathStats
from meshd.paths.complaint import PROBE_WINDOW, fresh_probes
from meshd.paths.pair_table import Standing
from meshd.probe.rtt import PathMeter

FRESH_PROBES = fresh_probes(PROBE_WINDOW)


def seen_after_outage(fresh: int, loss_ratio: float) -> PathStats:
    """So many probes after the first one that was answered again."""
    return msgspec.structs.replace(UP, sent=36 + fresh, received=21 + fresh, loss_ratio=loss_ratio)


def test_a_path_that_is_back_after_seconds_is_used_at_once_and_left_no_more() -> None:
    """Twelve lost of a window of sixty are a fifth, and that is what a lossy path loses."""
    end = PairEnd()
    end.see(OTHER, DEAD)
    end.see(OTHER, seen_after_outage(0, loss_ratio=0.4))
    assert end.standing is Standing.DIRECT
    assert end.see(OTHER, seen_after_outage(30, loss_ratio=0.25)) == []
    assert end.standing is Standing.DIRECT


def test_a_path_that_is_back_and_goes_on_losing_is_left_once_the_outage_is_out_of_the_window() -> None:
    end = PairEnd()
    end.see(OTHER, DEAD)
    end.see(OTHER, seen_after_outage(0, loss_ratio=0.4))
    assert end.see(OTHER, seen_after_outage(FRESH_PROBES, loss_ratio=0.4)) != []
    assert end.standing is Standing.ASKING


def test_what_a_relay_lost_is_no_reason_to_leave_the_direct_path_again() -> None:
    end = PairEnd()
    end.relayed()
    lost_by_the_relay = msgspec.structs.replace(UP, sent=60, received=50, loss_ratio=0.3)
    for _ in range(200):
        end.later(0.1)
        for _, number in end.engine.pairs[OTHER].meter.due(end.now):
            end.engine.echoed(OTHER, number, end.now)
    end.later(1.0)
    assert end.standing is Standing.DIRECT, "the direct path has answered"
    end.see(OTHER, lost_by_the_relay, endpoint=end.engine.pairs[OTHER].endpoint)
    assert end.standing is Standing.DIRECT


def test_what_an_outage_lost_makes_nobody_believe_that_the_path_is_bad() -> None:
    """A host that says it carries the pair is believed where the path loses half of what is too much."""
    end = PairEnd()
    end.see(OTHER, DEAD)
    end.see(OTHER, seen_after_outage(0, loss_ratio=0.19))
    end.engine.told(FAR, OTHER, end.now)
    assert end.standing is Standing.DIRECT and not end.engine.vias()
    end.see(OTHER, seen_after_outage(FRESH_PROBES, loss_ratio=0.19))
    end.later(20.0)
    end.engine.told(FAR, OTHER, end.now)
    assert end.engine.vias() == {OTHER: FAR}


def test_quick_probes_do_not_bring_the_end_of_an_outages_window_nearer() -> None:
    """After each answer that is missing three more questions are sent, of which the window holds none."""
    meter, end, now, number = PathMeter(PROBE_WINDOW), PairEnd(), 0.0, 0

    def ask(*, is_lost: bool, quick: bool = False) -> None:
        nonlocal number
        number += 1
        meter.sent(number, now, quick=quick)
        if not is_lost:
            meter.answered(number, now + 0.01)

    for second in range(300):
        now = float(second)
        is_out = 100 <= second < 112
        is_lost = is_out or (second > 112 and second % 7 == 0)  # one of seven, and a fifth is too much
        ask(is_lost=is_lost)
        for quick in range(3 if is_lost else 0):
            now = second + 0.2 + quick * 0.05
            ask(is_lost=is_out, quick=True)
        now = second + 0.9
        end.now = 1000.0 + now
        end.see(OTHER, meter.stats(now, now))
        assert is_out or end.standing in (Standing.DIRECT, Standing.ASKING)
        assert is_out or second < 120 or end.standing is Standing.DIRECT, second
