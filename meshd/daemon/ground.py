"""What the parts of a daemon are built from, and those that are built from that alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from meshd.control.endpoints import EndpointController
from meshd.control.follower import RegistryFollower
from meshd.control.host_services import HostServices
from meshd.control.jails import JailKeeper
from meshd.control.own_endpoints import OwnEndpoints
from meshd.control.registry_feed import OwnDescriber, RegistryFeed
from meshd.control.relay_host import RelayHost
from meshd.control.relays import RelayKeeper
from meshd.control.resolver import NameResolver
from meshd.control.turn_queue import TurnQueue
from meshd.control.wake import Wake
from meshd.control.world import NewestWorld
from meshd.daemon.data_plane import DataPlaneParts
from meshd.daemon.doors import Doors
from meshd.daemon.live_settings import LiveSettings
from meshd.exchange.exchange import Exchange
from meshd.exchange.shared_ledger import SharedLedger
from meshd.model.condition import Condition
from meshd.observe.board import ConditionBoard
from meshd.settings import Settings
from meshd.supervisor import Supervisor

if TYPE_CHECKING:
    from meshd.control.services import ServiceFollower


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What nearly every part is given."""

    settings: Settings
    doors: Doors
    plane: DataPlaneParts
    live: LiveSettings
    queue: TurnQueue
    newest: NewestWorld
    board: ConditionBoard
    tasks: Supervisor
    exchange: Exchange | None
    ledger: SharedLedger

    @property
    def clock(self) -> Callable[[], float]:
        return self.doors.clocks.wall


def build_follower(settings: Settings, doors: Doors, plane: DataPlaneParts) -> RegistryFollower:
    return RegistryFollower(
        ledger=plane.ledger,
        cache=plane.cache,
        identity=doors.state.read_identity(),
        find_identity=doors.state.find_identity,
        hid=plane.hid,
        stores=doors.open_stores(plane.ledger.membership(0).store_urls),
        clock=doors.clocks.wall,
        stale_after_seconds=settings.registry.stale_after_seconds,
    )


def build_exchange(
    settings: Settings, doors: Doors, hid: str, ledger: SharedLedger, tasks: Supervisor
) -> Exchange | None:
    if not settings.exchange.enabled or doors.exchange_addresses is None:
        return None
    return Exchange(
        shared_ledger=ledger,
        hid=hid,
        port=settings.exchange.port,
        witness_seconds=settings.exchange.witness_seconds,
        clock=doors.clocks.wall,
        tasks=tasks,
        mesh_addresses_of=doors.exchange_addresses,
        rng=doors.rng,
        wire=doors.exchange_wire,
        monotonic=doors.clocks.monotonic,
    )


def build_feed(
    ground: Ground, follower: RegistryFollower, jails: JailKeeper, own_endpoints: OwnEndpoints
) -> RegistryFeed:
    return RegistryFeed(
        follower,
        OwnDescriber(
            hid=ground.plane.hid,
            settings=ground.live,
            rotation=ground.plane.rotation,
            jails=jails,
            endpoints=own_endpoints,
        ),
        settings=ground.live,
        rotation=ground.plane.rotation,
        exchange=ground.exchange,
        queue=ground.queue,
        board=ground.board,
        tasks=ground.tasks,
    )


def build_endpoints(ground: Ground, feed: RegistryFeed, own_endpoints: OwnEndpoints) -> EndpointController:
    return EndpointController(
        own_endpoints,
        NameResolver(
            partial(ground.queue.wake, Wake.NAMES),
            ground.tasks,
            lookup=ground.doors.lookup,
            retry_seconds=ground.doors.pace.resolve_again_seconds,
        ),
        prober=ground.doors.prober,
        queue=ground.queue,
        feed=feed,
        board=ground.board,
        tasks=ground.tasks,
        forget_sources=ground.plane.reconciler.forget_sources,
        ask_witnesses=ground.exchange.witness_round if ground.exchange is not None else None,
    )


def build_relays(ground: Ground, endpoints: EndpointController) -> RelayKeeper:
    doors, tasks = ground.doors, ground.tasks
    return RelayKeeper(
        ground.plane.hid,
        host=RelayHost(lambda port: doors.open_relay(port, tasks), doors.clocks.monotonic),
        exchange=ground.exchange,
        queue=ground.queue,
        board=ground.board,
        tasks=tasks,
        paths=lambda: doors.prober.snapshot(ground.clock()),
        resolved=lambda: endpoints.resolved,
        now=doors.clocks.monotonic,
        probe_now=doors.prober.probe_now,
        open_echo=doors.open_echo,
    )


def build_services(ground: Ground) -> HostServices:
    def changed(conditions: tuple[Condition, ...]) -> None:
        ground.board.set("services", *conditions)

    def load() -> ServiceFollower:
        from meshd.control.services import ServiceFollower

        return ServiceFollower(
            hid=ground.plane.hid,
            state_dir=ground.settings.state_dir,
            clock=ground.clock,
            tasks=ground.tasks,
            changed=changed,
            problems=ground.board.conditions,
        )

    services = HostServices(load)
    services.configure(ground.settings.services, "settings")
    return services
