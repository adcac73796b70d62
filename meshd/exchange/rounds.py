"""When witnesses are asked: in rounds, and when a store's two faces would differ for certain."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from typing import Final

from meshd.exchange.conversations import Conversations
from meshd.exchange.stats import StatsRecorder
from meshd.exchange.witness import VIEW_GRACE_SECONDS
from meshd.model.network import Endpoint
from meshd.supervisor import Supervisor

FIRST_ROUND_SECONDS: Final = (2.0, 6.0)
VIEWS_TICK_SECONDS: Final = 10.0
"""However much news there is, views are compared no more often than that."""
VIEWS_SPREAD_SECONDS: Final = (1.0, 6.0)
"""After the moment from which a store's two faces differ for certain; not all hosts ask at once."""


class WitnessRounds:
    """Lives on the event loop. ``step`` is to be repeated for ever."""

    def __init__(
        self,
        conversations: Conversations,
        *,
        witness_seconds: float,
        stats: StatsRecorder,
        tasks: Supervisor,
        rng: random.Random,
    ) -> None:
        """``witness_seconds``: from one round to the next, more or less."""
        self._conversations = conversations
        self._witness_seconds = witness_seconds
        self._stats = stats
        self._tasks = tasks
        self._rng = rng
        self._pause_seconds = min(rng.uniform(*FIRST_ROUND_SECONDS), witness_seconds)
        self._views_due: set[float] = set()
        self._take_observed: Callable[[Sequence[tuple[str, Endpoint]]], None] = lambda seen: None
        self._is_to_look: Callable[[], bool] = lambda: False

    def start(
        self, take_observed: Callable[[Sequence[tuple[str, Endpoint]]], None], is_to_look: Callable[[], bool]
    ) -> None:
        """
        Args:
            take_observed: is told where witnesses, by hid, see this host.
            is_to_look: whether they are to look anew for that.
        """
        self._take_observed, self._is_to_look = take_observed, is_to_look

    async def step(self) -> None:
        """Wait for the next round, and begin it; its end is waited for by nobody."""
        await asyncio.sleep(self._pause_seconds)
        self._pause_seconds = self._witness_seconds * self._rng.uniform(0.85, 1.15)
        self._tasks.spawn("witnesses", self._whole_round())

    async def round(self) -> int:
        """Ask some hosts at once -> how many said where they see us.

        Each answer counts when it comes, and each host's time is bounded: one that is slow keeps neither the
        others' answers back nor the next round.
        """
        self._stats.begin_round()
        look = self._is_to_look()
        asked = [self._ask(hid, look) for hid in self._conversations.choose_witnesses()]
        return sum(await asyncio.gather(*asked))

    def expect_views(self, longest_pause_seconds: float) -> None:
        """Statements are new, and no host looks at its stores less often than that.

        News that a store showed has been seen there by one host: a pause later one that is shown less
        has looked as well. News of an operator has been seen there by all after a pause, and one that is
        shown less has looked once more after two. Then witnesses are asked without waiting for the turn
        of their round, so that how long a split view goes unnoticed does not depend on when that is.
        """
        for pauses in (1, 2):
            now = asyncio.get_running_loop().time()
            due_at = now + pauses * longest_pause_seconds + VIEW_GRACE_SECONDS
            due_at = math.ceil(due_at / VIEWS_TICK_SECONDS) * VIEWS_TICK_SECONDS
            if due_at not in self._views_due:
                self._views_due.add(due_at)
                self._tasks.spawn("witnesses", self._ask_at(due_at))

    async def _ask_at(self, due_at: float) -> None:
        pause = due_at - asyncio.get_running_loop().time()
        await asyncio.sleep(pause + self._rng.uniform(*VIEWS_SPREAD_SECONDS))
        self._views_due.discard(due_at)
        await self._whole_round()

    async def _whole_round(self) -> None:
        await self.round()

    async def _ask(self, hid: str, look: bool) -> bool:
        seen = await self._conversations.ask(hid, look=look)
        if seen is not None:
            self._take_observed([(hid, seen)])
        return seen is not None
