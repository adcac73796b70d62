"""Since when which condition holds, and which ones opened or closed since the last look."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from meshd.model.condition import Condition
from meshd.observe.status import ConditionStatus


class ConditionChanges(NamedTuple):
    """Each is said once: a condition that goes on, even with another text, is in neither."""

    opened: tuple[Condition, ...]
    closed: tuple[Condition, ...]


class _Open(NamedTuple):
    condition: Condition
    since: float


class ConditionTracker:
    """Two conditions are the same when code and subject are. Times are unix seconds."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], _Open] = {}

    def update(self, conditions: Iterable[Condition], now: float) -> ConditionChanges:
        """``conditions``: everything that is true now."""
        before = self._open
        true_now = {condition.identity: condition for condition in conditions}
        self._open = {
            identity: _Open(condition, before[identity].since if identity in before else now)
            for identity, condition in sorted(true_now.items())
        }
        return ConditionChanges(
            opened=tuple(self._open[identity].condition for identity in self._open if identity not in before),
            closed=tuple(before[identity].condition for identity in before if identity not in self._open),
        )

    def statuses(self) -> tuple[ConditionStatus, ...]:
        """The open conditions, by code and subject."""
        return tuple(
            ConditionStatus(
                code=condition.code,
                severity=condition.severity.value,
                subject=condition.subject,
                text=condition.text,
                since=since,
            )
            for condition, since in self._open.values()
        )
