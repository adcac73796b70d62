"""The Status of now, from the newest World and from what its parts have measured since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from meshd.control.endpoints import EndpointController
from meshd.control.host_services import HostServices
from meshd.control.observer import KernelObserver
from meshd.control.own_endpoints import OwnEndpoints
from meshd.control.paths import PathWatch
from meshd.control.registry_feed import RegistryFeed
from meshd.control.world import NewestWorld
from meshd.daemon.exchange_status import exchange_status
from meshd.errors import MeshError
from meshd.exchange.exchange import Exchange
from meshd.host.keyring import KeyRing
from meshd.model.device import ObservedState
from meshd.observe.board import ConditionBoard
from meshd.observe.snapshot import StatusInputs, build_status
from meshd.observe.status import Status
from meshd.version import VERSION


class _HasUrls(Protocol):
    @property
    def urls(self) -> tuple[str, ...]: ...


class StatusReporter:
    """``status`` tells what is known and changes nothing. Lives on the event loop."""

    def __init__(
        self,
        *,
        hid: str,
        backend_name: str,
        clock: Callable[[], float],
        newest: NewestWorld,
        keys: KeyRing,
        observer: KernelObserver,
        paths: PathWatch,
        feed: RegistryFeed,
        endpoints: EndpointController,
        own_endpoints: OwnEndpoints,
        board: ConditionBoard,
        exchange: Exchange | None,
        metrics: _HasUrls,
        services: HostServices,
    ) -> None:
        """
        Args:
            clock: unix seconds.
        """
        self._hid = hid
        self._backend_name = backend_name
        self._clock = clock
        self._newest = newest
        self._keys = keys
        self._observer = observer
        self._paths = paths
        self._feed = feed
        self._endpoints = endpoints
        self._own_endpoints = own_endpoints
        self._board = board
        self._exchange = exchange
        self._metrics = metrics
        self._services = services
        self._started_at = clock()

    async def status(self) -> Status:
        """Everything known now. The kernel's counters are no older than a second, unless it keeps us
        waiting.

        Raises:
            MeshError: no turn has ended well yet; it says what is known instead.
        """
        if self._newest.world is None:
            raise self._no_turn_yet()
        observation = await self._observer.look()
        world, report = self._newest.world, self._feed.report
        interface = world.settings.wireguard.interface

        return build_status(
            StatusInputs(
                at=self._clock(),
                version=VERSION,
                started_at=self._started_at,
                hid=self._hid,
                view=world.view,
                observed=observation.main if observation else ObservedState(interface=interface),
                backend=self._backend_name,
                key_created_at=self._keys.key.created_at,
                second=observation.second if observation else None,
                rotation=world.rotation,
                paths=self._paths.stats(),
                path_mtus=self._paths.mtus(),
                stores=self._feed.store_status,
                verified_at=report.verified_at if report is not None else None,
                applied_generation=world.applied_generation,
                change=world.change,
                conditions=self._board.statuses(),
                last_plan=world.turn.plan_status(world.wakes),
                counters=world.counters,
                metrics_urls=self._metrics.urls,
                learned=self._own_endpoints.learned.endpoints,
                explain_endpoint=lambda host, endpoint: self._endpoints.explain(world, host, endpoint),
                exchange=exchange_status(self._exchange.stats()) if self._exchange else None,
                services=self._services.status(),
            )
        )

    def _no_turn_yet(self) -> MeshError:
        known = "; ".join(condition.text for condition in self._board.statuses())
        return MeshError(
            "no turn has ended well since meshd started, so there is no status yet: "
            + (known or "the first one still runs")
        )
