"""Random histories: what happens to a fleet, drawn from a seed, and what must be so afterwards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final

from simulation.fleet import Fleet, SimHost
from simulation.underlay import SITES, Flapping

LONGEST_PAUSE_SECONDS: Final = 200.0
CALM_SECONDS: Final = 600.0
"""After the last event all have to be together again within this: sessions end, stores are polled."""
FEWEST_HOSTS: Final = 4
MOST_HOSTS: Final = 12


class History:
    """Events one after the other. ``told`` says what happened, for whoever reads a failure."""

    def __init__(self, fleet: Fleet, rng: random.Random) -> None:
        self._fleet = fleet
        self._rng = rng
        self.members = list(fleet.hosts)
        self.revoked: list[SimHost] = []
        self.told: list[str] = []
        self._events: tuple[Callable[[], Coroutine[Any, Any, str]], ...] = (
            self._cut,
            self._mend,
            self._lose_region,
            self._regain_region,
            self._make_lossy,
            self._let_flap,
            self._stop,
            self._start,
            self._add,
            self._revoke,
        )

    async def happen(self, events: int) -> None:
        for _ in range(events):
            said = await self._rng.choice(self._events)()
            if said:
                self.told.append(f"{self._fleet.loop.time():.0f} s: {said}")
            await asyncio.sleep(self._rng.uniform(0.0, LONGEST_PAUSE_SECONDS))

    async def calm_down(self) -> float:
        """Everything is mended -> virtual seconds until the fleet is whole again."""
        underlay = self._fleet.underlay
        underlay.cut_pairs.clear()
        underlay.losses.clear()
        underlay.flapping.clear()
        for site in SITES:
            self._fleet.regain_region(site.region)
        for host in self.members:
            if not host.is_running:
                host.start()
        return await self._fleet.until(lambda: self._fleet.is_whole(self.members), CALM_SECONDS)

    # --- events: each says what it did, or nothing

    def _pair(self) -> tuple[SimHost, SimHost]:
        first, second = self._rng.sample(self._fleet.hosts, 2)
        return first, second

    async def _cut(self) -> str:
        first, second = self._pair()
        self._fleet.underlay.cut(first.number, second.number)
        return f"{first.name} and {second.name} are cut"

    async def _mend(self) -> str:
        self._fleet.underlay.cut_pairs.clear()
        return "cut pairs are mended"

    async def _lose_region(self) -> str:
        region = self._rng.choice(SITES).region
        self._fleet.lose_region(region)
        return f"{region} is lost"

    async def _regain_region(self) -> str:
        for site in SITES:
            self._fleet.regain_region(site.region)
        return "regions are back"

    async def _make_lossy(self) -> str:
        first, second = self._pair()
        self._fleet.underlay.losses[frozenset((first.number, second.number))] = self._rng.uniform(0.01, 0.5)
        return f"{first.name} and {second.name} lose packets"

    async def _let_flap(self) -> str:
        first, second = self._pair()
        flapping = Flapping(period_seconds=self._rng.uniform(2.0, 60.0), factor=self._rng.uniform(1.2, 8.0))
        self._fleet.underlay.flapping[frozenset((first.number, second.number))] = flapping
        return f"the delay between {first.name} and {second.name} jumps"

    async def _stop(self) -> str:
        running = [host for host in self.members if host.is_running]
        if len(running) < 3:
            return ""
        host = self._rng.choice(running)
        await host.stop()
        return f"meshd of {host.name} ends"

    async def _start(self) -> str:
        stopped = [host for host in self.members if not host.is_running]
        for host in stopped:
            host.start()
        return f"meshd of {', '.join(host.name for host in stopped)} begins" if stopped else ""

    async def _add(self) -> str:
        running = [host for host in self.members if host.is_running]
        if len(self._fleet.hosts) >= MOST_HOSTS:
            return ""
        newcomer = await self._fleet.add_host(self._rng.choice(running))
        self.members.append(newcomer)
        return f"{newcomer.name} is added"

    async def _revoke(self) -> str:
        running = [host for host in self.members if host.is_running]
        if len(self.members) <= FEWEST_HOSTS or len(running) < 2:
            return ""
        victim, at = self._rng.sample(running, 2)
        await self._fleet.revoke(victim, at)
        self.members.remove(victim)
        self.revoked.append(victim)
        return f"{victim.name} is revoked at {at.name}"
