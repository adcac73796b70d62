"""What waits for a turn: reasons that woke one, and requests, each a future. The driver serves it.

Every part of the daemon may be given it. It lives on the event loop, and so do all calls but none of what is
called: ``run_between_turns`` calls in the kernel thread, where no turn runs meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from meshd.control.turn import Inputs, Order
from meshd.control.wake import Wake
from meshd.control.world import World
from meshd.errors import ControlError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class TurnRequest:
    """A turn that somebody asks for and waits for."""

    order: Order
    answer: asyncio.Future[World]


@dataclass(frozen=True, slots=True, eq=False)
class Job(Generic[T]):
    """A call in the kernel thread that somebody waits for."""

    call: Callable[[Inputs], T]
    answer: asyncio.Future[T]


class TurnQueue:
    """``wake``, ``apply``, ``rollback``, ``run_between_turns``: for all parts. The rest is for the driver."""

    def __init__(self) -> None:
        self._wakes: set[Wake] = {Wake.START}
        self._requests: deque[TurnRequest | Job[Any]] = deque()
        self._something = asyncio.Event()
        self._is_closed = False

    # --- what others say and ask

    def wake(self, reason: Wake) -> None:
        """A turn is wanted, soon. Reasons that come before it begins are one turn."""
        self._wakes.add(reason)
        self._something.set()

    async def turn(self, reason: Wake) -> World:
        """A turn for this reason, which begins after the one that may run now, to its end."""
        answer: asyncio.Future[World] = _future()
        self.wake(reason)
        return await self._ask(TurnRequest(Order(), answer), answer)

    async def apply(self, *, force: bool = False) -> World:
        """A turn that an operator asks for, after the one that may run now.

        Raises:
            Exception: whatever the turn raised, which is a defect.
        """
        answer: asyncio.Future[World] = _future()
        return await self._ask(TurnRequest(Order(requested=True, force=force), answer), answer)

    async def rollback(self) -> World:
        """A turn that makes true what was before the last plan. MeshError when there is nothing."""
        answer: asyncio.Future[World] = _future()
        return await self._ask(TurnRequest(Order(rollback=True), answer), answer)

    async def run_between_turns(self, call: Callable[[Inputs], T]) -> T:
        """What ``call`` returns or raises in the kernel thread, in the order of the requests. It is given
        the inputs of a turn that would begin then."""
        answer: asyncio.Future[T] = _future()
        return await self._ask(Job(call, answer), answer)

    async def _ask(self, request: TurnRequest | Job[Any], answer: asyncio.Future[T]) -> T:
        self._requests.append(request)
        self._something.set()
        if self._is_closed:
            self.close()
        return await answer

    # --- the driver's side

    async def wait(self, seconds: float) -> None:
        """Until there is something to do, or so long."""
        if not self._wakes and not self._requests:
            self._something.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._something.wait(), seconds)

    async def wait_for_request(self, seconds: float) -> None:
        """Until somebody asks for something, or so long; a reason for a turn is none for this."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while not self._requests and loop.time() < ends_at:
            self._something.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._something.wait(), ends_at - loop.time())

    def take_wakes(self) -> frozenset[Wake]:
        """Every reason since the last call; a turn is begun for them."""
        wakes, self._wakes = frozenset(self._wakes), set()
        return wakes

    @property
    def has_wakes(self) -> bool:
        return bool(self._wakes)

    @property
    def waits(self) -> bool:
        """Somebody waits whose turn has not come."""
        return bool(self._requests)

    def take_request(self) -> TurnRequest | Job[Any] | None:
        """The oldest request that somebody still waits for."""
        while self._requests:
            request = self._requests.popleft()
            if not request.answer.done():
                return request
        return None

    def take_same(self, order: Order) -> list[TurnRequest]:
        """The requests for just such a turn that come before one for another turn: one serves them all."""
        same: list[TurnRequest] = []
        for each in self._requests:
            if isinstance(each, TurnRequest) and not each.answer.done():
                if each.order != order:
                    break
                same.append(each)
        self._requests = deque(each for each in self._requests if each not in same)
        return same

    def close(self) -> None:
        """Nobody serves requests any more: those that wait are refused, and those to come."""
        self._is_closed = True
        refuse(self._requests)
        self._requests.clear()


def refuse(requests: Iterable[TurnRequest | Job[Any]]) -> None:
    """Whoever waits for them is told that the daemon ends."""
    for request in requests:
        if not request.answer.done():
            request.answer.set_exception(ControlError("meshd is stopping; what was asked may not be done"))


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()
