"""Waiting for something that tells nobody when it happens: a kernel, a file, another process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

DEADLINE_SECONDS = 60.0
"""Far longer than anything takes on a loaded machine: only what never happens is a failure."""
PAUSE_SECONDS = 0.01


async def until(true: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> None:
    """Return as soon as ``true`` answers, or its awaitable does, with something true; else TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            answer = true()
            if isinstance(answer, Awaitable):
                answer = await answer
            if answer:
                return
            await asyncio.sleep(PAUSE_SECONDS)


def wait_until(
    what: str,
    true: Callable[[], Any],
    seconds: float = DEADLINE_SECONDS,
    *,
    ignoring: tuple[type[Exception], ...] = (),
) -> float:
    """The same without a loop -> the seconds that it took; AssertionError with ``what``.

    Args:
        ignoring: errors that mean "not yet", as of a daemon that starts.
    """
    started = time.monotonic()
    while True:
        with contextlib.suppress(*ignoring):
            if true():
                return time.monotonic() - started
        assert time.monotonic() - started < seconds, what
        time.sleep(PAUSE_SECONDS)
