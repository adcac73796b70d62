"""A network stack of its own on the FreeBSD that the tests run on: a VNET jail, and its tools."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

TOOLS = {
    "ifconfig": "/sbin/ifconfig",
    "route": "/sbin/route",
    "netstat": "/usr/bin/netstat",
    "wg": "/usr/bin/wg",
}
SHIM = """#!/bin/sh
exec /usr/sbin/jexec {jail} {tool} "$@"
"""
COMMAND_SECONDS = 120

_numbers = itertools.count()


class RealBSD:
    """Has what ``FakeBSD`` has for its users; nothing outside the jail is touched."""

    def __init__(self, directory: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can make jails")
        self.directory = directory
        # A jail that was removed may be dying for a while, with its name.
        self.jail = f"meshdtest{os.getpid()}x{next(_numbers)}"
        directory.mkdir()
        for name, tool in TOOLS.items():
            (directory / name).write_text(SHIM.format(jail=self.jail, tool=tool))
            (directory / name).chmod(0o755)
        self.tools: Mapping[str, Path] = MappingProxyType({name: directory / name for name in TOOLS})
        self._host("/sbin/kldload", "-n", "if_wg", "if_epair")
        self._host("/usr/sbin/jail", "-c", f"name={self.jail}", "vnet", "path=/", "persist")
        self.run("ifconfig", "lo0", "inet", "127.0.0.1/8", "up")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command inside, as an administrator or a third party would give it."""
        return subprocess.run(
            [str(self.tools[words[0]]), *words[1:]],
            text=True,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def close(self) -> None:
        """What was made inside ends with the jail."""
        self._host("/usr/sbin/jail", "-r", self.jail)

    def _host(self, *words: str) -> None:
        done = subprocess.run(words, text=True, capture_output=True, timeout=COMMAND_SECONDS, check=False)
        assert done.returncode == 0, (words, done)
