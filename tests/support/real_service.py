"""Real servers for tests: each test starts its own, on loopback and free ports, and ends it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest


def need(*programs: str) -> None:
    """A program that is missing is a failure in continuous integration; elsewhere nobody has to have it."""
    missing = [
        each for each in programs if shutil.which(each, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None
    ]
    if not missing:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"not installed: {', '.join(missing)}: sh tools/setup.sh services")
    pytest.skip(f"not installed: {', '.join(missing)}: sh tools/setup.sh services")


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found is not None
    return found


def listens(port: int, address: str = "127.0.0.1") -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
        return True
    return False


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """Readable by the users that servers become."""
    made = Path(tempfile.mkdtemp(prefix="meshd-real-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


class Running:
    """A server in the foreground. ``log``: all that it said."""

    def __init__(self, argv: Sequence[str], log: Path, *, user: int | None = None) -> None:
        self.log = log
        as_user: dict[str, Any] = {}
        if user is not None:
            as_user = {"user": user, "group": user, "extra_groups": []}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [program(argv[0]), *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **as_user,
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def end(self) -> None:
        if self.alive:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        self.kill()


@contextlib.contextmanager
def running(argv: Sequence[str], log: Path, *, user: int | None = None) -> Iterator[Running]:
    server = Running(argv, log, user=user)
    try:
        yield server
    finally:
        server.end()
