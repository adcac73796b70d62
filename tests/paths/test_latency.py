"""Pairs that go through another host because that is shorter: only by much, only for long, and back again."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pair_end import UP, look
from relay_world import RelayWorld
from trials import trials

from meshd.paths.course import RelayLimits
from meshd.paths.latency import LatencyTerms, Review, choose_reviewed
from meshd.paths.leases import Leases, Reach, Refusal, Terms

TERMS = LatencyTerms()
HERE = {hid: Reach(rtt_seconds=0.01) for hid in "abcdefgh"}


def detour(seed: int = 1, direct: float = 0.1, half: float = 0.01, count: int = 4) -> RelayWorld:
    """Three hosts near each other, but for one pair that goes a long way round. Seconds are one way."""
    world = RelayWorld(count, random.Random(seed))
    world.limits = RelayLimits(latency=TERMS)
    for link in world.links.values():
        link.delay = half
    a, b, *_ = sorted(world.hosts)
    world.links[a, b].delay = world.links[b, a].delay = direct
    return world


def via(world: RelayWorld) -> tuple[str | None, str | None]:
    a, b, *_ = sorted(world.hosts)
    return world.hosts[a].engine.vias().get(b), world.hosts[b].engine.vias().get(a)


def switches(world: RelayWorld) -> int:
    return max((count for host in world.hosts.values() for count in host.switches.values()), default=0)


@pytest.mark.slow
def test_a_pair_takes_a_much_shorter_way_after_minutes_and_both_ends_stay_there() -> None:
    world = detour()
    world.run(TERMS.hold_seconds)
    assert via(world) == (None, None), "not before its minutes are over"
    world.run(120)
    first, second = via(world)
    assert first is not None and first == second
    a, b, *_ = sorted(world.hosts)
    for _ in range(120):
        world.run(10)
        assert world.talk(a, b) and world.talk(b, a)
    assert via(world) == (first, second)
    assert switches(world) == 1
    assert "ms shorter" in world.hosts[a].engine.pairs[b].why


@pytest.mark.slow
def test_nobody_does_unless_the_settings_want_it() -> None:
    world = detour()
    world.limits = RelayLimits()
    world.run(1200)
    assert switches(world) == 0 and not any(host.asks for host in world.hosts.values())


@pytest.mark.slow
@pytest.mark.parametrize(("direct", "half"), [(0.029, 0.01), (0.1, 0.045)], ids=["margin", "share"])
def test_a_way_that_is_a_little_shorter_is_left_alone(direct: float, half: float) -> None:
    world = detour(direct=direct, half=half)
    world.run(900)
    assert switches(world) == 0


@pytest.mark.slow
def test_it_comes_back_when_the_direct_path_is_as_short_and_loses_nothing() -> None:
    world = detour()
    world.run(600)
    assert None not in via(world)
    a, b, *_ = sorted(world.hosts)
    world.links[a, b].delay = world.links[b, a].delay = 0.012
    for _ in range(1500):
        world.run(1)
        assert world.talk(a, b) and world.talk(b, a)
    assert via(world) == (None, None)
    assert switches(world) == 2


@pytest.mark.slow
def test_what_lies_between_coming_and_going_changes_nothing() -> None:
    world = detour()
    world.run(600)
    a, b, *_ = sorted(world.hosts)
    world.links[a, b].delay = world.links[b, a].delay = 0.033  # 26 ms and 39 % are saved
    world.run(1200)
    assert None not in via(world) and switches(world) == 1
    back = detour(direct=0.026)  # 12 ms: too little to go
    back.run(1200)
    assert switches(back) == 0


@pytest.mark.slow
def test_a_lossy_way_is_not_taken_and_one_that_becomes_lossy_is_left() -> None:
    world = detour(count=3)
    a, b, c = sorted(world.hosts)
    world.links[a, c].loss = 0.15
    world.run(1200)
    assert via(world) == (None, None)
    world = detour(count=3)
    world.run(600)
    assert via(world) == (c, c)
    world.links[b, c].loss = 0.12
    world.run(240)
    assert via(world) == (None, None)


@pytest.mark.slow
def test_a_host_that_promises_more_than_it_keeps_is_left_and_seldom_believed_again() -> None:
    world = detour(count=3, half=0.06)
    a, b, liar = sorted(world.hosts)
    world.hosts[liar].claims_rtt = 0.001
    world.run(3600)
    assert world.hosts[a].asks[liar, b] > 3
    assert switches(world) == 2


def test_a_relay_that_dies_is_left_at_once_for_the_direct_path() -> None:
    world = detour(count=3)
    world.run(600)
    a, b, c = sorted(world.hosts)
    world.hosts[c].is_dead = True
    world.run(8)
    assert world.talk(a, b) and via(world) == (None, None)


@pytest.mark.slow
def test_a_relay_that_is_drained_is_left_and_nothing_is_lost() -> None:
    world = detour(count=3)
    world.run(600)
    a, b, c = sorted(world.hosts)
    world.hosts[c].terms = Terms(is_drained=True)
    for _ in range(300):
        world.run(0.1)
        assert world.talk(a, b) and world.talk(b, a)
    assert via(world) == (None, None)


noisy = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32),
        "direct": st.floats(0.005, 0.12),
        "half": st.floats(0.002, 0.06),
        "noise": st.floats(0.0, 0.05),
        "swings": st.floats(0.0, 0.1),
    }
)


@pytest.mark.slow
@trials(40)
@given(noisy)
@example({"seed": 0, "direct": 0.0625, "half": 0.0078125, "noise": 0.0, "swings": 0.0})
def test_however_noisy_the_ways_are_a_pair_switches_a_few_times_an_hour(drawn: dict[str, float]) -> None:
    """The direct way also swings between two lengths, for minutes at a time."""
    world = detour(int(drawn["seed"]), drawn["direct"], drawn["half"])
    for link in world.links.values():
        link.noise = drawn["noise"]
    a, b, *_ = sorted(world.hosts)
    for _ in range(12):
        world.links[a, b].delay = drawn["direct"] + world.rng.choice((0.0, drawn["swings"]))
        world.run(300)
    assert switches(world) <= 4


def test_half_of_a_relays_room_is_kept_for_pairs_that_have_no_other_way() -> None:
    leases = Leases().opened("a", "b", 0.0).opened("c", "d", 0.0)
    assert leases.refuse("e", "f", HERE, Terms(pairs=4), is_for_latency=True) is Refusal.FULL
    assert leases.refuse("e", "f", HERE, Terms(pairs=4)) is None
    many = leases.opened("a", "c", 0.0)
    assert many.refuse("a", "e", HERE, Terms(), is_for_latency=True) is Refusal.HOST_FULL
    assert many.refuse("a", "e", HERE, Terms()) is None


def test_everybody_whose_half_is_short_is_asked_in_turn_and_the_best_each_time() -> None:
    peers = {f"{number}": look(f"{number}", UP) for number in range(20)}
    far = msgspec.structs.replace(UP, srtt_seconds=0.5)
    peers["far"] = msgspec.structs.replace(look("9", UP), path=far)
    review, asked = Review(next_at=0.0, best="7"), set()
    for now in range(8):
        chosen = choose_reviewed(review, peers, peers, 0.1, TERMS)
        assert chosen[0] == "7" and len(chosen) <= 4
        review.asked_at |= dict.fromkeys(chosen, float(now))
        asked |= set(chosen)
    assert asked == peers.keys() - {"far"}
