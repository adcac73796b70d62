"""What ``wgctl`` asks of the daemon, verb by verb: a document and an exit code each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from meshd.blocking import in_thread
from meshd.control.host_services import HostServices
from meshd.control.jails import JailKeeper, with_jail_changes
from meshd.control.reconciler import Reconciler
from meshd.control.registry_feed import RegistryFeed
from meshd.control.relays import RelayKeeper
from meshd.control.service_feed import ServiceFeed
from meshd.control.turn import plan_document
from meshd.control.turn_queue import TurnQueue
from meshd.control.world import World
from meshd.daemon.followers import Followers
from meshd.daemon.live_settings import LiveSettings, Reloader
from meshd.daemon.matrix_report import MatrixReporter
from meshd.daemon.path_history import HistoryKeeper
from meshd.daemon.status_report import StatusReporter
from meshd.errors import ConfigError
from meshd.exchange.exchange import Exchange
from meshd.exchange.messages import ObjectsRequest, parse_message, render_message
from meshd.exchange.shared_ledger import SharedLedger
from meshd.mesh.view import build_view
from meshd.observe.path_document import DrainDocument, PathDocument
from meshd.observe.protocol import ApplyDocument, ControlRequest, ObjectsDocument, OfferDocument

FOLLOWERS_SECONDS: Final = 15.0
"""How long the answer to a request waits for those who follow its turn."""
FIRST_TURN_SECONDS: Final = 10.0
"""How long a status waits for the first turn; then it says that it still runs."""
SPREAD_SECONDS: Final = 3.0
"""How long wgctl waits for the other hosts to take what it signed."""


class Requests:
    """``handle`` answers one request; any number may be under way. Lives on the event loop."""

    def __init__(
        self,
        *,
        hid: str,
        live: LiveSettings,
        reloader: Reloader,
        queue: TurnQueue,
        reconciler: Reconciler,
        feed: RegistryFeed,
        jails: JailKeeper,
        services: HostServices,
        service_feed: ServiceFeed,
        followers: Followers,
        reporter: StatusReporter,
        matrix: MatrixReporter,
        history: HistoryKeeper,
        ledger: SharedLedger,
        exchange: Exchange | None,
        relays: RelayKeeper,
        clock: Callable[[], float],
    ) -> None:
        """``clock``: unix seconds."""
        self._hid = hid
        self._live = live
        self._reloader = reloader
        self._queue = queue
        self._reconciler = reconciler
        self._feed = feed
        self._jails = jails
        self._services = services
        self._service_feed = service_feed
        self._followers = followers
        self._reporter = reporter
        self._matrix = matrix
        self._history = history
        self._ledger = ledger
        self._exchange = exchange
        self._relays = relays
        self._clock = clock
        self._is_ready = asyncio.Event()

    def open(self) -> None:
        """The first turn is over: whoever asked meanwhile is answered now."""
        self._is_ready.set()

    async def handle(self, request: ControlRequest) -> tuple[Any, int]:
        """The document and the exit code.

        Raises:
            MeshError: the answer is an error.
        """
        with contextlib.suppress(TimeoutError):
            bound = FIRST_TURN_SECONDS if request.verb in ("status", "matrix") else None
            await asyncio.wait_for(self._is_ready.wait(), bound)
        match request.verb:
            case "status":
                return await self._reporter.status(), 0
            case "matrix":
                _, matrix = await self._matrix.matrix()
                return matrix, 0
            case "history":
                return self._history.trends(request.history), 0
            case "plan":
                return await self._plan()
            case "apply":
                await self._feed.round()
                self._jails.notice()
                return self._applied(await self._followed(await self._queue.apply(force=request.force)))
            case "rollback":
                world = await self._followed(await self._queue.rollback())
                document, code = self._applied(world)
                return document, 0 if world.turn.outcome == "held" else code
            case "poll":
                await self._feed.round()
                return {"generation": self._feed.membership.generation}, 0
            case "reload":
                self._reloader.reload()
                return {}, 0
            case "objects":
                ask = parse_message(bytes(request.ask), ObjectsRequest)
                page = await in_thread(self._ledger.page, ask)
                raw = msgspec.Raw(render_message(page))
                return ObjectsDocument(mesh=self._ledger.mesh_id, page=raw), 0
            case "offer":
                return await self._offer(request)
            case "path" | "drain":
                return self._answer_of_paths(request), 0
            case "service":
                if request.service is None:
                    raise ConfigError("service: nothing is asked")
                self._service_feed.update(self._live.current)
                return await self._services.handle(request.service)

    def _answer_of_paths(self, request: ControlRequest) -> PathDocument | DrainDocument:
        if request.verb == "path":
            return self._relays.describe(request.host, self._clock())
        self._relays.drain(end=request.end)
        return self._relays.drain_document()

    async def _followed(self, world: World) -> World:
        """Once everybody who follows the turn is done, so that what is asked next shows all of it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._followers.followed(world.number), FOLLOWERS_SECONDS)
        return world

    def _applied(self, world: World) -> tuple[ApplyDocument, int]:
        document = world.turn.apply_document(world.settings.wireguard.interface)
        return document, {"held": 4, "failed": 1, "partial": 1}.get(world.turn.outcome, 0)

    async def _plan(self) -> tuple[Any, int]:
        settings, interface = self._live.current, self._live.current.wireguard.interface
        plan = await self._queue.run_between_turns(self._reconciler.plan)
        view = build_view(self._feed.membership, self._hid)
        jail_plan = await in_thread(self._jails.plan, view, settings.jails, interface)
        document = with_jail_changes(plan_document(plan, interface), jail_plan)
        if document.held_because:
            return document, 4
        return document, 5 if document.changes else 0

    async def _offer(self, request: ControlRequest) -> tuple[OfferDocument, int]:
        """An operator's objects: judged like anybody's, and passed on before the answer."""
        if self._exchange is not None:
            hosts, accepted = await self._exchange.spread(request.objects, SPREAD_SECONDS)
        else:
            hosts, accepted = 0, await in_thread(self._ledger.accept, request.objects)
            if accepted.new_objects:
                self._feed.on_news(accepted.new_objects)
        return OfferDocument(mesh=self._ledger.mesh_id, outcomes=accepted.outcomes, hosts=hosts), 0
