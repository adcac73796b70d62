"""How long news takes to reach every host of a fleet while no store answers.

Whole hosts in the lab, each with its own daemon on real WireGuard; the clock starts before ``wgctl``
does and stops when the last host's WireGuard has, or has no longer, the peer. For a request
to rotate it stops when the last host's registry has it. Needs root; two minutes.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from meshd.errors import BackendError
from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES
from meshd.lab.select import open_lab

WGCTL = str(Path(sys.executable).parent / "wgctl")
HOSTS = (6, 20)
ROUNDS = 3
GOAL_SECONDS = {6: 0.6, 20: 2.0}
DEADLINE_SECONDS = 120.0


def run() -> None:
    if os.geteuid() != 0:
        print("left out: the lab needs root")
        return
    for hosts in HOSTS:
        lab = open_lab()
        try:
            fleet = Fleet(lab, poll_seconds=0.0)
            try:
                _measure(fleet, hosts)
            finally:
                fleet.close()
        finally:
            lab.close()


def _measure(fleet: Fleet, hosts: int) -> None:
    fleet.found("bench")
    members = [fleet.prepare(place, jails=0) for place in PLACES[:hosts]]
    for member in members:
        fleet.admit(member)
    for member in members:
        fleet.wait_started(member)
    _wait(lambda: all(_peers_up(fleet, member) == hosts - 1 for member in members))
    store = Path(fleet.store_urls[0].removeprefix("file://"))
    store.rename(store.with_name("away"))
    time.sleep(2)
    added, removed, asked = [], [], []
    for place in PLACES[hosts : hosts + ROUNDS]:
        newcomer = fleet.prepare(place, jails=0)
        add = ("add-host", newcomer.name, *Fleet.compared(newcomer.request), "--out", newcomer.bundle)
        added.append(_spread(fleet, members, add, _has_peers(fleet, hosts)))
        remove = ("remove-host", newcomer.name, "--yes")
        removed.append(_spread(fleet, members, remove, _has_peers(fleet, hosts - 1)))
        fleet.discard(newcomer)
    for member in members[1 : 1 + ROUNDS]:
        asked.append(_spread(fleet, members, ("rotate-keys", member.name), _knows_more(fleet, members)))
    for name, times in (("added", added), ("removed", removed), ("asked to rotate", asked)):
        goal = GOAL_SECONDS[hosts]
        seconds = sorted(times)[len(times) // 2]
        print(
            f"{hosts:2d} hosts, no store, a host {name}: known to all after {seconds:.2f} s "
            f"({seconds / goal:.2f} of the goal of {goal:g} s), of {', '.join(f'{t:.2f}' for t in times)}",
            flush=True,
        )


def _has_peers(fleet: Fleet, peers: int) -> Callable[[Member], bool]:
    return lambda member: len(fleet.wireguard_peers(member)) == peers


def _knows_more(fleet: Fleet, members: Sequence[Member]) -> Callable[[Member], bool]:
    """Whether a host's registry holds more statements than it does now."""
    knew = {member.name: fleet.status(member).registry.generation for member in members}
    return lambda member: fleet.status(member).registry.generation > knew[member.name]


def _spread(
    fleet: Fleet, members: Sequence[Member], command: Sequence[object], heard: Callable[[Member], bool]
) -> float:
    """Seconds from typing the command on one host until every host has ``heard`` of it."""
    admin = members[0]
    argv = [WGCTL, "--home", str(fleet.home), "--config", str(admin.config), *map(str, command)]
    begin = time.monotonic()
    done = admin.host.run(argv, timeout_seconds=60)
    if done.returncode != 0:
        raise BackendError(f"{' '.join(argv)}: {done.stderr.strip()}")
    left = list(members)
    while left:
        left = [member for member in left if not heard(member)]
        if time.monotonic() - begin > DEADLINE_SECONDS:
            raise BackendError(f"{', '.join(member.name for member in left)}: not heard of it in time")
    return time.monotonic() - begin


def _peers_up(fleet: Fleet, member: Member) -> int:
    return sum(peer.path.up for peer in fleet.status(member).peers)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise BackendError("the fleet did not come together in time")
        time.sleep(0.2)
