"""Tells the services of this host what the daemon knows, after each turn and when an operator asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from meshd.control.host_services import HostServices, ServiceInputs
from meshd.control.paths import PathWatch
from meshd.control.registry_feed import RegistryFeed
from meshd.control.world import World
from meshd.exchange.exchange import Exchange
from meshd.model.condition import Condition
from meshd.settings import Settings


class ServiceFeed:
    """Lives on the event loop; what the services do with it is theirs."""

    def __init__(
        self,
        services: HostServices,
        feed: RegistryFeed,
        paths: PathWatch,
        *,
        clock: Callable[[], float],
        exchange: Exchange | None,
    ) -> None:
        """
        Args:
            clock: unix seconds.
            exchange: brings news and health of other hosts; None: stores alone do.
        """
        self._services = services
        self._feed = feed
        self._paths = paths
        self._clock = clock
        self._exchange = exchange

    async def follow(self, world: World) -> Sequence[Condition]:
        """After each turn. What is wrong with a module is filed when it has run, not here."""
        self.update(world.settings)
        return ()

    def update(self, settings: Settings) -> None:
        """What is known now; returns at once."""
        if not self._services.concerns(self._feed.membership):
            return  # a host without services: what they would see is not even asked for
        now, report = self._clock(), self._feed.report
        verified_at = report.verified_at if report is not None else None
        silent = verified_at is None or now - verified_at > settings.registry.stale_after_seconds
        self._services.update(
            ServiceInputs(
                membership=self._feed.membership,
                paths=self._paths.stats(),
                heard=self._exchange.health.results() if self._exchange is not None else {},
                verified_at=verified_at,
                stale=silent and not (self._exchange is not None and self._paths.reachable()),
                now=now,
            )
        )
