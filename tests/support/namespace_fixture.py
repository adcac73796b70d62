"""A fresh network namespace for each test that asks for one: a fixture that every test knows."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000


@pytest.fixture
def network_namespace() -> Iterator[None]:
    """This thread, and whatever it starts, in a network namespace of its own (network_namespaces(7))."""
    if sys.platform != "linux":
        pytest.skip("network namespaces are Linux's")
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open(f"/proc/self/task/{_thread_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(libc.unshare(CLONE_NEWNET))
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=20)
            yield
        finally:
            _check(libc.setns(home, CLONE_NEWNET))
    finally:
        os.close(home)


def _thread_id() -> int:
    return int(Path("/proc/thread-self").readlink().name)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
