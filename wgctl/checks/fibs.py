"""Do the settings name every routing table (fib) that jails of this FreeBSD host are started in?

A running jail does not tell its fib, so the files that jails are made from are read, each as far as lines
``exec.fib = N;`` go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from meshd.settings import Settings
from wgctl.checks.base import Check, ok, warn

PLACES: Final = (
    ("/etc", "jail.conf"),
    ("/etc/jail.conf.d", "*.conf"),
    ("/usr/local/bastille/jails", "*/jail.conf"),
)
MAX_FILES: Final = 500
MAX_FILE_BYTES: Final = 1 << 20

_LINE: Final = re.compile(rb"^[^#\n]*\bexec\.fib\s*=\s*\"?(\d{1,5})\"?\s*;", re.MULTILINE)


def check_fibs(settings: Settings, root: Path = Path("/")) -> Iterator[Check]:
    """Nothing where no jail has a fib and none is set. ``root``: where the files are looked for."""
    known = settings.wireguard.fibs or (0,)
    found: dict[int, str] = {}
    for path in _files(root):
        for fib in _fibs_of(path):
            found.setdefault(fib, str(path))
    missing = {fib: path for fib, path in sorted(found.items()) if fib not in known}
    for fib, place in missing.items():
        fibs = ", ".join(map(str, [*known, *missing]))
        yield warn(
            "fibs",
            f"{place}: exec.fib = {fib}, which wireguard.fibs does not hold: that jail has no "
            "route to the mesh",
            f"[wireguard] fibs = [{fibs}] in meshd.toml, then restart meshd",
        )
    if found and not missing:
        numbers = ", ".join(map(str, sorted(found)))
        yield ok("fibs", f"jails are started in {numbers}: the mesh is routed there")


def _files(root: Path) -> list[Path]:
    paths: list[Path] = []
    for directory, pattern in PLACES:
        paths += sorted((root / directory.lstrip("/")).glob(pattern))
    return paths[:MAX_FILES]


def _fibs_of(path: Path) -> set[int]:
    try:
        with path.open("rb") as file:
            return {int(number) for number in _LINE.findall(file.read(MAX_FILE_BYTES))}
    except OSError:
        return set()
