"""Which candidate a peer gets: a WireGuard of few words, and a peer that is somewhere or nowhere."""

from __future__ import annotations

import itertools
from ipaddress import ip_address

import pytest
from endpoint_world import (
    NAME,
    OWN,
    PEER,
    ROAMED,
    TURN_SECONDS,
    A,
    B,
    C,
    World,
    routes_everywhere,
    texts,
    working,
)

from meshd.mesh.endpoints import (
    CANDIDATE_SECONDS,
)
from meshd.mesh.selector import (
    FIRST_TRY_SECONDS,
    MAX_CANDIDATE_SECONDS,
    MOVED_SILENT_SECONDS,
    SILENT_SECONDS,
    TRIAL_TICK_SECONDS,
    UNPROBED_SILENT_SECONDS,
    advise,
)
from meshd.mesh.view import build_view
from meshd.model.device import ObservedState, PeerStats
from meshd.model.network import Endpoint


def test_a_new_peer_gets_its_candidates_one_after_the_other_until_one_answers() -> None:
    world = World(endpoints=texts(A, B, C), where={C})
    world.run(60)
    assert [endpoint for _, endpoint in world.tried] == [A, B, C]
    first, second, third = (at for at, _ in world.tried)
    assert (second - first, third - second) == (FIRST_TRY_SECONDS, FIRST_TRY_SECONDS)
    assert world.advice.recheck_at is None and not world.memory.trying()


def test_a_peer_that_is_nowhere_gets_each_candidate_again_and_again_ever_more_slowly() -> None:
    world = World(endpoints=texts(A, B))
    world.run(3600)
    assert [endpoint for _, endpoint in world.tried[:6]] == [A, B, A, B, A, B]
    waits = [round(b - a, 6) for a, b in itertools.pairwise(at for at, _ in world.tried)]
    assert waits[:5] == [FIRST_TRY_SECONDS] * 2 + [CANDIDATE_SECONDS] * 2 + [2 * CANDIDATE_SECONDS]
    assert waits == sorted(waits) and waits[-1] == MAX_CANDIDATE_SECONDS


def test_a_candidate_that_is_new_is_tried_at_once_however_long_the_peer_has_been_away() -> None:
    world = World(endpoints=(str(A), f"{NAME}:51820"))
    world.run(3600)
    world.where, appeared_at = {C}, world.now
    world.resolved = {NAME: (C.address,)}
    world.turn()
    assert world.tried[-1] == (appeared_at, C)


@pytest.mark.parametrize("current", [A, ROAMED])
def test_a_working_endpoint_stays_whatever_the_registry_says(current: Endpoint) -> None:
    world = working(A, B, current=current)
    world.endpoints = texts(B, C)
    world.run(600)
    assert world.current == current and not world.tried and not world.advice.names


def test_a_dead_path_is_left_long_before_its_session_ends() -> None:
    world = working(A, B)
    world.where, died_at = {B}, world.now
    world.run(60)
    ((at, endpoint),) = world.tried
    assert endpoint == B
    assert at - died_at <= SILENT_SECONDS + TRIAL_TICK_SECONDS + TURN_SECONDS
    assert world.path.up


def test_a_dead_roamed_endpoint_gives_way_to_the_registry_and_is_tried_again_last() -> None:
    world = working(A, B, current=ROAMED)
    world.where = set()
    world.run(120)
    assert [endpoint for _, endpoint in world.tried][:5] == [A, B, A, B, ROAMED]


def test_what_worked_once_is_tried_first_when_the_interface_is_new() -> None:
    world = working(A, B, current=B)
    world.current, world.stats = None, PeerStats()
    world.turn()
    assert world.current == B


def test_a_peer_with_one_candidate_keeps_it_and_asks_for_no_extra_turn() -> None:
    world = working(A)
    world.where = set()
    world.run(400)
    assert world.current == A and world.advice.recheck_at is None


def test_a_host_that_answers_no_probe_but_wireguard_is_left_alone() -> None:
    world = World(endpoints=texts(A, B), where={A}, current=A, answers_probes=False)
    world.run(600)
    assert not world.tried
    world.where, died_at = {B}, world.now
    world.run(100)
    assert [endpoint for _, endpoint in world.tried] == [B]
    assert world.tried[0][0] - died_at <= UNPROBED_SILENT_SECONDS + 2 * TURN_SECONDS


def test_silence_means_nothing_where_nobody_asks() -> None:
    world = working(A, B)
    world.is_probed = False
    world.run(3600)
    assert not world.tried and world.advice.recheck_at is None


def test_a_peer_whose_path_comes_back_keeps_its_endpoint() -> None:
    world = working(A, B)
    world.where = set()
    world.run(SILENT_SECONDS)
    world.where = {A}
    world.run(120)
    assert not world.tried


def test_a_name_that_resolves_elsewhere_moves_a_dead_path_within_seconds_and_a_working_one_never() -> None:
    world = World(endpoints=(f"{NAME}:51820",), where={A}, resolved={NAME: (A.address,)})
    world.run(60)
    assert world.current == A
    world.resolved = {NAME: (B.address,)}
    world.run(600)
    assert world.current == A
    world.resolved = {NAME: (A.address,)}
    world.run(10)
    world.where, died_at = {B}, world.now
    world.turn()
    assert world.advice.names == {NAME: PEER}, "asked for as soon as the path is dead"
    world.resolved = {NAME: (B.address,)}
    world.run(30)
    assert world.current == B and world.path.up
    assert world.tried[-1][0] - died_at <= MOVED_SILENT_SECONDS + 2 * TRIAL_TICK_SECONDS


def test_a_name_that_does_not_resolve_costs_only_itself() -> None:
    world = World(endpoints=(f"{NAME}:51820", str(B)), where={B})
    world.run(10)
    assert world.current == B


def test_a_lying_name_server_cannot_keep_a_peer_from_where_it_is() -> None:
    lies = tuple(ip_address(f"203.0.113.{number}") for number in range(1, 4))
    world = World(endpoints=(f"{NAME}:51820", str(B)), where={B}, resolved={NAME: lies})
    world.run(len(lies) * FIRST_TRY_SECONDS + 10)
    assert world.current == B and world.path.up


def test_a_candidate_that_the_host_no_longer_names_is_left_at_once() -> None:
    world = World(endpoints=texts(A, B), where={C})
    world.turn()
    world.endpoints = texts(C)
    world.now += 1
    world.turn()
    assert [endpoint for _, endpoint in world.tried] == [A, C]


def test_a_peer_whose_turn_it_is_to_call_us_is_not_tried() -> None:
    world = World(endpoints=texts(A, B))
    advice, world.memory = advise(
        world.memory,
        build_view(world.membership(), OWN),
        ObservedState(interface="wg0"),
        now=world.now,
        paths={},
        resolved={},
        source_of=routes_everywhere,
        deferred={PEER},
    )
    assert not advice.endpoints and not world.memory.trying()
