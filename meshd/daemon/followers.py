"""Who is told of each new World: in a written order, in bounded time, and none at the cost of another.

A follower that raises or hangs is the condition ``part_failed``; it is told of the next World like anybody.
What it finds wrong is filed under its name. Turns never wait for followers. One that is late is told of the
newest World alone, so what a follower is told only ever moves forward.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from meshd.control.world import NewestWorld, World
from meshd.model.condition import Condition
from meshd.observe.board import ConditionBoard
from meshd.supervisor import Supervisor

FOLLOW_SECONDS: Final = 5.0
"""How long a follower may take. What it calls in a thread ends by itself then, unheard."""

Follow = Callable[[World], Awaitable[Sequence[Condition]]]
"""Takes in a World -> what is wrong, as far as this part can tell."""


class Follower(msgspec.Struct, frozen=True, kw_only=True):
    """One part that follows the data plane."""

    name: str
    """Its part, for people, and its place on the board of conditions."""
    follow: Follow
    seconds: float = FOLLOW_SECONDS
    """It is given up after so long."""
    is_slow: bool = False
    """It has a task of its own, so that those after it do not wait for it."""
    is_awaited: bool = True
    """A request that changes something is answered when it has followed too."""


class Followers:
    """The ordered list. ``tell`` never blocks; ``start`` begins the tasks that carry it on.

    Lives on the event loop.
    """

    def __init__(self, followers: Sequence[Follower], board: ConditionBoard, newest: NewestWorld) -> None:
        """
        Args:
            followers: in the order in which they are told; those that are slow beside the others.
            board: where their conditions are filed, and before them those of the turn itself.
            newest: is replaced first.
        """
        self._board = board
        self._newest = newest
        quick = [follower for follower in followers if not follower.is_slow]
        slow = [[follower] for follower in followers if follower.is_slow]
        self._queues = [_Queue(each, board) for each in (quick, *slow) if each]

    def start(self, tasks: Supervisor) -> None:
        """From now on they follow."""
        for queue in self._queues:
            queue.start(tasks)

    def tell(self, world: World) -> None:
        """There is a newer World."""
        self._newest.world = world
        self._board.set("kernel", *world.turn.conditions)
        for queue in self._queues:
            queue.tell(world)

    async def followed(self, number: int) -> None:
        """Until everybody who is awaited has followed the World of that number, or a newer one."""
        await asyncio.gather(*(queue.followed(number) for queue in self._queues if queue.is_awaited))


class _Queue:
    """Followers that are told one after the other by one task; it holds the newest World alone."""

    def __init__(self, followers: Sequence[Follower], board: ConditionBoard) -> None:
        self._followers = followers
        self._board = board
        self._newest: World | None = None
        self._is_new = asyncio.Event()
        self._told_number = 0
        self._was_told = asyncio.Event()
        self._tasks: Supervisor | None = None

    @property
    def is_awaited(self) -> bool:
        return any(follower.is_awaited for follower in self._followers)

    def start(self, tasks: Supervisor) -> None:
        self._tasks = tasks
        # A name of its own: that the step ends well says nothing of the follower that it told.
        tasks.repeat("telling " + ", ".join(follower.name for follower in self._followers), self._step)

    def tell(self, world: World) -> None:
        self._newest = world
        self._is_new.set()

    async def followed(self, number: int) -> None:
        while self._told_number < number:
            was_told = self._was_told
            await was_told.wait()

    async def _step(self) -> None:
        await self._is_new.wait()
        self._is_new.clear()
        assert self._newest is not None
        number = self._newest.number
        for follower in self._followers:
            await self._tell(follower, self._newest)
        self._told_number = number
        was_told, self._was_told = self._was_told, asyncio.Event()
        was_told.set()

    async def _tell(self, follower: Follower, world: World) -> None:
        assert self._tasks is not None
        bound = asyncio.timeout(follower.seconds)
        try:
            async with bound:
                conditions = await follower.follow(world)
        except Exception as error:  # noqa: BLE001 a defect of ours is reported, whatever it is
            is_late = bound.expired()  # or it raised a TimeoutError of its own
            reason = TimeoutError(f"no end within {follower.seconds:g} s") if is_late else error
            self._tasks.failed(follower.name, reason)
        else:
            self._board.set(follower.name, *conditions)
            self._tasks.succeeded(follower.name)
