"""The running process: what starts in which order, and what ends.

The order at start is the promise: cache, verify, reduce, configure WireGuard, and only then the network,
because the store may be reachable through the mesh alone. Ending the daemon ends nothing else: interface,
peers and routes stay.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec

from meshd.blocking import in_thread
from meshd.control.endpoints import EndpointController
from meshd.control.host_services import HostServices
from meshd.control.jail_follower import JailFollower
from meshd.control.kernel_watch import KernelWatch
from meshd.control.observer import KernelObserver
from meshd.control.own_endpoints import OwnEndpoints
from meshd.control.paths import PathWatch
from meshd.control.registry_feed import RegistryFeed
from meshd.control.relays import RelayKeeper
from meshd.control.turn_queue import TurnQueue
from meshd.control.world import NewestWorld
from meshd.daemon.control_socket import ControlServer
from meshd.daemon.driver import TurnDriver
from meshd.daemon.followers import Followers
from meshd.daemon.live_settings import Reloader
from meshd.daemon.metrics_endpoint import MetricsListener
from meshd.daemon.page_source import PageSource
from meshd.daemon.path_history import HistoryKeeper
from meshd.daemon.requests import Requests
from meshd.exchange.exchange import Exchange, ExchangeHooks
from meshd.model.condition import Condition
from meshd.observe.board import ConditionBoard
from meshd.observe.logs import event
from meshd.probe.base import Prober
from meshd.supervisor import Supervisor
from meshd.version import VERSION

log = logging.getLogger("meshd")


class Components(msgspec.Struct, frozen=True, kw_only=True):
    """All parts of a daemon, wired (``meshd.daemon.wiring``)."""

    hid: str
    socket: Path
    control_group: int | None
    board: ConditionBoard
    tasks: Supervisor
    queue: TurnQueue
    driver: TurnDriver
    newest: NewestWorld
    followers: Followers
    feed: RegistryFeed
    observer: KernelObserver
    prober: Prober
    paths: PathWatch
    own_endpoints: OwnEndpoints
    endpoints: EndpointController
    exchange: Exchange | None
    relays: RelayKeeper
    watch: KernelWatch
    jails: JailFollower
    services: HostServices
    metrics: MetricsListener
    page: PageSource
    history: HistoryKeeper
    reloader: Reloader
    requests: Requests


class Daemon:
    """Runs its parts until ``stop``; once."""

    def __init__(self, parts: Components) -> None:
        self.parts = parts
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Serve until ``stop``.

        Raises:
            ConfigError, ControlError: it cannot start at all.
        """
        control = ControlServer(self.parts.socket, self.parts.requests.handle, group=self.parts.control_group)
        await control.start()
        try:
            async with self.parts.tasks:
                self.parts.tasks.repeat("control socket", control.look)
                try:
                    await self._serve()
                finally:
                    await self._close()
        finally:
            await control.close()
            event(log, logging.INFO, "stopped", mesh="left up")

    def stop(self) -> None:
        """End the process, and nothing else."""
        self._stopping.set()

    def reload_quietly(self) -> None:
        """Read the settings again, as a signal handler does it."""
        self.parts.tasks.call("reload", self.parts.reloader.reload_quietly)

    async def _serve(self) -> None:
        parts = self.parts
        parts.page.start()
        await parts.feed.publish_own()
        parts.followers.start(parts.tasks)
        parts.tasks.repeat("turn queue", parts.driver.step)
        await self._until_first_turn()
        await parts.paths.start(parts.tasks)
        if parts.exchange is not None:
            parts.exchange.start(self._exchange_hooks())
        parts.relays.start(parts.tasks)
        parts.watch.start(parts.jails.kernel_changed)
        parts.feed.start()
        parts.paths.listen(parts.tasks)
        parts.tasks.repeat("path history", parts.history.step)
        parts.services.start()
        parts.requests.open()
        event(log, logging.INFO, "started", hid=parts.hid[:8], version=VERSION)
        await self._stopping.wait()

    async def _until_first_turn(self) -> None:
        first, stopping = self.parts.driver.first_turn, self._stopping
        waits = [self.parts.tasks.spawn("start", _until(event)) for event in (first, stopping)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    def _exchange_hooks(self) -> ExchangeHooks:
        parts = self.parts

        def set_conditions(conditions: tuple[Condition, ...]) -> None:
            parts.board.set("exchange", *conditions)

        return ExchangeHooks(
            on_new_objects=parts.feed.on_news,
            set_conditions=set_conditions,
            reachable=parts.paths.reachable,
            observed_address=parts.observer.observed_address,
            take_observed=parts.endpoints.take_observed,
            was_address_changed=parts.own_endpoints.was_address_changed_recently,
            own_health=parts.services.own_health,
            own_paths=parts.paths.stats,
            own_mtus=parts.paths.mtus,
            answer_relay=parts.relays.answer,
        )

    async def _close(self) -> None:
        """Whatever runs has ended before what it uses is closed."""
        parts = self.parts
        await parts.tasks.stop()
        parts.watch.stop()
        parts.endpoints.close()
        await parts.services.close()
        if parts.exchange is not None:
            await parts.exchange.close()
        await parts.relays.close()
        await parts.prober.stop()
        await in_thread(parts.metrics.close)
        parts.page.close()
        await parts.history.close()
        parts.driver.close()
        parts.feed.close()


async def _until(event: asyncio.Event) -> None:
    await event.wait()
