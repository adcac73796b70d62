"""When a module runs: after quiet, after failures ever later, and never again for what was bad. Pure.

Quiet in one place, or a busy mesh would reload every service for each statement; spread over the hosts,
or every load balancer of the mesh would reload in the same second.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec


class Outcome(StrEnum):
    """How a run ended. ``held``: a guard; ``failed``: before anything changed, worth another try;
    ``refused``: the service's own checker says no; ``rolled_back``: it would not take it, and is as before;
    ``broken``: it is not as before either."""

    UNCHANGED = "unchanged"
    APPLIED = "applied"
    HELD = "held"
    FAILED = "failed"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"
    BROKEN = "broken"


FINAL: Final = frozenset({Outcome.REFUSED, Outcome.ROLLED_BACK, Outcome.BROKEN})
"""What another try with the same input would only repeat."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. ``spread``: the longest wait for this host's turn among the hosts."""

    quiet: float = 5.0
    quiet_at_most: float = 60.0
    spread: float = 30.0
    retry_first: float = 5.0
    retry_longest: float = 600.0
    attempts: int = 3
    look: float = 60.0
    """Between two looks for files that somebody changed."""


def host_share(hid: str, module: str) -> float:
    """This host's place in [0, 1) among all that change the same module."""
    return int.from_bytes(hashlib.sha256(f"{hid} {module}".encode()).digest()[:4], "big") / 2**32


class Schedule(msgspec.Struct):
    """Of one module on this host. Instants are seconds of one clock that never goes back."""

    timing: Timing
    share: float
    due_at: float = math.inf
    parked: bool = False
    failures: int = 0
    _changed_at: float | None = None
    _digest: str | None = None

    def see(self, input_digest: str, now: float) -> None:
        """The module's input as it is now. The first one is due at once: a host that boots waits for none."""
        if input_digest == self._digest:
            return
        first = self._digest is None
        self._digest = input_digest
        self.parked, self.failures = False, 0
        if first:
            self.due_at = now
            return
        self._changed_at = self._changed_at if self._changed_at is not None else now
        latest = self._changed_at + self.timing.quiet_at_most
        self.due_at = min(now + self.timing.quiet, latest) + self.share * self.timing.spread

    def ask(self, now: float) -> None:
        """An operator wants it tried now, whatever failed before."""
        self.parked, self.failures = False, 0
        self.due_at = now

    def is_due(self, now: float) -> bool:
        return not self.parked and now >= self.due_at

    def ended(self, outcome: Outcome, now: float, tried: str) -> None:
        """What came of a run with the input ``tried``. One that came meanwhile stays due as it was."""
        if tried != self._digest:
            if self.due_at <= now:
                self.due_at = now + self.timing.quiet
            return
        self._changed_at = None
        if outcome is Outcome.FAILED:
            self.failures += 1
            self.parked = self.failures >= self.timing.attempts
            pause = self.timing.retry_first * 4 ** (self.failures - 1)
            self.due_at = now + min(pause, self.timing.retry_longest)
            return
        self.failures = 0
        self.parked = outcome in FINAL
        self.due_at = now + self.timing.look


def restart_slot(regions: list[str], region: str, share: float, slot_seconds: float = 120.0) -> float:
    """How long a restart waits so that regions restart one after the other, and hosts of one apart."""
    rank = sorted(set(regions)).index(region) if region in regions else 0
    return (rank + share) * slot_seconds


@dataclass(slots=True)
class Gate:
    """Lets a thing through at most every ``seconds``: for signals, which come with every probe."""

    seconds: float
    _next_at: float = field(default=-math.inf)

    def opens(self, now: float) -> bool:
        if now < self._next_at:
            return False
        self._next_at = now + self.seconds
        return True
