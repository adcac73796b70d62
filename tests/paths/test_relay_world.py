"""Histories of cuts, losses and distances: whoever can talk through one other host does; nobody flaps."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from relay_world import RelayWorld
from trials import trials

from meshd.paths.leases import MAX_PAIRS_OF_A_HOST, Terms

SETTLED_SECONDS = 90.0


def hids(world: RelayWorld) -> list[str]:
    return sorted(world.hosts)


def met(count: int, seed: int = 1, **options: frozenset[int]) -> RelayWorld:
    world = RelayWorld(count, random.Random(seed), **options)
    world.run(20)
    return world


def test_a_pair_that_is_cut_talks_again_within_seconds_and_comes_back() -> None:
    world = met(4)
    a, b, *_ = hids(world)
    world.cut(a, b)
    world.run(6)
    assert world.talk(a, b) and world.talk(b, a)
    assert a in world.hosts[b].engine.vias() and b in world.hosts[a].engine.vias()
    world.heal(a, b)
    world.run(30)
    assert not world.hosts[a].engine.vias() and not world.hosts[b].engine.vias()
    assert world.talk(a, b)
    world.run(120)
    assert not any(host.leases.by_ends for host in world.hosts.values()), "a lease was left"


def test_a_one_way_cut_is_a_cut() -> None:
    world = met(3)
    a, b, c = hids(world)
    world.cut(b, a, one_way=True)
    world.run(8)
    assert world.talk(a, b) and world.hosts[a].engine.vias()[b] == c


def test_two_hosts_behind_nat_find_a_third_one() -> None:
    world = RelayWorld(4, random.Random(3), behind_nat=frozenset({0, 1}))
    world.run(40)
    a, b, *_ = hids(world)
    assert world.talk(a, b)


def test_the_relay_dies_and_another_one_carries() -> None:
    world = met(4)
    a, b, *_ = hids(world)
    world.cut(a, b)
    world.run(8)
    first = world.hosts[a].engine.vias()[b]
    world.hosts[first].is_dead = True
    world.run(10)
    assert world.talk(a, b) and world.hosts[a].engine.vias()[b] != first


def test_a_drained_host_is_left_before_it_stops() -> None:
    world = met(4)
    a, b, *_ = hids(world)
    world.cut(a, b)
    world.run(8)
    first = world.hosts[a].engine.vias()[b]
    world.hosts[first].terms = Terms(is_drained=True)
    for _ in range(300):
        world.run(0.1)
        assert world.talk(a, b), "lost while it moved"
    assert world.hosts[a].engine.vias()[b] != first


def test_a_lossy_path_is_left_and_taken_back_when_it_is_well() -> None:
    world = met(4)
    a, b, *_ = hids(world)
    world.links[a, b].loss = 0.4
    world.run(90)
    assert b in world.hosts[a].engine.vias()
    world.links[a, b].loss = 0.0
    world.run(1200)
    assert not world.hosts[a].engine.vias()


def test_a_full_host_carries_no_more() -> None:
    world = met(3)
    a, b, c = hids(world)
    world.hosts[c].terms = Terms(pairs=0)
    world.cut(a, b)
    world.run(30)
    assert not world.hosts[a].engine.vias()
    asked = world.hosts[a].engine.pairs[b].last_asked
    assert "as many pairs" in asked[c].answer


def test_a_host_that_one_other_alone_reaches_has_as_many_pairs_there_as_it_may_and_no_more() -> None:
    world = met(7)
    lost, relay, *others = hids(world)
    for other in others:
        world.cut(lost, other)
    world.run(SETTLED_SECONDS)
    carried = [other for other in others if world.talk(lost, other) and world.talk(other, lost)]
    assert len(carried) == MAX_PAIRS_OF_A_HOST
    (left,) = set(others) - set(carried)
    assert "as many pairs of one host" in world.hosts[left].engine.pairs[lost].last_asked[relay].answer


@pytest.mark.parametrize(
    ("count", "behind_nat", "relays"), [(12, 5, 3), pytest.param(30, 12, 18, marks=pytest.mark.slow)]
)
def test_a_fleet_with_many_hosts_behind_nat_is_whole(count: int, behind_nat: int, relays: int) -> None:
    """Each of them has a pair with each other one; one relay carries a few of these, others take the rest."""
    world = RelayWorld(count, random.Random(1), behind_nat=frozenset(range(behind_nat)))
    names = hids(world)
    for hid in names[behind_nat + relays :]:
        world.hosts[hid].terms = Terms(enabled=False)
    world.run(SETTLED_SECONDS)
    assert not [(a, b) for a, b in itertools.permutations(names, 2) if not world.talk(a, b)]
    for host in world.hosts.values():
        used = [hid for lease in host.leases.by_ends.values() for hid in lease.users]
        assert max(map(used.count, used), default=0) <= MAX_PAIRS_OF_A_HOST
    before = [dict(host.switches) for host in world.hosts.values()]
    world.run(60)
    assert [host.switches for host in world.hosts.values()] == before


@pytest.mark.slow
def test_a_path_that_comes_and_goes_for_an_hour_makes_few_switches() -> None:
    world = met(4)
    a, b, *_ = hids(world)
    for _ in range(180):
        world.cut(a, b)
        world.run(8)
        world.heal(a, b)
        world.run(12)
    counted = world.hosts[a].switches.get(b, 0), world.hosts[b].switches.get(a, 0)
    assert 0 < max(counted) <= 24, counted


pattern = st.fixed_dictionaries(
    {
        "count": st.integers(4, 7),
        "seed": st.integers(0, 2**32),
        "cuts": st.lists(
            st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), min_size=1, max_size=9
        ),
        "nat": st.frozensets(st.integers(0, 6), max_size=2),
        "noise": st.sampled_from((0.0, 0.02)),
    }
)


def cut_up(world: RelayWorld, cuts: list[tuple[int, int, bool]]) -> None:
    names = hids(world)
    for first, second, one_way in cuts:
        if first != second and max(first, second) < len(names):
            world.cut(names[first], names[second], one_way=one_way)


@trials()
@given(pattern)
def test_whoever_is_connected_through_one_other_host_talks(drawn: dict[str, object]) -> None:
    world = RelayWorld(drawn["count"], random.Random(drawn["seed"]), behind_nat=drawn["nat"])  # type: ignore[arg-type]
    for link in world.links.values():
        link.noise = drawn["noise"]  # type: ignore[assignment]
        link.delay = world.rng.uniform(0.001, 0.1)
    world.run(30)
    cut_up(world, drawn["cuts"])  # type: ignore[arg-type]
    world.run(SETTLED_SECONDS)
    silent = [
        (a[-2:], b[-2:])
        for a, b in itertools.permutations(hids(world), 2)
        if world.should_talk(a, b) and not world.talk(a, b)
    ]
    assert not silent
