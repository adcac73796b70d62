"""An event loop whose time is virtual: where a real one would sleep, this one sets its clock forward."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

from meshd.blocking import BEGIN

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

CALL_SECONDS: Final = (0.02, 0.2)
"""What a blocking call takes: a few round trips between continents."""


ROUND_SECONDS: Final = 1e-9
"""What a round of the loop takes."""


class StalledError(AssertionError):
    """Nothing is ready and nobody waits for a time: the simulation would stand still for ever."""


class _JumpingSelector(selectors.DefaultSelector):
    """Sockets are looked at and never waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise StalledError("no event and no timer")
        # A round takes time too: who waits for what is left by rounding would wait at one instant for ever.
        self.now += ROUND_SECONDS if ready or timeout is None else max(timeout, ROUND_SECONDS)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """One thread does everything, in an order that follows from the seed, blocking calls among it."""

    def __init__(self, rng: random.Random) -> None:
        """``rng``: draws what a blocking call takes."""
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = 1e-9
        self._rng = rng

    def time(self) -> float:
        return self._jumping.now

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Any = None
    ) -> asyncio.Handle:
        """There are no other threads."""
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Called when its turn on the loop comes, and over at once."""
        future: asyncio.Future[T] = self.create_future()
        self.call_soon(_carry_out, future, func, args)
        return future

    def begin(self, call: Callable[[], None]) -> None:
        """What ``meshd.blocking`` begins: made here, after as long as such a call takes."""
        self.call_later(self._rng.uniform(*CALL_SECONDS), call)

    def simulate(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` to its end, and close the loop."""
        asyncio.set_event_loop(self)
        token = BEGIN.set(self.begin)
        try:
            return self.run_until_complete(work)
        finally:
            BEGIN.reset(token)
            asyncio.set_event_loop(None)
            self.close()


def _carry_out(future: asyncio.Future[T], func: Callable[..., T], args: tuple[Any, ...]) -> None:
    if future.cancelled():
        return
    try:
        result = func(*args)
    except Exception as error:  # noqa: BLE001 whoever waits is told, whatever it is
        future.set_exception(error)
    else:
        future.set_result(result)
