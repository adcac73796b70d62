"""Follows the turns for the sake of jails: surveys them when it is time, announces what follows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from meshd.backend.events import Recheck
from meshd.blocking import OneThread
from meshd.control.jails import JailKeeper
from meshd.control.registry_feed import RegistryFeed
from meshd.control.turn_queue import TurnQueue
from meshd.control.wake import Wake
from meshd.control.world import NewestWorld, World
from meshd.model.condition import Condition
from meshd.observe.board import ConditionBoard
from meshd.observe.logs import event
from meshd.supervisor import Supervisor

log = logging.getLogger("meshd")


class JailFollower:
    """Lives on the event loop; a survey has a thread of its own, so a tool that hangs holds nobody up."""

    def __init__(
        self,
        jails: JailKeeper,
        feed: RegistryFeed,
        queue: TurnQueue,
        *,
        newest: NewestWorld,
        board: ConditionBoard,
        tasks: Supervisor,
    ) -> None:
        self._jails = jails
        self._feed = feed
        self._queue = queue
        self._newest = newest
        self._board = board
        self._tasks = tasks
        self._one_at_a_time = asyncio.Lock()
        self._thread = OneThread()

    def kernel_changed(self, recheck: Recheck) -> None:
        """Somebody changed interfaces, addresses, routes or jails. Of jails alone no turn comes."""
        is_due = self.take_event(recheck)
        if Recheck.MESH in recheck:
            self._queue.wake(Wake.KERNEL)
        elif is_due:
            self._tasks.spawn("jails", self.survey_now())

    def take_event(self, recheck: Recheck) -> bool:
        """Whether that is a reason for a survey."""
        return self._jails.take_event(recheck)

    async def follow(self, world: World) -> Sequence[Condition]:
        """Survey if it is time, and say in this host's record what the jails make of it."""
        async with self._one_at_a_time:
            if self._jails.is_due(world.view, world.settings.jails):
                await self._survey(world)
            await self._feed.publish_if_changed()
            return self._jails.conditions(world.view, world.settings.jails)

    async def survey_now(self) -> None:
        """By the newest World, without a turn before it."""
        if self._newest.world is not None:
            self._board.set("jails", *await self.follow(self._newest.world))

    async def _survey(self, world: World) -> None:
        jails, interface = world.settings.jails, world.settings.wireguard.interface
        report = await self._thread.run(self._jails.carry_out, world.view, jails, interface)
        self._jails.accept(report, world.view)
        if report.done:
            event(
                log,
                logging.INFO,
                "jail_routes",
                done=len(report.done),
                changes="; ".join(change.summary() for change in report.done[:3]),
            )
