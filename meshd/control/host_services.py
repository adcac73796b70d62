"""The services of this host, loaded when there is the first one to look after.

Most hosts have none, and what looks after them takes 1.1 MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from meshd.model.host import Membership
from meshd.model.path import PathStats
from meshd.model.service import CheckResult, PlacementKey
from meshd.observe.protocol import ServiceDocument, ServiceRequest
from meshd.observe.status import ServicesStatus

if TYPE_CHECKING:
    from meshd.control.services import ServiceFollower


class ServiceInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the daemon knows. ``paths`` by hid; ``heard``: what other hosts say of their placements;
    ``stale``: neither a store nor another host answers."""

    membership: Membership
    paths: Mapping[str, PathStats]
    heard: Mapping[PlacementKey, CheckResult] = msgspec.field(default_factory=dict)
    verified_at: float | None
    stale: bool
    now: float


class HostServices:
    """Lives on the event loop. Once loaded, all is the follower's."""

    def __init__(self, load: Callable[[], ServiceFollower]) -> None:
        """``load``: makes the follower, and imports it before."""
        self._load = load
        self._follower: ServiceFollower | None = None
        self._running = False

    def configure(self, tables: Mapping[str, Mapping[str, Any]], source: str) -> None:
        """Take the settings' modules; ConfigError, and nothing changes, when a table is wrong."""
        if tables or self._follower is not None:
            self.follower.configure(tables, source)

    def start(self) -> None:
        """Begin; every module waits for its first view."""
        self._running = True
        if self._follower is not None:
            self._follower.start()

    async def close(self) -> None:
        """End all tasks. A run under way ends by itself, or at the next start."""
        self._running = False
        if self._follower is not None:
            await self._follower.close()

    def concerns(self, membership: Membership) -> bool:
        """Whether there is anything to do here: a module, or a service of the mesh to be looked at."""
        return bool(membership.services) if self._follower is None else self._follower.concerns(membership)

    def update(self, inputs: ServiceInputs) -> None:
        """What is known now. Returns at once; nothing is asked of anybody here."""
        if self.concerns(inputs.membership):
            self.follower.update(inputs)

    def own_health(self) -> Mapping[tuple[str, str], CheckResult]:
        """What was found of this host's own placements, by service and jail."""
        return {} if self._follower is None else self._follower.health.found()

    def status(self) -> ServicesStatus:
        return ServicesStatus() if self._follower is None else self._follower.status()

    async def handle(self, request: ServiceRequest) -> tuple[ServiceDocument, int]:
        """An operator's word. ConfigError for a module that this host does not have."""
        return await self.follower.handle(request)

    @property
    def follower(self) -> ServiceFollower:
        """Loaded now, if it was not yet."""
        if self._follower is None:
            self._follower = self._load()
            if self._running:
                self._follower.start()
        return self._follower
