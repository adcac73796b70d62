"""How long an administrator waits for `wgctl add-host` with a Garage that is far away, and for what.

Garage is imitated (bench/distant_garage.py): three nodes, whose every connection and request takes the same
time. Counted is beside the time how many of them waited for each other, which other work on this machine
hardly changes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from click.testing import CliRunner

from bench.distant_garage import DistantGarage
from wgctl.main import main

HOSTS = 6
RUNS = 7
DELAY_SECONDS = 0.1


def run() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-add-host-") as directory:
        _measure(Path(directory), DELAY_SECONDS)


def _measure(directory: Path, delay: float) -> None:
    from admin_fixture import enroll  # of tests/support

    home, token = directory / "home", directory / "token"
    token.touch(mode=0o600)
    token.write_text("token")
    garage = DistantGarage(0.0)
    stores = [word for url in garage.store_urls for word in ("--store", url)]
    admins = [word for url in garage.admin_urls for word in ("--garage-admin", url)]
    founding = ("init", "--no-passphrase", "--name", "fleet", *stores, *admins, "--garage-token-file", token)
    _wgctl(home, *founding)
    times: list[float] = []
    rounds: list[int] = []
    requests = 0
    for number in range(HOSTS + RUNS):
        host = enroll(directory, f"host{number}", endpoint=f"192.0.2.{number + 1}:51820")
        garage.delay_seconds = delay if number >= HOSTS else 0.0
        del garage.log[:]
        began = time.monotonic()
        _wgctl(home, "add-host", host.name, *host.compared, "--out", directory / f"{host.name}.bundle")
        if number >= HOSTS:
            times.append(time.monotonic() - began)
            requests = len(garage.log)
            rounds.append(_count_rounds([(begin, end) for begin, end, _ in garage.log]))
    if os.environ.get("BENCH_LOG"):
        for at, end, words in garage.log:
            print(f"   {at - began:7.3f} {end - began:7.3f} {words}", file=sys.stderr)
    garage.close()
    times.sort()
    median = times[len(times) // 2]
    counted = f"{min(rounds)} to {max(rounds)} one after the other of {requests} requests"
    print(
        f"add-host, {HOSTS} hosts, three nodes, {delay * 1e3:.0f} ms a request: median {median:.2f} s "
        f"({times[0]:.2f} to {times[-1]:.2f}), {counted}"
    )


def _count_rounds(intervals: list[tuple[float, float]]) -> int:
    """The most of them of which none began before another one's end."""
    count, until = 0, 0.0
    for begin, end in sorted(intervals, key=lambda each: each[1]):
        if begin >= until:
            count, until = count + 1, end
    return count


def _wgctl(home: Path, *words: object) -> None:
    result = CliRunner().invoke(main, ["--home", str(home), *map(str, words)])
    assert result.exit_code == 0, result.output
