"""Hosts that have lost each other call each other under their identities, and come back without a loss."""

from __future__ import annotations

from pathlib import Path

import pytest
from rotation_world import SECOND, START, SimHost, World

LOOK_SECONDS = 10
"""Between two turns of a daemon to which nothing happens."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, 4)
    made.settle()
    return made


def lose_key(world: World, host: SimHost) -> None:
    """It has another one, and nobody hears of it but by a rescue."""
    host.keys.begin("", "lost its key", now=world.now)
    host.keys.commit(now=world.now)
    host.keys.finish()
    host.version += 1
    world.mesh_only = True
    host.publish()
    world.mail.clear()
    host.turn()


def run_at_leisure(world: World, seconds: int) -> None:
    """Each daemon looks once in ten seconds, each at another moment."""
    for _ in range(seconds):
        for host in world.hosts:
            if (int(world.now) + 3 * host.number) % LOOK_SECONDS == 0:
                host.turn()
        world.exchange()
        world.tick()


def all_reach_all(world: World) -> bool:
    return not any(world.can_send(a, b) for a in world.hosts for b in world.hosts if a is not b)


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_way_back_from_a_rescue_loses_nothing_whoever_looks_first(world: World, which: int) -> None:
    """Who had a session again took its second interface away, while the other end still sent by it until it
    looked, up to ten seconds later."""
    lose_key(world, world.hosts[which])
    run_at_leisure(world, 60)
    assert not all_reach_all(world)
    while not all_reach_all(world):
        run_at_leisure(world, 1)
        assert world.now < START + 600
    world.lost.clear()
    run_at_leisure(world, 120)
    assert world.lost == []
    assert not any(SECOND in host.backend._interfaces for host in world.hosts)


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
