"""What the page shows: the Status, the paths over the last day, and the newest events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from meshd.control.paths import PathWatch
from meshd.daemon.matrix_report import MatrixReporter
from meshd.observe.history import SAMPLE_SECONDS, PathHistory
from meshd.observe.page.view import PageView
from meshd.observe.recent import RecentEvents

LOG_ROOT = logging.getLogger("meshd")


class PageSource:
    """Keeps what the Status does not: how it was before. Lives on the event loop."""

    def __init__(self, matrix: MatrixReporter, paths: PathWatch, *, clock: Callable[[], float]) -> None:
        """
        Args:
            clock: unix seconds.
        """
        self._matrix = matrix
        self._paths = paths
        self._clock = clock
        self._history = PathHistory()
        self._recent = RecentEvents()

    def start(self) -> None:
        """From now on events are heard."""
        LOG_ROOT.addHandler(self._recent)

    def close(self) -> None:
        LOG_ROOT.removeHandler(self._recent)

    async def note_paths(self) -> None:
        """One sample of every path, and the wait for the next."""
        self._history.note(self._paths.stats(), self._clock())
        await asyncio.sleep(SAMPLE_SECONDS)

    async def view(self) -> PageView:
        """
        Raises:
            MeshError: as ``StatusReporter.status``.
        """
        status, matrix = await self._matrix.matrix()
        return PageView(
            status=status,
            matrix=matrix,
            history=lambda hid, seconds: self._history.read(hid, seconds, status.at),
            events=self._recent.newest(),
        )
