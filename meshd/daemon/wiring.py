"""The composition root: puts the daemon's parts together, here and nowhere else.

Everything that touches the machine comes in by ``Doors``. ``open_doors`` opens the real ones, tests hand in
others; what is built from them is the same. Parts are made after those that they use, so nothing is bound
later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

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
from meshd.control.registry_feed import RegistryFeed
from meshd.control.relays import RelayKeeper
from meshd.control.service_feed import ServiceFeed
from meshd.control.turn_queue import TurnQueue
from meshd.control.world import NewestWorld, World
from meshd.daemon.caller import find_group
from meshd.daemon.data_plane import build_data_plane
from meshd.daemon.doors import Doors
from meshd.daemon.driver import TurnDriver
from meshd.daemon.followers import Follower, Followers
from meshd.daemon.ground import (
    Ground,
    build_endpoints,
    build_exchange,
    build_feed,
    build_follower,
    build_relays,
    build_services,
)
from meshd.daemon.live_settings import LiveSettings, Reloader
from meshd.daemon.matrix_report import MatrixReporter
from meshd.daemon.metrics_endpoint import MetricsFollower, MetricsListener
from meshd.daemon.page_source import PageSource
from meshd.daemon.path_history import HistoryKeeper
from meshd.daemon.process import Components, Daemon
from meshd.daemon.requests import Requests
from meshd.daemon.status_report import StatusReporter
from meshd.exchange.exchange import Exchange
from meshd.model.condition import Condition
from meshd.observe.board import ConditionBoard
from meshd.observe.protocol import SOCKET_NAME
from meshd.settings import Settings
from meshd.supervisor import Supervisor

JAILS_SECONDS: Final = 60.0
"""A survey runs several tools for each jail, and each has a time-out of its own."""


class _Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What follows the mesh."""

    jails: JailKeeper
    own_endpoints: OwnEndpoints
    feed: RegistryFeed
    paths: PathWatch
    endpoints: EndpointController
    relays: RelayKeeper
    services: HostServices
    reloader: Reloader


class _Views(msgspec.Struct, frozen=True, kw_only=True):
    """What looks at the parts, and shows them."""

    observer: KernelObserver
    jails: JailFollower
    metrics: MetricsListener
    reporter: StatusReporter
    matrix: MatrixReporter
    history: HistoryKeeper
    page: PageSource
    service_feed: ServiceFeed


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
    follower = build_follower(settings, doors, plane)
    ground = Ground(
        settings=settings,
        doors=doors,
        plane=plane,
        live=LiveSettings(settings),
        queue=TurnQueue(),
        newest=NewestWorld(),
        board=board,
        tasks=tasks,
        exchange=build_exchange(settings, doors, plane.hid, follower.shared_ledger, tasks),
        ledger=follower.shared_ledger,
    )
    parts = _build_parts(ground, follower, read_settings)
    return _build_process(ground, parts, _build_views(ground, parts))


def _build_parts(ground: Ground, follower: RegistryFollower, read_settings: Callable[[], Settings]) -> _Parts:
    doors = ground.doors
    jails = JailKeeper(doors.jail_host, doors.jails_elapsed)
    own_endpoints = OwnEndpoints(
        state=doors.state,
        clock=ground.clock,
        witness_seconds=ground.settings.exchange.witness_seconds,
        source_of=doors.source_of,
        is_own=doors.is_own,
    )
    feed = build_feed(ground, follower, jails, own_endpoints)
    endpoints = build_endpoints(ground, feed, own_endpoints)
    relays = build_relays(ground, endpoints)
    paths = PathWatch(
        doors.prober,
        clock=ground.clock,
        wants_path_mtu=ground.settings.probe.path_mtu,
        queue=ground.queue,
        feed=feed,
        board=ground.board,
        exchange=ground.exchange,
        vias=relays.vias,
        path_changed=relays.path_changed,
    )
    services = build_services(ground)
    reloader = Reloader(
        ground.live,
        read_settings,
        board=ground.board,
        queue=ground.queue,
        feed=feed,
        jails=jails,
        services=services,
    )
    return _Parts(
        jails=jails,
        own_endpoints=own_endpoints,
        feed=feed,
        paths=paths,
        endpoints=endpoints,
        relays=relays,
        services=services,
        reloader=reloader,
    )


