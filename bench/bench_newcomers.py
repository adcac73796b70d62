"""What a host that joins costs each host that is there, in CPU of its meshd.

Whole daemons in the lab on real WireGuard. What they spend by themselves, probing included, is measured
before and taken off. They look at their store as often as in production. Linux only: the figures come from
/proc. A minute, and needs root.
"""

from __future__ import annotations

import os
import statistics
import time

from bench.bench_daemon import cpu_seconds
from meshd.errors import BackendError
from meshd.lab.fleet import Fleet, Member, settled
from meshd.lab.geography import PLACES
from meshd.lab.select import open_lab

HOSTS = 6
NEWCOMERS = 6
IDLE_SECONDS = 20.0
SETTLE_SECONDS = 12.0
"""Nobody asks them how far they are meanwhile: an answer costs them more than a newcomer does."""
DEADLINE_SECONDS = 60.0
GOAL_SECONDS = 0.02


def run() -> None:
    if os.geteuid() != 0:
        print("left out: the lab needs root")
        return
    lab = open_lab()
    try:
        fleet = Fleet(lab, poll_seconds=0.0)
        try:
            _measure(fleet)
        finally:
            fleet.close()
    finally:
        lab.close()


def _measure(fleet: Fleet) -> None:
    fleet.found("bench")
    members = [fleet.prepare(place, jails=0) for place in PLACES[:HOSTS]]
    for member in members:
        fleet.admit(member)
    _wait_until_all_met(fleet, members)
    newcomers = [fleet.prepare(place, jails=0) for place in PLACES[HOSTS : HOSTS + NEWCOMERS]]
    time.sleep(SETTLE_SECONDS)
    began_at, before = time.monotonic(), _spent(members)
    time.sleep(IDLE_SECONDS)
    joining_at, joining = time.monotonic(), _spent(members)
    for newcomer in newcomers:
        fleet.admit(newcomer)
    time.sleep(SETTLE_SECONDS)
    joined_at, joined = time.monotonic(), _spent(members)
    _wait_until_all_met(fleet, members + newcomers)
    share = (joined_at - joining_at) / (joining_at - began_at)
    each = [
        (last - middle - share * (middle - first)) / NEWCOMERS
        for first, middle, last in zip(before, joining, joined, strict=True)
    ]
    cost = statistics.median(each)
    print(
        f"a newcomer among {HOSTS} to {HOSTS + NEWCOMERS} hosts costs each other {cost * 1e3:.0f} ms of CPU "
        f"({cost / GOAL_SECONDS:.1f} of the goal of {GOAL_SECONDS * 1e3:.0f} ms), "
        f"{min(each) * 1e3:.0f} to {max(each) * 1e3:.0f} ms"
    )


def _spent(members: list[Member]) -> list[float]:
    """CPU seconds of each daemon since it started."""
    return [cpu_seconds(member.process.pid) for member in members if member.process is not None]


def _wait_until_all_met(fleet: Fleet, members: list[Member]) -> None:
    for member in members:
        fleet.wait_started(member)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not settled(fleet, members, [member.name for member in members]):
        if time.monotonic() > deadline:
            raise BackendError(f"{len(members)} hosts have not all met within {DEADLINE_SECONDS:g} s")
        time.sleep(0.5)
