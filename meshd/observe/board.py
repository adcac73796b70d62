"""What every part of the daemon finds wrong, together; what opens and closes is logged once."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Final

from meshd.model.condition import Condition, Severity
from meshd.observe.health import ConditionTracker
from meshd.observe.logs import event
from meshd.observe.status import ConditionStatus

log = logging.getLogger("meshd")

LOADING_ERRORS: Final = (ImportError, SyntaxError)
"""What code that is loaded late raises when its file is another version's, half written, or gone."""
FILES_REPLACED: Final = (
    "its files are not those that meshd was started from, as an upgrade leaves them: restart meshd, the mesh "
    "stays up meanwhile"
)


class ConditionBoard:
    """Each source has its own place on it: what it sets replaces what it had set before.

    Lives on the event loop.
    """

    def __init__(
        self, clock: Callable[[], float], found: Mapping[str, tuple[Condition, ...]] | None = None
    ) -> None:
        """
        Args:
            clock: unix seconds.
            found: what was wrong before anything ran, by the source that says when it is over.
        """
        self._clock = clock
        self._tracker = ConditionTracker()
        self._by_source: dict[str, tuple[Condition, ...]] = dict(found or {})

    def set(self, source: str, *conditions: Condition) -> None:
        """Everything that ``source`` finds wrong now; nothing: all is well there."""
        if self._by_source.get(source, ()) == conditions and source in self._by_source:
            return
        self._by_source[source] = conditions
        everything = [condition for found in self._by_source.values() for condition in found]
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

    def report_part(self, part: str, error: Exception | None) -> None:
        """An unexpected exception of a part (``meshd.supervisor.Report``): a condition, and its traceback."""
        if error is None:
            self.set(f"part {part}")
            return
        event(
            log,
            logging.ERROR,
            "part_failed",
            part=part,
            error=describe_error(error),
            traceback="".join(traceback.format_exception(error)),
        )
        self.set(f"part {part}", part_failed(part, error))

    def conditions(self) -> tuple[Condition, ...]:
        """What is wrong now."""
        return tuple(each for found in self._by_source.values() for each in found)

    def statuses(self) -> tuple[ConditionStatus, ...]:
        """What is wrong now, and since when."""
        return self._tracker.statuses()


def describe_error(error: BaseException) -> str:
    """Type and words: a KeyError alone says nothing but its key."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def part_failed(part: str, error: Exception) -> Condition:
    what_to_do = "and meshd tries again; the log has the traceback: please report it"
    if isinstance(error, LOADING_ERRORS):
        what_to_do = FILES_REPLACED
    return Condition(
        code="part_failed",
        severity=Severity.WARNING,
        subject=part,
        text=f"{part} failed: {describe_error(error)}; the rest goes on, {what_to_do}",
    )
