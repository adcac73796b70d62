"""Keys are rotated in every order of events, and no packet between hosts that reach each other is lost."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rotation_world import SECOND, SimHost, World
from trials import trials

from meshd.backend.memory import Failure
from meshd.control.rotation import SLOW_AFTER_SECONDS
from meshd.mesh.foreign_rotations import (
    FOREIGN_SECONDS,
    LEAVE_SECONDS,
    REGAIN_SHARE,
    ForeignRotations,
)
from meshd.mesh.rotation import Phase, phase_of
from meshd.model.device import PeerUpdate
from meshd.model.host import Host, HostKeys, Provenance
from meshd.model.keys import PublicKey

HOST = Host(
    hid="ab" * 16,
    name="mallory",
    gen=1,
    identity_key=bytes(32),
    addresses=(),
    granted_networks=frozenset(),
    networks=frozenset(),
    region="",
    roles=frozenset(),
    tags=frozenset(),
    expires_at=None,
    provenance=Provenance(kid="cd" * 16, seq=1, statement="00" * 32, signed_at=0),
    record=None,
)


def record_of(key: int, following: int | None) -> HostKeys:
    return HostKeys(
        version=1,
        public_key=PublicKey(bytes([key]) * 32),
        next_public_key=PublicKey(bytes([following]) * 32) if following else None,
        listen_port=51820,
        endpoints=(),
        announced=frozenset(),
        behind_nat=False,
        software="",
    )


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_all_hosts_rotate_at_once_and_nothing_is_lost(world: World) -> None:
    before = {host.public_key for host in world.hosts}
    world.ask(world.hosts)
    run_until_over(world, world.hosts)
    assert world.lost == []
    assert not before & {host.public_key for host in world.hosts}


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_host_whose_daemon_is_dead_keeps_its_traffic_and_is_waited_for(world: World) -> None:
    rotating, silent = world.hosts[0], world.hosts[1]
    silent.is_running = False
    world.ask([rotating])
    world.run(200)
    assert world.lost == []
    assert rotating.rotation.status().waited_for == (silent.name,)
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


@pytest.mark.slow
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


def rotate_endlessly(world: World) -> SimHost:
    """A host that says that it rotates, and never finishes: one of the others cannot follow it."""
    world.closed_ports |= {(world.hosts[3].number, 51821), (world.hosts[0].number, 51821)}
    world.ask([world.hosts[0]])
    world.run(30)
    assert phase_of(world.hosts[1].known[world.hosts[0].hid]) is Phase.MOVING
    return world.hosts[0]


@pytest.mark.slow
def test_a_rotation_that_never_ends_keeps_no_other_host_from_its_own(tmp_path: Path) -> None:
    """Nor the second interface on every host; nothing is lost, and the others say who it is."""
    world = World(tmp_path, 4, foreign_seconds=40.0)
    world.settle()
    endless, asked = rotate_endlessly(world), world.hosts[1]
    world.run(int(40.0 + LEAVE_SECONDS) + 10)
    for other in world.hosts[1:]:
        assert SECOND not in other.backend._interfaces
        assert other.last is not None
        (said,) = [each for each in other.last.conditions if each.code == "rotation_endless"]
        assert said.subject == endless.name
    world.closed_ports.clear()
    endless.is_running = False
    world.ask([asked])
    world.run(60)
    assert asked.keys.key.following is not None, "it has begun"
    assert world.lost == []


def test_other_keys_give_an_endless_rotation_no_more_time() -> None:
    foreign = ForeignRotations()
    host = replace(HOST, record=record_of(1, None))
    rotating = [replace(HOST, record=record_of(1, number)) for number in (2, 3)]
    now = 0.0
    while host.hid not in foreign.overdue.left:
        now += 10.0
        foreign = foreign.looked([rotating[int(now / 10.0) % 2]], now)
    assert now <= FOREIGN_SECONDS + LEAVE_SECONDS + 20.0
    foreign = foreign.looked([host], now + 60.0).looked([rotating[0]], now + 120.0)
    assert host.hid in foreign.overdue.left, "a pause of a minute is no new beginning"
    rested = now + 120.0 + (FOREIGN_SECONDS + LEAVE_SECONDS) / REGAIN_SHARE
    foreign = foreign.looked([host], rested)
    assert host.hid not in foreign.overdue.left
    assert host.hid not in foreign.looked([rotating[0]], rested + 60.0).overdue.left


@pytest.mark.slow
def test_a_lost_host_is_found_again_while_another_rotates_endlessly(tmp_path: Path) -> None:
    world = World(tmp_path, 5, foreign_seconds=40.0)
    world.settle()
    endless = rotate_endlessly(world)
    away, others = world.hosts[4], world.hosts[1:4]
    world.run(int(40.0 + LEAVE_SECONDS) + 10)
    away.keys.begin("", "lost its key", now=world.now)
    away.keys.commit(now=world.now)
    away.keys.finish()  # and nobody hears of it but by a rescue
    away.version += 1
    world.mesh_only = True
    away.publish()
    world.mail.clear()
    world.run(400)
    assert all(away.public_key == other.known[away.hid].public_key for other in others)
    assert endless.keys.key.following is not None


@pytest.mark.slow
def test_a_second_interface_that_cannot_be_made_holds_up_nothing_else(world: World) -> None:
    rotating, stuck, other = world.hosts[:3]
    stuck.backend.third_party_interface(SECOND)
    world.ask([rotating])
    world.run(20)
    assert stuck.last is not None
    assert any(SECOND in condition.text for condition in stuck.last.conditions)
    assert rotating.rotation.status().waited_for == (stuck.name,)
    stuck.backend.set_peers("wg0", [PeerUpdate(public_key=other.public_key, remove=True)])
    world.tick()
    world.lost.clear()
    world.run(2)
    assert other.public_key in stuck.backend._interfaces["wg0"].peers
    stuck.backend.third_party_destroys(SECOND)
    run_until_over(world, [rotating])
    assert [line for line in world.lost if rotating.name in line] == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_a_key_that_could_not_be_made_known_is_never_put_in_force(tmp_path: Path, count: int) -> None:
    """Not even by an operator's word: nobody could follow."""
    world = World(tmp_path, count)
    world.settle()
    host = world.hosts[0]
    old = host.public_key
    world.ask([host])
    host.is_heard = False
    world.run(int(SLOW_AFTER_SECONDS) + 30)
    host.turn(force=True)
    world.run(5)
    assert host.public_key == old and host.keys.key.following is not None
    assert host.last is not None
    (said,) = [c for c in host.last.conditions if c.code == "rotation_waits"]
    assert "its own record" in said.text and "publish" in said.text
    host.is_heard = True
    host.publish()
    run_until_over(world, [host])
    assert world.lost == []
    assert host.public_key != old


@pytest.mark.slow
def test_no_step_follows_one_that_could_not_be_made_known(tmp_path: Path) -> None:
    """Else the second interface would go while the others' routes lead there."""
    world = World(tmp_path, 2)
    world.settle()
    host = world.hosts[0]
    world.ask([host])
    while own_phase_of(host) is not Phase.RETURNING:
        host.is_heard = own_phase_of(host) is Phase.STEADY
        world.run(1)
    world.run(int(SLOW_AFTER_SECONDS) + 30)
    host.turn(force=True)
    world.run(5)
    assert own_phase_of(host) is Phase.RETURNING
    host.is_heard = True
    host.publish()
    run_until_over(world, [host])
    assert world.lost == []


def own_phase_of(host: SimHost) -> Phase:
    key = host.keys.key
    if key.following is None:
        return Phase.STEADY
    return Phase.RETURNING if key.following == key.private_key else Phase.MOVING


@pytest.mark.slow
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


@pytest.mark.slow
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
