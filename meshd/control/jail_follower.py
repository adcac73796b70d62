"""Follows the turns for the sake of jails: surveys them when it is time, announces what follows."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from meshd.backend.events import Recheck
from meshd.blocking import in_thread
from meshd.control.jails import JailKeeper
from meshd.control.registry_feed import RegistryFeed
from meshd.control.turn_queue import TurnQueue
from meshd.control.wake import Wake
from meshd.control.world import World
from meshd.model.condition import Condition
from meshd.observe.logs import event

log = logging.getLogger("meshd")


class JailFollower:
    """Lives on the event loop; a survey has a thread of its own, so a tool that hangs holds nobody up."""

    def __init__(self, jails: JailKeeper, feed: RegistryFeed, queue: TurnQueue) -> None:
        self._jails = jails
        self._feed = feed
        self._queue = queue

    def kernel_changed(self, recheck: Recheck) -> None:
        """Somebody changed interfaces, addresses, routes or jails: a turn, and perhaps a survey after it."""
        self._jails.take_event(recheck)
        self._queue.wake(Wake.KERNEL)

    async def follow(self, world: World) -> Sequence[Condition]:
        """Survey if it is time, and say in this host's record what the jails make of it."""
        settings = world.settings
        if not self._jails.is_due(world.view.own, settings.jails):
            return self._jails.conditions
        report = await in_thread(
            self._jails.carry_out, world.view, settings.jails, settings.wireguard.interface
        )
        self._jails.accept(report)
        if report.done:
            event(
                log,
                logging.INFO,
                "jail_routes",
                done=len(report.done),
                changes="; ".join(change.summary() for change in report.done[:3]),
            )
        await self._feed.publish_if_changed()
        return self._jails.conditions
