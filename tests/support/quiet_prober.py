"""A Prober that measures nothing and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Mapping

from meshd.model.path import PathStats
from meshd.probe.base import PathListener, ProbeTarget


class QuietProber:
    def __init__(self) -> None:
        self.listener: PathListener | None = None
        self.targets: tuple[ProbeTarget, ...] = ()
        self.nudges = 0
        self.stats: dict[str, PathStats] = {}
        self.mtus: dict[str, int] = {}

    async def start(self, listener: PathListener) -> None:
        self.listener = listener

    def set_targets(self, targets: tuple[ProbeTarget, ...]) -> None:
        self.targets = targets

    def nudge(self) -> None:
        self.nudges += 1

    def snapshot(self, now: float) -> Mapping[str, PathStats]:
        """What a test has set, whether or not it is a target yet, and nothing known of other targets."""
        return {target.hid: PathStats() for target in self.targets} | self.stats

    def path_mtus(self) -> Mapping[str, int]:
        """What a test has set."""
        return self.mtus

    async def stop(self) -> None:
        pass
