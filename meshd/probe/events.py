"""What a prober found since it was asked last, until somebody takes it. No I/O."""

from __future__ import annotations

import asyncio

import msgspec
from msgspec.structs import replace


class PathChanged(msgspec.Struct, frozen=True, kw_only=True):
    """The path to a host came up, or was found dead."""

    hid: str
    up: bool


class MtuChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A path carries packets of another size than was known."""

    hid: str
    old_bytes: int | None
    """None: nothing was known."""
    new_bytes: int


class Paused(msgspec.Struct, frozen=True, kw_only=True):
    """This process or machine stood still."""

    seconds: float


ProbeEvent = PathChanged | MtuChanged | Paused


class EventQueue:
    """Events in their order, for one taker.

    At most one of a kind waits for each host, so that a taker who is slow costs no memory: the newest word
    on a path, the sum of two pauses, and an MTU from what was known at first to what is known at last.
    """

    def __init__(self) -> None:
        self._events: dict[tuple[str, str], ProbeEvent] = {}
        self._filled = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        return not self._events

    def put(self, event: ProbeEvent) -> None:
        key = (type(event).__name__, "" if isinstance(event, Paused) else event.hid)
        before = self._events.pop(key, None)
        match event, before:
            case MtuChanged(), MtuChanged():
                event = replace(event, old_bytes=before.old_bytes)
            case Paused(), Paused():
                event = replace(event, seconds=before.seconds + event.seconds)
        self._events[key] = event
        self._filled.set()

    async def take(self) -> tuple[ProbeEvent, ...]:
        """All that there is, oldest first; waits for the first one."""
        await self._filled.wait()
        self._filled.clear()
        taken, self._events = tuple(self._events.values()), {}
        return taken
