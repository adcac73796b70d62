"""Whether this system passes packets on, which jails with a network stack of their own need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

COMMAND_SECONDS: Final = 5.0
LINUX_FILES: Final = {
    4: Path("/proc/sys/net/ipv4/ip_forward"),
    6: Path("/proc/sys/net/ipv6/conf/all/forwarding"),
}
FREEBSD_VARIABLES: Final = {4: "net.inet.ip.forwarding", 6: "net.inet6.ip6.forwarding"}


def read_forwarding(version: int) -> bool | None:
    """True when IPv4 or IPv6 (``version``) is forwarded, None when the system does not tell."""
    if sys.platform.startswith("freebsd"):
        text = _run_sysctl(FREEBSD_VARIABLES[version])
    else:
        try:
            text = LINUX_FILES[version].read_text()
        except OSError:
            text = ""
    return text.strip() != "0" if text.strip() else None


def _run_sysctl(variable: str) -> str:
    try:
        done = subprocess.run(
            ["/sbin/sysctl", "-n", variable],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
