"""What the polls of one process remember of one store. Losing it costs requests, nothing else."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from meshd.registry.layout import HOST_PREFIX, LOG_PREFIX
from meshd.registry.ledger import Ledger

MAX_SEEN: Final = 60_000
"""Objects that are remembered of each kind; beyond that somebody floods the store, and the oldest go."""


class Seen(msgspec.Struct, frozen=True):
    """``basis``: what the ledger judged by when it refused this body or let it wait; None: it took it."""

    etag: str
    digest: bytes
    basis: int | None


class PollMemory(msgspec.Struct):
    """``shown``: by admin the newest (seq, hash) that the newest poll listed and the ledger holds,
    (0, "") for none.

    Where one round could not look at everything the next one goes on: ``root_after`` and ``log_after``
    (by admin) are the last names looked at below a prefix. ``crowd_after`` (by admin and number) are
    those among too many statements of one number. ``host_turn`` is the last host that was asked for by
    name.
    """

    polls: int = 0
    seen: dict[str, Seen] = msgspec.field(default_factory=dict)
    statements: dict[str, Seen] = msgspec.field(default_factory=dict)
    shown: dict[str, tuple[int, str]] = msgspec.field(default_factory=dict)
    root_after: str = ""
    log_after: dict[str, str] = msgspec.field(default_factory=dict)
    crowd_after: dict[tuple[str, int], str] = msgspec.field(default_factory=dict)
    host_turn: str = ""

    def shows(self, key: str, body: bytes) -> bool:
        """True when the store's newest listing had this very body at ``key`` (relative to the mesh)."""
        seen = self.seen.get(key)
        return seen is not None and seen.digest == hashlib.sha256(body).digest()

    def recall(self, key: str) -> Seen | None:
        return self._of(key).get(key)

    def remember(self, key: str, etag: str, body: bytes, basis: int | None) -> None:
        if basis is None and key.startswith(LOG_PREFIX):
            # Statements that were taken are found in the ledger by their name.
            self.statements.pop(key, None)
            return
        seen = self._of(key)
        seen.pop(key, None)
        while len(seen) >= MAX_SEEN:
            del seen[next(iter(seen))]
        seen[key] = Seen(etag, hashlib.sha256(body).digest(), basis)

    def forget_hosts_but(self, listed: set[str]) -> None:
        """A whole listing does not show the others any more."""
        for key in [key for key in self.seen if key.startswith(HOST_PREFIX) and key not in listed]:
            del self.seen[key]

    def _of(self, key: str) -> dict[str, Seen]:
        """What floods the logs must not make the records of hosts forgotten, nor the other way."""
        return self.statements if key.startswith(LOG_PREFIX) else self.seen


def basis_of(ledger: Ledger, key: str) -> int:
    """What a judgement of this object depends on: of roots and statements the root, of records the grants."""
    return ledger.generation if key.startswith(HOST_PREFIX) else ledger.chain.version
