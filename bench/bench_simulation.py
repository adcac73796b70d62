"""What a fleet costs its hosts, and how it takes the loss of a region: whole daemons on virtual time.

The daemons are production's; kernel, store and network are in memory (``tests/support/simulation``). So the
CPU is what meshd itself computes, without system calls, and what the simulated network computes with it.
Several minutes; needs no root. ``make bench-fleet HOSTS=500`` measures a fleet of that size alone: to come up
takes about 1.5 ms of CPU and 15 kB of memory a pair.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HOSTS: Final = {12: 300.0, 50: 60.0, 100: 30.0}
"""Hosts, and virtual seconds for which they are watched when all is well."""
WATCHED_SECONDS: Final = 11.0
"""Of any other number of hosts: a turn, and a probe of each path of a thousand hosts."""
SETTLED_SECONDS: Final = 60.0
MANY_HOSTS: Final = 150
"""From so many on a virtual second is seconds of CPU: what is waited for is shorter."""
MANY_SHARE: Final = 0.2
LIMIT_BYTES: Final = 1_000_000_000
LIMIT_BYTES_A_PAIR: Final = 17_000
"""A fleet that takes more ends itself, and not the machine."""
LOST_REGION: Final = "us-west"
OUTAGE_SECONDS: Final = 200.0
"""Longer than a WireGuard session lives."""
DEADLINE_SECONDS: Final = 300.0
DAY_HOSTS: Final = 3
DAY_SECONDS: Final = 86400.0
HOUR_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """Of a whole fleet since its start."""

    cpu_seconds: float
    turns: int
    probes: int
    probe_bytes: int
    requests: int
    request_bytes: int


def run() -> None:
    for hosts in HOSTS:
        _measure(hosts)
    _live_through_a_day()


def _measure(hosts: int) -> None:
    from simulation.fleet import Fleet, Plan, simulate

    share = MANY_SHARE if hosts >= MANY_HOSTS else 1.0
    seconds = HOSTS.get(hosts, WATCHED_SECONDS)

    async def story(fleet: Fleet) -> None:
        up = await fleet.until(lambda: fleet.is_whole(fleet.hosts), DEADLINE_SECONDS)
        spent = time.process_time() - began
        print(f"{hosts} hosts: whole after {up:.1f} s, {spent:.1f} s of CPU for all", flush=True)
        print(f"  {_most_mib():.0f} MiB", flush=True)
        await asyncio.sleep(SETTLED_SECONDS * share)
        before = _count(fleet)
        await asyncio.sleep(seconds)
        _print_hour(hosts, seconds, before, _count(fleet))
        await _lose_region(fleet, OUTAGE_SECONDS * share)

    began = time.process_time()
    simulate(Plan(hosts=hosts), story)
    print(f"  {_most_mib():.0f} MiB at most so far", flush=True)


def _most_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _lose_region(fleet: Any, outage_seconds: float) -> None:
    lost = [host for host in fleet.hosts if host.region == LOST_REGION]
    rest = [host for host in fleet.hosts if host.region != LOST_REGION]
    before = _count(fleet)
    fleet.lose_region(LOST_REGION)
    noticed = await fleet.until(lambda: fleet.is_whole(rest) and fleet.is_whole(lost), DEADLINE_SECONDS)
    print(f"  {len(lost)} hosts lost with their region: all know after {noticed:.1f} s", flush=True)
    await asyncio.sleep(outage_seconds)
    newcomer = await fleet.add_host(rest[0])
    whole = [*rest, newcomer] if newcomer.region != LOST_REGION else rest
    joined = await fleet.until(lambda: fleet.is_whole(whole), DEADLINE_SECONDS)
    fleet.regain_region(LOST_REGION)
    back = await fleet.until(lambda: fleet.is_whole(fleet.hosts), DEADLINE_SECONDS)
    spent = _count(fleet).cpu_seconds - before.cpu_seconds
    print(
        f"  one that joins meanwhile is met by all others after {joined:.1f} s; the region back, "
        f"all are together, it among them, after {back:.1f} s ({spent:.1f} s of CPU for all)",
        flush=True,
    )


def _count(fleet: Any) -> _Counts:
    traffic = fleet.wires.traffic
    return _Counts(
        cpu_seconds=time.process_time(),
        turns=sum(host.world.number for host in fleet.hosts),
        probes=sum(socket.sent for host in fleet.hosts for socket in host.sockets),
        probe_bytes=sum(socket.sent_bytes for host in fleet.hosts for socket in host.sockets),
        requests=sum(traffic.requests.values()) + sum(sum(host.store.calls.values()) for host in fleet.hosts),
        request_bytes=sum(traffic.transferred.values()),
    )


def _print_hour(hosts: int, seconds: float, before: _Counts, after: _Counts) -> None:
    hours = hosts * seconds / HOUR_SECONDS
    cpu = after.cpu_seconds - before.cpu_seconds
    print(
        f"  a host an hour: {(after.turns - before.turns) / hours:.0f} turns, {cpu / hours:.1f} s of CPU, "
        f"{(after.probes - before.probes) / hours:.0f} probes "
        f"({(after.probe_bytes - before.probe_bytes) / hours / 1e6:.1f} MB), "
        f"{(after.requests - before.requests) / hours:.0f} requests to hosts and stores "
        f"({(after.request_bytes - before.request_bytes) / hours / 1e6:.2f} MB to hosts); "
        f"{seconds / cpu:.2f} times as fast as the clock",
        flush=True,
    )


def _live_through_a_day() -> None:
    from simulation.fleet import Fleet, Plan, simulate

    async def story(fleet: Fleet) -> None:
        await fleet.until(lambda: fleet.is_whole(fleet.hosts), DEADLINE_SECONDS)
        await asyncio.sleep(HOUR_SECONDS)
        before = _lost_probes(fleet)
        seen = {_key(host) for host in fleet.hosts}
        for _ in range(int(DAY_SECONDS / HOUR_SECONDS)):
            await asyncio.sleep(HOUR_SECONDS)
            seen.update(_key(host) for host in fleet.hosts)
        # Those under way count as unanswered, before as after.
        print(f"  {len(seen)} keys, {max(_lost_probes(fleet) - before, 0)} probes without an answer")

    began = time.process_time()
    plan = Plan(
        hosts=DAY_HOSTS, probe_seconds=10.0, turn_seconds=60.0, path_mtu=False, key_lifetime_days=2 / 24
    )
    print(f"{DAY_HOSTS} hosts for a day whose keys live two hours:")
    simulate(plan, story)
    print(f"  {time.process_time() - began:.0f} s of CPU")


def _key(host: Any) -> str:
    device = host.kernel.observe("wg0").device
    return str(device.public_key)


def _lost_probes(fleet: Any) -> int:
    return sum(path.sent - path.received for host in fleet.hosts for path in host.paths().values())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
    for argument in sys.argv[1:]:
        limit = LIMIT_BYTES + LIMIT_BYTES_A_PAIR * int(argument) ** 2
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        _measure(int(argument))
