"""Acts on what ``whereabouts`` finds: the loop's side of names, candidates and reflection.

A host that sends from another address than before speaks to every peer at once, so that they follow
by WireGuard's roaming, then asks some of them where they see it now, and says that in its record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from meshd.blocking import in_thread
from meshd.control.turn import Turn
from meshd.control.whereabouts import Whereabouts
from meshd.model.condition import Condition
from meshd.model.network import Endpoint
from meshd.observe.logs import event
from meshd.settings import Settings
from meshd.supervisor import Supervisor

LEAST_PAUSE_SECONDS: Final = 0.1
LOOK_AROUND_SECONDS: Final = (0.3, 1.0, 3.0, 10.0)
"""Pauses before the questions of a host that has moved, until somebody answers."""

log = logging.getLogger("meshd")


class Say(Protocol):
    def __call__(self, source: str, *conditions: Condition) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LookoutHooks:
    """``wake``: compare the kernel with what is wanted now. ``publish``: this host's record says something
    else. ``forget_sources``: WireGuard is to send from where the routes say. ``nudge``: speak to every
    peer. ``ask``: some peers where they see us -> how many said so."""

    wake: Callable[[], None]
    say: Say
    publish: Callable[[], Awaitable[None]]
    forget_sources: Callable[[], Awaitable[None]]
    nudge: Callable[[], None]
    ask: Callable[[], Awaitable[int]] | None


class Lookout:
    """Lives on the event loop."""

    def __init__(self, whereabouts: Whereabouts, *, clock: Callable[[], float]) -> None:
        self._whereabouts = whereabouts
        self._clock = clock
        self._hooks: LookoutHooks | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: Supervisor | None = None
        self._is_asking = False

    def start(self, hooks: LookoutHooks, tasks: Supervisor) -> None:
        self._hooks, self._tasks = hooks, tasks
        self._whereabouts.start(hooks.wake, tasks)

    def close(self) -> None:
        self._hooks = None
        self._whereabouts.close()
        if self._timer is not None:
            self._timer.cancel()

    def follow(self, turn: Turn) -> None:
        """After each turn: resolve what is to be resolved, come back when a candidate's time is over,
        speak up when this host is somewhere else."""
        hooks = self._hooks
        if turn.observed is None or hooks is None:
            return
        has_moved = self._whereabouts.follow(turn.view, turn.observed)
        hooks.say("names", *self._whereabouts.conditions())
        if has_moved:
            event(log, logging.INFO, "underlay_changed", source=self._whereabouts.source)
            self._spawn(self._speak_up(hooks))
        elif turn.moved:
            hooks.nudge()
            self._spawn(self._look_around(hooks))
        self._arm(hooks)

    def sighted(self, sightings: Sequence[tuple[str, Endpoint]], settings: Settings) -> None:
        """Peers, by hid, say where they see this host."""
        hooks = self._hooks
        if (
            hooks is not None
            and settings.host.reflection
            and self._whereabouts.sighted(
                sightings, listen_port=settings.wireguard.listen_port, configured=settings.endpoints
            )
        ):
            self._spawn(self._publish(hooks))

    async def _publish(self, hooks: LookoutHooks) -> None:
        learned = self._whereabouts.learned
        event(
            log,
            logging.INFO,
            "endpoints_learned",
            behind_nat=learned.behind_nat,
            endpoints=" ".join(map(str, learned.endpoints)) or "none",
        )
        await hooks.publish()
        hooks.say("learned", *await in_thread(self._whereabouts.save))

    async def _speak_up(self, hooks: LookoutHooks) -> None:
        await hooks.forget_sources()
        hooks.nudge()
        await self._look_around(hooks)

    async def _look_around(self, hooks: LookoutHooks) -> None:
        if hooks.ask is None or self._is_asking:
            return
        self._is_asking = True
        try:
            for pause in LOOK_AROUND_SECONDS:
                await asyncio.sleep(pause)
                if await hooks.ask():
                    return
        finally:
            self._is_asking = False

    def _arm(self, hooks: LookoutHooks) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._whereabouts.look_at is not None:
            pause = max(self._whereabouts.look_at - self._clock(), LEAST_PAUSE_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(pause, hooks.wake)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._tasks is not None
        self._tasks.spawn("endpoints", work)
