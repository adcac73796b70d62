"""Run every benchmark and print its figures: ``make bench``, or ``bench/run.py NAME...``.

A figure stands beside a limit or a peer measured in the same run, because the machine's speed
drifts: quote the ratios. Nothing here passes or fails.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

BENCHMARKS: Final = (
    "registry",
    "start",
    "store",
    "add_host",
    "exchange",
    "path_mtu",
    "newcomers",
    "probes",
    "rtt",
    "daemon",
    "changes",
    "simulation",
    "apply",
    "relay",
    "bad_modules",
    "freebsd_forks",
)

ON_REQUEST: Final = ("paths", "relay_pairs")
"""Too long for all of them in a row."""


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS + ON_REQUEST]
    if unknown:
        print(
            f"bench: {unknown[0]!r} seen, one of {', '.join(BENCHMARKS + ON_REQUEST)} expected",
            file=sys.stderr,
        )
        return 2
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))  # imitated systems
    for name in names or BENCHMARKS:
        run: Callable[[], None] = importlib.import_module(f"bench.bench_{name}").run
        print(f"== {name}", flush=True)
        run()
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
