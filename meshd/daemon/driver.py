"""The one place that runs turns, one after another, and knows why each ran.

A turn is one pass of sense, decide, act and record (``meshd.control.reconciler``) in the one kernel
thread. Parts that want one say ``TurnQueue.wake(reason)`` from the event loop, at any time; reasons
that come before it begins are one turn. Requests (``wgctl apply``, ``rollback``, a plan, a look) wait
in the same queue as futures. The same loop serves them in the order in which they came, so nothing ever
runs beside a turn. All waiting is one wait: for a reason, for a request, or for the earliest instant at
which the last turn is to be rechecked. There is no other timer in the data plane.

A turn that raises is a defect: it is reported as the part ``turns``, whoever asked for it is told, and its
reasons come again after a pause. Requests do not wait for that pause. Between two jobs a turn that is due has
its place, so that no number of plans and looks keeps one from running.

After each turn there is a new ``World``, numbered. Its followers are told without being waited for, so no
store, no other host and no tool that hangs can hold the next turn up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

import msgspec

from meshd.control.turn import Inputs, Order, Turn
from meshd.control.turn_queue import Job, TurnQueue, TurnRequest, refuse
from meshd.control.wake import Wake
from meshd.control.world import World
from meshd.errors import MeshError
from meshd.observe.logs import event
from meshd.observe.status import ChangeStatus, ReconcileCounters, RotationStatus
from meshd.settings import Settings
from meshd.supervisor import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, Supervisor

PART: Final = "turns"
"""What a turn that raises is reported as."""
TURN_SECONDS: Final = 10.0
"""How often the kernel is compared with the registry when nothing asks for it sooner."""
MAX_LOGGED: Final = 3
"""Reasons and changes in a line of the log."""

log = logging.getLogger("meshd")


class DataPlane(Protocol):
    """What the driver drives (``meshd.control.reconciler.Reconciler``); only the kernel thread calls it."""

    def turn(self, inputs: Inputs, order: Order) -> Turn: ...

    def rotation_status(self) -> RotationStatus: ...

    def change_status(self) -> ChangeStatus | None: ...

    @property
    def applied_generation(self) -> int: ...


class _Ran(msgspec.Struct, frozen=True):
    """What the kernel thread hands back."""

    turn: Turn
    rotation: RotationStatus
    change: ChangeStatus | None
    applied_generation: int


class TurnDriver:
    """Serves the queue: its supervisor repeats ``step`` for ever. Lives on the event loop.

    ``world`` is replaced as a whole. Its number grows by one with each turn, and ``on_world`` is called with
    each one in order, before the futures of its requests are done.
    """

    def __init__(
        self,
        data_plane: DataPlane,
        queue: TurnQueue,
        *,
        settings: Callable[[], Settings],
        gather: Callable[[Settings], Inputs],
        on_world: Callable[[World], None],
        tasks: Supervisor,
        interval_seconds: float = TURN_SECONDS,
    ) -> None:
        """
        Args:
            data_plane: makes the kernel agree with its inputs.
            queue: what others want of it.
            settings: those in force now.
            gather: takes the inputs of a turn together, on the loop, when it begins.
            on_world: is told of each new World; must not block.
            tasks: is told of turns that raise, and of the first good one after that.
            interval_seconds: the longest pause between two turns.
        """
        self.data_plane = data_plane
        self._queue = queue
        self._settings = settings
        self._gather = gather
        self._on_world = on_world
        self._tasks = tasks
        self._interval_seconds = interval_seconds
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._resumes_at = 0.0
        self._has_run_job = False
        self._kernel = ThreadPoolExecutor(1, "kernel")
        self._due: dict[Wake, float] = {}
        self.world: World | None = None
        self.first_turn = asyncio.Event()
        """The first turn is over, or has raised: the rest of the daemon waits no longer."""

    async def step(self) -> None:
        """Wait for something to do, and do it: a request, or a turn for the reasons that there are."""
        loop = asyncio.get_running_loop()
        if (pause := self._resumes_at - loop.time()) > 0:
            await self._queue.wait_for_request(pause)
        else:
            await self._queue.wait(max(min(self._due.values(), default=0.0) - loop.time(), 0.0))
        for reason, at in self._due.items():
            if at <= loop.time():
                self._queue.wake(reason)
        is_turn_due = self._queue.has_wakes and loop.time() >= self._resumes_at
        if is_turn_due and self._has_run_job:
            await self._run_turn(Order(), [])
            return
        request = self._queue.take_request()
        if isinstance(request, Job):
            await self._run_job(request)
        elif request is not None:
            await self._run_turn(request.order, [request, *self._queue.take_same(request.order)])
        elif is_turn_due:
            await self._run_turn(Order(), [])

    def close(self) -> None:
        """Nothing more is begun; what the kernel thread does now ends by itself."""
        self._kernel.shutdown(wait=False, cancel_futures=True)
        self._queue.close()

    async def _run_job(self, job: Job[Any]) -> None:
        self._has_run_job = True
        try:
            inputs = self._gather(self._settings())
            result = await asyncio.get_running_loop().run_in_executor(self._kernel, job.call, inputs)
        except asyncio.CancelledError:
            refuse([job])
            raise
        except Exception as error:  # noqa: BLE001 raised where it was asked for
            if not job.answer.done():
                job.answer.set_exception(error)
        else:
            if not job.answer.done():
                job.answer.set_result(result)

    async def _run_turn(self, order: Order, requests: Sequence[TurnRequest]) -> None:
        self._has_run_job = False
        wakes = self._queue.take_wakes()
        why = wakes | _asked_by(order)
        try:
            settings = self._settings()
            inputs = self._gather(settings)
            ran = await asyncio.get_running_loop().run_in_executor(self._kernel, self._turn, inputs, order)
            world = self._publish(inputs, settings, why, ran)
        except asyncio.CancelledError:
            refuse(requests)
            raise
        except Exception as error:  # noqa: BLE001 reported, and raised where it was asked for
            self._failed(error, wakes, requests)
            return
        self._pause_seconds, self._resumes_at = FIRST_PAUSE_SECONDS, 0.0
        self._tasks.succeeded(PART)
        for request in requests:
            if not request.answer.done():
                request.answer.set_result(world)

    def _failed(self, error: Exception, wakes: Iterable[Wake], requests: Sequence[TurnRequest]) -> None:
        """The reasons of the turn stay. What a request itself got wrong is no defect of the turn."""
        for reason in wakes:
            self._queue.wake(reason)
        for request in requests:
            if not request.answer.done():
                request.answer.set_exception(error)
        if requests and isinstance(error, MeshError):
            return
        self._tasks.failed(PART, error)
        self._resumes_at = asyncio.get_running_loop().time() + self._pause_seconds
        self._pause_seconds = min(2 * self._pause_seconds, MAX_PAUSE_SECONDS)
        self.first_turn.set()

    def _turn(self, inputs: Inputs, order: Order) -> _Ran:
        turn = self.data_plane.turn(inputs, order)
        return _Ran(
            turn=turn,
            rotation=self.data_plane.rotation_status(),
            change=self.data_plane.change_status(),
            applied_generation=self.data_plane.applied_generation,
        )

    def _publish(self, inputs: Inputs, settings: Settings, wakes: frozenset[Wake], ran: _Ran) -> World:
        turn, before = ran.turn, self.world
        self.world = world = World(
            number=before.number + 1 if before else 1,
            wakes=wakes,
            settings=settings,
            membership=inputs.membership,
            turn=turn,
            paths=inputs.paths,
            rotation=ran.rotation,
            change=ran.change,
            applied_generation=ran.applied_generation,
            counters=turn.counted(before.counters if before else ReconcileCounters()),
        )
        now = asyncio.get_running_loop().time()
        self._due = {Wake.INTERVAL: now + self._interval_seconds}
        self._due |= {reason: now + seconds for reason, seconds in turn.rechecks.items()}
        _log_turn(turn, wakes, ran.rotation.state)
        self._on_world(world)
        self.first_turn.set()
        return world


def _asked_by(order: Order) -> frozenset[Wake]:
    """What an operator typed for such a turn, if anything."""
    if order.rollback:
        return frozenset({Wake.ROLLBACK})
    return frozenset({Wake.APPLY} if order.requested else ())


def _log_turn(turn: Turn, wakes: Iterable[Wake], rotation_state: str) -> None:
    why = " ".join(sorted(wakes))
    if turn.outcome == "unchanged":
        event(log, logging.DEBUG, "unchanged", seconds=round(turn.duration_seconds, 4), wakes=why)
    elif turn.plan is not None and (turn.outcome != "held" or turn.done):
        reasons = sorted({change.reason for change in turn.plan.changes})
        changes = [change.summary() for change in turn.plan.changes]
        event(
            log,
            logging.INFO,
            "reconciled",
            outcome=turn.outcome,
            done=turn.done,
            failed=len(turn.failed),
            not_attempted=turn.not_attempted,
            generation=turn.view.membership.generation,
            seconds=round(turn.duration_seconds, 4),
            wakes=why,
            reasons=_first(reasons),
            changes=_first(changes),
        )
    if turn.keys_changed:
        event(log, logging.INFO, "key_rotation", state=rotation_state)


def _first(texts: Sequence[str]) -> str:
    """The first few, for one line of the log."""
    return "; ".join(texts[:MAX_LOGGED]) + ("; ..." if len(texts) > MAX_LOGGED else "")
