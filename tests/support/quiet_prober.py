"""A Prober that measures nothing and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from meshd.errors import BackendError
from meshd.model.path import PathStats
from meshd.probe.base import ProbeTarget
from meshd.probe.events import EventQueue, ProbeEvent
from meshd.supervisor import Supervisor


class QuietProber:
    def __init__(self) -> None:
        self.targets: tuple[ProbeTarget, ...] = ()
        self.rounds = 0
        self.looks = 0
        """How often it was asked for all paths."""
        self._events = EventQueue()
        self.stats: dict[str, PathStats] = {}
        self.mtus: dict[str, int] = {}
        self.refusal = ""
        """What the system says where it gives no sockets."""

    async def start(self, tasks: Supervisor) -> None:
        if self.refusal:
            raise BackendError(self.refusal)

    def set_targets(self, targets: tuple[ProbeTarget, ...]) -> None:
        self.targets = targets

    def probe_now(self, hids: Collection[str] | None = None) -> None:
        self.rounds += 1

    def tell(self, event: ProbeEvent) -> None:
        """As if it had been found."""
        self._events.put(event)

    @property
    def told_all(self) -> bool:
        return self._events.is_empty

    async def events(self) -> tuple[ProbeEvent, ...]:
        return await self._events.take()

    def snapshot(self, now: float) -> Mapping[str, PathStats]:
        """What a test has set, whether or not it is a target yet, and nothing known of other targets."""
        self.looks += 1
        return {target.hid: PathStats() for target in self.targets} | self.stats

    def answering(self) -> set[str]:
        return {hid for hid, stats in self.stats.items() if stats.up}

    def path_mtus(self) -> Mapping[str, int]:
        """What a test has set."""
        return self.mtus

    async def stop(self) -> None:
        pass
