"""Keys rotated on real WireGuard while packets flow: what it costs, and what happens when it is disturbed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import permutations
from pathlib import Path

import pytest
from fleets import admit_connected, founded_fleet
from until import wait_until

from meshd.errors import ControlError
from meshd.lab.fleet import Fleet, Member
from meshd.lab.stream import Stream, StreamReport
from meshd.observe.status import Status

pytestmark = [pytest.mark.root, pytest.mark.slow]

DEADLINE_SECONDS = 90.0
RATE = 200.0


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with founded_fleet(poll_seconds=0.2) as opened:
        yield opened


@pytest.fixture(scope="module")
def members(fleet: Fleet) -> list[Member]:
    """Three hosts whose jails reach each other."""
    return admit_connected(fleet, 3)


def streams_of(stack: ExitStack, pairs: list[tuple[Member, Member]]) -> list[Stream]:
    opened = []
    for source, target in pairs:
        jail = target.host.jails[0]
        stream = Stream(source.host.jails[0], jail, jail.address, packets_per_second=RATE)
        opened.append(stack.enter_context(stream))
    return opened


until = partial(wait_until, seconds=DEADLINE_SECONDS)


def status(fleet: Fleet, member: Member) -> Status | None:
    try:
        return fleet.status(member)
    except ControlError:
        return None


def has_rotated(fleet: Fleet, member: Member, old: str | None) -> bool:
    seen = status(fleet, member)
    return seen is not None and seen.rotation.state == "steady" and seen.host.public_key not in (None, old)


def has_one_interface(member: Member) -> bool:
    return member.host.run(["wg", "show", "interfaces"]).stdout.split() == ["wg0"]


def is_clean(fleet: Fleet, members: list[Member]) -> bool:
    return all(has_one_interface(member) for member in members)


def losses(reports: list[StreamReport]) -> list[tuple[int, int]]:
    return [(report.lost, report.refused) for report in reports]


def rotate(fleet: Fleet, *names: str) -> None:
    time.sleep(1.1)  # a request is for keys from before its second
    fleet.wgctl("rotate-keys", *names)


def test_a_rotation_costs_no_packet_on_any_pair_that_it_touches(
    fleet: Fleet, members: list[Member], record_property: Callable[[str, object], None]
) -> None:
    first, others = members[0], members[1:]
    old = fleet.status(first).host.public_key
    with ExitStack() as stack:
        streams = streams_of(stack, [pair for other in others for pair in ((first, other), (other, first))])
        rotate(fleet, first.name)
        started = time.monotonic()
        until("the rotation does not end", lambda: has_rotated(fleet, first, old))
        until("a second interface stays", lambda: is_clean(fleet, members))
        record_property("seconds", time.monotonic() - started)
        reports = [stream.stop() for stream in streams]
    print(time.monotonic() - started, reports)
    assert losses(reports) == [(0, 0)] * 4
    assert {fleet.status(first).host.public_key} & fleet.wireguard_peers(others[0])
    assert old not in fleet.wireguard_peers(others[0])


@pytest.mark.long
def test_all_hosts_asked_at_once_rotate_one_after_the_other_without_loss(
    fleet: Fleet, members: list[Member]
) -> None:
    old = {member.name: fleet.status(member).host.public_key for member in members}
    with ExitStack() as stack:
        streams = streams_of(stack, list(permutations(members, 2)))
        rotate(fleet, "--all")
        until(
            "the rotations do not end",
            lambda: all(has_rotated(fleet, member, old[member.name]) for member in members),
        )
        until("a second interface stays", lambda: is_clean(fleet, members))
        reports = [stream.stop() for stream in streams]
    print(reports)
    assert losses(reports) == [(0, 0)] * 6


def test_a_daemon_that_is_killed_again_and_again_ends_the_rotation_without_loss(
    fleet: Fleet, members: list[Member]
) -> None:
    first, second = members[:2]
    old = fleet.status(first).host.public_key
    dice = random.Random(7)
    with ExitStack() as stack:
        streams = streams_of(stack, list(permutations(members, 2)))
        rotate(fleet, first.name)
        for number in range(8):
            time.sleep(dice.uniform(0.3, 2.5))
            victim = (first, second)[number % 2]
            fleet.kill(victim)
            fleet.start(victim)
            fleet.wait_started(victim)
        until("the rotation does not end", lambda: has_rotated(fleet, first, old))
        until("a second interface stays", lambda: is_clean(fleet, members))
        reports = [stream.stop() for stream in streams]
    print(reports)
    assert losses(reports) == [(0, 0)] * 6


def test_a_store_that_goes_in_the_middle_of_a_rotation_costs_nothing(
    fleet: Fleet, members: list[Member]
) -> None:
    first = members[0]
    old = fleet.status(first).host.public_key
    store = Path(fleet.store_urls[0].removeprefix("file://"))
    away = store.with_name("store.away")
    with ExitStack() as stack:
        streams = streams_of(stack, list(permutations(members, 2)))
        rotate(fleet, first.name)
        until("no rotation begins", lambda: fleet.status(first).rotation.state != "steady")
        store.rename(away)
        until("the rotation does not end", lambda: has_rotated(fleet, first, old))
        until("a second interface stays", lambda: is_clean(fleet, members))
        reports = [stream.stop() for stream in streams]
        away.rename(store)
    print(reports)
    assert losses(reports) == [(0, 0)] * 6


def test_a_dead_daemon_keeps_its_traffic_and_the_rotation_waits_for_it(
    fleet: Fleet, members: list[Member]
) -> None:
    first, second, _ = members
    old = fleet.status(first).host.public_key
    fleet.kill(second)
    with ExitStack() as stack:
        streams = streams_of(stack, list(permutations(members, 2)))
        rotate(fleet, first.name)
        until("it is not waited for", lambda: fleet.status(first).rotation.waited_for == (second.name,))
        time.sleep(5.0)  # the time in which a lane counts as left
        assert second.name in fleet.status(first).rotation.waited_for  # others may be late too
        fleet.start(second)
        until("the rotation does not end", lambda: has_rotated(fleet, first, old))
        reports = [stream.stop() for stream in streams]
    print(reports)
    assert losses(reports) == [(0, 0)] * 6
