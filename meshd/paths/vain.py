"""A direct path whose echoes are answered, and that carries nothing when it is used. Pure.

Echoes go to the port of the relay, WireGuard's packets to another one, and a firewall may open the one and
not the other. Nothing but using the path tells, which costs a second of traffic. So that is done seldom,
until the other host names another place.
"""

from __future__ import annotations

from typing import Final

import msgspec

from meshd.model.network import Endpoint
from meshd.model.path import PathStats

CARRIED_ANSWERS: Final = 3
"""Probes answered after the return show that the path carries. One or two may have been under way."""
VAIN_WITHIN_SECONDS: Final = 15.0
"""A path that dies later than that has carried."""
FIRST_VAIN_SECONDS: Final = 3600.0
"""Before such a path is used again; doubled each time."""
MAX_VAIN_SECONDS: Final = 86_400.0


class Returns(msgspec.Struct):
    """When a pair went back to its direct path, and whether in vain. Instants are monotonic seconds."""

    at: float | None = None
    received: int | None = None
    """Answers until then; None: nobody has looked since."""
    times: int = 0
    """In vain, in a row."""
    vain_at: float | None = None
    until: float = 0.0
    """Before then echoes prove nothing."""
    places: tuple[Endpoint, ...] = ()
    """Where the other host said that it is, when it was in vain."""

    def begin(self, now: float) -> None:
        """The pair goes directly from now on, as its echoes are answered."""
        self.at, self.received = now, None

    def leave(self, path: PathStats, places: tuple[Endpoint, ...], now: float) -> None:
        """Another host carries the pair again: whether the direct path has carried anything meanwhile."""
        if self.at is None:
            return
        answers = path.received - (path.received if self.received is None else self.received)
        carried = answers >= CARRIED_ANSWERS or now - self.at > VAIN_WITHIN_SECONDS
        self.at = None
        if carried:
            self.times, self.vain_at = 0, None
            return
        self.times, self.vain_at, self.places = self.times + 1, now, places
        self.until = now + min(FIRST_VAIN_SECONDS * 2 ** (self.times - 1), MAX_VAIN_SECONDS)

    def follow(self, path: PathStats, places: tuple[Endpoint, ...]) -> None:
        """What is seen of it. A host that is somewhere else by now may be reached there."""
        if self.at is not None and self.received is None:
            self.received = path.received
        if self.times and places != self.places:
            self.times, self.vain_at, self.until = 0, None, 0.0
