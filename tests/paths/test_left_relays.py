"""A relay that was given up and carries after all: the pair knows by which way it is answered."""

from __future__ import annotations

import random

import pytest
from relay_world import RelayWorld


def test_a_relay_that_carries_just_after_it_was_given_up_is_not_taken_for_the_direct_path() -> None:
    """As when the first handshake through it takes longer than it is given: it carries on for a minute, and
    the pair would be lost once more at its end, shown as direct until then."""
    world = RelayWorld(3, random.Random(1))
    a, b, c = sorted(world.hosts)
    world.run(20)
    world.hosts[c].forwards_from = world.now + 6.25
    world.cut(a, b)
    world.run(12)
    steps = [step.text for step in world.hosts[a].engine.pairs[b].steps]
    assert any("carried nothing" in step for step in steps), steps
    for _ in range(100):
        assert world.talk(a, b) and world.hosts[a].engine.vias() == {b: c}
        world.run(1)


@pytest.mark.parametrize("seed", [2, 3, 5, 6, 11, 12])
def test_an_answer_through_the_relay_that_comes_while_the_direct_place_is_set_is_not_the_direct_paths(
    seed: int,
) -> None:
    """The end that gave the relay up sets the direct place. A packet of the other end leads it back there,
    the next probe is answered, and only then the direct place is set again. The end took that for the direct
    path, renewed nothing, and the pair was lost once more 42 s later."""
    world = RelayWorld(3, random.Random(seed))
    a, b, c = sorted(world.hosts)
    world.run(20 + random.Random(seed).random())
    world.hosts[c].forwards_from = world.now + 6.5
    world.cut(a, b)
    world.run(12.5)
    pairs = world.hosts[a].engine.pairs[b], world.hosts[b].engine.pairs[a]
    assert any("carried nothing" in step.text for pair in pairs for step in pair.steps)
    for _ in range(100):
        assert world.talk(a, b) and world.talk(b, a)
        assert world.hosts[a].engine.vias() == {b: c} and world.hosts[b].engine.vias() == {a: c}
        world.run(1)
