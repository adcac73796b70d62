"""One blocking call in a thread of its own, which ends with it.

A pool would keep its threads, and so their stacks, in a daemon that mostly waits; and Python
waits for a pool's threads before it exits, which is not worth anybody's while here.

``BEGIN`` is the one place that knows of threads: whoever runs a whole fleet on one loop and a clock of its
own has the calls made there, at a time of its choice.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Begin = Callable[[Callable[[], None]], None]
"""Sees to it that what it is given is called, and does not wait for it."""


def begin_thread(call: Callable[[], None]) -> None:
    """In a thread of its own."""
    threading.Thread(target=call, name="blocking-call", daemon=True).start()


BEGIN: Final[ContextVar[Begin]] = ContextVar("begin", default=begin_thread)
"""How a blocking call begins."""


async def in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``call`` returns or raises. When the waiting is cancelled, the call ends unheard."""
    return await start_in_thread(call, *args, **kwargs)


class OneThread:
    """Blocking calls of which the next one begins when the last one has ended, even one given up.

    For whatever is called again and again under a bound of time: a call that hangs has one thread then, and
    not one more with each that follows. Lives on the event loop.
    """

    def __init__(self) -> None:
        self._last: asyncio.Future[Any] | None = None

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``call`` returns or raises. When the waiting is cancelled, the call ends unheard."""
        while self._last is not None and not self._last.done():
            await asyncio.wait((self._last,))
        self._last = running = start_in_thread(call, *args, **kwargs)
        running.add_done_callback(_hear)
        return await asyncio.shield(running)


def start_in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """``in_thread`` for whoever waits with a bound and wants to hear of the end all the same."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(set_outcome: Callable[[Any], None], outcome: Any) -> None:
        if not future.done():
            set_outcome(outcome)

    def run() -> None:
        set_outcome: Callable[[Any], None] = future.set_result
        outcome: Any
        try:
            outcome = call(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - the caller is told, whatever it is
            set_outcome, outcome = future.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(tell, set_outcome, outcome)

    BEGIN.get()(run)
    return future


def ask_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], T], seconds: float) -> T:
    """What a call on the loop returns, for another thread. On the loop's own thread it is made at once.

    Raises:
        TimeoutError: the loop has no time for it.
        RuntimeError: the loop has ended.
    """
    if is_own_thread(loop):
        return call()

    async def answer() -> T:
        return call()

    work = answer()
    try:
        return asyncio.run_coroutine_threadsafe(work, loop).result(seconds)
    except RuntimeError:
        work.close()
        raise


def is_own_thread(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop runs in the thread that asks."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _hear(ended: asyncio.Future[Any]) -> None:
    """Nobody may be left to whom what it raised matters."""
    if not ended.cancelled():
        ended.exception()
