"""To another way while many packets are under way by the old one: each of them leads back there."""

from __future__ import annotations

import random

import msgspec
import pytest
from flow_world import FlowWorld
from pair_end import NEAR, OTHER, UP, PairEnd, place

from meshd.paths.course import RETURN_SECONDS
from meshd.paths.effects import OpenRelay, RenewRelay, Reset
from meshd.paths.leases import MAX_LINGER_SECONDS
from meshd.paths.pair import SETTLED_TURNS, WATCHED_TURNS
from meshd.paths.pair_table import Standing

NEAR_AND_FAR = [(0.005, 0.01), (0.05, 0.02), (0.02, 0.1)]
"""Of seconds, one way: the direct path, and each half of the relayed one."""


def relayed_under_traffic(
    seed: int, per_second: float, direct: float, half: float, *, bunch_seconds: float | None = None
) -> FlowWorld:
    """Two of three hosts, whose direct path is just whole again."""
    rng = random.Random(seed)
    world = FlowWorld(3, rng) if bunch_seconds is None else FlowWorld(3, rng, bunch_seconds=bunch_seconds)
    a, b, c = sorted(world.hosts)
    for link in world.links.values():
        link.delay = half
    world.links[a, b].delay = world.links[b, a].delay = direct
    world.run(20)
    world.cut(a, b)
    world.run(15)
    world.flow(a, b, per_second=per_second)
    world.flow(b, a, per_second=per_second)
    world.run(3)
    assert world.hosts[a].engine.vias() == {b: c} and world.hosts[b].engine.vias() == {a: c}
    world.sent.clear()
    world.lost.clear()
    world.heal(a, b)
    return world


def returned_at(world: FlowWorld) -> float:
    """When both ends go directly."""
    end = world.now + 60
    while any(host.engine.vias() for host in world.hosts.values()):
        world.run(0.1)
        assert world.now < end
    return world.now


@pytest.mark.slow
@pytest.mark.parametrize(("direct", "half"), NEAR_AND_FAR)
@pytest.mark.parametrize("per_second", [20, 200, 1000])
def test_both_ends_are_back_within_seconds_and_nothing_is_lost(
    per_second: float, direct: float, half: float
) -> None:
    world = relayed_under_traffic(1, per_second, direct, half)
    returned_at(world)
    world.run(10)
    passed_on = sum(world.relayed.values())
    switches = [dict(host.switches) for host in world.hosts.values()]
    world.run(20)
    assert sum(world.relayed.values()) == passed_on, "nothing goes through the relay any more"
    world.run(80)
    assert sum(world.relayed.values()) == passed_on
    assert [host.switches for host in world.hosts.values()] == switches
    assert not world.lost and len(world.sent) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("per_second", "seed"), [(50, 1), (200, 0), (200, 1), (1000, 2)])
def test_a_pair_that_its_packets_keep_at_the_relay_is_carried_on_before_that_one_stops(
    per_second: float, seed: int
) -> None:
    """As by a relay that has no room for bunches: the pair is not well, and nothing is lost."""
    world = relayed_under_traffic(seed, per_second, 0.05, 0.02, bunch_seconds=0.0)
    returned_at(world)
    world.run(100)
    assert not world.lost
    assert sum(world.relayed.values()) > 0


def back(end: PairEnd) -> None:
    """The pair goes directly again, and its endpoint has stayed."""
    end.relayed()
    end.engine.closed(NEAR, OTHER, end.now, is_return=True)
    end.engine.confirm(OTHER, place(OTHER), 0, end.now, was_set=True)
    for _ in range(3):
        end.engine.confirm(OTHER, place(OTHER), 0, end.now, was_set=False)
    end.see(OTHER, msgspec.structs.replace(UP, sent=50, received=45), endpoint=place(OTHER))
    assert end.standing is Standing.DIRECT and not end.engine.is_settling


def test_an_endpoint_that_seemed_to_stay_is_set_anew_when_it_is_the_relays_again() -> None:
    end = PairEnd()
    back(end)
    end.now += 5.0
    path = msgspec.structs.replace(UP, sent=60, received=55)
    assert Reset(OTHER) in end.see(OTHER, path, endpoint=place(NEAR, 51822))
    assert end.engine.is_settling and end.standing is Standing.DIRECT
    pin = end.engine.pins()[OTHER]
    assert pin.is_due and not pin.is_relay and pin.endpoint == place(OTHER)


def test_a_host_that_has_moved_meanwhile_is_not_looked_for_where_it_was_before() -> None:
    """What was the direct path when the pair left it leads nowhere any more."""
    end, moved = PairEnd(), place("99")
    end.relayed()
    end.see(OTHER, msgspec.structs.replace(UP, sent=40, received=35), places=(moved,))
    (_, number), *_ = [each for each in end.engine.pairs[OTHER].meter.due(end.now) if each[0] == moved]
    end.engine.echoed(OTHER, number, end.now)
    end.engine.closed(NEAR, OTHER, end.now, is_return=True)
    for _ in range(SETTLED_TURNS + WATCHED_TURNS):
        end.engine.confirm(OTHER, moved, 0, end.now, was_set=False)
    path = msgspec.structs.replace(UP, sent=60, received=55)
    assert Reset(OTHER) in end.see(OTHER, path, endpoint=place(NEAR, 51822))
    assert end.engine.pins()[OTHER].endpoint == moved


