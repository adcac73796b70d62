"""A port for a server that a test is about to start."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
from typing import Final

FIRST: Final = 5_000
LAST: Final = 8_999
"""Below what kernels give to whoever names no port: from 10,000 on FreeBSD, from 32,768 on Linux. One of
those may be taken by any question of another test before the server has it."""
WORKERS: Final = 16
"""So many processes of one run each have ports of their own."""
EACH: Final = (LAST - FIRST + 1) // WORKERS

_tried = itertools.count(os.getpid())


def free_port(address: str = "127.0.0.1") -> int:
    """One that nobody has there by TCP or by UDP, and that is not given again soon. AssertionError where none
    is found."""
    worker = re.search(r"\d+", os.environ.get("PYTEST_XDIST_WORKER", ""))
    first = FIRST + (int(worker[0]) if worker else 0) % WORKERS * EACH
    for _ in range(EACH):
        port = first + next(_tried) % EACH
        with contextlib.suppress(OSError):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as found:
                    found.bind((address, port))
            return port
    raise AssertionError(f"no free port between {first} and {first + EACH - 1} at {address}")
