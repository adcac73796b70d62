"""What namespaces and jails have in common: a command typed in front runs another one inside."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Collection, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from meshd.errors import BackendError
from meshd.lab.base import RUN_SECONDS
from meshd.model.network import IPAddress

REAP_SECONDS: Final = 5.0

_HOST_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*")


def check_new_name(name: str, taken: Collection[str]) -> None:
    """Raises BackendError unless a host can be given this name."""
    if name in taken or not _HOST_NAME.fullmatch(name):
        raise BackendError(f"lab host {name!r}: an unused name of a-z, 0-9 and - expected")


class CommandPlace:
    """A place that ``enter_command`` leads into."""

    def __init__(self, name: str, address: IPAddress) -> None:
        self.name = name
        self.address = address

    def enter_command(self) -> tuple[str, ...]:
        raise NotImplementedError

    def run(
        self, argv: Sequence[str], *, timeout_seconds: float = RUN_SECONDS, input_text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [*self.enter_command(), *argv],
                input=input_text,
                stdin=subprocess.DEVNULL if input_text is None else None,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            message = f"{self.name}: {argv[0]}: no end after {timeout_seconds:g} s"
        except OSError as error:
            message = f"{self.name}: {argv[0]}: {error}"
        raise BackendError(message)


class CommandHost(CommandPlace):
    """A host with its directory, and the processes that were started in it."""

    def __init__(self, name: str, address: IPAddress, directory: Path) -> None:
        super().__init__(name, address)
        self.directory = directory
        self.jail_network: IPv4Network | None = None
        self._spawned: list[subprocess.Popen[bytes]] = []

    def spawn(self, argv: Sequence[str], *, log: Path) -> subprocess.Popen[bytes]:
        """In the root folder, as a service manager does it: PostgreSQL does not start in a folder that its
        user may not enter, and a checkout may lie below ``/root``.
        """
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    [*self.enter_command(), *argv],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    cwd="/",
                )
        except OSError as error:
            raise BackendError(f"{self.name}: {argv[0]}: {error}") from None
        self._spawned.append(process)
        return process

    def end_spawned(self) -> None:
        """Kill what was started here, even what is not inside yet, and collect it."""
        for process in self._spawned:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        for process in self._spawned:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(REAP_SECONDS)
        self._spawned.clear()
