"""Linux's reverse path filter (RFC 3704; rp_filter in the kernel's ip-sysctl.rst), one interface at a time.

What counts is the greater of the interface's own value and that of ``all``: 1 is strict, and the
greater 2, loose, outranks it, so that one interface is loosened without touching any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from meshd.errors import BackendError

DIRECTORY: Final = Path("/proc/sys/net/ipv4/conf")
STRICT, LOOSE = 1, 2


def is_strict(interface: str) -> bool:
    """How it is, or how it would be if it were created now. False too where the kernel does not say."""
    own = _read(interface)
    if own is None:
        own = _read("default")
    return max(_read("all") or 0, own or 0) == STRICT


def loosen(interface: str) -> None:
    """BackendError when the kernel refuses, as where /proc is mounted read-only."""
    path = DIRECTORY / interface / "rp_filter"
    try:
        path.write_text(f"{LOOSE}\n")
    except OSError as error:
        raise BackendError(
            f"{path}: {error.strerror or error} seen, {LOOSE} expected to be taken: packets of a host whose "
            f"key is being rotated would be dropped; set net.ipv4.conf.all.rp_filter={LOOSE}"
        ) from None


def _read(name: str) -> int | None:
    try:
        return int((DIRECTORY / name / "rp_filter").read_bytes())
    except (OSError, ValueError):
        return None
