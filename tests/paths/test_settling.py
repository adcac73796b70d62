"""When a pair has changed its way for good: both ends send by it, and nothing is under way by the old one."""

from __future__ import annotations

import random

import pytest
from pair_end import DEAD, NEAR, OTHER, PairEnd, place
from relay_world import RelayWorld

from meshd.paths.course import SETTLE_SECONDS
from meshd.paths.engine import SETTLE_TICK_SECONDS, TIRED_TICK_SECONDS
from meshd.paths.pair import EARLY_TURNS, EARLY_TURNS_BACK


def is_settled(world: RelayWorld, *hids: str) -> bool:
    return all(
        set(hids) & host.engine.vias().keys() and not host.engine.is_settling
        for hid, host in world.hosts.items()
        if hid in hids
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_lossy_path_carries_nothing_once_both_ends_have_left_it(seed: int) -> None:
    """The one that follows later still sends by it, and what arrives takes the first one back."""
    world = RelayWorld(3, random.Random(seed))
    world.run(20)
    a, b, _ = sorted(world.hosts)
    world.links[a, b].loss = world.links[b, a].loss = 0.4
    for _ in range(1200):
        world.run(0.1)
        if is_settled(world, a, b):
            break
    before = [dict(host.switches) for host in world.hosts.values()]
    for _ in range(400):
        world.run(0.1)
        assert world.talk(a, b) and world.talk(b, a)
    assert [host.switches for host in world.hosts.values()] == before


def test_an_endpoint_is_set_until_a_packet_came_while_it_stayed() -> None:
    end = PairEnd()
    near, far = end.see(OTHER, DEAD)
    end.hear(far, None, "no")
    (opening,) = end.hear(near, 0.01)
    end.hear_opened(opening)
    received = 1000
    for was_set in (True, False, False, False, False):
        end.confirm(received, was_set=was_set)
        assert end.engine.pins()[OTHER].is_due, "nobody has been heard by that way"
    received += 100
    end.confirm(received, was_set=True)
    assert end.engine.pins()[OTHER].is_due, "what was heard came by the old one"
    for _ in range(3):
        end.confirm(received, was_set=False)
    end.confirm(received + 100, was_set=False)
    assert not end.engine.pins()[OTHER].is_due
    assert end.engine.pins()[OTHER].endpoint == place(NEAR, 51822)


def test_a_member_that_leads_its_pair_elsewhere_for_ever_has_few_turns_of_its_peer() -> None:
    """And once it has stopped, the pair settles as quickly as any."""
    end = PairEnd()
    pair, began_at, turns = end.engine.pairs[OTHER], end.now, 0
    while end.now < began_at + 3600.0:
        if not pair.is_due:
            pair.aim(place(OTHER), end.now, SETTLE_SECONDS)
        end.now += end.engine.settle_seconds or 0.0
        end.engine.confirm(OTHER, place(OTHER), 0, end.now, was_set=True)
        turns += 1
    assert turns <= EARLY_TURNS + 3600.0 * (1.0 + EARLY_TURNS_BACK)
    assert end.engine.settle_seconds in (None, TIRED_TICK_SECONDS)
    end.now += 600.0
    pair.aim(place(OTHER), end.now, SETTLE_SECONDS)
    end.engine.confirm(OTHER, place(OTHER), 0, end.now, was_set=True)
    assert end.engine.settle_seconds == SETTLE_TICK_SECONDS
