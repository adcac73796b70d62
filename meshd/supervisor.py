"""Every task of the process in one group, and one answer to an exception that nobody expected.

The answer: it is reported, with the name of the part, and it ends nothing but the run that raised it. A
step that is repeated comes again after a pause; a run that nobody repeats is over. The first run of that
part that ends well says that it is well again.

Whatever the event loop calls by itself (a timer, a readable socket, a signal) goes through ``call``, or what
it raises would reach asyncio's log alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Final, ParamSpec, Self

P = ParamSpec("P")

FIRST_PAUSE_SECONDS: Final = 1.0
"""After the first defect of a step that is repeated; doubled with each further one."""
MAX_PAUSE_SECONDS: Final = 60.0
CANCEL_AGAIN_SECONDS: Final = 0.1

Report = Callable[[str, Exception | None], None]
"""(part, what it raised). None: a run of a part that had failed has ended well."""

log = logging.getLogger("meshd")


def log_failure(part: str, error: Exception | None) -> None:
    """A report for whoever has nothing better: the traceback goes to the log."""
    if error is not None:
        log.error("%s failed", part, exc_info=error)


class Supervisor:
    """Owns the tasks from ``async with`` on; leaving it cancels all that are still there.

    Lives on one event loop. A part is a name that an operator can read: several tasks may have one name.
    Only BaseException that is no Exception (a signal's KeyboardInterrupt, SystemExit) ends the group.
    """

    def __init__(
        self, report: Report = log_failure, *, first_pause_seconds: float = FIRST_PAUSE_SECONDS
    ) -> None:
        """
        Args:
            report: is told of every unexpected exception, and of the first good run after one.
            first_pause_seconds: before a step that failed once is repeated.
        """
        self._report = report
        self._first_pause_seconds = first_pause_seconds
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failing: set[str] = set()
        self._is_stopping = False
        self._is_over = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel what runs and wait for its end. What the body raised is raised as it was."""
        await self.stop()
        self._is_over, self._loop = True, None
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def stop(self) -> None:
        """Cancel all tasks and wait for their end: for whoever closes, after it, what they use."""
        self._is_stopping = True
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            # Again after a moment: asyncio.wait_for loses a cancellation that meets its result (bpo-37658).
            await asyncio.wait(self._tasks, timeout=CANCEL_AGAIN_SECONDS)

    def spawn(self, part: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` once. Cancelling the task that is returned is no failure.

        While all is being stopped, and after that, it never begins: what ends might begin the next one for
        ever. The task that is returned is cancelled then.
        """
        if self._is_over:
            work.close()
            task = asyncio.get_running_loop().create_task(_nothing())
            task.cancel()
            return task
        task = self._group.create_task(self._once(part, work), name=part)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # it may be cancelled before it begins
        if self._is_stopping:
            task.cancel()
        return task

    def repeat(self, part: str, step: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Run ``step`` again and again for ever; it waits by itself for what it is repeated for."""
        return self.spawn(part, self._for_ever(part, step))

    def call(self, part: str, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Call what does not wait -> whether it ended well. For callbacks of the event loop."""
        try:
            function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 a defect of ours is reported, whatever it is
            self.failed(part, error)
            return False
        self.succeeded(part)
        return True

    def call_from_thread(
        self, part: str, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """``call`` on the event loop, from any thread; neither before it begins nor after its end."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(partial(self.call, part, function, *args, **kwargs))

    def report_from_thread(self, part: str, error: Exception | None) -> None:
        """What a call in another thread raised, or with None that it ended well. From any thread."""
        if error is not None:
            self.call_from_thread("reports", self.failed, part, error)
        elif part in self._failing:
            self.call_from_thread("reports", self.succeeded, part)

    def failed(self, part: str, error: Exception) -> None:
        """Report a failure of a part that is no task."""
        self._failing.add(part)
        self._report(part, error)

    def succeeded(self, part: str) -> None:
        """The part is well; reported if it was not before."""
        if part in self._failing:
            self._failing.discard(part)
            self._report(part, None)

    async def _once(self, part: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 a defect of ours is reported, whatever it is
            self.failed(part, error)
        else:
            self.succeeded(part)

    async def _for_ever(self, part: str, step: Callable[[], Awaitable[None]]) -> None:
        pause = self._first_pause_seconds
        while not self._is_stopping:
            try:
                await step()
            except Exception as error:  # noqa: BLE001 a defect of ours is reported, whatever it is
                self.failed(part, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
            else:
                self.succeeded(part)
                pause = self._first_pause_seconds


async def _nothing() -> None:
    """A task that is cancelled before it begins has to be one of something."""
