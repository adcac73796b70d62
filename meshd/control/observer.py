"""The kernel as somebody wants to see it between two turns: not older than a second, nobody waits for long.

Looking changes nothing: see ``meshd.control.sense``. Many who ask at once cost one look.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from meshd.control.own_endpoints import observed_address
from meshd.control.reconciler import Reconciler
from meshd.control.registry_feed import RegistryFeed
from meshd.control.sense import Observation
from meshd.control.turn_queue import TurnQueue
from meshd.control.world import World
from meshd.model.condition import Condition

FRESH_SECONDS: Final = 1.0
"""An observation younger than this is shown without asking the kernel again."""
OBSERVE_TIMEOUT_SECONDS: Final = 2.0
"""After so long without an answer of the kernel what was seen last is shown."""
CALLER_TIMEOUT_SECONDS: Final = 5.0
"""How long another thread waits for the event loop."""


class KernelObserver:
    """``newest`` is a value that ``look`` may replace. Lives on the event loop, but ``observed_address``."""

    def __init__(
        self,
        reconciler: Reconciler,
        queue: TurnQueue,
        feed: RegistryFeed,
        *,
        clock: Callable[[], float],
    ) -> None:
        """``clock``: unix seconds."""
        self._reconciler = reconciler
        self._queue = queue
        self._feed = feed
        self._clock = clock
        self._looking: asyncio.Task[Observation] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.newest: Observation | None = None

    async def follow(self, world: World) -> Sequence[Condition]:
        """A turn has observed the kernel."""
        self._loop = asyncio.get_running_loop()
        if world.observed is not None and world.second is not None:
            self.newest = Observation(at=world.at, main=world.observed, second=world.second)
        return ()

    async def look(self) -> Observation | None:
        """The kernel as it is, or as it was seen last while it keeps us waiting; None: it never told.

        A refusal is in the last turn's conditions already, a tool that hangs will be in the next one's.
        """
        if self.newest is None or self._clock() - self.newest.at > FRESH_SECONDS:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.get_running_loop().create_task(self._observe())
                self._looking.add_done_callback(_hear)
            with contextlib.suppress(Exception):  # the next turn meets the same, and reports it
                await asyncio.wait_for(asyncio.shield(self._looking), OBSERVE_TIMEOUT_SECONDS)
        return self.newest

    def close(self) -> None:
        """Nobody waits for a look any more."""
        if self._looking is not None:
            self._looking.cancel()

    def observed_address(self, hid: str, look: bool) -> str:
        """At which endpoint this host sees that one, or empty; from any thread but the loop's.

        Args:
            look: anew; else what was seen last counts.
        """
        if look and self._loop is not None:
            with contextlib.suppress(Exception):  # what was seen last is shown then, as to anybody
                asyncio.run_coroutine_threadsafe(self.look(), self._loop).result(CALLER_TIMEOUT_SECONDS)
        host = self._feed.membership.hosts.get(hid)
        return observed_address(host, self.newest.main if self.newest else None, self._clock())

    async def _observe(self) -> Observation:
        seen = await self._queue.run_between_turns(self._reconciler.observe)
        if self.newest is None or seen.at >= self.newest.at:
            self.newest = seen
        return seen


def _hear(looked: asyncio.Task[Observation]) -> None:
    """Everybody who asked may have gone by then, and nobody else is to be told of what it raised."""
    if not looked.cancelled():
        looked.exception()
