"""How many hosts a demo may have on this machine, and how long these may take to meet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

HOST_BYTES: Final = 48 << 20
"""Of memory for a host: meshd among 20 hosts has 30 MiB, its relay 10, wireguard-go 2.4 (PSS, Debian 12)."""
START_CPU_SECONDS: Final = 2.0
"""To enroll, grant, join and start one host."""
MEETING_CPU_SECONDS: Final = 0.06
"""That a newcomer costs each host that is there (``bench.run newcomers``)."""
SPARE: Final = 2.0
"""The machine does something else as well."""
IDLE_CORES_OF_HOST: Final = 0.0097
IDLE_CORES_OF_PEER: Final = 0.00066
"""And for each of its peers, the emulated path and all of WireGuard included (docs/benchmarks.md)."""
MOST_IDLE_SHARE: Final = 0.75
"""Of the processors, for hosts to which nothing happens: what is left has to be enough for all that does."""
MEMORY_LISTING: Final = Path("/proc/meminfo")


def expected_seconds(hosts: int, cores: int) -> float:
    """Until so many have met, if each core does nothing else for half of the time."""
    cpu_seconds = hosts * START_CPU_SECONDS + hosts * (hosts - 1) / 2 * MEETING_CPU_SECONDS
    return SPARE * cpu_seconds / cores


def idle_cores(hosts: int) -> float:
    """What so many take while nothing happens: each probes all others."""
    return hosts * (IDLE_CORES_OF_HOST + (hosts - 1) * IDLE_CORES_OF_PEER)


def most_hosts(memory_bytes: int, cores: int) -> tuple[int, str]:
    """For which there is room, and what there is too little of for more."""
    by_cores = 0
    while idle_cores(by_cores + 1) <= cores * MOST_IDLE_SHARE:
        by_cores += 1
    return min(
        (memory_bytes // HOST_BYTES, f"it has memory for no more, {HOST_BYTES >> 20} MiB each"),
        (by_cores, f"its processors ({cores}) would be busy although nothing happens"),
    )


def read_memory_bytes(listing: Path = MEMORY_LISTING) -> int:
    """What may be used without pushing anything out: where the system does not say, all that there is."""
    try:
        fields = dict(line.split(":", 1) for line in listing.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) << 10
    except (OSError, ValueError, KeyError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
