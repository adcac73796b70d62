"""When a pair has changed its way for good: both ends send by it, and nothing is under way by the old one."""

from __future__ import annotations

import random

import pytest
from pair_end import DEAD, NEAR, OTHER, PairEnd, place
from relay_world import RelayWorld


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
