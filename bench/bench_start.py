"""How long a command takes to start: modules and time, beside a bare interpreter in the same run.

Most of what an operator waits for is this. What a command imports late is in it, as these imports are
those that the named command makes before it asks anybody.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 11
BARE = "pass"
STARTS = {
    "wgctl --help": "import wgctl.main",
    "wgctl add-host": "import wgctl.main, wgctl.commands.add_host, wgctl.admin.admission",
    "wgctl status": "import wgctl.main, wgctl.commands.status, wgctl.client",
    "meshd enroll": "import meshd.daemon.main, meshd.host.enrollment",
    "meshd run": "import meshd.daemon.main; meshd.daemon.main.load_daemon()",
}


def run() -> None:
    times: dict[str, list[float]] = {name: [] for name in ("bare", *STARTS)}
    for _ in range(ROUNDS):  # by turns, as the machine's speed drifts
        for name, statement in {"bare": BARE, **STARTS}.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True, timeout=60)
            times[name].append(time.perf_counter() - started)
    bare = statistics.median(times["bare"])
    print(f"{'a bare interpreter':20s} {bare * 1e3:6.0f} ms")
    for name, statement in STARTS.items():
        seconds = statistics.median(times[name])
        print(
            f"{name:20s} {seconds * 1e3:6.0f} ms ({seconds / bare:.1f} x bare), {_modules(statement)} modules"
        )


def _modules(statement: str) -> int:
    counting = f"{statement}\nimport sys; print(len(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", counting], check=True, capture_output=True, text=True, timeout=60
    )
    return int(done.stdout)
