"""Runs a program in what the shipped unit leaves of the kernel, on a machine that systemd does not run.

    python tests/support/as_systemd_unit.py [--drop-in FILE ...] -- PROGRAM ...

System calls by SystemCallFilter, capabilities by CapabilityBoundingSet, /proc as ProtectProc=invisible has
it: what systemd.exec(5) says of each, with the groups of calls as systemd-analyze lists them. Needs root,
libseccomp, unshare(1) and setpriv(1).
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

UNIT: Final = Path(__file__).resolve().parents[2] / "contrib" / "systemd" / "meshd.service"
DROP_IN: Final = UNIT.with_name("services.conf")
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050001
"""SCMP_ACT_ERRNO(EPERM), as SystemCallErrorNumber says."""
_PR_SET_NO_NEW_PRIVS: Final = 38


def values(key: str, files: Iterable[Path]) -> list[str]:
    """Of a key in all files, in their order."""
    lines = [line.partition("=") for path in files for line in path.read_text().splitlines()]
    return [value.strip() for name, _, value in lines if name == key]


def calls_of(word: str) -> set[str]:
    """A system call, or all of a group."""
    if not word.startswith("@"):
        return {word}
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", word], capture_output=True, text=True, check=True, timeout=60
    )
    lines = [line.strip() for line in listed.stdout.splitlines()[1:]]
    return {call for line in lines if line and not line.startswith("#") for call in calls_of(line)}


def allowed_calls(filters: Iterable[str]) -> set[str]:
    """The first line says what is meant by the rest: only these, or all but these. ``~`` takes away."""
    allowed = calls_of("@default")
    for line in filters:
        named = {call for word in line.removeprefix("~").split() for call in calls_of(word)}
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def refuse_other_calls(allowed: Iterable[str]) -> None:
    """For this process and all that it starts."""
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
    context = seccomp.seccomp_init(_REFUSE)
    for name in allowed:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            seccomp.seccomp_rule_add(context, _ALLOW, number, 0)
    assert ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert seccomp.seccomp_load(context) == 0


def wrap(program: Sequence[str], *drop_ins: Path) -> list[str]:
    """The command that runs it so."""
    capabilities = " ".join(values("CapabilityBoundingSet", (UNIT, *drop_ins))).split()
    bounding = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)])
    others = [word for path in drop_ins for word in ("--drop-in", str(path))]
    proc = "mount -t proc -o hidepid=invisible proc /proc"
    return [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", f'{proc} && exec "$@"', "sh"),
        *("setpriv", f"--bounding-set={bounding}", "--inh-caps=-all", "--no-new-privs"),
        *(sys.executable, __file__, *others, "--", *program),
    ]


def main(arguments: list[str]) -> None:
    at = arguments.index("--")
    drop_ins = [Path(path) for path in arguments[1:at:2]]
    allowed = allowed_calls(values("SystemCallFilter", (UNIT, *drop_ins)))
    refuse_other_calls(allowed)
    os.execvp(arguments[at + 1], arguments[at + 1 :])


if __name__ == "__main__":
    main(sys.argv[1:])
