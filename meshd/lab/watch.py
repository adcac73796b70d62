"""Waits until several things are true at once, and says since when each of them is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

LOOK_SECONDS: Final = 0.3

Times = dict[str, float | None]


class Watch:
    """Each thing is looked at by a thread of its own: one that takes its time keeps no other one waiting."""

    def __init__(
        self,
        wanted: Mapping[str, Callable[[], bool]],
        since: float,
        deadline_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        """``since``: an instant of time.monotonic, from which all seconds count. ``say``: a line for people
        whenever something comes true, or is so no longer."""
        self._wanted = wanted
        self._since = since
        self._deadline = since + deadline_seconds
        self._say = say
        self._lock = threading.Lock()
        self._true_after: Times = dict.fromkeys(wanted)
        self._all_true = threading.Event()

    def run(self) -> Times:
        """Until all are true, or the deadline -> seconds until each was so for good; None: it is not."""
        threads = [threading.Thread(target=self._look, args=each) for each in self._wanted.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return dict(self._true_after)

    def _look(self, what: str, is_true: Callable[[], bool]) -> None:
        while not self._all_true.is_set() and time.monotonic() < self._deadline:
            self._note(what, now=is_true())
            self._all_true.wait(LOOK_SECONDS)

    def _note(self, what: str, *, now: bool) -> None:
        with self._lock:
            if self._all_true.is_set() or now == (self._true_after[what] is not None):
                return
            seconds = time.monotonic() - self._since
            self._true_after[what] = seconds if now else None
            self._say(f"{seconds:6.1f} s  {what}" if now else f"{seconds:6.1f} s  no longer: {what}")
            if None not in self._true_after.values():
                self._all_true.set()