def test_what_leads_to_the_relay_for_longer_is_followed_and_the_relay_is_asked_to_go_on() -> None:
    end = PairEnd()
    back(end)
    end.now += RETURN_SECONDS + 1.0
    path = msgspec.structs.replace(UP, sent=90, received=85)
    effects = end.see(OTHER, path, endpoint=place(NEAR, 51822))
    assert end.engine.vias() == {OTHER: NEAR}
    assert RenewRelay(OTHER, NEAR) in effects
    (opening,) = end.engine.renewed(OTHER, NEAR, refusal="it carries no such pair", is_gone=True, now=end.now)
    assert isinstance(opening, OpenRelay) and opening.relay == NEAR


@pytest.mark.parametrize("is_answered_there", [True, False])
def test_without_echoes_a_host_that_has_moved_is_where_its_packets_came_from(is_answered_there: bool) -> None:
    """Its port for echoes is closed: how it is reached, its own packets show."""
    end, moved = PairEnd(), place("99")
    end.relayed()
    end.engine.closed(NEAR, OTHER, end.now, is_return=True)
    path = msgspec.structs.replace(UP, sent=60, received=55)
    if is_answered_there:
        end.see(OTHER, path, endpoint=moved, places=(moved,))
    assert bool(end.see(OTHER, path, endpoint=place(NEAR, 51822), places=(moved,))) is is_answered_there
    pins = end.engine.pins()
    assert {pin.endpoint for pin in pins.values()} == ({moved} if is_answered_there else set())


def test_there_is_time_enough_for_that_before_the_relay_stops() -> None:
    turn_seconds = 10.0
    assert RETURN_SECONDS + 3 * turn_seconds <= MAX_LINGER_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("direct", "half"), NEAR_AND_FAR)
def test_a_lossy_path_under_much_traffic_is_left_for_good(direct: float, half: float, seed: int) -> None:
    """What comes by it leads back there, and no relay can gather that."""
    world = FlowWorld(3, random.Random(seed))
    a, b, _ = sorted(world.hosts)
    for link in world.links.values():
        link.delay = half
    world.links[a, b].delay = world.links[b, a].delay = direct
    world.run(20)
    for way in ((a, b), (b, a)):
        world.flow(*way, per_second=1000)
        world.links[way].loss = 0.4
    while not all(world.hosts[one].engine.vias() for one in (a, b)):
        world.run(0.1)
        assert world.now < 60
    world.run(10)
    world.lost.clear()
    world.run(30)
    assert not world.lost
    assert [world.hosts[one].switches[other] for one, other in ((a, b), (b, a))] == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("seconds", [0.1, 0.7, 3.0])
@pytest.mark.parametrize(("direct", "half"), NEAR_AND_FAR)
def test_a_path_that_dies_one_way_just_after_the_return_is_left_as_soon_as_any_other(
    direct: float, half: float, seconds: float, seed: int
) -> None:
    """One end is answered still, by the way that the other end's packets take. It does not insist."""
    world = relayed_under_traffic(seed, 100, direct, half)
    returned_at(world)
    world.run(seconds)
    a, b, _ = sorted(world.hosts)
    world.cut(a, b, one_way=True)
    world.run(6)  # three probes a second apart, and what is under way
    world.lost.clear()
    world.run(60)
    assert not world.lost
    assert world.hosts[a].engine.vias() and world.hosts[b].engine.vias()


def test_nothing_is_set_any_more_once_the_direct_path_is_silent_again() -> None:
    end = PairEnd()
    end.relayed()
    for _ in range(14):
        for _, number in end.engine.pairs[OTHER].meter.due(end.now):
            end.engine.echoed(OTHER, number, end.now)
        end.later(1.0)
    assert end.engine.pins()[OTHER].is_due and end.engine.echoed_hids() == [OTHER]
    assert OTHER in end.engine.answered_hids(), "the other end asks on as well"
    assert Reset(OTHER) in end.later(4.0)
    assert not end.engine.is_settling and end.standing is Standing.DIRECT
    path = msgspec.structs.replace(UP, sent=60, received=55)
    effects = end.see(OTHER, path, endpoint=place(NEAR, 51822))
    assert RenewRelay(OTHER, NEAR) in effects and end.engine.vias() == {OTHER: NEAR}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("direct", "half"), NEAR_AND_FAR)
def test_traffic_that_pauses_just_after_the_return_does_not_go_on_through_the_relay(
    direct: float, half: float, seed: int
) -> None:
    """The last packet of all may have come through it, and then the next ones go there, and their answers."""
    world = relayed_under_traffic(seed, 200, direct, half)
    returned_at(world)
    world.run(random.Random(seed).uniform(0.0, 0.6))
    a, b, _ = sorted(world.hosts)
    world.flowing.clear()
    world.run(1.0)
    for way in ((a, b), (b, a)):
        world.flow(*way, per_second=200)
    world.run(3.0)
    passed_on = sum(world.relayed.values())
    world.run(5.0)
    assert sum(world.relayed.values()) == passed_on
    assert not world.lost
