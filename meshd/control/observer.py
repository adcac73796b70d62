"""The kernel as somebody wants to see it between two turns: not older than a second, nobody waits for long.

Looking changes nothing: see ``meshd.control.sense``. Many who ask at once cost one look.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Any, Final

from meshd.blocking import is_own_thread
from meshd.control.own_endpoints import observed_address
from meshd.control.reconciler import Reconciler
from meshd.control.registry_feed import RegistryFeed
from meshd.control.sense import Observation
from meshd.control.turn_queue import TurnQueue
from meshd.control.world import World
from meshd.errors import MeshError
from meshd.model.condition import Condition
from meshd.supervisor import Supervisor

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
        steady: Callable[[], float],
        tasks: Supervisor,
        vias: Callable[[], Mapping[str, str]],
    ) -> None:
        """
        Args:
            clock: unix seconds, as handshakes are dated by them.
            steady: seconds of a clock that nobody sets and that goes on while the machine sleeps: a clock
                that is set back makes nothing fresh, and no observation older than the one before it.
            vias: hosts that are reached through another one, by hid the hid of that one.
        """
        self._reconciler = reconciler
        self._queue = queue
        self._feed = feed
        self._clock = clock
        self._steady = steady
        self._tasks = tasks
        self._vias = vias
        self._looking: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.newest: Observation | None = None

    async def follow(self, world: World) -> Sequence[Condition]:
        """A turn has observed the kernel."""
        self._loop = asyncio.get_running_loop()
        if world.observed is not None and world.second is not None:
            self._take(
                Observation(
                    at=world.at, steady_at=world.turn.steady_at, main=world.observed, second=world.second
                )
            )
        return ()

    async def look(self) -> Observation | None:
        """The kernel as it is, or as it was seen last while it keeps us waiting; None: it never told.

        A refusal is in the last turn's conditions already, a tool that hangs will be in the next one's.
        """
        if self.newest is None or self._steady() - self.newest.steady_at > FRESH_SECONDS:
            if self._looking is None or self._looking.done():
                self._looking = self._tasks.spawn("looks", self._observe())
            await asyncio.wait((self._looking,), timeout=OBSERVE_TIMEOUT_SECONDS)
        return self.newest

    def observed_address(self, hid: str, look: bool) -> str:
        """At which endpoint this host sees that one, or empty; from any thread but the loop's.

        Args:
            look: anew; else what was seen last counts.
        """
        if look and self._loop is not None:
            _wait_for(self.look(), self._loop)
        if hid in self._vias():
            return ""  # its packets come from the host that forwards them
        host = self._feed.membership.hosts.get(hid)
        return observed_address(host, self.newest.main if self.newest else None, self._clock())

    async def _observe(self) -> None:
        with contextlib.suppress(MeshError):  # the next turn meets the same, and reports it
            self._take(await self._queue.run_between_turns(self._reconciler.observe))

    def _take(self, seen: Observation) -> None:
        if self.newest is None or seen.steady_at >= self.newest.steady_at:
            self.newest = seen


def _wait_for(work: Coroutine[Any, Any, object], loop: asyncio.AbstractEventLoop) -> None:
    """For the loop's answer; whoever gets none in time goes by what was there before. So does the loop's own
    thread, which cannot wait for itself."""
    if is_own_thread(loop):
        work.close()
        return
    try:
        answer = asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError:  # the loop has ended
        work.close()
        return
    with contextlib.suppress(TimeoutError, CancelledError):
        answer.result(CALLER_TIMEOUT_SECONDS)
