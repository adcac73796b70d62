"""What it costs to probe 1,000 peers every ten seconds, beside ping3's own blocking ping in threads.

Both ask addresses of 127/8, which this machine answers itself, and each in a process of its own. So the
figures are those of the prober alone: no WireGuard, no turns. Linux only, needs root; a minute.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from meshd.model.path import PathStats

TARGETS: Final = 1000
INTERVAL_SECONDS: Final = 10.0
WARM_SECONDS: Final = 12.0
MEASURED_SECONDS: Final = 20.0
FIRST_ADDRESS: Final = IPv4Address("127.64.0.1")
THREADS: Final = 100
"""Of ping3, each of which waits for one answer."""
PING_SECONDS: Final = 2.0
CHILD_SECONDS: Final = 300.0


def run() -> None:
    if os.geteuid() != 0:
        print("left out: raw sockets need root")
        return
    for name in ("prober", "ping3"):
        done = subprocess.run(
            [sys.executable, "-m", "bench.bench_probes", name],
            capture_output=True,
            text=True,
            timeout=CHILD_SECONDS,
            check=True,
        )
        print(done.stdout, end="", flush=True)


async def _probe() -> None:
    from meshd.probe.base import ProbeTarget
    from meshd.probe.transport import IcmpProber
    from meshd.supervisor import Supervisor

    prober, before = IcmpProber(INTERVAL_SECONDS), _pss_mib()
    async with Supervisor() as tasks:
        await prober.start(tasks)
        prober.set_targets(
            tuple(
                ProbeTarget(hid=f"{number:032x}", address=FIRST_ADDRESS + number) for number in range(TARGETS)
            )
        )
        await asyncio.sleep(WARM_SECONDS)
        cpu, sent = time.process_time(), _sent(prober.snapshot(time.time()).values())
        await asyncio.sleep(MEASURED_SECONDS)
        cpu, stats = time.process_time() - cpu, prober.snapshot(time.time()).values()
        await prober.stop()
    _report("the prober", cpu, _sent(stats) - sent, sum(path.up for path in stats), before)


def _sent(stats: Iterable[PathStats]) -> int:
    return sum(path.sent for path in stats)


def _ping() -> None:
    import ping3

    before = _pss_mib()
    with ThreadPoolExecutor(THREADS) as pool:

        def ask(number: int) -> bool:
            return bool(ping3.ping(str(FIRST_ADDRESS + number), timeout=PING_SECONDS))

        _spread(pool, ask, WARM_SECONDS)
        cpu = time.process_time()
        answered = _spread(pool, ask, MEASURED_SECONDS)
        cpu = time.process_time() - cpu
        _report(f"ping3 in {THREADS} threads", cpu, len(answered), sum(answered), before)


def _spread(pool: ThreadPoolExecutor, ask: Callable[[int], bool], seconds: float) -> list[bool]:
    """Ask all in turn, each once an interval, for so long."""
    began, asked = time.monotonic(), []
    for number in range(round(seconds / INTERVAL_SECONDS * TARGETS)):
        due = began + number * INTERVAL_SECONDS / TARGETS
        time.sleep(max(due - time.monotonic(), 0.0))
        asked.append(pool.submit(ask, number % TARGETS))
    return [each.result() for each in asked]


def _report(who: str, cpu_seconds: float, sent: int, answered: int, before_mib: float) -> None:
    share, each = 100 * cpu_seconds / MEASURED_SECONDS, 1e6 * cpu_seconds / sent
    print(
        f"{who}: {sent} echoes in {MEASURED_SECONDS:.0f} s, {answered} answered or up, "
        f"{share:.1f} % of a core ({each:.0f} us an echo), "
        f"PSS {_pss_mib():.1f} MiB, {_pss_mib() - before_mib:.1f} of them for {TARGETS} targets"
    )


def _pss_mib() -> float:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    if sys.argv[1] == "prober":
        asyncio.run(_probe())
    else:
        _ping()
