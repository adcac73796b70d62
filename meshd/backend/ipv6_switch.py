"""Whether Linux lets an interface have IPv6 (disable_ipv6 in the kernel's ip-sysctl.rst).

Hardening guides, container engines and some images of virtual machines switch it off. The kernel then
refuses every IPv6 address and route of that interface with EACCES. FreeBSD has no such switch: an interface
that is IFDISABLED takes addresses, and is enabled by the first one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

DIRECTORY: Final = Path("/proc/sys/net/ipv6/conf")


def why_off(interface: str) -> str:
    """What switches IPv6 off there, or would if the interface were created now; empty: nothing does."""
    for name in (interface, "default"):
        try:
            is_off = (DIRECTORY / name / "disable_ipv6").read_bytes().strip() == b"1"
        except FileNotFoundError:
            continue
        except OSError:
            return ""
        return f"net.ipv6.conf.{name}.disable_ipv6=1" if is_off else ""
    return "" if DIRECTORY.exists() else "the kernel runs without IPv6"
