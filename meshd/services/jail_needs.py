"""Which jails are to be started now, and which are somebody else's business from now on. Pure.

A jail is started once after each boot of the host, and no more: whoever stops one has a reason. One that was
seen running is done with too, whoever started it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

FIRST_PAUSE_SECONDS: Final = 30.0
MAX_PAUSE_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JailStart:
    """``waits_for``: the services that cannot be reached now. ``anyway_seconds`` 0: it waits as long as it
    takes."""

    jail: str
    argv: tuple[str, ...]
    waits_for: tuple[str, ...]
    anyway_seconds: int
    jls: str


@dataclass(slots=True)
class _Waiting:
    since: float
    not_before: float = float("-inf")
    pause_seconds: float = 0.0
    problem: str = ""


@dataclass(slots=True)
class JailNeeds:
    """``done``: jails that ran since the host booted. Instants are seconds that never go back."""

    done: set[str] = field(default_factory=set)
    _waiting: dict[str, _Waiting] = field(default_factory=dict)

    def look(self, starts: Iterable[JailStart], running: Collection[str], now: float) -> JailStart | None:
        """The one that is due. One at a time: they would all want the disk at once."""
        wanted = {each.jail: each for each in starts}
        self.done |= wanted.keys() & set(running)
        self._waiting = {
            jail: self._waiting.get(jail) or _Waiting(now) for jail in wanted if jail not in self.done
        }
        for jail, waiting in self._waiting.items():
            start = wanted[jail]
            if waiting.pause_seconds and not waiting.problem:
                waiting.problem = f"{' '.join(start.argv)}: ended well, and jail {jail} does not run"
            late = start.anyway_seconds > 0 and now - waiting.since >= start.anyway_seconds
            if (late or not start.waits_for) and now >= waiting.not_before:
                return start
        return None

    def tried(self, jail: str, problem: str, now: float) -> None:
        """Empty ``problem``: its command ended well; the next look sees whether it runs."""
        waiting = self._waiting[jail]
        waiting.problem = problem
        waiting.pause_seconds = min(max(FIRST_PAUSE_SECONDS, 2 * waiting.pause_seconds), MAX_PAUSE_SECONDS)
        waiting.not_before = now + waiting.pause_seconds

    def problems(self) -> dict[str, str]:
        """By jail, why its start did not work."""
        return {jail: each.problem for jail, each in self._waiting.items() if each.problem}

    def waiting(self) -> set[str]:
        return set(self._waiting)
