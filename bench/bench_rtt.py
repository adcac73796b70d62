"""The round-trip times that a daemon reports, beside those of ping(8) on the same pairs in the same minutes.

Three hosts; the first one measures the two others. A path of one millisecond and one of four, both with
jitter. Linux only, needs root; two minutes.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lab_mesh import LabMesh, open_lab_mesh

from meshd.lab.fleet import Member
from meshd.model.path import PathStats

SECONDS: Final = 100.0
CALM_SECONDS: Final = 10.0
"""Until nothing of the longer paths before is under way, or smoothed in."""
LOOK_SECONDS: Final = 0.1
"""Between two looks at what the daemon reports: far less than between two of its probes."""
PING_INTERVAL: Final = "0.5"
ONE_WAY_SECONDS: Final = (0.0005, 0.002)
JITTER_SECONDS: Final = 0.0005
_TIME: Final = re.compile(r"time=([0-9.]+) ms")


def run() -> None:
    if os.geteuid() != 0:
        print("left out: the lab needs root")
        return
    with open_lab_mesh() as mesh:
        first, *others = mesh.join(3)
        for other, delay in zip(others, ONE_WAY_SECONDS, strict=True):
            mesh.lab.set_delay(first.name, other.name, delay, jitter_seconds=JITTER_SECONDS)
        time.sleep(CALM_SECONDS)
        pings = {other.name: _ping(mesh, first, other) for other in others}
        reported = _watch(mesh, first, others)
        for other in others:
            _report(mesh, first, other, reported[other.name], _times(pings[other.name]))


def _ping(mesh: LabMesh, member: Member, other: Member) -> Path:
    """Start ping(8) for the address that is probed -> the file that it writes to."""
    log = member.host.directory / f"ping.{other.name}"
    address = next(text for text in mesh.peer(member, other).addresses if ":" in text)
    count = str(int(SECONDS / float(PING_INTERVAL)))
    member.host.spawn(["ping", "-n", "-i", PING_INTERVAL, "-c", count, address], log=log)
    return log


def _times(log: Path) -> list[float]:
    return [float(text) / 1e3 for text in _TIME.findall(log.read_text())]


def _watch(mesh: LabMesh, member: Member, others: Sequence[Member]) -> dict[str, list[float]]:
    """Each round-trip time behind what the daemon reports.

    It reports SRTT, an eighth of which is the newest time (RFC 6298 section 2). So one more answer between
    two looks says what that time was.
    """
    found: dict[str, list[float]] = {other.name: [] for other in others}
    before: dict[str, PathStats] = {}
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for peer in mesh.fleet.status(member).peers:
            old, new = before.get(peer.name), peer.path
            if (
                old is not None
                and new.received == old.received + 1
                and old.srtt_seconds is not None
                and new.srtt_seconds is not None
            ):
                found[peer.name].append(8 * new.srtt_seconds - 7 * old.srtt_seconds)
            before[peer.name] = new
        time.sleep(LOOK_SECONDS)
    return found


def _report(
    mesh: LabMesh, member: Member, other: Member, reported: Sequence[float], pinged: Sequence[float]
) -> None:
    """Milliseconds, and how much more than ping(8) the daemon reports."""
    print(f"{member.name} to {other.name}, {len(reported)} answers, and {len(pinged)} to ping(8):")
    srtt = mesh.peer(member, other).path.srtt_seconds or 0.0
    for name, ours, theirs in (
        ("median", _percentile(reported, 50), _percentile(pinged, 50)),
        ("99th percentile", _percentile(reported, 99), _percentile(pinged, 99)),
        ("smoothed, and ping's mean", srtt, sum(pinged) / len(pinged)),
    ):
        ours_ms, theirs_ms = 1e3 * ours, 1e3 * theirs
        print(f"  {name}: {ours_ms:.3f} ms, {theirs_ms:.3f} ms, difference {ours_ms - theirs_ms:+.3f} ms")


def _percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
