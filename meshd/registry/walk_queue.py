"""Statements that may lie on the walk to a cut, until the walk comes by them. Pure.

A log that a thief filled has room for the walk alone, and the walk begins at its end: of a log that is
offered from its first number on, each statement but the last is refused. Kept here for a while they are
found by their names as soon as the walk wants them, so that one offer of a whole log is enough.
"""

from __future__ import annotations

from typing import Final

MAX_WAITING_BYTES: Final = 12 * 1024 * 1024
"""Of all logs together: as much as the walk to one cut may hold. What came first goes first."""


class WalkQueue:
    """Bodies by object key. Whoever fills it with statements of no walk costs others a further round."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}
        self.size_bytes = 0

    def put(self, key: str, body: bytes) -> None:
        self.take(key)
        self._bodies[key] = body
        self.size_bytes += len(body)
        while self.size_bytes > MAX_WAITING_BYTES:
            self.take(next(iter(self._bodies)))

    def take(self, key: str) -> bytes | None:
        body = self._bodies.pop(key, None)
        self.size_bytes -= len(body) if body is not None else 0
        return body
