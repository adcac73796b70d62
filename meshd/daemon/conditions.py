"""What every part of the daemon says is wrong, together; opened and closed ones are logged once."""

from __future__ import annotations

import logging
from collections.abc import Callable

from meshd.model.condition import Condition
from meshd.observe.health import ConditionTracker
from meshd.observe.logs import event
from meshd.observe.status import ConditionStatus

log = logging.getLogger("meshd")


class Alarms:
    """Each source speaks for itself alone: what it says replaces what it said before."""

    def __init__(self, clock: Callable[[], float], conditions: tuple[Condition, ...] = ()) -> None:
        self._clock = clock
        self._tracker = ConditionTracker()
        self._said: dict[str, tuple[Condition, ...]] = {"start": conditions}

    def say(self, source: str, *conditions: Condition) -> None:
        self._said[source] = conditions
        everything = [condition for said in self._said.values() for condition in said]
        opened, closed = self._tracker.update(everything, self._clock())
        for condition in opened:
            event(
                log,
                logging.WARNING,
                "condition_opened",
                code=condition.code,
                subject=condition.subject,
                text=condition.text,
            )
        for condition in closed:
            event(log, logging.INFO, "condition_closed", code=condition.code, subject=condition.subject)

    def statuses(self) -> tuple[ConditionStatus, ...]:
        """What is wrong now, and since when."""
        return self._tracker.statuses()
