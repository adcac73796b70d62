"""A port for a server that a test is about to start."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Final

FIRST: Final = 5_000
LAST: Final = 9_999
"""Below what kernels give to whoever names no port: from 10,000 on FreeBSD, from 32,768 on Linux. One of
those may be taken by any question of another test before the server has it."""
TRIES: Final = 200


def free_port(address: str = "127.0.0.1") -> int:
    """One that nobody has there by TCP or by UDP. AssertionError where none is found."""
    choice = random.SystemRandom()
    for _ in range(TRIES):
        port = choice.randint(FIRST, LAST)
        with contextlib.suppress(OSError):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as found:
                    found.bind((address, port))
            return port
    raise AssertionError(f"no free port between {FIRST} and {LAST} at {address}")
