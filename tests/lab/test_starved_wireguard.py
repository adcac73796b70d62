"""A machine that is too busy loses packets, and the labs can tell that from what a change of paths costs."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from no_room import dropped_by, more_dropped
from relay_scene import Machine, relay_scene

from meshd.lab.namespaces import NamespaceHost
from meshd.lab.netns import pids_in
from meshd.lab.stream import StreamEnd, StreamsBothWays

pytestmark = [pytest.mark.root, pytest.mark.slow]

STOPPED_SECONDS = 2.0


def test_packets_that_a_stopped_wireguard_does_not_fetch_are_counted_by_its_kernel() -> None:
    """In its socket those that came, in its interface's queue those that were to go."""
    with relay_scene("first", "second") as scene:
        first, second = scene.machines
        for machine in scene.machines:
            machine.open_tunnel()
        scene.connect(first, second)
        before = dropped_by(scene.lab.hosts)
        ends = [StreamEnd(machine.host, machine.overlay) for machine in scene.machines]
        with StreamsBothWays([(ends[0], ends[1])], packets_per_second=500.0) as streams:
            stand_still(second)
            lost = {names: report.lost for names, report in streams.stop().items()}
        dropped = more_dropped(before, dropped_by(scene.lab.hosts))
        print(f"\nlost {lost}, dropped by kernels {dict(dropped)}")
        assert lost["first", "second"] and lost["second", "first"]
        # all of them, but that a machine that is busy besides drops some elsewhere
        assert sum(dropped.values()) > 0.8 * sum(lost.values())


def stand_still(machine: Machine) -> None:
    pid = wireguard_pid(machine)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(STOPPED_SECONDS)
    os.kill(pid, signal.SIGCONT)


def wireguard_pid(machine: Machine) -> int:
    assert isinstance(machine.host, NamespaceHost)
    pids = pids_in([machine.host.netns])
    (found,) = [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().strip() == "wireguard-go"]
    return found
