"""The running daemon: one asyncio loop, one thread for the kernel, one for the stores, one for news.

The order at start is the promise: cache, verify, reduce, configure WireGuard, and only then
the network, because the store may be reachable through the mesh alone. Ending the daemon
ends nothing else: interface, peers and routes stay.

Over 400 lines because it is the one place where all parts meet; each part and every judgement is in a
module of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec

from meshd.backend.base import Backend
from meshd.backend.events import Recheck
from meshd.blocking import in_thread
from meshd.control.follower import FollowReport, RegistryFollower
from meshd.control.jails import JailKeeper, JailTurn, with_jail_changes
from meshd.control.kernel_watch import KernelWatch
from meshd.control.lookout import Lookout, LookoutHooks
from meshd.control.path_mtu import PathMtus, probe_targets
from meshd.control.reachability import reachable_hosts, unreachable
from meshd.control.reconciler import Reconciler
from meshd.control.rotation import Rotation
from meshd.control.services import ServiceFollower, ServiceInputs
from meshd.control.turn import Turn, plan_document
from meshd.control.whereabouts import Whereabouts, seen_at
from meshd.daemon.conditions import Alarms
from meshd.daemon.control_socket import ControlServer
from meshd.daemon.figures import exchange_status
from meshd.daemon.metrics_endpoint import Scrapes
from meshd.errors import BackendError, ConfigError
from meshd.exchange.exchange import Exchange, ExchangeHooks
from meshd.exchange.messages import Object, ObjectsRequest, parse_message, render_message
from meshd.host.local import boot_file, local_device, own_description
from meshd.host.own_record import OwnDescription
from meshd.host.reload import refuse_fixed
from meshd.mesh.view import build_view
from meshd.model.condition import Condition, Severity
from meshd.model.device import ObservedState
from meshd.model.host import Membership
from meshd.observe.logs import event, set_up_logging
from meshd.observe.protocol import SOCKET_NAME, ApplyDocument, ControlRequest, ObjectsDocument, OfferDocument
from meshd.observe.snapshot import Facts, build_status
from meshd.observe.status import ConditionStatus, ReconcileCounters, Status
from meshd.probe.base import Prober
from meshd.probe.events import MtuChanged, PathChanged, Paused
from meshd.registry.sync import spread_pause
from meshd.settings import Settings
from meshd.version import read_version

RECONCILE_SECONDS: Final = 10.0
"""How often the kernel is compared with the registry when nothing asks for it sooner."""
FRESH_SECONDS: Final = 1.0
"""An observation younger than this answers a status request without asking the kernel again."""
LOOK_SECONDS: Final = 2.0
"""How long a status request waits for the kernel before it shows what was seen last."""
STATUS_TIMEOUT_SECONDS: Final = 5.0
"""How long a scrape waits for the loop."""
TELL_SECONDS: Final = 3.0
"""How long wgctl waits for the other hosts to take what it signed."""
DAY_SECONDS: Final = 86400.0

log = logging.getLogger("meshd")


class Daemon:
    """Receives its parts, wires them, and runs until ``stop``."""

    def __init__(
        self,
        *,
        settings: Settings,
        read_settings: Callable[[], Settings],
        rotation: Rotation,
        hid: str,
        backend: Backend,
        reconciler: Reconciler,
        whereabouts: Whereabouts,
        follower: RegistryFollower,
        prober: Prober,
        clock: Callable[[], float],
        exchange: Exchange | None = None,
        watch: KernelWatch | None = None,
        jails: JailKeeper | None = None,
        conditions: tuple[Condition, ...] = (),
    ) -> None:
        self._settings = settings
        self._read_settings = read_settings
        self._rotation = rotation
        self._keys = rotation.keys
        self._hid = hid
        self._backend = backend
        self._reconciler = reconciler
        self._whereabouts = whereabouts
        self._lookout = Lookout(whereabouts, clock=clock)
        self._follower = follower
        self._prober = prober
        self._clock = clock
        self._exchange = exchange
        self._kernel = ThreadPoolExecutor(1, "kernel")
        self._stores = ThreadPoolExecutor(1, "stores")
        self._wake_news = asyncio.Event()
        self._kernel_lock = asyncio.Lock()
        self._wake_registry = asyncio.Event()
        self._wake_kernel = asyncio.Event()
        self._wake_jails = asyncio.Event()
        self._look_timer: asyncio.TimerHandle | None = None
        self._watch = watch
        self._jails = jails or JailKeeper(None)
        self._started = asyncio.Event()
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._alarms = Alarms(clock, conditions)
        self._scrapes = Scrapes()
        self._path_mtus = PathMtus(prober, wanted=settings.probe.path_mtu)
        self._counters = ReconcileCounters()
        self._services = ServiceFollower(
            hid=hid,
            state_dir=settings.state_dir,
            clock=clock,
            changed=lambda conditions: self._alarms.say("services", *conditions),
        )
        self._services.configure(settings.services, "settings")
        self._started_at = clock()
        self._membership = follower.membership()
        self._followed: FollowReport | None = None
        self._turn: Turn | None = None
        self._observed: tuple[float, ObservedState] | None = None

    # --- life

    async def run(self) -> None:
        """Serve until ``stop``; ConfigError or ControlError when it cannot start at all."""
        self._loop = asyncio.get_running_loop()
        control = ControlServer(self._settings.run_dir / SOCKET_NAME, self._handle)
        await control.start()
        self._lookout.start(
            LookoutHooks(
                wake=self._wake_kernel.set,
                say=self._alarms.say,
                publish=self._publish_own,
                forget_sources=self._forget_sources,
                nudge=self._prober.probe_now,
                ask=self._exchange.witness_round if self._exchange is not None else None,
            )
        )
        try:
            await self._describe()
            self._wake_kernel.clear()
            await self._reconcile()
            await self._start_prober()
            self._start_exchange()
            self._services.start()
            self._started.set()
            if self._watch is not None:
                self._watch.start(self._kernel_changed)
            tasks = [
                asyncio.create_task(loop)
                for loop in (
                    self._follow_loop(),
                    self._kernel_loop(),
                    self._news_loop(),
                    self._path_loop(),
                    self._jail_loop(),
                )
            ]
            stopping = asyncio.create_task(self._stopping.wait())
            event(log, logging.INFO, "started", hid=self._hid[:8], version=read_version())
            finished, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in (*tasks, stopping):
                task.cancel()
            for task in finished - {stopping}:
                task.result()  # a loop never ends by itself: this raises what ended it
        finally:
            if self._watch is not None:
                self._watch.stop()
            self._lookout.close()
            await self._services.close()
            await control.close()
            if self._exchange is not None:
                await self._exchange.close()
            await self._prober.stop()
            await asyncio.to_thread(self._scrapes.close)
            self._kernel.shutdown(wait=False, cancel_futures=True)
            self._stores.shutdown(wait=False, cancel_futures=True)
            event(log, logging.INFO, "stopped", mesh="left up")

    def stop(self) -> None:
        self._stopping.set()

    def reload_quietly(self) -> None:
        """``reload`` for a signal handler: the condition says what is wrong."""
        with contextlib.suppress(ConfigError):
            self.reload()

    def reload(self) -> None:
        """Read the settings again; wrong ones change nothing, open a condition and raise."""
        try:
            fresh = self._read_settings()
            refuse_fixed(self._settings, fresh)
            self._services.configure(fresh.services, "settings")
        except ConfigError as error:
            self._alarms.say(
                "settings",
                Condition(
                    code="settings_refused",
                    severity=Severity.WARNING,
                    text=f"{error}; the settings from before stay in force",
                ),
            )
            raise
        self._alarms.say("settings")
        if fresh.log != self._settings.log:
            set_up_logging(fresh.log.level, fresh.log.format)
        self._follower.use_settings(fresh.registry)
        self._settings = fresh
        self._jails.notice()
        event(log, logging.INFO, "reloaded")
        self._wake_registry.set()
        self._wake_kernel.set()

    # --- loops

    async def _follow_loop(self) -> None:
        while True:
            self._wake_registry.clear()
            await self._follow()
            await _wait(self._wake_registry, spread_pause(self._poll_seconds(), random.uniform(-1, 1)))

    async def _kernel_loop(self) -> None:
        while True:
            await _wait(self._wake_kernel, RECONCILE_SECONDS)
            self._wake_kernel.clear()
            await self._reconcile()

    async def _path_loop(self) -> None:
        while True:
            await self._follow_paths()

    async def _news_loop(self) -> None:
        """What follows from objects that other hosts brought; a store that hangs does not delay it."""
        while True:
            await self._wake_news.wait()
            self._wake_news.clear()
            self._heed(await in_thread(self._follower.settle, self._own_description()))

    def _poll_seconds(self) -> float:
        seconds = self._settings.registry.poll_seconds
        return seconds or self._follower.poll_seconds(len(self._membership.hosts))

    # --- registry

    async def _describe(self) -> None:
        self._heed(await self._in(self._stores, self._follower.describe, self._own_description()))

    def _own_description(self) -> OwnDescription:
        own = self._membership.hosts.get(self._hid)
        announced = self._jails.announced(own, self._settings.jails, self._settings.jail_networks)
        return own_description(self._settings, self._keys.key, announced, self._whereabouts.learned)

    async def _follow(self, *, asked: bool = False) -> None:
        report: FollowReport = await self._in(self._stores, self._follower.follow, self._own_description())
        self._heed(report)
        if self._exchange is not None:
            self._exchange.set_stores_down(not report.reached, requested=asked)

    def _heed(self, report: FollowReport) -> None:
        if report.fresh:
            event(
                log,
                logging.INFO,
                "registry_changed",
                objects=len(report.fresh),
                generation=report.membership.generation,
            )
            if self._exchange is not None:
                self._exchange.publish(report.fresh)
        if self._followed is not None and report.number < self._followed.number:
            return  # two threads made reports, and the newer one was heard first
        self._followed = report
        self._rotation.use_identity(self._follower.identity)
        self._alarms.say("registry", *report.conditions)
        self._take(report.membership)

    # --- the other hosts

    def _start_exchange(self) -> None:
        if self._exchange is not None:
            self._exchange.start(
                ExchangeHooks(
                    changed=self._news_came,
                    raised=lambda conditions: self._alarms.say("exchange", *conditions),
                    reachable=self._reachable,
                    sees=self._sees,
                    sighted=lambda sightings: self._lookout.sighted(sightings, self._settings),
                    is_unsettled=lambda: self._whereabouts.is_unsettled,
                )
            )

    def _news_came(self, objects: Sequence[Object]) -> None:
        event(log, logging.INFO, "news_received", objects=len(objects))
        self._wake_news.set()

    def _sees(self, hid: str, look: bool) -> str:
        """At which endpoint this host sees that one; from any thread but the loop's."""
        if look and self._loop is not None:
            with contextlib.suppress(Exception):  # what was seen last is said then, as to anybody
                looking = asyncio.run_coroutine_threadsafe(self._look_afresh(), self._loop)
                looking.result(STATUS_TIMEOUT_SECONDS)
        observed = self._observed[1] if self._observed else None
        return seen_at(self._membership.hosts.get(hid), observed, self._clock())

    async def _forget_sources(self) -> None:
        """What a failure costs is the time until WireGuard notices by itself."""
        wireguard = self._settings.wireguard
        async with self._kernel_lock:
            for name in filter(None, (wireguard.interface, wireguard.rotation_interface)):
                with contextlib.suppress(BackendError):
                    await self._in(self._kernel, self._reconciler.forget_sources, name)

    async def _publish_own(self) -> None:
        """Other hosts hear of it at once, the stores in the round that this starts."""
        self._heed(await in_thread(self._follower.describe, self._own_description()))
        self._wake_registry.set()
        self._wake_kernel.set()

    def _reachable(self) -> set[str]:
        now = self._clock()
        return reachable_hosts(self._turn, self._prober.snapshot(now), now)

    async def _offer(self, request: ControlRequest) -> tuple[OfferDocument, int]:
        """An operator's objects: judged like anybody's, and passed on before the answer."""
        if self._exchange is not None:
            hosts, accepted = await self._exchange.spread(request.objects, TELL_SECONDS)
        else:
            hosts, accepted = 0, await in_thread(self._follower.shared_ledger.accept, request.objects)
            self._wake_news.set()
        mesh = self._follower.shared_ledger.mesh_id
        return OfferDocument(mesh=mesh, outcomes=accepted.outcomes, hosts=hosts), 0

    def _take(self, membership: Membership) -> None:
        if membership is not self._membership:
            if self._exchange is not None and membership.generation != self._membership.generation:
                self._exchange.expect_views(spread_pause(self._poll_seconds(), 1))
            self._membership = membership
            self._wake_kernel.set()

    # --- kernel

    def _kernel_changed(self, look: Recheck) -> None:
        is_due = self._jails.hear(look)
        if Recheck.MESH in look:
            self._wake_kernel.set()
        elif is_due:
            self._wake_jails.set()

    async def _jail_loop(self) -> None:
        """What changed of jails alone is no reason to look at the mesh."""
        while True:
            await self._wake_jails.wait()
            self._wake_jails.clear()
            if self._turn is not None:
                await self._tend_jails(self._turn)

    async def _reconcile(self, *, force: bool = False, asked: bool = False, undo: bool = False) -> Turn:
        settings, path_mtus = self._settings, self._path_mtus.found()
        async with self._kernel_lock:
            paths = self._prober.snapshot(self._clock())
            turn: Turn = await self._in(
                self._kernel,
                lambda: self._reconciler.turn(
                    self._membership,
                    local_device(settings, self._keys.key, self._whereabouts.learned),
                    max_removed_share=settings.safety.max_removed_share,
                    boot_file=boot_file(settings),
                    path_mtus=path_mtus,
                    force=force,
                    key_lifetime_seconds=settings.wireguard.key_lifetime_days * DAY_SECONDS,
                    paths=paths,
                    confirm_seconds=settings.safety.confirm_seconds,
                    asked=asked,
                    undo=undo,
                ),
            )
        self._note(turn)
        self._aim_prober(turn)
        await self._serve_metrics(turn)
        self._watch_paths(turn)
        self._lookout.follow(turn)
        if turn.rekeyed:
            event(log, logging.INFO, "key_rotation", state=self._rotation.status().state)
            await self._describe()
            self._wake_registry.set()
        if turn.look_again_seconds is not None:
            self._look_after(turn.look_again_seconds)
        if self._exchange is not None:
            is_up = turn.observed is not None and turn.observed.up
            await self._exchange.follow(turn.view.membership, is_up=is_up)
        await self._tend_jails(turn)  # late: what hangs there keeps nothing of the mesh waiting
        self._services.update(self._service_inputs())
        return turn

    def _look_after(self, seconds: float) -> None:
        """One timer, however many turns ask for it."""
        if self._look_timer is not None:
            self._look_timer.cancel()
        self._look_timer = asyncio.get_running_loop().call_later(seconds, self._wake_kernel.set)

    def _note(self, turn: Turn) -> None:
        self._turn = turn
        if turn.observed is not None:
            self._observed = (turn.at, turn.observed)
        self._counters = turn.counted(self._counters)
        self._alarms.say("kernel", *turn.conditions)
        if turn.outcome == "unchanged":
            event(log, logging.DEBUG, "unchanged", seconds=round(turn.duration_seconds, 4))
        elif turn.plan is not None and turn.outcome != "held":
            reasons = sorted({change.reason for change in turn.plan.changes})
            event(
                log,
                logging.INFO,
                "reconciled",
                outcome=turn.outcome,
                done=turn.done,
                failed=len(turn.failed),
                not_attempted=turn.not_attempted,
                generation=turn.view.membership.generation,
                seconds=round(turn.duration_seconds, 4),
                reasons="; ".join(reasons[:3]) + ("; ..." if len(reasons) > 3 else ""),
            )

    async def _tend_jails(self, mesh: Turn) -> None:
        settings = self._settings
        async with self._kernel_lock:
            turn: JailTurn = await self._in(
                self._kernel, self._jails.turn, mesh.view, settings.jails, settings.wireguard.interface
            )
        self._alarms.say("jails", *turn.conditions)
        if turn.done:
            event(
                log,
                logging.INFO,
                "jail_routes",
                done=len(turn.done),
                changes="; ".join(change.summary() for change in turn.done[:3]),
            )
        own = self._membership.hosts.get(self._hid)
        if turn.looked and own is not None and self._jails.has_news(own, settings.jails):
            # Not in the stores' thread, where one that hangs would hold it up.
            self._heed(await in_thread(self._follower.describe, self._own_description()))
            self._wake_registry.set()

    # --- probing

    async def _start_prober(self) -> None:
        try:
            await self._prober.start()
        except BackendError as error:
            self._alarms.say(
                "prober",
                Condition(
                    code="probe_failed",
                    severity=Severity.WARNING,
                    text=f"{error}; paths are not measured",
                ),
            )

    def _aim_prober(self, turn: Turn) -> None:
        self._prober.set_targets(
            probe_targets(
                turn.view,
                turn.observed,
                turn.second,
                turn.awaited,
                search_mtu=self._settings.probe.path_mtu,
            )
        )

    async def _follow_paths(self) -> None:
        """What the prober found is reported at once, not with the next turn."""
        found = await self._prober.events()
        for each in found:
            match each:
                case PathChanged():
                    self._path_changed(each)
                case MtuChanged():
                    self._mtu_changed(each)
                case Paused(seconds=seconds):
                    event(log, logging.WARNING, "paused", seconds=round(seconds, 1))
                    self._wake_registry.set()  # news was missed
        if self._turn is not None:
            self._watch_paths(self._turn)
        if any(not isinstance(each, PathChanged) or not each.up for each in found):
            self._wake_kernel.set()  # routes follow an MTU, another endpoint a dead path
        if self._exchange is not None:
            for each in found:
                if isinstance(each, PathChanged) and each.up:
                    self._exchange.path_up(each.hid)

    def _path_changed(self, change: PathChanged) -> None:
        level = logging.INFO if change.up else logging.WARNING
        event(log, level, "path_up" if change.up else "path_down", host=self._name_of(change.hid))

    def _mtu_changed(self, change: MtuChanged) -> None:
        old, new = change.old_bytes, change.new_bytes
        level = logging.WARNING if old is not None and new < old else logging.INFO
        event(log, level, "path_mtu", host=self._name_of(change.hid), old=old, new=new)
        self._path_mtus.note(change.hid, old, new, self._clock())

    def _name_of(self, hid: str) -> str:
        host = self._turn.view.membership.hosts.get(hid) if self._turn else None
        return host.name if host else hid

    def _watch_paths(self, turn: Turn) -> None:
        self._whereabouts.paths = paths = self._prober.snapshot(self._clock())
        mtus = self._path_mtus.conditions(turn.view, self._settings.wireguard.mtu_bytes, self._clock())
        self._alarms.say("paths", *unreachable(turn.view, paths), *mtus)

    # --- what others see

    def conditions(self) -> tuple[ConditionStatus, ...]:
        """What is wrong now."""
        return self._alarms.statuses()

    async def _look_afresh(self) -> None:
        """Have an observation that is no older than a second, unless the kernel keeps us waiting."""
        now = self._clock()
        if self._observed is None or now - self._observed[0] > FRESH_SECONDS:
            # A refusal is in the last turn's conditions already, a tool that hangs will be in the next's.
            with contextlib.suppress(BackendError, TimeoutError):
                await asyncio.wait_for(self._look(now), LOOK_SECONDS)

    async def status(self) -> Status:
        """Everything known now; counters no older than a second, unless the kernel keeps us waiting."""
        now = self._clock()
        await self._look_afresh()
        followed, turn = self._followed, self._turn
        assert turn is not None
        observed = (
            self._observed[1]
            if self._observed
            else ObservedState(interface=self._settings.wireguard.interface)
        )
        return build_status(
            Facts(
                at=now,
                version=read_version(),
                started_at=self._started_at,
                hid=self._hid,
                view=turn.view,
                observed=observed,
                backend=self._backend.name,
                key_created_at=self._keys.key.created_at,
                second=turn.second,
                rotation=self._rotation.status(),
                services=self._services.status(),
                paths=self._prober.snapshot(now),
                path_mtus=self._prober.path_mtus(),
                stores=followed.stores if followed else self._follower.store_status(),
                verified_at=followed.verified_at if followed else None,
                applied_generation=self._reconciler.applied_generation,
                change=self._reconciler.wayback.status(),
                conditions=self.conditions(),
                last_plan=turn.plan_status(),
                counters=self._counters,
                metrics_urls=self._scrapes.urls,
                learned=self._whereabouts.learned.endpoints,
                explain_endpoint=self._whereabouts.explain,
                exchange=exchange_status(self._exchange.stats()) if self._exchange else None,
            )
        )

    async def _look(self, now: float) -> None:
        observe, name = self._reconciler.observe, self._settings.wireguard.interface
        async with self._kernel_lock:
            self._observed = (now, await self._in(self._kernel, observe, name))

    async def _handle(self, request: ControlRequest) -> tuple[Any, int]:
        await self._started.wait()  # whoever asks during the first turn is answered after it
        match request.verb:
            case "status":
                return await self.status(), 0
            case "plan":
                return await self._plan()
            case "apply":
                await self._follow(asked=True)
                self._jails.notice()
                return self._applied(await self._reconcile(force=request.force, asked=True))
            case "rollback":
                turn = await self._reconcile(undo=True)
                document, code = self._applied(turn)
                return document, 0 if turn.outcome == "held" else code
            case "poll":
                await self._follow(asked=True)
                return {"generation": self._membership.generation}, 0
            case "reload":
                self.reload()
                return {}, 0
            case "objects":
                ask = parse_message(bytes(request.ask), ObjectsRequest)
                page = await in_thread(self._follower.shared_ledger.page, ask)
                raw = msgspec.Raw(render_message(page))
                return ObjectsDocument(mesh=self._follower.shared_ledger.mesh_id, page=raw), 0
            case "offer":
                return await self._offer(request)
            case "service":
                return await self._service(request)

    def _applied(self, turn: Turn) -> tuple[ApplyDocument, int]:
        document = turn.apply_document(self._settings.wireguard.interface)
        return document, {"held": 4, "failed": 1, "partial": 1}.get(turn.outcome, 0)

    async def _plan(self) -> tuple[Any, int]:
        settings = self._settings
        async with self._kernel_lock:
            plan = await self._in(
                self._kernel,
                self._reconciler.plan,
                self._membership,
                local_device(settings, self._keys.key, self._whereabouts.learned),
                settings.safety.max_removed_share,
                self._path_mtus.found(),
            )
            view, interface = build_view(self._membership, self._hid), settings.wireguard.interface
            jail_plan = await self._in(self._kernel, self._jails.plan, view, settings.jails, interface)
        document = with_jail_changes(plan_document(plan, settings.wireguard.interface), jail_plan)
        if document.held_because:
            return document, 4
        return document, 5 if document.changes else 0

    def _service_inputs(self) -> ServiceInputs:
        now, followed = self._clock(), self._followed
        verified_at = followed.verified_at if followed else None
        silent = verified_at is None or now - verified_at > self._settings.registry.stale_after_seconds
        return ServiceInputs(
            membership=self._membership,
            paths=self._prober.snapshot(now),
            verified_at=verified_at,
            stale=silent and not (self._exchange is not None and self._reachable()),
            now=now,
        )

    async def _service(self, request: ControlRequest) -> tuple[Any, int]:
        if request.service is None:
            raise ConfigError("service: nothing is asked")
        self._services.update(self._service_inputs())
        return await self._services.handle(request.service)

    async def _serve_metrics(self, turn: Turn) -> None:
        self._scrapes.follow(turn.view.membership, turn.view.own)
        wanted = self._scrapes.wants(self._settings.metrics, turn.view.own)
        if wanted is None:
            return
        loop = asyncio.get_running_loop()

        def current() -> Status:
            return asyncio.run_coroutine_threadsafe(self.status(), loop).result(STATUS_TIMEOUT_SECONDS)

        problem = await asyncio.to_thread(self._scrapes.serve, wanted, current)
        self._alarms.say("metrics", *([problem] if problem else []))

    async def _in(self, pool: ThreadPoolExecutor, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: call(*arguments))


async def _wait(wake: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(wake.wait(), seconds)
