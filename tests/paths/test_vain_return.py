"""A direct path whose echoes are answered and that carries nothing: it is used once, and then seldom."""

from __future__ import annotations

import random

import msgspec
import pytest
from pair_end import NEAR, OTHER, UP, PairEnd, place
from relay_world import RelayWorld

from meshd.model.path import PathStats
from meshd.paths.effects import CloseRelay, Effect
from meshd.paths.vain import FIRST_VAIN_SECONDS


def echo(end: PairEnd, seconds: int) -> list[Effect]:
    """All echoes are answered."""
    effects: list[Effect] = []
    for _ in range(seconds):
        for _, number in end.engine.pairs[OTHER].meter.due(end.now):
            end.engine.echoed(OTHER, number, end.now)
        effects += end.later(1.0)
    return effects


def back_in_vain(end: PairEnd) -> None:
    """It goes directly, nothing is answered, and another host carries the pair again."""
    end.relayed()
    effects = echo(end, 14)
    assert any(isinstance(each, CloseRelay) and each.is_return for each in effects)
    assert not end.engine.vias()
    for _ in range(3):
        end.engine.confirm(OTHER, place(OTHER), 0, end.now, was_set=False)
    end.see(OTHER, end.peers[OTHER].path, endpoint=place(OTHER))
    end.now += 3.0
    sent = end.peers[OTHER].path.sent + 4
    dead = PathStats(up=False, sent=sent, received=end.peers[OTHER].path.received, last_reply_at=1.0)
    end.see_dead(dead)


def test_a_path_that_answers_echoes_and_carries_nothing_is_left_alone_for_an_hour() -> None:
    end = PairEnd()
    back_in_vain(end)
    effects = echo(end, int(FIRST_VAIN_SECONDS) - 30)
    assert not [each for each in effects if isinstance(each, CloseRelay)]
    assert end.engine.vias() == {OTHER: NEAR}
    assert [each for each in echo(end, 60) if isinstance(each, CloseRelay)]


def test_it_is_tried_at_once_where_the_other_host_names_another_place() -> None:
    end = PairEnd()
    back_in_vain(end)
    new = place("9")
    end.see(OTHER, end.peers[OTHER].path, places=(new, place(OTHER)))
    assert [each for each in echo(end, 30) if isinstance(each, CloseRelay)]


def test_a_path_that_carried_and_died_later_is_used_again_as_always() -> None:
    end = PairEnd()
    end.relayed()
    echo(end, 14)
    for _ in range(3):
        end.engine.confirm(OTHER, place(OTHER), 0, end.now, was_set=False)
    end.see(OTHER, msgspec.structs.replace(UP, sent=60, received=55), endpoint=place(OTHER))
    end.now += 20.0
    end.see_dead(PathStats(up=False, sent=80, received=70, last_reply_at=1.0))
    assert [each for each in echo(end, 30) if isinstance(each, CloseRelay)]


@pytest.mark.slow
@pytest.mark.parametrize("one_way", [False, True], ids=["both-ways", "one-way"])
def test_a_firewall_that_opens_the_relays_port_alone_costs_one_return_an_hour(one_way: bool) -> None:
    world = RelayWorld(4, random.Random(4))
    world.run(20)
    a, b, *_ = sorted(world.hosts)
    world.links[a, b].only_echoes = True
    world.links[b, a].only_echoes = not one_way
    world.run(60)
    silent = 0
    for _ in range(3500):
        world.run(1)
        silent += not (world.talk(a, b) and world.talk(b, a))
    assert max(world.hosts[a].switches[b], world.hosts[b].switches[a]) <= 5
    assert silent <= 10
    world.links[a, b].only_echoes = world.links[b, a].only_echoes = False
    world.run(2 * FIRST_VAIN_SECONDS)
    assert not world.hosts[a].engine.vias() and not world.hosts[b].engine.vias()
