"""Wakes the daemon when somebody changes interfaces, addresses, routes or jails under it.

Only a wake-up: what changed is read by the next turn. Our own changes wake us too, except for routes of ours
that come on Linux, where they say so; the turn after them finds nothing to do, so it ends there. What no
source tells, the turn that comes every few seconds finds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from meshd.backend.events import EventSource, Recheck, open_event_sources
from meshd.observe.logs import event
from meshd.supervisor import Supervisor

SETTLE_SECONDS: Final = 0.05
"""Changes come in bunches: a lost interface takes its addresses and routes with it."""
LEAST_PAUSE_SECONDS: Final = 1.0
LOOKS_AT_ONCE: Final = 5
"""A host that speaks BGP sees thousands of changes that are not ours: one look a second, in the long run.
After a quiet time the first few come at once, because a change by hand is several: an address that
comes, the settings, an address that goes, each with traffic waiting for our look."""
HEAR_AGAIN_SECONDS: Final = 5.0
"""Before a source is heard again whose word was a defect of ours; it may have the same one to say."""
AGAIN_SECONDS: Final = (1.0, 5.0)
"""A jail's address comes before the jail, and a VNET jail's addresses come seconds after it."""

PART: Final = "kernel events"
"""What a defect is reported as."""

log = logging.getLogger("meshd")


class KernelWatch:
    """Calls back on the event loop soon after a change; without sources, never."""

    def __init__(
        self, tasks: Supervisor, open_sources: Callable[[], Sequence[EventSource]] = open_event_sources
    ) -> None:
        self._tasks = tasks
        self._open_sources = open_sources
        self._sources: Sequence[EventSource] = ()
        self._wake: Callable[[Recheck], None] | None = None
        self._told = Recheck.NONE
        self._later = Recheck.NONE
        self._timer: asyncio.TimerHandle | None = None
        self._again: list[asyncio.TimerHandle] = []
        self._silenced: dict[int, asyncio.TimerHandle] = {}
        self._woken_at: deque[float] = deque(maxlen=LOOKS_AT_ONCE)

    def start(self, wake: Callable[[Recheck], None]) -> None:
        """``wake`` is told of all that any source has advised since it was called last."""
        self._wake = wake
        self._sources = self._open_sources()
        for source in self._sources:
            self._hear(source)

    def stop(self) -> None:
        loop = asyncio.get_running_loop()
        for timer in (self._timer, *self._again, *self._silenced.values()):
            if timer is not None:
                timer.cancel()
        for source in self._sources:
            loop.remove_reader(source.fileno())
            source.close()
        self._sources = ()

    def _hear(self, source: EventSource) -> None:
        asyncio.get_running_loop().add_reader(source.fileno(), self._readable, source)

    def _readable(self, source: EventSource) -> None:
        """A source that raises stays readable, so it is left alone for a while."""
        if not self._tasks.call(PART, self._changed, source):
            loop = asyncio.get_running_loop()
            loop.remove_reader(source.fileno())
            self._silenced[source.fileno()] = loop.call_later(HEAR_AGAIN_SECONDS, self._hear, source)

    def _changed(self, source: EventSource) -> None:
        news = source.take()
        if not news.recheck:
            return
        event(log, logging.DEBUG, "kernel_changed", what=news.what)
        self._arm(news.recheck)
        if news.later:
            self._later |= news.later
            loop = asyncio.get_running_loop()
            for timer in self._again:  # of a burst, the last change counts
                timer.cancel()
            looks = [self._look_again] * (len(AGAIN_SECONDS) - 1) + [self._look_for_the_last_time]
            self._again = [
                loop.call_later(seconds, self._tasks.call, PART, look)
                for seconds, look in zip(AGAIN_SECONDS, looks, strict=True)
            ]

    def _look_again(self) -> None:
        self._arm(self._later)

    def _look_for_the_last_time(self) -> None:
        self._look_again()
        self._later = Recheck.NONE

    def _arm(self, look: Recheck) -> None:
        self._told |= look
        if self._timer is None:
            loop = asyncio.get_running_loop()
            at = loop.time() + SETTLE_SECONDS
            if len(self._woken_at) == LOOKS_AT_ONCE:
                at = max(at, self._woken_at[0] + LOOKS_AT_ONCE * LEAST_PAUSE_SECONDS)
            self._timer = loop.call_at(at, self._tasks.call, PART, self._tell)

    def _tell(self) -> None:
        self._timer = None
        self._woken_at.append(asyncio.get_running_loop().time())
        told, self._told = self._told, Recheck.NONE
        if self._wake is not None:
            self._wake(told)
