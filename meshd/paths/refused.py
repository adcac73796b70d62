"""Who was told that this host cannot carry a pair, so that it hears as soon as it can. Pure.

Without it a pair that nobody could carry would ask again and again, and the later the longer it has waited.
What is remembered is bounded, a few of each asker, and each question is answered late once at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

REMEMBERED_SECONDS: Final = 90.0
"""Whoever still wants it has asked again by then (``meshd.paths.pair.MAX_PAUSE_SECONDS``)."""
MAX_OF_AN_ASKER: Final = 8
MAX_REMEMBERED: Final = 256


class RefusedAskers:
    """Askers and the other end of the pair, by hid."""

    def __init__(self) -> None:
        self._asked_at: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        return len(self._asked_at)

    def note(self, asker: str, other: str, now: float) -> None:
        """It was refused. An asker that has many loses its oldest one; where the table is full, this one."""
        self._asked_at.pop((asker, other), None)
        own = [pair for pair in self._asked_at if pair[0] == asker]
        if len(own) >= MAX_OF_AN_ASKER:
            del self._asked_at[own[0]]
        if len(self._asked_at) < MAX_REMEMBERED:
            self._asked_at[asker, other] = now

    def forget(self, asker: str, other: str) -> None:
        """It is carried, or wants it no longer."""
        self._asked_at.pop((asker, other), None)

    def take_able(self, can: Callable[[str, str], bool], now: float) -> list[tuple[str, str]]:
        """Those whose pair can be carried now; they are forgotten, as are those that are too old."""
        found = []
        for pair, asked_at in list(self._asked_at.items()):
            is_over = now - asked_at > REMEMBERED_SECONDS
            if is_over or can(*pair):
                del self._asked_at[pair]
                found += [] if is_over else [pair]
        return found
