"""What probing says of the paths to other hosts: what is wrong, whom to talk to, what the next turn needs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from meshd.control.path_mtu import PathMtus, probe_targets
from meshd.control.reachability import reachable_hosts, unreachable
from meshd.control.registry_feed import RegistryFeed
from meshd.control.turn_queue import TurnQueue
from meshd.control.wake import Wake
from meshd.control.world import World
from meshd.errors import BackendError
from meshd.exchange.exchange import Exchange
from meshd.model.condition import Condition, Severity
from meshd.model.path import PathStats
from meshd.observe.board import ConditionBoard
from meshd.observe.logs import event
from meshd.probe.base import Prober
from meshd.probe.events import MtuChanged, PathChanged, Paused
from meshd.supervisor import Supervisor

JUDGING_SHARE_SECONDS: Final = 0.001
"""Times the number of peers: how long it is at least from one look at all of them, and the turn that it
wakes, to the next, where paths come up or die by the dozen. Each is a matter for all of them, and a mesh that
starts, or loses a region, would cost its square."""

log = logging.getLogger("meshd")


class PathWatch:
    """Aims the prober after each turn, and hears from it in between. Lives on the event loop."""

    def __init__(
        self,
        prober: Prober,
        *,
        clock: Callable[[], float],
        wants_path_mtu: bool,
        queue: TurnQueue,
        feed: RegistryFeed,
        board: ConditionBoard,
        exchange: Exchange | None,
        vias: Callable[[], Mapping[str, str]],
        path_changed: Callable[[], None],
    ) -> None:
        """
        Args:
            clock: unix seconds.
            wants_path_mtu: routes get the MTU that their path was found to carry.
            exchange: is told of paths that come up; None: there is none.
            vias: hosts that are reached through another one, by hid the hid of that one.
            path_changed: is told when a path has come up or died.
        """
        self._prober = prober
        self._clock = clock
        self._mtus = PathMtus(prober, wanted=wants_path_mtu)
        self._queue = queue
        self._feed = feed
        self._board = board
        self._exchange = exchange
        self._vias = vias
        self._tell_changed = path_changed
        self._world: World | None = None
        self._reachable: set[str] | None = None
        self._is_to_judge = asyncio.Event()
        self._wakes: set[Wake] = set()
        """What the next look at all paths is to wake a turn for."""

    async def start(self, tasks: Supervisor) -> None:
        """Open the prober's sockets; a system that refuses them is the condition ``probe_failed``."""
        try:
            await self._prober.start(tasks)
        except BackendError as error:
            self._board.set(
                "prober",
                Condition(
                    code="probe_failed",
                    severity=Severity.WARNING,
                    text=f"{error}; paths are not measured",
                ),
            )

    # --- what others ask

    def stats(self) -> Mapping[str, PathStats]:
        """By hid; ``via`` is a hid too."""
        found = self._prober.snapshot(self._clock())
        vias = self._vias()
        if not vias:
            return found
        return {
            hid: msgspec.structs.replace(path, via=vias[hid]) if hid in vias else path
            for hid, path in found.items()
        }

    def mtus(self) -> Mapping[str, int]:
        """By hid, the largest packet that is known to pass, bytes."""
        return self._prober.path_mtus()

    def route_mtus(self) -> Mapping[str, int] | None:
        """The same for the routes; None: they are to have no MTU of their own."""
        return self._mtus.found()

    def reachable(self) -> set[str]:
        """The hids of hosts that answer over the mesh; not to be changed."""
        if self._reachable is None:
            world = self._world
            view, observed = (world.view, world.observed) if world is not None else (None, None)
            self._reachable = reachable_hosts(view, observed, self._prober.answering(), self._clock())
        return self._reachable

    # --- after each turn

    async def aim(self, world: World) -> Sequence[Condition]:
        """Measure the peers that the kernel has now."""
        self._prober.set_targets(
            probe_targets(
                world.view,
                world.observed,
                world.second,
                world.turn.deferred,
                search_mtu=world.settings.probe.path_mtu,
            )
        )
        return ()

    async def follow(self, world: World) -> Sequence[Condition]:
        """What is wrong with the paths to the peers that there are now."""
        self._world, self._reachable = world, None
        return self._conditions(world)

    def _conditions(self, world: World) -> tuple[Condition, ...]:
        mtu_bytes = world.settings.wireguard.mtu_bytes
        return (
            *unreachable(world.view, self.stats()),
            *self._mtus.conditions(world.view, mtu_bytes, self._clock()),
        )

    # --- what the prober finds

    def listen(self, tasks: Supervisor) -> None:
        """From now on what it finds is known at once, not in the next turn."""
        tasks.repeat("paths", self._take_events)
        tasks.repeat("path conditions", self._judge)

    async def _take_events(self) -> None:
        found = await self._prober.events()
        for each in found:
            match each:
                case PathChanged():
                    self._path_changed(each)
                case MtuChanged():
                    self._mtu_changed(each)
                case Paused(seconds=seconds):
                    self._paused(seconds)
        self._is_to_judge.set()
        if any(isinstance(each, PathChanged) for each in found):
            self._tell_changed()
        if self._exchange is not None:
            for each in found:
                if isinstance(each, PathChanged) and each.up:
                    self._exchange.path_up(each.hid)

    async def _judge(self) -> None:
        """Something was found: what is wrong now. Several finds in a row are one look at all paths, and one
        turn: a region that is lost is hundreds of paths within seconds."""
        await self._is_to_judge.wait()
        self._is_to_judge.clear()
        wakes, self._wakes = self._wakes, set()
        for wake in sorted(wakes):
            self._queue.wake(wake)
        world = self._world
        if world is not None:
            self._board.set("paths", *self._conditions(world))
            await asyncio.sleep(JUDGING_SHARE_SECONDS * len(world.view.peers))

    def _path_changed(self, change: PathChanged) -> None:
        if change.up and self._reachable is not None:
            self._reachable.add(change.hid)
        elif not change.up:
            self._reachable = None  # WireGuard may have a session with it yet
        level = logging.INFO if change.up else logging.WARNING
        event(log, level, "path_up" if change.up else "path_down", host=self._name(change.hid))
        if not change.up:
            self._wakes.add(Wake.PATH_DOWN)

    def _mtu_changed(self, change: MtuChanged) -> None:
        old, new = change.old_bytes, change.new_bytes
        level = logging.WARNING if old is not None and new < old else logging.INFO
        event(log, level, "path_mtu", host=self._name(change.hid), old=old, new=new)
        self._mtus.note(change.hid, old, new, self._clock())
        self._wakes.add(Wake.PATH_MTU)

    def _paused(self, seconds: float) -> None:
        """This process or the machine stood still: sessions may be over, and news was missed."""
        event(log, logging.WARNING, "paused", seconds=round(seconds, 1))
        self._queue.wake(Wake.PAUSE)
        self._feed.want_round()

    def _name(self, hid: str) -> str:
        hosts = self._feed.membership.hosts
        return hosts[hid].name if hid in hosts else hid
