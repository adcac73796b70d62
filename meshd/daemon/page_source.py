"""What the page shows: the Status, the paths over the last day, and the newest events."""

from __future__ import annotations

import logging

from meshd.daemon.matrix_report import MatrixReporter
from meshd.observe.history import PathHistory
from meshd.observe.page.view import PageView
from meshd.observe.recent import RecentEvents

LOG_ROOT = logging.getLogger("meshd")


class PageSource:
    """Hears what the Status does not keep: what happened before. Lives on the event loop."""

    def __init__(self, matrix: MatrixReporter, history: PathHistory) -> None:
        self._matrix = matrix
        self._history = history
        self._recent = RecentEvents()

    def start(self) -> None:
        """From now on events are heard."""
        LOG_ROOT.addHandler(self._recent)

    def close(self) -> None:
        LOG_ROOT.removeHandler(self._recent)

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
