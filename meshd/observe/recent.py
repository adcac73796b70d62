"""The newest events of the log, kept for the page: what changed lately, and why."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Final

import msgspec

from meshd.observe.logs import event_fields

MAX_EVENTS: Final = 200


class RecentEvent(msgspec.Struct, frozen=True):
    """``at``: unix seconds. ``fields``: as docs/logging.md lists them, each as text."""

    at: float
    level: str
    name: str
    fields: tuple[tuple[str, str], ...]


class RecentEvents(logging.Handler):
    """Hears what is logged at INFO and above, whatever the log's own level is. From any thread."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._events: deque[RecentEvent] = deque(maxlen=MAX_EVENTS)
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        name, fields = event_fields(record)
        shown = tuple((key, str(value)) for key, value in fields.items() if key != "traceback")
        with self._guard:
            self._events.append(RecentEvent(record.created, record.levelname, name, shown))

    def newest(self) -> tuple[RecentEvent, ...]:
        """The newest first."""
        with self._guard:
            return tuple(reversed(self._events))
