"""The times that the data plane goes by."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """The three times that a turn goes by, each a function that reads one."""

    wall: Callable[[], float]
    """Unix seconds; somebody may set it."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds; nobody sets it, and it may stand still while the machine sleeps."""
    steady: Callable[[], float] = lambda: 0.0
    """Seconds; nobody sets it, and it goes on while the machine sleeps, where there is such a one."""
