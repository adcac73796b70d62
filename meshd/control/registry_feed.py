"""Brings the registry to the data plane: rounds with the stores, news of other hosts, this host's own record.

Three tasks that do not wait for each other, so that a store that hangs holds up nothing but the next round:

* a *registry round* asks the stores, each ``registry.poll_seconds`` and when somebody asks for one;
* *news* is what other hosts brought: it is judged at once;
* the *own record* is signed anew as soon as this host has something else to say of itself.

Each makes a numbered report, of which only newer ones are accepted, and hands its membership on by waking a
turn. Lives on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from meshd.blocking import OneThread, in_thread
from meshd.control.follower import FollowReport, RegistryFollower
from meshd.control.jails import JailKeeper
from meshd.control.own_endpoints import OwnEndpoints
from meshd.control.rotation import Rotation
from meshd.control.turn_queue import TurnQueue
from meshd.control.wake import Wake
from meshd.control.world import World
from meshd.exchange.exchange import Exchange
from meshd.exchange.messages import Object
from meshd.host.local import own_description
from meshd.host.own_record import OwnDescription
from meshd.model.condition import Condition
from meshd.model.host import Membership
from meshd.model.keys import PublicKey
from meshd.observe.board import ConditionBoard
from meshd.observe.logs import event
from meshd.observe.status import StoreStatus
from meshd.registry.sync import spread_pause
from meshd.settings import RegistrySettings, Settings
from meshd.supervisor import Supervisor

log = logging.getLogger("meshd")


class OwnDescriber:
    """What this host says of itself now, from the parts that know it. Lives on the event loop."""

    def __init__(
        self,
        *,
        hid: str,
        settings: Callable[[], Settings],
        rotation: Rotation,
        jails: JailKeeper,
        endpoints: OwnEndpoints,
    ) -> None:
        self._hid = hid
        self._settings = settings
        self._rotation = rotation
        self._jails = jails
        self._endpoints = endpoints
        self._in_kernel = frozenset[PublicKey]()

    def look(self, world: World) -> None:
        """Which keys the interfaces have after a turn."""
        devices = [seen.device for seen in (world.observed, world.second) if seen is not None]
        self._in_kernel = frozenset(each.public_key for each in devices if each and each.public_key)

    def describe(self, membership: Membership) -> OwnDescription:
        """``membership``: says which networks were granted."""
        settings, own = self._settings(), membership.hosts.get(self._hid)
        announced = self._jails.announced(own, settings.jails, settings.jail_networks)
        key, learned = self._rotation.keys.key, self._endpoints.learned
        return own_description(settings, key, announced, learned, in_kernel=self._in_kernel)


class RegistryFeed:
    """``membership`` is the newest verified one. ``start`` begins the tasks."""

    def __init__(
        self,
        follower: RegistryFollower,
        describer: OwnDescriber,
        *,
        settings: Callable[[], Settings],
        rotation: Rotation,
        exchange: Exchange | None,
        queue: TurnQueue,
        board: ConditionBoard,
        tasks: Supervisor,
    ) -> None:
        """
        Args:
            follower: the ledger, the stores and the own record; blocking.
            describer: what this host says of itself.
            rotation: signs with the identity that the newest report names.
            exchange: is told what is new; None: there is none.
        """
        self._follower = follower
        self._describer = describer
        self._settings = settings
        self._rotation = rotation
        self._exchange = exchange
        self._queue = queue
        self._board = board
        self._tasks = tasks
        self._describing = OneThread()
        self._stores = ThreadPoolExecutor(1, "stores")
        self._round_wanted = asyncio.Event()
        self._news_came = asyncio.Event()
        self._report: FollowReport | None = None
        self._described: OwnDescription | None = None
        self.membership = follower.membership()

    # --- life

    def start(self) -> None:
        """Begin the rounds; the first one at once."""
        self._round_wanted.set()
        self._tasks.repeat("stores", self._follow_stores)
        self._tasks.repeat("news", self._follow_news)

    def close(self) -> None:
        """A round under way ends by itself, unheard."""
        self._stores.shutdown(wait=False, cancel_futures=True)

    # --- what others ask

    @property
    def report(self) -> FollowReport | None:
        """The newest one; None: nothing was reported yet."""
        return self._report

    @property
    def store_status(self) -> tuple[StoreStatus, ...]:
        return self._report.stores if self._report is not None else self._follower.store_status()

    def use_settings(self, settings: RegistrySettings) -> None:
        """As a reload has them; the stores themselves stay."""
        self._follower.use_settings(settings)

    def want_round(self) -> None:
        """A registry round, now instead of later; nobody waits for it."""
        self._round_wanted.set()

    async def round(self) -> None:
        """A registry round that an operator asks for, to its end."""
        await self._round(requested=True)

    async def publish_own(self) -> None:
        """Say what this host is now: other hosts hear of it at once, the stores in the round that it starts.

        Not in the stores' thread, where a store that hangs would hold it up.
        """
        self._want()
        self._accept(await self._describing.run(self._follower.describe))
        self._round_wanted.set()

    async def follow(self, world: World) -> Sequence[Condition]:
        """After each turn: the record says the keys that are in force, whatever a store does meanwhile."""
        self._describer.look(world)
        await self.publish_if_changed()
        return ()

    async def publish_if_changed(self) -> None:
        """``publish_own`` where this host has something else to say than it said last."""
        if self._describer.describe(self.membership) != self._described:
            await self.publish_own()

    def on_news(self, objects: Sequence[Object]) -> None:
        """Other hosts, or ``wgctl`` beside this daemon, brought something."""
        event(log, logging.INFO, "news_received", objects=len(objects))
        self._news_came.set()

    # --- the tasks

    async def _follow_stores(self) -> None:
        with contextlib.suppress(TimeoutError):
            pause = spread_pause(self._poll_seconds(), random.uniform(-1, 1))
            await asyncio.wait_for(self._round_wanted.wait(), pause)
        self._round_wanted.clear()
        await self._round(requested=False)

    async def _follow_news(self) -> None:
        await self._news_came.wait()
        self._news_came.clear()
        self._want()
        self._accept(await in_thread(self._follower.settle))

    async def _round(self, *, requested: bool) -> None:
        self._want()
        loop = asyncio.get_running_loop()
        report: FollowReport = await loop.run_in_executor(self._stores, self._follower.follow)
        self._accept(report)
        if self._exchange is not None:
            self._exchange.set_stores_down(not report.reached, requested=requested)

    def _want(self) -> None:
        self._follower.want(self._describer.describe(self.membership))

    def _poll_seconds(self) -> float:
        seconds = self._settings().registry.poll_seconds
        hosts, are_told = len(self.membership.hosts), self._exchange is not None
        return seconds or self._follower.poll_seconds(hosts, are_told=are_told)

    def _accept(self, report: FollowReport) -> None:
        """Of two reports the one with the higher number is newer, whichever comes first."""
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
        if self._report is not None and report.number < self._report.number:
            return
        self._report = report
        self._described = report.described or self._described
        self._rotation.use_identity(self._follower.identity)
        self._board.set("registry", *report.conditions)
        before, self.membership = self.membership, report.membership
        if self.membership is not before:
            if self._exchange is not None and self.membership.generation != before.generation:
                self._exchange.expect_views(spread_pause(self._poll_seconds(), 1))
            self._queue.wake(Wake.REGISTRY)
