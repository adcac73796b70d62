"""Notes how the paths are, and keeps a day of it over restarts.

The file is a hint like what witnesses say: written rarely, read once, and never waited for by anything but
this part. A disk that is full or hangs costs the next process a picture.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final

from meshd.blocking import OneThread
from meshd.control.paths import PathWatch
from meshd.control.registry_feed import RegistryFeed
from meshd.errors import StoreError
from meshd.host.state import HostState
from meshd.observe.history import SAMPLE_SECONDS, STEPS, PathHistory
from meshd.observe.kept_history import parse_history, render_history
from meshd.observe.trend import STEP_SECONDS, HistoryDocument, HistoryRequest, build_trend

SAVE_SECONDS: Final = 600.0
DISK_SECONDS: Final = 5.0
"""How long a disk is waited for; it may take what it was given later."""


class HistoryKeeper:
    """``history`` may be read from any thread; all else lives on the event loop."""

    def __init__(
        self, state: HostState, paths: PathWatch, feed: RegistryFeed, *, clock: Callable[[], float]
    ) -> None:
        """
        Args:
            clock: unix seconds.
        """
        self.history = PathHistory()
        self._state = state
        self._paths = paths
        self._feed = feed
        self._clock = clock
        self._disk = OneThread()
        self._is_loaded = False
        self._saves_at = 0.0

    async def step(self) -> None:
        """One sample of every path, and the wait for the next."""
        if not self._is_loaded:
            await self._load()
        self.history.note(self._paths.stats(), self._clock())
        now = asyncio.get_running_loop().time()
        if now >= self._saves_at:
            self._saves_at = now + SAVE_SECONDS
            await self._save()
        await asyncio.sleep(SAMPLE_SECONDS)

    async def close(self) -> None:
        """The last samples are kept too."""
        if self._is_loaded:
            await self._save()

    def trends(self, request: HistoryRequest) -> HistoryDocument:
        """What ``wgctl`` shows of it."""
        now, hosts, seconds = self._clock(), self._feed.membership.hosts, STEP_SECONDS[request.span]
        known = sorted((hosts[hid].name, hid) for hid in self.history.hids() if hid in hosts)
        return HistoryDocument(
            at=now,
            seconds=seconds * STEPS[seconds],
            paths={
                name: build_trend(self.history.read(hid, seconds, now), request.parts) for name, hid in known
            },
        )

    async def _load(self) -> None:
        """Whatever is there and whole. One that cannot be read is begun anew."""
        self._saves_at = asyncio.get_running_loop().time() + SAVE_SECONDS
        read = partial(_read, self._state, self.history, self._clock())
        with contextlib.suppress(TimeoutError, ValueError, OSError):
            await asyncio.wait_for(self._disk.run(read), DISK_SECONDS)
        self._is_loaded = True

    async def _save(self) -> None:
        write = partial(_write, self._state, self.history, self._clock())
        with contextlib.suppress(TimeoutError, StoreError):
            await asyncio.wait_for(self._disk.run(write), DISK_SECONDS)


def _write(state: HostState, history: PathHistory, now: float) -> None:
    state.write_history(render_history(history, now))


def _read(state: HostState, history: PathHistory, now: float) -> None:
    history.keep(parse_history(state.read_history()), now)
