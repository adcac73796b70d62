"""A direct path that was away and is back: what was lost meanwhile is no reason to leave it."""

from __future__ import annotations

import msgspec
from pair_end import DEAD, OTHER, UP, PairEnd

from meshd.model.path import PathStats
from meshd.paths.complaint import FRESH_PROBES
from meshd.paths.pair_table import Standing


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
