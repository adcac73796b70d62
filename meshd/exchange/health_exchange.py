"""Tells the other hosts of this one's placements, and keeps what they tell of theirs. Lives on the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final, Protocol

from meshd.blocking import in_thread
from meshd.errors import RegistryError, StoreError
from meshd.exchange.health import HealthReport, HeardHealth, Place, Telling, build_report
from meshd.exchange.partner import Partner
from meshd.model.service import CheckResult, PlacementKey
from meshd.supervisor import Supervisor

REPORT_CHECK_SECONDS: Final = 2.0
MAX_AT_ONCE: Final = 8
"""Hosts that are told at the same time; each has a thread for it."""

OwnHealth = Callable[[], Mapping[Place, CheckResult]]


class HealthClient(Protocol):
    """Raises StoreError when the host does not answer, RegistryError when its answer makes no sense."""

    def health(self, partner: Partner, report: HealthReport) -> None: ...


class HealthExchange:
    """Each host tells of itself: at once when something changed, and again before it is forgotten.

    Nothing is passed on. Whoever this host cannot reach itself says nothing to it, and what it said before
    grows old.
    """

    def __init__(
        self,
        client: HealthClient,
        partner_of: Callable[[str], Partner | None],
        elapsed: Callable[[], float],
    ) -> None:
        """
        Args:
            partner_of: where a host is called, by hid; None for one that is none any more.
            elapsed: seconds of a clock that never goes back.
        """
        self._client = client
        self._partner_of = partner_of
        self._elapsed = elapsed
        self._heard = HeardHealth()
        self._telling = Telling()
        self._busy: set[str] = set()
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)

    def start(
        self, own: OwnHealth, reachable: Callable[[], Collection[str]], tasks: Supervisor
    ) -> asyncio.Task[None]:
        """
        Args:
            own: the newest results of this host's own checks.
            reachable: hosts that answer over the mesh, by hid.
        """

        async def step() -> None:
            await asyncio.sleep(REPORT_CHECK_SECONDS)
            self._tell(own, reachable(), tasks)

        return tasks.repeat("health", step)

    def hear(self, hid: str, report: HealthReport) -> None:
        """That host, which has proven who it is, said this of itself."""
        self._heard.hear(hid, report, self._elapsed())

    def keep_only(self, hids: Collection[str]) -> None:
        """The hosts of the mesh as they are now."""
        self._heard.keep_only(hids)

    def results(self) -> dict[PlacementKey, CheckResult]:
        """What the others said of their placements and is not too old."""
        return self._heard.results(self._elapsed())

    def _tell(self, own: OwnHealth, reachable: Collection[str], tasks: Supervisor) -> None:
        for hid in self._telling.due(build_report(own()), reachable, self._elapsed()):
            if hid not in self._busy:
                self._busy.add(hid)
                task = tasks.spawn("health reports", self._tell_one(hid, own))
                task.add_done_callback(partial(self._is_free, hid))

    def _is_free(self, hid: str, _: asyncio.Task[None]) -> None:
        self._busy.discard(hid)

    async def _tell_one(self, hid: str, own: OwnHealth) -> None:
        async with self._slots:
            partner = self._partner_of(hid)
            if partner is None:
                return
            report = build_report(own())  # as old as it is now, not as it was before the wait
            taken = True
            try:
                await in_thread(self._client.health, partner, report)
            except (StoreError, RegistryError):
                taken = False
            self._telling.told(hid, report, self._elapsed(), taken=taken)
