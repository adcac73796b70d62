"""What an idle meshd costs, probing and metrics included, at 6 and at 100 peers.

One real daemon in the lab, on real WireGuard, among hosts that answer its probes: each of them was
configured by ``meshd bring-up`` and left without a daemon, so that two cores carry a hundred. Linux only:
the figures come from /proc. Takes about seven minutes and needs root.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from meshd.errors import BackendError
from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES, NamedSite
from meshd.lab.select import open_lab

MESHD = str(Path(sys.executable).parent / "meshd")
WATCHED = NamedSite(name="watched", site=PLACES[0].site)
PEERS = (6, 100)
MEASURED_SECONDS = 60.0
SETTLE_SECONDS = 120.0
QUIET_SECONDS = 90.0
"""The others have no daemon to take the news of this growth; after so long they are hardly asked any more."""
GOAL_MIB = 40.0
GOAL_CPU_SECONDS = {6: 0.3, 100: 0.6}


def run() -> None:
    if os.geteuid() != 0:
        print("left out: the lab needs root")
        return
    lab = open_lab()
    try:
        fleet = Fleet(lab, poll_seconds=0.0)
        try:
            fleet.found("bench")
            watched = fleet.prepare(WATCHED, jails=0)
            fleet.admit(watched)
            fleet.wait_started(watched)
            for peers in PEERS:
                _grow(fleet, peers)
                _wait_until_all_answer(fleet, watched, peers)
                _measure(watched, peers)
        finally:
            fleet.close()
    finally:
        lab.close()


def _grow(fleet: Fleet, peers: int) -> None:
    for place in PLACES[len(fleet.members) - 1 : peers]:
        member = fleet.prepare(place, jails=0)
        fleet.grant(member)
        fleet.join(member)
        done = member.host.run([MESHD, "--config", str(member.config), "bring-up"])
        if done.returncode != 0:
            raise BackendError(f"{member.name}: bring-up: {done.stderr.strip()}")
        if len(fleet.members) % 20 == 0:
            print(f"   {len(fleet.members)} hosts stand", flush=True)


def _wait_until_all_answer(fleet: Fleet, watched: Member, peers: int) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        status = fleet.status(watched)
        if sum(peer.path.up for peer in status.peers) >= peers:
            time.sleep(QUIET_SECONDS)
            return
        time.sleep(0.5)
    raise BackendError(f"{watched.name}: not all of {peers} peers answer within {SETTLE_SECONDS:g} s")


def _measure(watched: Member, peers: int) -> None:
    assert watched.process is not None
    pid = watched.process.pid
    before = cpu_seconds(pid)
    time.sleep(MEASURED_SECONDS)
    spent = (cpu_seconds(pid) - before) * 60 / MEASURED_SECONDS
    pss_mib = _pss_mib(pid)
    goal = GOAL_CPU_SECONDS[peers]
    print(
        f"idle meshd, {peers:3d} peers: PSS {pss_mib:5.1f} MiB ({pss_mib / GOAL_MIB:.2f} of the goal), "
        f"CPU {spent:.2f} s a minute ({spent / goal:.2f} of the goal of {goal})",
        flush=True,
    )


def cpu_seconds(pid: int) -> float:
    """User and system time of the process (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise BackendError(f"/proc/{pid}/smaps_rollup: no Pss line")
