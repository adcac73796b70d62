"""Keys are rotated in every order of events, and no packet between hosts that reach each other is lost."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rotation_world import SECOND, SimHost, World
from trials import trials

from meshd.backend.memory import Failure
from meshd.model.device import PeerUpdate


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, 4)
    made.settle()
    return made


def is_over(world: World, hosts: list[SimHost]) -> bool:
    return all(
        host.keys.key.following is None and host.public_key not in world.old_keys for host in hosts
    ) and not any(SECOND in host.backend._interfaces for host in world.hosts)


def run_until_over(world: World, hosts: list[SimHost], limit: int = 400) -> None:
    for _ in range(limit):
        world.run(1)
        if is_over(world, hosts) and not world.mail:
            return
    raise AssertionError([(h.name, h.last and h.last.conditions, h.rotation.status()) for h in hosts])


def test_one_host_rotates_and_nothing_is_lost(world: World) -> None:
    host = world.hosts[0]
    old = host.public_key
    world.ask([host])
    run_until_over(world, [host], 60)
    assert world.lost == []
    assert host.public_key != old
    for other in world.hosts[1:]:
        assert set(other.backend._interfaces["wg0"].peers) == {
            each.public_key for each in world.hosts if each is not other
        }
    world.run(10)
    assert world.lost == []


def test_all_hosts_rotate_at_once_and_nothing_is_lost(world: World) -> None:
    before = {host.public_key for host in world.hosts}
    world.ask(world.hosts)
    run_until_over(world, world.hosts)
    assert world.lost == []
    assert not before & {host.public_key for host in world.hosts}


def test_a_request_is_obeyed_once_whatever_the_clock_says(world: World) -> None:
    host = world.hosts[0]
    world.ask([host])
    world.asked[host.hid] += 10**9  # a key made now is never younger than that
    world.now += 10**9 + 10
    world.settle()
    run_until_over(world, [host])
    after = host.public_key
    world.run(60)
    assert host.public_key == after


def test_a_host_whose_daemon_is_dead_keeps_its_traffic_and_is_waited_for(world: World) -> None:
    rotating, silent = world.hosts[0], world.hosts[1]
    silent.is_running = False
    world.ask([rotating])
    world.run(200)
    assert world.lost == []
    assert rotating.rotation.status().waiting == (silent.name,)
    assert rotating.last is not None
    (said,) = [c for c in rotating.last.conditions if c.code == "rotation_waits"]
    assert silent.name in said.text
    silent.is_running = True
    silent.restart()
    run_until_over(world, [rotating])
    assert world.lost == []


@pytest.mark.slow
def test_a_host_without_power_is_not_waited_for_and_finds_its_way_back(world: World) -> None:
    rotating, gone = world.hosts[0], world.hosts[1]
    others = [host for host in world.hosts if host is not gone]
    gone.is_running = False
    for other in others:
        world.cuts.add(frozenset((gone.number, other.number)))
    world.run(200)
    world.ask([rotating])
    for _ in range(500):
        world.run(1)
        if rotating.keys.key.following is None and rotating.public_key not in world.old_keys:
            break
    assert rotating.keys.key.following is None
    assert world.lost == []
    world.cuts.clear()
    gone.is_running = True
    gone.restart()
    world.run(30)
    world.lost.clear()
    world.run(5)
    assert world.lost == []


def test_a_blocked_second_port_costs_nothing_and_is_said(world: World) -> None:
    rotating = world.hosts[0]
    world.closed_ports |= {(host.number, 51821) for host in world.hosts}
    world.ask([rotating])
    world.run(200)
    assert world.lost == []
    assert rotating.last is not None
    (said,) = [c for c in rotating.last.conditions if c.code == "rotation_waits"]
    assert "51821" in said.text
    world.closed_ports.clear()
    run_until_over(world, [rotating])
    assert world.lost == []


def test_a_second_interface_that_cannot_be_made_holds_up_nothing_else(world: World) -> None:
    rotating, stuck, other = world.hosts[:3]
    stuck.backend.third_party_interface(SECOND)
    world.ask([rotating])
    world.run(20)
    assert stuck.last is not None
    assert any(SECOND in condition.text for condition in stuck.last.conditions)
    assert rotating.rotation.status().waiting == (stuck.name,)
    stuck.backend.set_peers("wg0", [PeerUpdate(public_key=other.public_key, remove=True)])
    world.tick()
    world.lost.clear()
    world.run(2)
    assert other.public_key in stuck.backend._interfaces["wg0"].peers
    stuck.backend.third_party_destroys(SECOND)
    run_until_over(world, [rotating])
    assert [line for line in world.lost if rotating.name in line] == []


def test_hosts_behind_nat_are_followed_and_follow(tmp_path: Path) -> None:
    world = World(tmp_path, 3, behind_nat=[2])
    world.settle()
    for host in world.hosts[:2]:
        world.ask([host])
        run_until_over(world, [host])
        assert world.lost == []


@pytest.mark.slow
def test_an_isolated_host_never_burns_the_key_that_its_peers_know(world: World) -> None:
    host = world.hosts[0]
    old = host.public_key
    for other in world.hosts[1:]:
        world.cuts.add(frozenset((host.number, other.number)))
    world.ask([host])
    world.run(600)
    assert host.public_key == old
    world.cuts.clear()
    world.run(20)
    world.lost.clear()
    run_until_over(world, [host])
    assert world.lost == []
    assert host.public_key != old


@pytest.mark.slow
def test_a_host_that_was_away_while_all_others_rotated_finds_them_without_a_store(world: World) -> None:
    gone, others = world.hosts[1], [host for host in world.hosts if host.number != 2]
    world.mesh_only = True
    gone.is_running = False
    for other in others:
        world.cuts.add(frozenset((gone.number, other.number)))
    world.run(400)
    world.ask(others)
    for _ in range(1500):
        world.run(1)
        if all(host.public_key not in world.old_keys and host.keys.key.following is None for host in others):
            break
    assert not {record.public_key for record in gone.known.values()} & {host.public_key for host in others}
    assert world.lost == []
    world.cuts.clear()
    gone.is_running = True
    gone.restart()
    world.run(300)
    assert {record.public_key for hid, record in gone.known.items() if hid != gone.hid} == {
        host.public_key for host in others
    }
    world.lost.clear()
    world.run(60)
    assert world.lost == []
    assert not any(SECOND in host.backend._interfaces for host in world.hosts)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("turn"), st.integers(0, 3)),
        st.tuples(st.just("deliver"), st.integers(0, 50)),
        st.tuples(st.just("tick"), st.integers(1, 7)),
        st.tuples(st.just("restart"), st.integers(0, 3)),
        st.tuples(st.just("die in apply"), st.integers(0, 3)),
    ),
    max_size=60,
)


@trials(40)
@given(ACTIONS, st.sets(st.integers(0, 3), min_size=1), st.data())
def test_nothing_is_lost_in_any_order_of_events(
    actions: list[tuple[str, int]], asked: set[int], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory), 4)
        world.settle()
        hosts = [world.hosts[number] for number in sorted(asked)]
        before = {host.public_key for host in hosts}
        world.ask(hosts)
        for action, number in actions:
            match action:
                case "turn":
                    world.hosts[number].turn()
                case "deliver":
                    if world.mail:
                        world.deliver(number % len(world.mail))
                case "tick":
                    world.tick(float(number))
                case "restart":
                    world.hosts[number].restart()
                case _:
                    host = world.hosts[number]
                    call = len(host.backend.calls) + 1 + data.draw(st.integers(0, 6))
                    host.backend.failures[call] = Failure(call=call, after_items=data.draw(st.integers(0, 2)))
                    host.turn()
                    host.backend.failures.clear()
                    host.restart()
        run_until_over(world, hosts)
        assert world.lost == []
        assert not before & {host.public_key for host in hosts}