def _build_views(ground: Ground, parts: _Parts) -> _Views:
    observer = KernelObserver(
        ground.plane.reconciler,
        ground.queue,
        parts.feed,
        clock=ground.clock,
        steady=ground.doors.clocks.steady,
        tasks=ground.tasks,
        vias=parts.relays.vias,
    )
    metrics = MetricsListener(partial(ground.tasks.report_from_thread, "scrapes"))
    reporter = StatusReporter(
        hid=ground.plane.hid,
        backend_name=ground.doors.backend.name,
        clock=ground.clock,
        newest=ground.newest,
        keys=ground.plane.rotation.keys,
        observer=observer,
        paths=parts.paths,
        feed=parts.feed,
        endpoints=parts.endpoints,
        own_endpoints=parts.own_endpoints,
        board=ground.board,
        exchange=ground.exchange,
        metrics=metrics,
        services=parts.services,
    )
    matrix = MatrixReporter(reporter, ground.exchange)
    history = HistoryKeeper(ground.doors.state, parts.paths, parts.feed, clock=ground.clock)
    return _Views(
        observer=observer,
        jails=JailFollower(
            parts.jails,
            parts.feed,
            ground.queue,
            newest=ground.newest,
            board=ground.board,
            tasks=ground.tasks,
        ),
        metrics=metrics,
        reporter=reporter,
        matrix=matrix,
        history=history,
        page=PageSource(matrix, history.history),
        service_feed=ServiceFeed(
            parts.services, parts.feed, parts.paths, clock=ground.clock, exchange=ground.exchange
        ),
    )


def _build_process(ground: Ground, parts: _Parts, views: _Views) -> Daemon:
    """What runs the parts."""
    followers = _build_followers(ground, parts, views)
    return Daemon(
        Components(
            hid=ground.plane.hid,
            socket=ground.settings.run_dir / SOCKET_NAME,
            control_group=find_group(ground.settings.control.group),
            board=ground.board,
            tasks=ground.tasks,
            queue=ground.queue,
            driver=_build_driver(ground, parts, followers),
            newest=ground.newest,
            followers=followers,
            feed=parts.feed,
            observer=views.observer,
            prober=ground.doors.prober,
            paths=parts.paths,
            own_endpoints=parts.own_endpoints,
            endpoints=parts.endpoints,
            exchange=ground.exchange,
            relays=parts.relays,
            watch=KernelWatch(ground.tasks, ground.doors.open_event_sources),
            jails=views.jails,
            services=parts.services,
            metrics=views.metrics,
            page=views.page,
            history=views.history,
            reloader=parts.reloader,
            requests=_build_requests(ground, parts, views, followers),
        )
    )


def _build_driver(ground: Ground, parts: _Parts, followers: Followers) -> TurnDriver:
    gatherer = InputGatherer(
        feed=parts.feed,
        keys=ground.plane.rotation.keys,
        own_endpoints=parts.own_endpoints,
        endpoints=parts.endpoints,
        paths=parts.paths,
        relays=parts.relays,
    )
    return TurnDriver(
        ground.plane.reconciler,
        ground.queue,
        settings=ground.live,
        gather=gatherer.gather,
        on_world=followers.tell,
        tasks=ground.tasks,
        interval_seconds=ground.doors.pace.turn_seconds,
    )


def _build_requests(ground: Ground, parts: _Parts, views: _Views, followers: Followers) -> Requests:
    return Requests(
        hid=ground.plane.hid,
        live=ground.live,
        reloader=parts.reloader,
        queue=ground.queue,
        reconciler=ground.plane.reconciler,
        feed=parts.feed,
        jails=parts.jails,
        services=parts.services,
        service_feed=views.service_feed,
        followers=followers,
        reporter=views.reporter,
        matrix=views.matrix,
        history=views.history,
        ledger=ground.ledger,
        exchange=ground.exchange,
        relays=parts.relays,
        clock=ground.clock,
    )


def _build_followers(ground: Ground, parts: _Parts, views: _Views) -> Followers:
    """Who is told of each new World, and the reason of the order."""
    metrics = MetricsFollower(views.metrics, views.reporter, views.page)
    return Followers(
        (
            # First what the others ask: the kernel as it is now,
            Follower(name="observation", follow=views.observer.follow),
            # and paths to the peers that there are now.
            Follower(name="probing", follow=parts.paths.aim),
            Follower(name="paths", follow=parts.paths.follow),
            # Who is a member, before anything is sent to members or asked of them:
            Follower(name="members", follow=partial(_tell_members, ground.exchange)),
            # a host whose address is new asks them where they see it.
            Follower(name="names", follow=parts.endpoints.follow),
            # Last of the quick ones: who is reached through whom, from all that was said before.
            Follower(name="relays", follow=parts.relays.follow),
            # These wait for a disk, a socket or a tool, so each has a task of its own.
            Follower(name="own record", follow=parts.feed.follow, is_slow=True),
            Follower(name="metrics", follow=metrics.follow, is_slow=True),
            Follower(name="jails", follow=views.jails.follow, is_slow=True, seconds=JAILS_SECONDS),
            # Last: what the services make of it is nobody's input, and nobody waits for it.
            Follower(
                name="service modules", follow=views.service_feed.follow, is_slow=True, is_awaited=False
            ),
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
