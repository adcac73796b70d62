"""TCP from jail to jail over an underlay that drops what exceeds 1,280 bytes: with and without the search.

Two real hosts in the lab, on real WireGuard: how much of a mebibyte arrives, how long the search takes at
start and after a shrink, and what a healthy path costs. Needs root and about a minute.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

from meshd.errors import BackendError
from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES
from meshd.lab.select import open_lab
from meshd.lab.transfer import TransferReport, transfer

MIB = 1 << 20
UNDERLAY_BYTES = 1280
WHOLE_BYTES = 1420
STALL_SECONDS = 10.0
MEASURED_SECONDS = 30.0
SETTLE_SECONDS = 3.0
DEADLINE_SECONDS = 60.0


def run() -> None:
    if os.geteuid() != 0:
        print("left out: the lab needs root")
        return
    without = _measure(searching=False)
    print(f"without the search: {without.received_bytes} of {MIB} bytes in {STALL_SECONDS:g} s")
    report = _measure(searching=True)
    print(f"with it: {report.received_bytes} of {MIB} bytes in {report.seconds:.2f} s, whole: {report.whole}")


def _measure(*, searching: bool) -> TransferReport:
    lab = open_lab()
    fleet = Fleet(lab)
    try:
        fleet.found("bench")
        first, second = members = [fleet.prepare(PLACES[number], jails=1) for number in range(2)]
        names = [member.name for member in members]

        def narrow(mtu_bytes: int) -> None:
            for source, target in (names, names[::-1]):
                lab.set_link(source, target, replace(lab.link(source, target), mtu_bytes=mtu_bytes))

        narrow(0 if searching else UNDERLAY_BYTES)
        for member in members:
            if not searching:
                with member.config.open("a") as file:
                    file.write("\n[probe]\npath_mtu = false\n")
            fleet.admit(member)
            fleet.wait_started(member)
        source, target = first.host.jails[0], second.host.jails[0]
        if not searching:
            _wait(lambda: fleet.status(first).peers[0].path.up)
            return transfer(source, target, target.address, MIB, timeout_seconds=STALL_SECONDS)
        _wait(lambda: _mtus(fleet, members) == [WHOLE_BYTES] * 2)
        wide = transfer(source, target, target.address, MIB, timeout_seconds=STALL_SECONDS)
        print(f"wide underlay: {MIB} bytes in {wide.seconds:.2f} s")
        _print_cost(fleet, first)
        narrow(UNDERLAY_BYTES)
        safe = _wait(lambda: not {None, WHOLE_BYTES} & set(_mtus(fleet, members)))
        _wait(lambda: _mtus(fleet, members) == [1216] * 2)
        print(f"underlay narrowed: safe routes on both hosts after {safe:.1f} s, 1216 bytes found")
        return transfer(source, target, target.address, MIB, timeout_seconds=DEADLINE_SECONDS)
    finally:
        fleet.close()
        lab.close()


def _print_cost(fleet: Fleet, member: Member) -> None:
    """What WireGuard counts for the peer: the probes that measure time are in it too."""
    time.sleep(SETTLE_SECONDS)  # counters are shared by whoever asks within a second, and ACKs end
    before = fleet.status(member)
    time.sleep(MEASURED_SECONDS)
    after = fleet.status(member)
    sent = after.peers[0].transmit_bytes - before.peers[0].transmit_bytes
    kib = sent * 60 / MEASURED_SECONDS / 1024
    print(f"healthy path: {kib:.1f} KiB a minute sent to the peer, probes and answers of both kinds")


def _mtus(fleet: Fleet, members: list[Member]) -> list[int | None]:
    return [fleet.status(member).peers[0].mtu_bytes for member in members]


def _wait(true: Callable[[], bool]) -> float:
    start = time.monotonic()
    while not true():
        if time.monotonic() - start > DEADLINE_SECONDS:
            raise BackendError(f"path MTU: not there after {DEADLINE_SECONDS:g} s")
        time.sleep(0.05)
    return time.monotonic() - start
