"""Whole daemons on virtual time: regions that go and come back, paths whose delay jumps."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from simulation.fleet import Fleet, Plan, SimHost, simulate
from simulation.story import History
from simulation.underlay import Flapping
from simulation.virtual_loop import StalledError, VirtualLoop
from trials import trials

from meshd.registry.sync import spread_pause

START_SECONDS = 60.0
NOTICED_SECONDS = 10.0
"""Of virtual time: a dead path takes four probes, a live one is found by the next one."""

REGION = "eu-north"
EIGHT = Plan(hosts=8, path_mtu=False)
WELL_SECONDS = spread_pause(EIGHT.poll_seconds, 1) + 1
"""After the paths are back, until nobody complains: a store is asked again at the next poll."""


async def begin(fleet: Fleet) -> None:
    await fleet.until(lambda: fleet.is_whole(fleet.hosts), START_SECONDS)


def peer_keys(host: SimHost) -> set[str]:
    """Whom the kernel of that host has as peers."""
    device = host.kernel.observe("wg0").device
    assert device is not None
    return {str(key) for key in device.peers}


def public_key(host: SimHost) -> str:
    device = host.kernel.observe("wg0").device
    assert device is not None
    return str(device.public_key)


async def lose_and_regain(fleet: Fleet) -> tuple[Any, ...]:
    """Everything that can be seen of a region's loss."""
    await begin(fleet)
    lost = [host for host in fleet.hosts if host.region == REGION]
    rest = [host for host in fleet.hosts if host.region != REGION]
    peers = {host.name: peer_keys(host) for host in fleet.hosts}
    await asyncio.sleep(30)
    fleet.lose_region(REGION)
    gone = await fleet.until(lambda: fleet.is_whole(rest) and fleet.is_whole(lost), NOTICED_SECONDS)
    await asyncio.sleep(200)  # longer than a session lives
    assert {host.name: peer_keys(host) for host in fleet.hosts} == peers
    newcomer = await fleet.add_host(rest[0])
    joined = await fleet.until(lambda: fleet.is_whole([*rest, newcomer]), NOTICED_SECONDS)
    assert all(public_key(newcomer) not in peer_keys(host) for host in lost)
    fleet.regain_region(REGION)
    back = await fleet.until(lambda: fleet.is_whole(fleet.hosts), NOTICED_SECONDS)
    well = await fleet.until(lambda: not any(host.codes() for host in fleet.hosts), WELL_SECONDS)
    turns = [host.world.number for host in fleet.hosts]
    return gone, joined, back, well, turns, fleet.wires.traffic, fleet.tunnels.handshakes


@pytest.mark.slow
def test_a_lost_region_is_noticed_in_seconds_keeps_its_peers_and_learns_of_a_newcomer_when_it_is_back() -> (
    None
):
    simulate(EIGHT, lose_and_regain)


@pytest.mark.slow
def test_the_same_seed_tells_the_same_story_to_the_last_byte() -> None:
    plan = replace(EIGHT, seed=7)
    assert simulate(plan, lose_and_regain) == simulate(plan, lose_and_regain)


@pytest.mark.slow
def test_hosts_that_share_what_they_work_out_tell_the_same_story_as_hosts_that_do_not() -> None:
    plan = replace(EIGHT, hosts=6)
    assert simulate(plan, lose_and_regain) == simulate(replace(plan, shares=False), lose_and_regain)


@pytest.mark.slow
def test_delays_that_jump_all_the_time_end_no_path_and_change_nothing() -> None:
    async def story(fleet: Fleet) -> None:
        await begin(fleet)
        for first in range(4):
            for second in range(first):
                pair = frozenset((first, second))
                fleet.underlay.flapping[pair] = Flapping(period_seconds=7.0 + first + second, factor=2.5)
        await asyncio.sleep(30)  # the first of the longer delays is a surprise
        before = [(host.world.counters.changes, len(host.kernel.calls)) for host in fleet.hosts]
        for _ in range(200):
            await asyncio.sleep(3.5)
            assert fleet.is_whole(fleet.hosts)
        assert [(host.world.counters.changes, len(host.kernel.calls)) for host in fleet.hosts] == before

    simulate(Plan(hosts=4, turn_seconds=30.0, path_mtu=False), story)


@pytest.mark.slow
def test_a_newcomer_costs_each_other_host_few_calls_however_many_hosts_there_are() -> None:
    async def story(fleet: Fleet) -> float:
        await begin(fleet)
        await asyncio.sleep(30)
        before = fleet.wires.traffic.requests["offer"]
        await fleet.add_host(fleet.hosts[0])
        await asyncio.sleep(10)
        assert fleet.is_whole(fleet.hosts)
        return (fleet.wires.traffic.requests["offer"] - before) / (len(fleet.hosts) - 1)

    # The grant and its own record once to each, and each passes both on to two, in part together.
    assert all(simulate(Plan(hosts=hosts, path_mtu=False), story) <= 6 for hosts in (5, 12))


@pytest.mark.slow
def test_keys_that_live_an_hour_are_rotated_by_themselves_without_a_lost_probe() -> None:
    async def story(fleet: Fleet) -> None:
        await begin(fleet)
        await asyncio.sleep(120)
        seen = {host.name: {public_key(host)} for host in fleet.hosts}
        lost = sum(path.sent - path.received for host in fleet.hosts for path in host.paths().values())
        for _ in range(4 * 6):
            await asyncio.sleep(600)
            for host in fleet.hosts:
                seen[host.name].add(public_key(host))
        await asyncio.sleep(5)
        now = sum(path.sent - path.received for host in fleet.hosts for path in host.paths().values())
        assert all(len(keys) >= 4 for keys in seen.values()), seen
        # What is under way counts as sent: one probe of each path at most.
        assert now - lost <= len(fleet.hosts) * (len(fleet.hosts) - 1)

    simulate(
        Plan(hosts=3, probe_seconds=10.0, turn_seconds=60.0, path_mtu=False, key_lifetime_days=1 / 24), story
    )


@pytest.mark.slow
@trials(4)
@example(seed=1)
@given(seed=st.integers(min_value=1, max_value=1 << 32))
def test_after_any_history_of_accidents_the_members_are_together_and_the_revoked_are_nowhere(
    seed: int,
) -> None:
    async def story(fleet: Fleet) -> None:
        await begin(fleet)
        history = History(fleet, random.Random(seed))
        try:
            await history.happen(8)
            await history.calm_down()
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *history.told])) from error
        members = {public_key(host) for host in history.members}
        for host in history.members:
            assert peer_keys(host) == members - {public_key(host)}, history.told
            assert "part_failed" not in host.codes(), history.told

    simulate(Plan(hosts=6, seed=seed, probe_seconds=3.0, turn_seconds=30.0, path_mtu=False), story)


def test_a_fleet_comes_up_and_a_clock_that_nobody_waits_for_is_a_defect_of_the_simulation() -> None:
    assert simulate(Plan(hosts=3), begin) is None

    async def wait_for_nothing() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(StalledError):
        VirtualLoop(random.Random(1)).simulate(wait_for_nothing())
