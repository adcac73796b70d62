"""The composition root: puts the daemon's parts together, here and nowhere else.

Everything that touches the machine comes in by ``Doors``. ``open_doors`` opens the real ones, tests hand in
others; what is built from them is the same. Parts are made after those that they use, so nothing is bound
later.

Over 400 lines: who is given what is seen in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from meshd.control.endpoints import EndpointController
from meshd.control.follower import RegistryFollower
from meshd.control.host_services import HostServices
from meshd.control.inputs import InputGatherer
from meshd.control.jail_follower import JailFollower
from meshd.control.jails import JailKeeper
from meshd.control.kernel_watch import KernelWatch
from meshd.control.observer import KernelObserver
from meshd.control.own_endpoints import OwnEndpoints
from meshd.control.paths import PathWatch
from meshd.control.registry_feed import OwnDescriber, RegistryFeed
from meshd.control.relay_host import RelayHost
from meshd.control.relays import RelayKeeper
from meshd.control.resolver import NameResolver
from meshd.control.service_feed import ServiceFeed
from meshd.control.turn_queue import TurnQueue
from meshd.control.wake import Wake
from meshd.control.world import NewestWorld, World
from meshd.daemon.caller import find_group
from meshd.daemon.data_plane import DataPlaneParts, build_data_plane
from meshd.daemon.doors import Doors
from meshd.daemon.driver import TurnDriver
from meshd.daemon.followers import Follower, Followers
from meshd.daemon.live_settings import LiveSettings, Reloader
from meshd.daemon.matrix_report import MatrixReporter
from meshd.daemon.metrics_endpoint import MetricsFollower, MetricsListener
from meshd.daemon.page_source import PageSource
from meshd.daemon.path_history import HistoryKeeper
from meshd.daemon.process import Components, Daemon
from meshd.daemon.requests import Requests
from meshd.daemon.status_report import StatusReporter
from meshd.exchange.exchange import Exchange
from meshd.exchange.shared_ledger import SharedLedger
from meshd.model.condition import Condition
from meshd.observe.board import ConditionBoard
from meshd.observe.protocol import SOCKET_NAME
from meshd.settings import Settings
from meshd.supervisor import Supervisor

JAILS_SECONDS: Final = 60.0
"""A survey runs several tools for each jail, and each has a time-out of its own."""

if TYPE_CHECKING:
    from meshd.control.services import ServiceFollower


class _Ground(msgspec.Struct, frozen=True, kw_only=True):
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


def build_daemon(settings: Settings, doors: Doors, read_settings: Callable[[], Settings]) -> Daemon:
    """The daemon, ready to run.

    Args:
        read_settings: what a reload reads.

    Raises:
        ConfigError: no store is named, or a store's URL is wrong.
        TrustStateError: the trust state is damaged.
    """
    plane = build_data_plane(settings, doors)
    board = ConditionBoard(doors.clocks.wall, {"registry": plane.conditions})
    tasks = Supervisor(board.report_part)
    follower = _build_follower(settings, doors, plane)
    ground = _Ground(
        settings=settings,
        doors=doors,
        plane=plane,
        live=LiveSettings(settings),
        queue=TurnQueue(),
        newest=NewestWorld(),
        board=board,
        tasks=tasks,
        exchange=_build_exchange(settings, doors, plane.hid, follower.shared_ledger, tasks),
        ledger=follower.shared_ledger,
    )
    jails = JailKeeper(doors.jail_host, doors.jails_elapsed)
    own_endpoints = OwnEndpoints(
        state=doors.state,
        clock=ground.clock,
        witness_seconds=settings.exchange.witness_seconds,
        source_of=doors.source_of,
        is_own=doors.is_own,
    )
    feed = _build_feed(ground, follower, jails, own_endpoints)
    endpoints = _build_endpoints(ground, feed, own_endpoints)
    relays = _build_relays(ground, endpoints)
    paths = PathWatch(
        doors.prober,
        clock=ground.clock,
        wants_path_mtu=settings.probe.path_mtu,
        queue=ground.queue,
        feed=feed,
        board=board,
        exchange=ground.exchange,
        vias=relays.vias,
        path_changed=relays.path_changed,
    )
    services = _build_services(ground)
    reloader = Reloader(
        ground.live,
        read_settings,
        board=board,
        queue=ground.queue,
        feed=feed,
        jails=jails,
        services=services,
    )
    return _build_process(ground, jails, own_endpoints, feed, paths, endpoints, relays, reloader, services)


def _build_process(
    ground: _Ground,
    jails: JailKeeper,
    own_endpoints: OwnEndpoints,
    feed: RegistryFeed,
    paths: PathWatch,
    endpoints: EndpointController,
    relays: RelayKeeper,
    reloader: Reloader,
    services: HostServices,
) -> Daemon:
    """What runs the parts, and what shows them.

    Over 60 lines: one list of parts, in the order of what needs what.
    """
    plane, queue = ground.plane, ground.queue
    observer = KernelObserver(
        plane.reconciler,
        queue,
        feed,
        clock=ground.clock,
        steady=ground.doors.clocks.steady,
        tasks=ground.tasks,
        vias=relays.vias,
    )
    jail_follower = JailFollower(
        jails, feed, queue, newest=ground.newest, board=ground.board, tasks=ground.tasks
    )
    metrics = MetricsListener(partial(ground.tasks.report_from_thread, "scrapes"))
    reporter = StatusReporter(
        hid=plane.hid,
        backend_name=ground.doors.backend.name,
        clock=ground.clock,
        newest=ground.newest,
        keys=plane.rotation.keys,
        observer=observer,
        paths=paths,
        feed=feed,
        endpoints=endpoints,
        own_endpoints=own_endpoints,
        board=ground.board,
        exchange=ground.exchange,
        metrics=metrics,
        services=services,
    )
    matrix = MatrixReporter(reporter, ground.exchange)
    history = HistoryKeeper(ground.doors.state, paths, feed, clock=ground.clock)
    page = PageSource(matrix, history.history)
    service_feed = ServiceFeed(services, feed, paths, clock=ground.clock, exchange=ground.exchange)
    followers = _build_followers(
        ground,
        observer,
        feed,
        paths,
        endpoints,
        relays,
        MetricsFollower(metrics, reporter, page),
        jail_follower,
        service_feed,
    )
    gatherer = InputGatherer(
        feed=feed,
        keys=plane.rotation.keys,
        own_endpoints=own_endpoints,
        endpoints=endpoints,
        paths=paths,
        relays=relays,
    )
    return Daemon(
        Components(
            hid=plane.hid,
            socket=ground.settings.run_dir / SOCKET_NAME,
            control_group=find_group(ground.settings.control.group),
            board=ground.board,
            tasks=ground.tasks,
            queue=queue,
            driver=TurnDriver(
                plane.reconciler,
                queue,
                settings=ground.live,
                gather=gatherer.gather,
                on_world=followers.tell,
                tasks=ground.tasks,
                interval_seconds=ground.doors.pace.turn_seconds,
            ),
            newest=ground.newest,
            followers=followers,
            feed=feed,
            observer=observer,
            prober=ground.doors.prober,
            paths=paths,
            own_endpoints=own_endpoints,
            endpoints=endpoints,
            exchange=ground.exchange,
            relays=relays,
            watch=KernelWatch(ground.tasks, ground.doors.open_event_sources),
            jails=jail_follower,
            services=services,
            metrics=metrics,
            page=page,
            history=history,
            reloader=reloader,
            requests=Requests(
                hid=plane.hid,
                live=ground.live,
                reloader=reloader,
                queue=queue,
                reconciler=plane.reconciler,
                feed=feed,
                jails=jails,
                services=services,
                service_feed=service_feed,
                followers=followers,
                reporter=reporter,
                matrix=matrix,
                history=history,
                ledger=ground.ledger,
                exchange=ground.exchange,
                relays=relays,
                clock=ground.clock,
            ),
        )
    )


def _build_followers(
    ground: _Ground,
    observer: KernelObserver,
    feed: RegistryFeed,
    paths: PathWatch,
    endpoints: EndpointController,
    relays: RelayKeeper,
    metrics: MetricsFollower,
    jails: JailFollower,
    services: ServiceFeed,
) -> Followers:
    """Who is told of each new World, and the reason of the order."""
    return Followers(
        (
            # First what the others ask: the kernel as it is now,
            Follower(name="observation", follow=observer.follow),
            # and paths to the peers that there are now.
            Follower(name="probing", follow=paths.aim),
            Follower(name="paths", follow=paths.follow),
            # Who is a member, before anything is sent to members or asked of them:
            Follower(name="members", follow=partial(_tell_members, ground.exchange)),
            # a host whose address is new asks them where they see it.
            Follower(name="names", follow=endpoints.follow),
            # Last of the quick ones: who is reached through whom, from all that was said before.
            Follower(name="relays", follow=relays.follow),
            # These wait for a disk, a socket or a tool, so each has a task of its own.
            Follower(name="own record", follow=feed.follow, is_slow=True),
            Follower(name="metrics", follow=metrics.follow, is_slow=True),
            Follower(name="jails", follow=jails.follow, is_slow=True, seconds=JAILS_SECONDS),
            # Last: what the services make of it is nobody's input, and nobody waits for it.
            Follower(name="service modules", follow=services.follow, is_slow=True, is_awaited=False),
        ),
        ground.board,
        ground.newest,
    )


async def _tell_members(exchange: Exchange | None, world: World) -> Sequence[Condition]:
    if exchange is not None:
        seen = world.observed
        await exchange.follow(
            world.membership,
            is_up=seen is not None and seen.up,
            has_ipv6=seen is None or not seen.ipv6_off,
        )
    return ()


def _build_follower(settings: Settings, doors: Doors, plane: DataPlaneParts) -> RegistryFollower:
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


def _build_exchange(
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


def _build_feed(
    ground: _Ground, follower: RegistryFollower, jails: JailKeeper, own_endpoints: OwnEndpoints
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


def _build_endpoints(ground: _Ground, feed: RegistryFeed, own_endpoints: OwnEndpoints) -> EndpointController:
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


def _build_relays(ground: _Ground, endpoints: EndpointController) -> RelayKeeper:
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


def _build_services(ground: _Ground) -> HostServices:
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
