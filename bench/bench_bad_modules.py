"""Does WireGuard converge as fast while modules misbehave? With and without them, in turns, in one run.

Whole hosts in the lab, one of them with four modules: one hangs, one leaks until it may have no more, one
forks without end, one prints 100 MB. They are made to run just before a host is added or removed; the clock
runs from the command until that host's WireGuard has the peer, or has it no longer. All hosts share this
machine's processors, so modules on each of them would be several machines' worth. Needs root; four minutes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from meshd.errors import BackendError
from meshd.lab.fleet import Fleet, Member
from meshd.lab.geography import PLACES, NamedSite
from meshd.lab.select import open_lab

HOSTS: Final = 3
PAIRS: Final = int(os.environ.get("BENCH_PAIRS", "10"))
DEADLINE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.01

_HEAD: Final = "#!/usr/bin/python3 -I\nimport os, sys, time\n"
BAD: Final = {
    "hang": "time.sleep(600)",
    "leak": "held = []\nwhile True:\n  held.append(os.urandom(1 << 24))",
    "fork": "while True:\n  try:\n    os.fork()\n  except OSError:\n    pass",
    "print": "for _ in range(100):\n  sys.stdout.write('x' * (1 << 20))",
}


def run() -> None:
    if os.geteuid() != 0:
        print("left out: the lab needs root")
        return
    with ExitStack() as stack:
        scripts = stack.enter_context(_bad_modules())
        lab = open_lab()
        stack.callback(lab.close)
        fleet = Fleet(lab)
        stack.callback(fleet.close)
        members = fleet.build(PLACES[:HOSTS], jails=0, progress=lambda _: None)
        for member in members:
            fleet.wait_started(member)
        tables = {name: {"command": str(path), "file": f"/nowhere/{name}"} for name, path in scripts.items()}
        _report(_measure(fleet, members, tables))


def _measure(
    fleet: Fleet, members: Sequence[Member], tables: Mapping[str, Mapping[str, str]]
) -> dict[str, list[tuple[float, float]]]:
    """By change: seconds without and with the modules, a pair a round. Who comes first alternates."""
    pairs: dict[str, list[tuple[float, float]]] = {"added": [], "removed": []}
    places = iter(PLACES[HOSTS:])
    _change(fleet, members, next(places), is_bad=False)  # for nothing: caches and first imports
    for number in range(PAIRS):
        found: dict[bool, dict[str, float]] = {}
        for is_bad in (False, True) if number % 2 else (True, False):
            fleet.configure(members[0], {"services": tables if is_bad else {}})
            found[is_bad] = _change(fleet, members, next(places), is_bad=is_bad)
        for what, times in pairs.items():
            times.append((found[False][what], found[True][what]))
    return pairs


def _change(fleet: Fleet, members: Sequence[Member], place: NamedSite, *, is_bad: bool) -> dict[str, float]:
    """One host more, and that one revoked -> seconds until the first member has it, or has it no longer."""
    newcomer = fleet.prepare(place, jails=0)
    found = {}
    for what, change, peers in (
        ("added", fleet.grant, HOSTS),
        ("removed", fleet.revoke, HOSTS - 1),
    ):
        _wait("the modules run" if is_bad else "they are gone", partial(_runs, fleet, members[0], is_bad))
        began = time.monotonic()
        change(newcomer)
        _wait(what, partial(_has, fleet, members[0], peers))
        found[what] = time.monotonic() - began
        for member in members:
            _wait(f"{member.name}: {what}", partial(_has, fleet, member, peers))
        if what == "added":  # it says itself where it is, as every host does
            fleet.join(newcomer)
    fleet.discard(newcomer)
    return found


def _has(fleet: Fleet, member: Member, peers: int) -> bool:
    return len(fleet.wireguard_peers(member)) == peers


def _runs(fleet: Fleet, member: Member, is_bad: bool) -> bool:
    """The one that hangs and the one that forks are under way; or nothing of any module is."""
    running = [name for name in BAD for _ in range(_processes(name))]
    if not is_bad:
        return not running
    if "hang" in running and running.count("fork") > 1:
        return True
    fleet.ctl(member, "service", "retry")
    return False


def _processes(name: str) -> int:
    """How many of a module there are on this machine. The runner itself, which waits for it, is none."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            found += words[0] == b"/usr/bin/python3" and words[2].endswith(f"/meshd-service-{name}".encode())
    return found


def _report(pairs: dict[str, list[tuple[float, float]]]) -> None:
    for what, times in pairs.items():
        without, bad = (median(column) for column in zip(*times, strict=True))
        ratios = sorted(second / first for first, second in times)
        print(
            f"a host {what}: known to another one's WireGuard after {without:.2f} s without modules and "
            f"{bad:.2f} s beside four bad ones there; ratio {median(ratios):.2f} "
            f"(median of {len(ratios)} pairs, {ratios[0]:.2f} to {ratios[-1]:.2f})",
            flush=True,
        )


@contextmanager
def _bad_modules() -> Iterator[dict[str, Path]]:
    """Executables where the user that runs them can read them."""
    folder = Path(tempfile.mkdtemp(prefix="meshd-bad-"))
    folder.chmod(0o755)
    try:
        found = {}
        for name, code in BAD.items():
            found[name] = folder / f"meshd-service-{name}"
            found[name].write_text(_HEAD + code + "\n")
            found[name].chmod(0o755)
        yield found
    finally:
        shutil.rmtree(folder)


def _wait(what: str, is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_true():
        if time.monotonic() > deadline:
            raise BackendError(f"{what}: not within {DEADLINE_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    run()
