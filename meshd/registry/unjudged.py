"""What a ledger could not take: objects that wait to be judged or for room, refused keys. No I/O.

All are bounded, as anybody may fill them. What is dropped is offered again by the next poll.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from meshd.errors import RegistryError
from meshd.model.condition import Condition, Severity
from meshd.registry.layout import parse_object_key

MAX_PENDING_OBJECTS: Final = 2_048
MAX_PENDING_BODIES: Final = 4
MAX_REFUSALS: Final = 256
MAX_WAITING_BYTES: Final = 12 * 1024 * 1024
"""Of all logs together: as much as the walk to one cut may hold. What came first goes first."""

REGISTRY_OBJECT_REFUSED: Final = "registry_object_refused"


class PendingObjects:
    """Bodies by key, until the root or grant arrives that lets them be judged."""

    def __init__(self) -> None:
        self._bodies: dict[str, list[bytes]] = {}

    def keep(self, key: str, body: bytes) -> None:
        """A few bodies a key, as junk must not push the real one out."""
        bodies = self._bodies.pop(key, [])
        if body not in bodies:
            bodies = [*bodies, body][-MAX_PENDING_BODIES:]
        self._bodies[key] = bodies
        _trim(self._bodies, MAX_PENDING_OBJECTS)

    def keys_below(self, prefix: str) -> list[str]:
        """The keys that begin so, the oldest first."""
        return [key for key in self._bodies if key.startswith(prefix)]

    def take(self, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """What waits under these; it waits no more."""
        for key in keys:
            for body in self._bodies.pop(key, ()):
                yield key, body


class Refusals:
    """By key, why its last body was refused; forgotten when the key verifies."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._reasons

    def note(self, key: str, reason: str) -> bool:
        """Remember it -> whether that says something new."""
        try:
            parse_object_key(key)
        except RegistryError:
            return False  # a name that no object of ours has: nothing could ever close the condition again
        if self._reasons.get(key) == reason:
            return False
        self._reasons[key] = reason
        _trim(self._reasons, MAX_REFUSALS)
        return True

    def close(self, key: str) -> bool:
        """It verifies now, or the object is gone -> whether it was refused before."""
        return self._reasons.pop(key, None) is not None

    def conditions(self) -> tuple[Condition, ...]:
        """One for each key."""
        return tuple(
            Condition(
                code=REGISTRY_OBJECT_REFUSED,
                severity=Severity.WARNING,
                subject=key,
                text=f"{key}: {reason}: what was held before stays in force; find out who wrote it",
            )
            for key, reason in self._reasons.items()
        )


class WalkQueue:
    """Statements that may lie on the walk to a cut, by object key, until the walk comes by them.

    A log that a thief filled has room for the walk alone, and the walk begins at its end: of a log that is
    offered from its first number on, each statement but the last is refused. Whoever fills this with what is
    on no walk costs others a further round.
    """

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


def _trim(entries: dict[str, Any], limit: int) -> None:
    """Drop the oldest."""
    while len(entries) > limit:
        del entries[next(iter(entries))]
